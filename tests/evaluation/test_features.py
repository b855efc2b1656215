"""features() and feature_extractor(): the maps of each stage, at the network's strides and kept at a smaller one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convatlas
from convatlas.catalogue import find, variants
from convatlas.errors import UserError
from convatlas.evaluation.features import feature_extractor
from convatlas.layers import ConvNet, shape_after, stack
from convatlas.tables import index
from tests import oracles

QUICK = {"lenet", "nin", "resnet_cifar", "fractalnet", "squeezenet", "mobilenet_v1", "airbench", "senet_cifar"}
AT_OWN_SIZE = {"lenet", "alexnet", "bn_alexnet", "zfnet", "inception_v2", "inception_v3", "inception_v4"}


def smallest_of_each_family() -> list[Any]:
    rows = index()
    by_size = sorted(variants().values(), key=lambda v: rows[v.name]["totals"]["params"])
    smallest = {v.family: v.name for v in reversed(by_size)}
    marks = {f: [] if f in QUICK else [pytest.mark.slow] for f in smallest}
    return [pytest.param(name, id=f, marks=marks[f]) for f, name in sorted(smallest.items())]


def built(name: str, **options: Any) -> ConvNet:
    """In double precision, with batch norms that have seen something."""
    torch.manual_seed(0)
    net = find(name).build(**options).double().eval()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            assert m.running_mean is not None
            assert m.running_var is not None
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
    return net


def images_for(net: ConvNet, side: int) -> Tensor:
    assert net.input is not None
    return torch.randn(2, net.input[0], side, side, dtype=torch.float64)


@pytest.mark.parametrize("name", smallest_of_each_family())
def test_a_kept_stride_adds_positions_between_those_of_the_network(name: str) -> None:
    net = built(name)
    assert net.input is not None
    family, whole = find(name).family, net.input[1]
    images = images_for(net, whole if whole < 96 or family in AT_OWN_SIZE else 97)
    info = net.feature_info
    strides = sorted({feature.stride for feature in info})
    stride = strides[-2] if len(strides) > 1 else (strides or [1])[0]
    extractor = feature_extractor(net, stride=stride).eval()
    with torch.no_grad():
        maps, kept = net.features(images), extractor(images)
    assert len(maps) == len(kept) == len(info)
    for feature, dense, a, b in zip(info, extractor.feature_info, maps, kept, strict=True):
        assert dense == feature._replace(stride=min(feature.stride, stride))
        k = feature.stride // dense.stride
        assert b.shape == (*a.shape[:2], k * a.shape[2], k * a.shape[3])
        assert torch.allclose(b[..., ::k, ::k], a, rtol=1e-9, atol=1e-9 * float(a.abs().max()))
        assert k == 1 or not torch.allclose(b[..., 1::k, 1::k], a), "positions between hold something else"


@pytest.mark.parametrize(("stride", "dilated"), [(16, (False, False, True)), (8, (False, True, True))])
def test_equal_to_dilated_convolutions(stride: int, dilated: tuple[bool, bool, bool]) -> None:
    """torchvision's ResNet, whose 3x3 convolutions are dilated: at every position, those at the border included."""
    models = oracles.torchvision_models()
    theirs = models.ResNet(models.resnet.Bottleneck, [1, 2, 2, 1], replace_stride_with_dilation=dilated).double().eval()
    net = built("resnet50_v1_5", depths=(1, 2, 2, 1))
    assert [t.shape for t in net.state_dict().values()] == [t.shape for t in theirs.state_dict().values()]
    net.load_state_dict(dict(zip(net.state_dict(), theirs.state_dict().values(), strict=True)))
    images = images_for(net, 128)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images))))
        for layer, y in zip(
            (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4),
            feature_extractor(net, stride=stride).eval()(images),
            strict=True,
        ):
            x = layer(x)
            assert x.shape == y.shape
            assert torch.allclose(x, y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("stride", [4, 16])
def test_tensorflows_padding_of_odd_sizes(stride: int) -> None:
    net = built("mobilenet_v1_0_25_128")
    for side in (61, 64):
        images = images_for(net, side)
        with torch.no_grad():
            (a,), (b,) = net.features(images)[-1:], feature_extractor(net, [-1], stride).eval()(images)
        k = 32 // stride
        assert torch.allclose(b[..., ::k, ::k], a, rtol=1e-9, atol=1e-9)


def test_stages_by_number_and_name() -> None:
    net = built("resnet20")
    images = images_for(net, 32)
    extractor = feature_extractor(net, [-1, "conv2"])
    assert [(f.name, f.channels, f.stride) for f in extractor.feature_info] == [("conv4", 64, 4), ("conv2", 16, 1)]
    assert [tuple(y.shape) for y in extractor(images)] == [(2, 64, 8, 8), (2, 16, 32, 32)]
    assert [name for name, _ in feature_extractor(net, ["conv2"]).net.stages.named_children()] == ["conv2"]
    assert not any(name.startswith("net.head") for name in extractor.state_dict())
    assert list(convatlas.features(net, images, stages=[1], stride=1)) == ["conv3"]
    assert convatlas.features(net, images, stages=[1], stride=1)["conv3"].shape == (2, 32, 32, 32)


def test_the_extractor_is_trained_apart_from_the_network() -> None:
    net = built("resnet20")
    before = {key: t.clone() for key, t in net.state_dict().items()}
    extractor = feature_extractor(net, stride=2).train()
    optimizer = torch.optim.SGD(extractor.parameters(), lr=0.1)
    torch.stack([y.square().mean() for y in extractor(images_for(net, 32))]).sum().backward()
    assert all(p.grad is not None for p in extractor.parameters())
    optimizer.step()
    assert all(torch.equal(before[key], t) for key, t in net.state_dict().items())
    assert shape_after(net, (3, 32, 32)) == (10,)


def test_features_of_a_weights_file(tmp_path: Path) -> None:
    net = find("lenet5").build()
    path = tmp_path / "lenet5.pth"
    torch.save(net.state_dict(), path)
    images = torch.randn(1, 1, 32, 32)
    model = convatlas.load(path, network="lenet5", preprocess="grey")
    for given in (model, net):
        assert torch.equal(convatlas.features(given, images)["c5"], net.eval().features(images)[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(stages=["conv9"]), "no stage of resnet20 named 'conv9'; did you mean conv"),
        (dict(stages=[3]), r"resnet20 has no stage 3; give one of \['conv2', 'conv3', 'conv4'\], or its number"),
        (dict(stages=[True]), "resnet20 has no stage True"),
        (dict(stages=[]), r"stages=\[\] is not a list of stages"),
        (dict(stages="conv2"), "stages='conv2' is not a list of stages"),
        (dict(stride=0), "stride=0 is not a stride; give a whole number"),
        (dict(stride=True), "stride=True is not a stride"),
        (dict(stride=3), "resnet20 has no map of stride 3; its strides are 1, 2, 4"),
    ],
)
def test_what_cannot_be_given_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        feature_extractor("resnet20", **arguments)


