"""Files that outlive versions: a golden of each schema that was ever written, and what is said of those to come.

goldens/run_N are run folders of schema N, with their checkpoints, as the convatlas of that time wrote them;
pack_N_FORMAT are packs of schema N, made of PACKED; index_N.json are two entries of the tables' index.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from convatlas import tables
from convatlas.catalogue import Claim
from convatlas.data.sources import load_data, pack
from convatlas.doctor import examine
from convatlas.errors import UserError
from convatlas.evaluation.predictions import predict
from convatlas.evaluation.scoring import evaluate
from convatlas.preprocess import Preprocess
from convatlas.runs import checkpoint
from convatlas.runs import folder as run
from convatlas.runs.folder import open_run
from convatlas.train.fit import fit
from convatlas.weights import load_weights

GOLDENS = Path(__file__).parents[1] / "goldens"
SCHEMAS = (1, 2)
PACKED = {  # of each split the class, the width and height before it was packed and in the pack, and the one colour
    "train": [
        ("ant", (20, 12), (13, 8), (250, 20, 30)),
        ("ant", (6, 9), (6, 9), (10, 200, 40)),
        ("bee", (8, 8), (8, 8), (0, 0, 255)),
    ],
    "val": [("ant", (5, 5), (5, 5), (255, 255, 0)), ("bee", (12, 20), (8, 13), (90, 91, 92))],
}


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


@pytest.mark.parametrize("format", [*pack.FORMATS])
def test_a_pack_of_every_schema_has_the_images_that_it_was_made_of(format: str) -> None:
    folder = GOLDENS / f"pack_1_{format}"
    assert json.loads((folder / "pack.json").read_text())["schema"] == pack.SCHEMA == 1
    assert pack.verify(folder) == []
    assert examine(folder).whole
    data = load_data(str(folder))
    assert data.classes == ("ant", "bee")
    for split in (data.train, data.test):
        made_of = PACKED[split.name]
        assert [split.classes[label] for label in split.labels] == [kind for kind, *_ in made_of]
        for i, (_, _, (width, height), colour) in enumerate(made_of):
            as_it_is = Preprocess((3, height, width), (0.0,) * 3, (1.0,) * 3)
            pixels = split.fetch([i], as_it_is)[0].permute(1, 2, 0).int()
            apart = (pixels - torch.tensor(colour)).abs().max()
            assert apart <= (2 if format == "jpeg" else 0), (split.name, i)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (2, "pack.json has schema 2, this convatlas reads 1; update convatlas"),
        (0, "pack.json has schema 0, this convatlas reads 1; use the version that wrote it"),
        (None, "pack.json has schema None, this convatlas reads 1; use the version that wrote it"),
    ],
)
def test_another_schema_of_a_pack_is_refused_with_the_way_forward(tmp_path: Path, schema: object, message: str) -> None:
    path = Path(shutil.copytree(GOLDENS / "pack_1_raw", tmp_path / "pack")) / "pack.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
    with pytest.raises(UserError, match=message):
        load_data(str(tmp_path / "pack"))
    assert message.partition(";")[0] in examine(tmp_path / "pack").findings[0].what


def test_an_index_of_every_schema_is_read() -> None:
    path = GOLDENS / "index_1.json"
    assert json.loads(path.read_text())["schema"] == tables.SCHEMA == 1
    records = tables.read_index(path)
    assert [*records] == ["lenet5", "resnet20"]
    assert records["resnet20"]["totals"]["params"] == tables.load("resnet20").totals.params
    for record in records.values():
        assert {"family", "paper", "input", "recipe", "aliases", "claims", "totals"} <= record.keys()
        for claim in record["claims"]:
            Claim(**claim)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("2", "index.json has schema 2, this convatlas reads 1; update convatlas"),
        ("0", "index.json has schema 0, this convatlas reads 1; use the version that wrote it"),
        ("null", "index.json has schema None, this convatlas reads 1; use the version that wrote it"),
    ],
)
def test_another_schema_of_the_index_is_refused_with_the_way_forward(tmp_path: Path, schema: str, message: str) -> None:
    records = tables.index()
    assert "schema" not in records
    text = tables.index_text({"lenet5": records["lenet5"]})
    (tmp_path / "index.json").write_text(text)
    assert tables.read_index(tmp_path / "index.json") == {"lenet5": records["lenet5"]}
    (tmp_path / "index.json").write_text(text.replace('"schema": 1', f'"schema": {schema}'))
    with pytest.raises(UserError, match=message):
        tables.read_index(tmp_path / "index.json")
