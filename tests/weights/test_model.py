"""load: a run folder, a run or a checkpoint alone gives the same Model; what is neither is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from convatlas.cli import main
from convatlas.data.sources import load_data
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate
from convatlas.runs import checkpoint
from convatlas.runs.folder import open_run
from convatlas.weights.model import load, locate

GOLDEN = Path(__file__).parents[1] / "goldens" / "run"


def test_a_checkpoint_alone_is_as_good_as_its_run(tmp_path: Path) -> None:
    alone = Path(shutil.copy(GOLDEN / "best.safetensors", tmp_path / "mine.safetensors"))
    data = load_data("digits")
    scores = [evaluate(model, data) for model in (GOLDEN, str(GOLDEN), open_run(GOLDEN), load(GOLDEN), alone)]
    assert all(torch.equal(it.losses, scores[0].losses) for it in scores)
    model = load(alone)
    assert (model.network, model.classes) == ("chain_n1_m1_k0", tuple("0123456789"))
    assert model.preprocess == open_run(GOLDEN).preprocess
    assert not model.net.training
    assert load(model) is model


def test_best_or_else_last(tmp_path: Path) -> None:
    run = Path(shutil.copytree(GOLDEN, tmp_path / "run"))
    assert locate(run).name == "best.safetensors"
    assert locate(run, "last").name == "last.safetensors"
    (run / "best.safetensors").unlink()
    assert locate(run).name == "last.safetensors"
    with pytest.raises(UserError, match=r"there is no checkpoint .*best\.safetensors"):
        load(run, "best")
    with pytest.raises(UserError, match=r"last\.safetensors is a file, which has one set of weights; leave out"):
        load(run / "last.safetensors", "best")


def test_weights_that_do_not_say_what_they_are_for_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="does not say which network, preprocessing and classes its weights belong to"):
        load(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"there is no model .*none; give a run folder, or a checkpoint"):
        load(tmp_path / "none")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": 3}, "does not say which network"),
        (
            {"options": {"input": [1, 8, 8], "classes": 10, "widths": [None]}},
            "does not describe a network that can be built",
        ),
        ({"network": "resnet2O"}, "no network named 'resnet2O'"),
        ({"classes": 7}, "does not say which network"),
        ({"preprocess": {"input": 1}}, "the preprocessing has no 'mean'"),
    ],
)
def test_a_header_that_was_changed_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    tensors, about = checkpoint.load(GOLDEN / "best.safetensors")
    checkpoint.save(tmp_path / "w.safetensors", tensors, {**about, **change})
    with pytest.raises(UserError, match=message):
        load(tmp_path / "w.safetensors")


def test_the_command_line_takes_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = str(shutil.copy(GOLDEN / "best.safetensors", "mine.safetensors"))
    assert main(["evaluate", alone, "--data", "digits", "--protocol", "flip"]) == 0
    assert f"chain_n1_m1_k0 of {alone} on digits, test, flip: 355 images" in capsys.readouterr().out
    assert main(["evaluate", alone, "--data", "digits", "--protocol", "flop"]) == 2
    assert "no protocol named 'flop'; did you mean flip?" in capsys.readouterr().err
    assert main(["evaluate", "none", "--data", "digits"]) == 2
    assert "there is no model" in capsys.readouterr().err


def test_a_model_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone = str(shutil.copy(GOLDEN / "best.safetensors", tmp_path / "mine.safetensors"))
    for model in (str(GOLDEN), alone):
        assert main(["show", model, "--json"]) == 0
        record = json.loads(capsys.readouterr().out)
        tensors = open_run(GOLDEN).load().state_dict()
        assert record["input"] == [1, 8, 8]
        assert record["totals"]["params"] == sum(t.numel() for t in tensors.values())
    assert main(["memory", alone, "--json"]) == 0
    assert main(["show", str(tmp_path)]) == 2
    assert "no network named" in capsys.readouterr().err