def test_a_stride_outside_of_the_layers_is_refused() -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)[..., ::2, ::2]

    net = ConvNet()
    net.stem, net.head = nn.Identity(), nn.Identity()
    net.stages, net.input = stack(one=Halved(), two=nn.Conv2d(4, 4, 2, 2)), (3, 8, 8)
    with pytest.raises(UserError, match="ConvNet makes maps smaller outside of its layers"):
        feature_extractor(net, stride=1)


def test_features_of_each_stage() -> None:
    net = find("resnet20").build().train()
    images = torch.randn(2, 3, 32, 32)
    maps = convatlas.features(net, images)
    assert {name: tuple(y.shape) for name, y in maps.items()} == {
        "conv2": (2, 16, 32, 32),
        "conv3": (2, 32, 16, 16),
        "conv4": (2, 64, 8, 8),
    }
    assert [(f.name, f.channels, 32 // f.stride) for f in net.feature_info] == [
        (name, y.shape[1], y.shape[2]) for name, y in maps.items()
    ]
    assert net.training
    assert not any(y.requires_grad for y in maps.values())
    with torch.no_grad():
        assert torch.equal(net.head(maps["conv4"]), net.eval()(images))
    assert list(convatlas.features("lenet5", torch.zeros(1, 1, 32, 32))) == ["s2", "c3", "s4", "c5"]


def test_another_module_has_no_stages() -> None:
    with pytest.raises(UserError, match="Linear is not a ConvNet, so its stages are not known; give a network of the"):
        convatlas.features(nn.Linear(3, 2), torch.zeros(1, 3))
