"""Several runs: listed side by side, and their curves on one axis."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from convatlas.cli import main
from convatlas.errors import UserError
from convatlas.runs.curves import draw_together
from convatlas.runs.folder import open_run, runs_below

GOLDEN = Path(__file__).parents[1] / "goldens" / "run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs, one of them without a finished epoch."""
    shutil.copytree(GOLDEN, tmp_path / "runs/deep/done")
    shutil.copytree(GOLDEN, tmp_path / "runs/begun")
    (tmp_path / "runs/begun/log.jsonl").unlink()
    return tmp_path / "runs"


def test_runs_are_found_at_any_depth(folder: Path) -> None:
    assert [run.folder for run in runs_below(folder)] == [folder / "begun", folder / "deep/done"]


def test_val_chooses_and_test_does_not(folder: Path) -> None:
    run = open_run(folder / "deep/done")
    chosen = run.chosen()
    assert chosen is not None
    assert chosen["val"]["top1"] == max(line["val"]["top1"] for line in run.epochs())
    log = folder / "deep/done/log.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:  # the same run of data without val, whose last epoch is not the best
        if line["kind"] == "epoch":
            line["test"] = {**line.pop("val"), "top1": 1 / line["epoch"]}
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    record = json.loads((folder / "deep/done/run.json").read_text())
    record["data"]["test"] = record["data"].pop("val")
    (folder / "deep/done/run.json").write_text(json.dumps(record))
    again = open_run(folder / "deep/done").chosen()
    assert again is not None
    assert (again["epoch"], again["test"]["top1"]) == (2, 0.5)
    assert open_run(folder / "begun").chosen() is None


def test_the_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", str(folder), "--json"]) == 0
    begun, done = json.loads(capsys.readouterr().out)["runs"]
    assert (begun["run"], begun["epoch"], begun["top1"]) == ("begun", 0, None)
    assert (done["run"], done["epoch"], done["of"], done["judged"]) == ("deep/done", 2, 2, "val")
    run = open_run(folder / "deep/done")
    rates = [line["images_per_s"] for line in run.epochs()]
    assert done["seconds"] == round(sum(1299 / rate for rate in rates), 1)


def test_the_curves(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "c.png"
    assert main(["list", str(folder), "--curves", str(picture)]) == 0
    assert f"The curves are in {picture}." in capsys.readouterr().out
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 600
    with pytest.raises(UserError, match="none of the runs has finished an epoch"):
        draw_together({"begun": open_run(folder / "begun")}, picture)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["resnet", "--curves", "c.png"], "--curves draws the runs of a folder"),
        (["EMPTY"], "has no runs; give a folder that holds run folders"),
        (["FOLDER", "--curves", "c.txt"], "--curves c.txt is not a picture file"),
    ],
)
def test_what_is_refused(
    args: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    words = [{"EMPTY": str(tmp_path / "empty"), "FOLDER": str(folder)}.get(word, word) for word in args]
    assert main(["list", *words]) == 2
    assert message in capsys.readouterr().err
