"""The measure by which exported networks are judged: it sees small errors, and refuses to judge by nothing."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas import tables
from convatlas.catalogue import find
from convatlas.data.normalise import Normalizer, normalise
from convatlas.engines import parity
from convatlas.engines.on_onnxruntime import OnnxRuntimeNet
from convatlas.engines.onnx_export import export_onnx
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.nets.lenet import Subsample
from convatlas.preprocess import Preprocess

RESULTS = Path(__file__).parents[2] / "benchmarks/results/parity.json"
DEEP = {"fractalnet_40", "fractalnet_40_narrow", "preact_resnet110_bn_after"}
DEEPEST = {"plain110", "preact_resnet164_bn_after", "fractalnet_80_narrow", "fractalnet_160_narrow"}  # beyond TOLERANCE
LOGITS = torch.tensor([[0.0, 2.0, 4.0], [1.0, 3.0, 2.0], [-3.0, 0.0, 0.5]])


def answer(logits: Tensor) -> parity.Run:
    return lambda images: logits[: len(images)]


def test_the_measure_is_in_standard_deviations_whatever_lies_under_all_logits() -> None:
    expected, found = LOGITS - 10, LOGITS - 10
    found = found + torch.tensor([0.0, 0.0, 0.01])
    assert parity.difference(expected, found) == pytest.approx(0.01 / LOGITS.std().item(), rel=1e-3)
    with pytest.raises(parity.Unlike, match=r"net differs from the original by 0\.005 standard deviations"):
        parity.check(answer(expected), answer(found), torch.zeros(3), "net")
    assert parity.check(answer(expected), answer(expected + 1e-6), torch.zeros(3), "net") < 1e-5


def test_every_batch_counts() -> None:
    wrong = LOGITS.clone()
    wrong[2, 0] += 1
    with pytest.raises(parity.Unlike):
        parity.check(answer(LOGITS), answer(wrong), torch.zeros(3), "net")

    def only_in_batches_of_three(images: Tensor) -> Tensor:
        return LOGITS[: len(images)] + (len(images) == 3)

    with pytest.raises(parity.Unlike):
        parity.check(answer(LOGITS), only_in_batches_of_three, torch.zeros(3), "net")
    with pytest.raises(parity.Unlike, match=r"answers \(1, 3\) to 3 images"):
        parity.check(answer(LOGITS), lambda images: LOGITS[:1], torch.zeros(3), "net")
    with pytest.raises(parity.Unlike, match="by nan"):
        parity.check(answer(LOGITS), answer(LOGITS * float("nan")), torch.zeros(3), "net")


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (torch.full((3, 4), 7.0), "all but constant"),
        (-84 + 0.01 * torch.randn(3, 4), "all but constant"),
        (torch.arange(4.0).expand(3, 4) + 1e-4 * torch.randn(3, 4), "hardly depend on the image"),
        (LOGITS / 0, "are not finite"),
    ],
)
def test_logits_that_tell_nothing_are_an_error(logits: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parity.check(answer(logits), answer(logits), torch.zeros(3), "net")
    assert not isinstance(error.value, parity.Unlike)


def made(name: str) -> tuple[ConvNet, parity.Run, Tensor]:
    """The network with random weights, what it answers to uint8 images, and some."""
    net = find(name).build().eval()
    assert net.input is not None
    normalizer = normalizer_of(net)
    shown = parity.images(net.input, parity.SHOWN, seed=1)
    parity.randomise(net, normalise(shown, normalizer).contiguous())
    return net, parity.of_net(net, normalizer), parity.images(net.input)


def normalizer_of(net: ConvNet) -> Normalizer:
    assert net.input is not None
    channels = net.input[0]
    return Normalizer(Preprocess(net.input, (0.5,) * channels, (0.25,) * channels))


def exported(net: ConvNet, file: Path) -> parity.Run:
    assert net.input is not None
    export_onnx(net, net.input, file)
    engine = OnnxRuntimeNet(file, "fp32", 1)
    return lambda images: engine(normalise(images, normalizer_of(net)))


EVERY = [
    pytest.param(name, marks=() if name == "lenet5" else pytest.mark.slow)
    for name in tables.index()
    if name not in DEEPEST
]


@pytest.mark.parametrize("name", EVERY)
def test_networks_are_exported_as_they_are(name: str, tmp_path: Path) -> None:
    net, original, images = made(name)
    assert parity.check(original, exported(net, tmp_path / "net.onnx"), images, name) <= parity.TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DEEPEST))
def test_the_deepest_networks_are_as_near_to_float64_as_torch_is(name: str, tmp_path: Path) -> None:
    """With random weights their float32 logits depend on the order of additions by more than is tolerated."""
    net, original, images = made(name)
    found, expected = exported(net, tmp_path / "net.onnx")(images).double(), original(images).double()
    exact = parity.of_net(deepcopy(net).double())(normalise(images, normalizer_of(net)).double())
    assert parity.difference(exact, found) <= 2 * parity.difference(exact, expected) < 1e-2


def test_one_network_of_every_family_was_compared_on_both_engines() -> None:
    figures = json.loads(RESULTS.read_text(encoding="utf-8"))["figures"]
    assert {of["family"] for of in figures.values()} == {row["family"] for row in tables.index().values()}
    for name, of in figures.items():
        for found in (of["onnxruntime"], of["openvino"]):
            if name in DEEPEST:
                assert "differs from the original" in found
            else:
                assert found <= (parity.TOLERANCE if name in DEEP else 2e-5), name


def test_an_operator_that_the_exporter_gets_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's exporter drops a pool's divisor_override, and says nothing."""

    def forward(self: Subsample, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 2, divisor_override=1) * self.weight + self.bias

    net, original, images = made("lenet5")
    answers = original(images)
    monkeypatch.setattr(Subsample, "forward", forward)
    assert torch.equal(original(images), answers), "LeNet-5's own subsampling is that sum"
    with pytest.raises(parity.Unlike):
        parity.check(original, exported(net, tmp_path / "net.onnx"), images, "lenet5")


@pytest.mark.parametrize("name", ["chain_n1_m1_k0", "nin_cifar", "plain20"])
def test_random_weights_reach_every_layer(name: str) -> None:
    """No layer can be changed a little without changing the logits more than is tolerated."""
    net, original, images = made(name)
    logits = original(images)
    parity.tell_something(logits, name)
    for layer in [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]:
        kept = layer.weight.detach().clone()
        layer.weight.data = kept * 1.02
        assert parity.difference(logits, original(images)) > parity.TOLERANCE
        layer.weight.data = kept
