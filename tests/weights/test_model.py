"""load: a run folder, a run or a checkpoint alone gives the same Model; what is neither is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.data.names import unnamed
from convatlas.data.sources import load_data
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate
from convatlas.runs import checkpoint
from convatlas.runs.folder import open_run
from convatlas.weights.identify import options_of
from convatlas.weights.model import load, locate
from convatlas.weights.types import Weights

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
    with pytest.raises(UserError, match=r"last\.safetensors is not a run, and has one set of weights; leave out"):
        load(run / "last.safetensors", "best")


def test_weights_that_do_not_say_what_they_are_for_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="fits no network of the atlas: none has its 0 layers with weights"):
        load(tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"there is no model .*none; give a run folder, a weights file"):
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


# --- files of other libraries ---


def saved(path: Path, name: str, **options: Any) -> Path:
    net = find(name).build(**options)
    torch.save({f"theirs.{key}": tensor for key, tensor in net.state_dict().items()}, path)
    return path


def test_a_file_of_another_library_needs_what_it_does_not_say(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", "resnet20")
    with pytest.raises(UserError, match=r"w.pth fits plain20 and resnet20, whose .*; say which with --network"):
        load(path)
    with pytest.raises(UserError, match=r"weights of resnet20, but does not say how its images were prepared"):
        load(path, network="resnet20")
    with pytest.raises(UserError, match="no preprocessing named 'imagnet'; did you mean imagenet"):
        load(path, network="resnet20", preprocess="imagnet")
    with pytest.raises(UserError, match=r"w.pth does not fit resnet56"):
        load(path, network="resnet56", preprocess="imagenet")
    model = load(path, network="ResNet-20", preprocess="imagenet")
    assert model.network == "resnet20"
    assert model.preprocess.input == (3, 32, 32)
    assert model.notes[0] == "w.pth: resnet20, matched by order and shape"
    assert model.classes == unnamed(10)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("squeezenet1_1", dict(classes=5)),  # fire9's squeeze layer reads as many channels as the classifier
        ("mobilenet_v2", dict(classes=64)),
        ("resnet20", dict(channels=1)),
        ("efficientnet_lite0", {}),  # a depthwise layer, which reads one channel, may come first
        ("lenet_caffe", dict(channels=3, classes=7)),
    ],
)
def test_options_of_files_sorted_by_name(tmp_path: Path, name: str, options: dict[str, int]) -> None:
    net = find(name).build(**options)
    tensors = {f"theirs.{key}": tensor for key, tensor in net.state_dict().items()}
    for order in (sorted, lambda names: sorted(names, reverse=True)):
        found = options_of(Weights({key: tensors[key] for key in order(tensors)}), find(name))
        assert found == options


@pytest.mark.parametrize("name", ["no/such/file.pth", "missing.safetensors", "nothing@nowhere"])
def test_what_is_no_model(name: str) -> None:
    with pytest.raises(UserError, match=f"there is no model {name}"):
        load(name)


def test_grey_images_by_summing(tmp_path: Path) -> None:
    """A grey image through the summed convolution, and its three equal channels through the original: the same."""
    path = saved(tmp_path / "w.pth", "squeezenet1_1")
    colour = load(path, preprocess="half")
    grey = load(path, preprocess="half", channels=1)
    x = torch.randn(1, 1, 96, 96)
    with torch.inference_mode():
        a, b = grey.net(x), colour.net(x.repeat(1, 3, 1, 1))
    assert torch.allclose(a, b, atol=1e-4 * b.abs().max().item())
    assert grey.preprocess.mean == (0.5,)
    assert "summed over its channels" in grey.notes[-1]


def test_another_number_of_classes(tmp_path: Path) -> None:
    model = load(saved(tmp_path / "w.pth", "resnet20"), network="resnet20", preprocess="imagenet", classes=3)
    assert model.net(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert model.classes == unnamed(3)
    assert model.notes[-1] == "new classifier for 3 classes, freshly initialised: train it before use"
