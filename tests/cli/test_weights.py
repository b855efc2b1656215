"""`convatlas weights`: what is listed, checked and converted is what is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.weights.match import fit
from convatlas.weights.model import load
from convatlas.weights.published import published
from convatlas.weights.types import Weights


def output(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert not main(list(args)), capsys.readouterr().err
    return capsys.readouterr().out


def saved(path: Path, name: str) -> Path:
    torch.save({f"theirs.{key}": tensor for key, tensor in find(name).build().state_dict().items()}, path)
    return path


def test_list(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    found = json.loads(output(capsys, "weights", "list", "--json"))["weights"]
    assert [row["name"] for row in found] == list(published())
    mine = json.loads(output(capsys, "weights", "list", "resnet*@akamaster", "--json"))["weights"]
    assert [row["name"] for row in mine] == [name for name in published() if name.endswith("akamaster")]
    licensed = json.loads(output(capsys, "weights", "list", "--licence", "cc-by-nc-4.0", "--json"))["weights"]
    assert {row["licence"] for row in licensed} == {"CC-BY-NC-4.0"}
    assert "91.73" in output(capsys, "weights", "list", "resnet20@akamaster")
    assert main(["weights", "list", "no such"]) == 2
    assert "no published weights match 'no such'" in capsys.readouterr().err


def test_networks_with_weights(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(output(capsys, "list", "resnet*", "--with-weights", "--json"))["networks"]
    known = {row.network for row in published().values()}
    assert [row["name"] for row in found if row["name"] not in known] == []
    assert {"resnet20", "resnet50_v1_5"} <= {row["name"] for row in found}
    two = json.loads(output(capsys, "list", "--licence", "BSD-2-Clause", "--json"))["networks"]
    assert {row["name"] for row in two} == {
        row.network for row in published().values() if row.licence == "BSD-2-Clause"
    }
    assert main(["list", "--licence", "GPL"]) == 2
    assert "no weights are published under 'GPL'; give Apache-2.0" in capsys.readouterr().err


def test_show_takes_weights(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Counting needs no weights: published ones are not fetched."""
    named = json.loads(output(capsys, "show", "resnet20@akamaster", "--json"))
    filed = json.loads(output(capsys, "show", str(saved(tmp_path / "w.pth", "squeezenet1_1")), "--json"))
    assert named["totals"]["params"] == 269722
    assert filed["totals"]["params"] == 1235496


def test_check(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pth", "resnet20")
    text = output(capsys, "weights", "check", str(path))
    assert "resnet20" in text
    assert "Shapes do not tell these networks apart: say which with --network." in text
    found = json.loads(output(capsys, "weights", "check", str(path), "--network", "ResNet-20", "--json"))
    assert [row["network"] for row in found["fits"]] == ["resnet20"]
    assert found["fits"][0]["layers"]["theirs.stem.conv1.conv"] == "stem.conv1.conv"
    assert (found["tensors"], found["published"]) == (len(find("resnet20").build().state_dict()), None)
    assert main(["weights", "check", str(path), "--network", "resnet50"]) == 2
    assert "does not fit resnet50" in capsys.readouterr().err


def test_a_converted_file_says_all(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path, out = saved(tmp_path / "w.pth", "resnet20"), tmp_path / "mine.safetensors"
    args = ("weights", "convert", str(path), "--network", "resnet20", "--preprocess", "imagenet", "--out", str(out))
    output(capsys, *args)
    a, b = load(path, network="resnet20", preprocess="imagenet"), load(out)
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(a.net(x), b.net(x))
    assert (a.preprocess, a.classes, a.network) == (b.preprocess, b.classes, b.network)
    card = (tmp_path / "mine.md").read_text()
    assert "- network: resnet20 (convatlas/nets/resnet_cifar.py), He et al., 2015" in card
    assert "mean 0.485, 0.456, 0.406" in card
    assert main([*args[:-1], "mine.pth"]) == 2
    assert "does not end in .safetensors" in capsys.readouterr().err


def test_epsilons_are_kept(tmp_path: Path) -> None:
    """The epsilon of the batch norms belongs to the weights, through a conversion too."""
    from convatlas.data.names import unnamed
    from convatlas.data.normalise import Normalizer
    from convatlas.weights.convert import convert
    from convatlas.weights.model import Model
    from convatlas.weights.published import preset

    net = find("resnet20").build().eval()
    norms = {name: 1e-2 for name, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    tensors = {f"theirs.{name}": t for name, t in net.state_dict().items()}
    found = fit(Weights(tensors, eps={f"theirs.{name}": eps for name, eps in norms.items()}), net, "FILE")
    found.load(net)
    preprocess = Normalizer(preset("imagenet", "resnet20"))
    model = Model(net, preprocess, unnamed(10), "resnet20", "FILE", eps=found.eps)
    again = load(convert(model, tmp_path / "w.safetensors"))
    assert {m.eps for m in again.net.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {1e-2}


@pytest.mark.slow
def test_real_weights_score_as_published(capsys: pytest.CaptureFixture[str], real_data: Path, real_packs: Path) -> None:
    """ResNet-20 for CIFAR-10 as akamaster published it, by its file alone; 91.73% of all test images."""
    file = real_packs / "weights" / "akamaster" / "resnet20-12fca82f.th"
    found = json.loads(output(capsys, "weights", "check", str(file), "--json"))
    assert found["published"] == "resnet20@akamaster"
    data = f"cifar10:{real_data / 'cifar-10-batches-py'}"
    scores = json.loads(output(capsys, "evaluate", str(file), "--data", data, "--json"))
    assert abs(scores["top1"] - 0.9173) < 0.0005
