"""Files that outlive versions: a golden of each schema that was ever written, and what is said of those to come.

goldens/run_N are run folders of schema N, with their checkpoints, as the convatlas of that time wrote them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from convatlas import tables
from convatlas.data import load_data
from convatlas.errors import UserError
from convatlas.evaluate import evaluate
from convatlas.predict import predict
from convatlas.train import checkpoint, run
from convatlas.train.fit import fit
from convatlas.train.run import open_run
from convatlas.weights import load_weights

GOLDENS = Path(__file__).parent / "goldens"
SCHEMAS = (1, 2)


@pytest.fixture
def folders(tmp_path: Path) -> dict[int, Path]:
    return {n: Path(shutil.copytree(GOLDENS / f"run_{n}", tmp_path / f"run_{n}")) for n in SCHEMAS}


def test_there_is_a_golden_of_each_schema() -> None:
    assert run.READS == checkpoint.READS == SCHEMAS
    for n in SCHEMAS:
        assert json.loads((GOLDENS / f"run_{n}" / "run.json").read_text())["schema"] == n
        assert checkpoint.load(GOLDENS / f"run_{n}" / "last.safetensors")[1]["schema"] == n


@pytest.mark.parametrize("n", SCHEMAS)
def test_a_run_of_every_schema_scores_as_it_did_then(folders: dict[int, Path], n: int, tmp_path: Path) -> None:
    it = open_run(folders[n])
    then = it.epochs()[-1]["test"]
    scores = evaluate(it, load_data("digits"), which="last")
    assert scores.top1 == then["top1"]
    assert scores.loss == pytest.approx(then["loss"], rel=1e-5)
    net = it.load("best")
    load_weights(folders[n] / "best.safetensors", net)
    assert predict(it, tmp_path / "none.png")[0].error


def test_a_run_of_this_schema_is_gone_on_with_and_an_older_one_says_what_to_do(folders: dict[int, Path]) -> None:
    data = load_data("digits")
    new, old = open_run(folders[2]), open_run(folders[1])
    before = (new.folder / "last.safetensors").read_bytes()
    fit(new.network, data, new.recipe, out=new.folder, input=(1, 8, 8), device="cpu", resume=True)
    assert (new.folder / "last.safetensors").read_bytes() == before
    with pytest.raises(UserError, match=r"was begun by an older convatlas \(schema 1\).*: --init .*run_1"):
        fit(old.network, data, old.recipe, out=old.folder, input=(1, 8, 8), device="cpu", resume=True)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (3, "run.json has schema 3, this convatlas reads 1 and 2; update convatlas"),
        (0, "run.json has schema 0, this convatlas reads 1 and 2; use the version that wrote it"),
        ("x", "run.json has schema 'x', this convatlas reads 1 and 2; use the version that wrote it"),
        (None, "run.json has schema None"),
    ],
)
def test_another_schema_of_a_run_is_refused_with_the_way_forward(
    folders: dict[int, Path], schema: object, message: str
) -> None:
    path = folders[2] / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
    with pytest.raises(UserError, match=message):
        open_run(folders[2])


def test_another_schema_of_the_index_is_refused_with_the_way_forward(tmp_path: Path) -> None:
    records = tables.index()
    assert "schema" not in records
    text = tables.index_text({"lenet5": records["lenet5"]})
    (tmp_path / "index.json").write_text(text)
    assert tables.read_index(tmp_path / "index.json") == {"lenet5": records["lenet5"]}
    (tmp_path / "index.json").write_text(text.replace('"schema": 1', '"schema": 2'))
    with pytest.raises(
        UserError, match=r"index.json has schema 2, this convatlas reads 1; `make tables` writes it anew"
    ):
        tables.read_index(tmp_path / "index.json")
