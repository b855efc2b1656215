"""Files, folders and classes whose names are not UTF-8, or no name that a figure or a terminal likes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from convatlas.cli import main
from convatlas.files.figure import drawable
from convatlas.runs.folder import open_run

CLASSES = [os.fsdecode(b"chi\xe9n"), "a$\\frac$", "日本\n[red]", "x" * 200]
LATIN = [os.fsdecode(name) for name in (b"donn\xe9es", b"r\xe9sultat", b"im\xff%d.png", b"matr\xefce")]
DATA, RUN, FILE, PLOT = LATIN


def verb(capsys: pytest.CaptureFixture[str], *args: str, status: int = 0) -> str:
    """Standard output, which is text that can be written as UTF-8."""
    assert main(args) == status, capsys.readouterr().err
    made = capsys.readouterr()
    assert not status or made.err.count("\n") == 1
    return made.out.encode("utf-8").decode("utf-8")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for n, name in enumerate(CLASSES):
        for i in range(6):
            file = tmp_path / DATA / name / (FILE % i)
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as opened:
                Image.new("RGB", (9, 8), (40 * i, 50 * n, 10)).save(opened, "PNG")
    return tmp_path / DATA


def test_from_images_to_predictions(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "chain_n1_m1_k0", "--data", DATA, "--recipe", "digits", "--input", "1x8x8", "--epochs", "1"]
    train += ["--batch", "8", "--device", "cpu", "--out", RUN]
    broken = data / CLASSES[0] / os.fsdecode(b"br\xefken.png")
    broken.write_bytes(b"no image")
    verb(capsys, *train, status=2)
    verb(capsys, *train, "--bad", "skip")
    kept = json.loads((tmp_path / RUN / "run.json").read_text(encoding="utf-8"))
    assert sorted(kept["classes"]) == sorted(CLASSES)
    assert json.loads((tmp_path / RUN / "skipped.jsonl").read_text(encoding="utf-8"))["file"].endswith(broken.name)
    assert (tmp_path / RUN / "curves.png").stat().st_size > 1000
    verb(capsys, *train, "--bad", "skip", "--resume", "--json")
    broken.unlink()

    for suffix in (".png", ".svg", ".pdf"):
        verb(capsys, "evaluate", RUN, "--data", DATA, "--confusion", PLOT + suffix)
    scores = json.loads(verb(capsys, "evaluate", RUN, "--data", DATA, "--json"))
    assert len(scores["per_class"]) == len(CLASSES)
    lines = json.loads(verb(capsys, "predict", RUN, DATA, "--json"))["predictions"]
    assert {os.fsencode(line["file"]) for line in lines} == {
        os.fsencode(Path(DATA, name, FILE % i)) for name in CLASSES for i in range(6)
    }
    assert {it["class"] for it in lines[0]["ranked"]} == set(open_run(tmp_path / RUN).classes)
    for form in ([], ["--csv"], ["--md"]):
        verb(capsys, "predict", RUN, DATA, *form)
        verb(capsys, "doctor", RUN, *form)
    verb(capsys, "show", RUN)


def test_packs(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for format in ("jpeg", "raw"):
        out = os.fsdecode(b"p\xe9ck") + format
        verb(capsys, "data", "pack", DATA, "--out", out, "--size", "8", "--format", format)
        assert sorted(json.loads((tmp_path / out / "pack.json").read_text())["classes"]) == sorted(CLASSES)
        verb(capsys, "doctor", out)
    assert main(["data", "scan", DATA, "--json"]) == 1  # tiny
    found = json.loads(capsys.readouterr().out)
    assert DATA in json.dumps(found, ensure_ascii=False)


@pytest.mark.parametrize(
    ("name", "drawn"), [("cat", "cat"), ("$x$", r"\$x\$"), ("a\nb", r"a\nb"), ("\udce9", r"\udce9")]
)
def test_labels_of_figures(name: str, drawn: str) -> None:
    assert drawable(name) == drawn
    assert len(drawable(name * 1000)) < 1000
