"""`convatlas chart`: pictures, their points, and what is said of a wrong call."""

import csv
import json
from pathlib import Path

import pytest

from convatlas.cli import main
from convatlas.report.chart import LISTED

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_picture_and_its_points(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chart", "winners"]) == 0
    assert capsys.readouterr().out == "winners.png\n"
    assert Path("winners.png").read_bytes().startswith(b"\x89PNG")
    assert main(["chart", "winners", "--out", "winners.csv"]) == 0
    rows = list(csv.DictReader(Path("winners.csv").read_text(encoding="utf-8").splitlines()))
    assert main(["chart", "winners", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out.partition("\n")[2])
    assert [row["name"] for row in rows] == [point["name"] for point in printed["points"]]
    assert not Path("winners.pdf").exists()
    assert main(["chart", "winners", "--json", "--out", "winners.pdf"]) == 0
    assert json.loads(capsys.readouterr().out) == printed
    assert Path("winners.pdf").read_bytes().startswith(b"%PDF")


def test_files_alone_are_every_chart_of_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chart", str(GOLDENS / "run")]) == 0
    assert capsys.readouterr().out == "curves.png\ngradients.png\n"
    assert {it.name for it in Path().iterdir()} == {"curves.png", "gradients.png"}
    Path("curves.png").unlink()
    assert main(["chart", str(GOLDENS / "run"), "--out", "a.png"]) == 2
    assert "files alone are drawn as several charts; name one" in capsys.readouterr().err
    Path("notes.txt").write_text("none", encoding="utf-8")
    assert main(["chart", "notes.txt"]) == 2
    assert "notes.txt" in capsys.readouterr().err


def test_the_list_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["chart", "list"]) == 0
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    for listed in LISTED:
        assert f"\n{listed.name} " in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["winers"], "no chart named 'winers'; did you mean winners"),
        (
            ["winners", "--out", "a.gif"],
            "--out a.gif is neither a picture nor a table; end its name in .png, .svg, .pdf",
        ),
        (["winners", "--out", "none/a.png"], "there is no folder none for a.png; create it first"),
        (["winners", "a.jsonl"], "chart winners is drawn from the catalogue, and reads no files; leave them out"),
        (["winners", "--dataset", "cifar10"], "chart winners takes no --dataset; leave it out"),
    ],
)
def test_what_is_wrong(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chart", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(Path().iterdir())
