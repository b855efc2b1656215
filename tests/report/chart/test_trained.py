"""Charts of runs: the numbers of their logs, thin and thick; gradients by stage."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import pytest

from convatlas.errors import UserError
from convatlas.report.chart import chart
from convatlas.report.chart.draw import figure
from convatlas.report.chart.frame import Asked, Chart
from convatlas.runs.folder import open_run

from . import texts

GOLDEN = Path(__file__).parents[2] / "goldens" / "run"


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two of one name in different folders, and one that logged before norms were."""
    folders = [Path(copytree(GOLDEN, tmp_path / name)) for name in ("a/run", "b/run", "old")]
    lines = [{k: v for k, v in line.items() if k != "gradient"} for line in open_run(GOLDEN).log()]
    (folders[2] / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folders


def drawn(name: str, *folders: Path) -> Chart:
    made = chart(name, Asked(folders))
    picture, unwritten = figure(made)
    assert texts.overlapping(picture) == texts.outside(picture) == unwritten == []
    return made


def test_curves_are_the_log(runs: list[Path]) -> None:
    made = drawn("curves", *runs)
    epochs = open_run(GOLDEN).epochs()
    of = {thin: [(p.x, p.y) for _, p in made.points if p.group == "a/run" and p.thin is thin] for thin in (True, False)}
    assert of[True] == [(line["epoch"], 100 * (1 - line["train"]["top1"])) for line in epochs]
    assert of[False] == [(line["epoch"], 100 * (1 - line["val"]["top1"])) for line in epochs]
    assert list(dict.fromkeys(p.group for _, p in made.points)) == ["a/run", "b/run", "old"]
    assert next(p.label for _, p in made.points if p.label) == f"a/run {of[False][-1][1]:.2f}%"
    names = {p.name for _, p in made.points if p.group == "old"}
    assert names == {"old, training images", "old, validation images"}
    assert made.points[0][1].source == "run/log.jsonl: chain_n1_m1_k0 on digits, recipe golden, seed 0"


def test_gradients_are_the_log(runs: list[Path]) -> None:
    made = drawn("gradients", *runs[:2])
    assert [panel.title for panel in made.panels] == ["a/run", "b/run"]
    for stage in ("stem", "head"):
        expected = [(line["epoch"], line["gradient"][stage]["mean"]) for line in open_run(GOLDEN).epochs()]
        assert [(p.x, p.y) for p in made.panels[0].points if p.group == stage] == expected


def test_a_stage_without_a_gradient_is_left_out_of_a_logarithmic_axis(runs: list[Path]) -> None:
    log = runs[0] / "log.jsonl"
    lines = open_run(runs[0]).log()
    for line in lines:
        line["gradient"]["head"] = {"mean": 0.0, "max": 0.0}
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert {p.group for _, p in drawn("gradients", runs[0]).points} == {"stem"}


def test_what_is_no_run(runs: list[Path], tmp_path: Path) -> None:
    remedy = "make one: convatlas train resnet20 --data digits --out RUN"
    with pytest.raises(UserError, match=r"chart curves is drawn from run folders, and .*log.jsonl is none") as error:
        drawn("curves", runs[0] / "log.jsonl")
    assert error.value.remedy == remedy
    with pytest.raises(UserError, match=r"the log of .*old has no norms of gradients; train it again"):
        drawn("gradients", runs[2])
    (runs[1] / "log.jsonl").write_text("")
    with pytest.raises(UserError, match="run has no finished epoch; draw it when it has one"):
        drawn("curves", runs[1])
    with pytest.raises(UserError, match="none"):
        drawn("curves", tmp_path / "none")
    many = [Path(copytree(GOLDEN, tmp_path / f"run{i}")) for i in range(9)]
    with pytest.raises(UserError, match="chart curves has room for 8 runs, and these are 9; give fewer"):
        drawn("curves", *many)
