"""Files that outlive versions: a golden of each format, and how those of other versions are refused.

goldens/run is a run folder with its checkpoints (tests/run_golden.py); pack_1_FORMAT are packs, made of PACKED;
index_1.json are two entries of the tables' index.
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
from convatlas.runs.folder import open_run
from convatlas.runs.record import SCHEMA
from convatlas.train.fit import fit
from convatlas.weights.match import load_weights
from convatlas.weights.model import load

GOLDENS = Path(__file__).parents[1] / "goldens"
PACKED = {  # of each split the class, the width and height before it was packed and in the pack, and the one colour
    "train": [
        ("ant", (20, 12), (13, 8), (250, 20, 30)),
        ("ant", (6, 9), (6, 9), (10, 200, 40)),
        ("bee", (8, 8), (8, 8), (0, 0, 255)),
    ],
    "val": [("ant", (5, 5), (5, 5), (255, 255, 0)), ("bee", (12, 20), (8, 13), (90, 91, 92))],
}


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDENS / "run", tmp_path / "run"))


def test_the_golden_run_scores_as_when_it_was_trained(golden: Path, tmp_path: Path) -> None:
    assert json.loads((golden / "run.json").read_text())["schema"] == SCHEMA
    assert checkpoint.load(golden / "last.safetensors")[1]["schema"] == checkpoint.SCHEMA
    it = open_run(golden)
    then = it.epochs()[-1]["val"]
    scores = evaluate(load(it, "last"), load_data("digits", val=0.1), split="val")
    assert scores.top1 == then["top1"]
    assert scores.loss == pytest.approx(then["loss"], rel=1e-5)
    load_weights(golden / "last.safetensors", it.load("last"))
    assert predict(it, tmp_path / "none.png")[0].error


def test_the_golden_run_resumes(golden: Path) -> None:
    run, before = open_run(golden), (golden / "last.safetensors").read_bytes()
    fit(run.network, load_data("digits", val=0.1), run.recipe, out=golden, input=(1, 8, 8), device="cpu", resume=True)
    assert (golden / "last.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (2, "run.json has schema 2, this convatlas reads 1; update convatlas"),
        (0, "run.json has schema 0, this convatlas reads 1; use the version that wrote it"),
        ("x", "run.json has schema 'x', this convatlas reads 1; use the version that wrote it"),
        (None, "run.json has schema None"),
    ],
)
def test_another_schema_of_a_run_is_refused_with_the_way_forward(golden: Path, schema: object, message: str) -> None:
    path = golden / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": schema}))
    with pytest.raises(UserError, match=message):
        open_run(golden)


@pytest.mark.parametrize("format", [*pack.FORMATS])
def test_a_pack_of_every_schema_has_the_images_that_it_was_made_of(format: str) -> None:
    folder = GOLDENS / f"pack_1_{format}"
    assert json.loads((folder / "pack.json").read_text())["schema"] == pack.SCHEMA == 1
    assert pack.verify(folder) == []
    assert examine(folder).intact
    data = load_data(str(folder))
    assert data.classes == ("ant", "bee")
    for split in data.splits:
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
    (tmp_path / "index.json").write_text(text.replace('"schema":1', f'"schema":{schema}'))
    with pytest.raises(UserError, match=message):
        tables.read_index(tmp_path / "index.json")
