"""`convatlas evaluate` of one model, of several, and what it writes for people to look at."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from convatlas.cli import main

GOLDEN = Path(__file__).parents[1] / "goldens" / "run"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(GOLDEN, tmp_path / "first"))


def evaluate(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    status = main(["evaluate", *map(str, args), "--data", "digits"])
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def test_several_models(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(run, tmp_path / "second")
    status, out, _ = evaluate(capsys, run, other, "--ensemble", "--which", "last", "--json")
    record = json.loads(out)
    assert status == 0
    alone = json.loads(evaluate(capsys, run, "--which", "last", "--json")[1])
    assert [it["model"] for it in record["models"]] == ["first", "second", "ensemble"]
    for it in record["models"]:  # an ensemble of equals is what each is
        assert it["top1"] == alone["top1"]
        assert it["loss"] == pytest.approx(alone["loss"], rel=1e-5)
    assert [(it["only_first"], it["only_second"], it["p"]) for it in record["paired"]] == [(0, 0, 1.0)] * 3


def test_a_table_of_models_fits(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    other = shutil.copytree(run, tmp_path / "second")
    _, out, _ = evaluate(capsys, run, other, "--ensemble")
    assert max(map(len, out.splitlines())) <= 80
    assert "ensemble" in out


def test_what_people_look_at(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, table, picture = tmp_path / "m.html", tmp_path / "i.csv", tmp_path / "r.png"
    status, out, _ = evaluate(
        capsys, run, "--mistakes", page, "--per-image", table, "--reliability", picture, "--only", "3", "--only", "8"
    )
    assert status == 0
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    wrong = [row for row in rows if row["class"] != row["predicted"]]
    assert {row["class"] for row in rows} == {"3", "8"}
    assert f"{len(rows) - len(wrong):,}" in out
    assert page.read_text(encoding="utf-8").count("<figure>") == min(len(wrong), 60) > 0
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 300
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    assert all((row["rank"] == "1") is (row["class"] == row["predicted"]) for row in rows)
    assert out.count(" is in ") == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["RUN"], "a model is given twice; give each once"),
        (["OTHER", "--mistakes", "m.html"], "--mistakes is of one model or an ensemble; give one MODEL, or --ensemble"),
        (["OTHER", "--per-image", "m.csv"], "--per-image is of one model or an ensemble"),
        (["--only", "ten"], "no class named 'ten'"),
        (["--protocol", "vgg"], "no protocol named 'vgg'; choose from center, flip"),
    ],
)
def test_what_is_refused(
    args: list[str], message: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(run, tmp_path / "second")
    words = [{"RUN": str(run), "OTHER": str(other)}.get(word, word) for word in args]
    status, out, err = evaluate(capsys, run, *words)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
