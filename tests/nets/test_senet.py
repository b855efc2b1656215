"""SENet: the unit by hand, its cost by the paper's formula, gates held open or shut."""

import re
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas.accounting import account
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.nets.bn_inception import AS_PRINTED, BNInception, Inception
from convatlas.nets.inception_resnet import V2, InceptionResNet
from convatlas.nets.mobilenet_v1 import MobileNetV1
from convatlas.nets.preact_resnet_cifar import BASIC, CifarPreActResNet
from convatlas.nets.resnet import Bottleneck, BottleneckV15, Residual, ResNet
from convatlas.nets.resnet_cifar import CifarResNet
from convatlas.nets.senet import PLACES, Place, SEResNet, SqueezeExcite, excite
from convatlas.nets.senet_cifar import SECifarPreActResNet, SECifarResNet, SECifarWideResNet
from convatlas.nets.senet_others import SEVGG, SEBNInception, SEInceptionResNet, SEMobileNetV1
from convatlas.nets.vgg import VGG
from convatlas.nets.wide_resnet import CifarWideResNet

STAGES = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def test_the_unit_by_hand() -> None:
    """Two maps of means 1 and 3, one value between: gates 1 / (1 + exp(-(1 * 1 + 2 * 3 - 5) * (0.5, -1) - (0, 1)))."""
    se = SqueezeExcite(2, 2)
    weights: dict[str, Any] = {
        "reduce.weight": [[[[1.0]], [[2.0]]]],
        "reduce.bias": [-5.0],
        "expand.weight": [[[[0.5]]], [[[-1.0]]]],
        "expand.bias": [0.0, 1.0],
    }
    se.load_state_dict({name: torch.tensor(w) for name, w in weights.items()})
    x = torch.tensor([[[[0.0, 2.0]], [[2.0, 4.0]]]])
    gates = 1 / (1 + np.exp([-1.0, 1.0]))
    np.testing.assert_allclose(se(x)[0, :, 0].detach(), [[0, 2 * gates[0]], [2 * gates[1], 4 * gates[1]]], rtol=1e-6)
    below = x - 3  # means -2 and 0: the ReLU stops them, the biases alone make the gates
    np.testing.assert_allclose((se(below) / below)[0, :, 0, 0].detach(), [0.5, 1 / (1 + np.exp(-1))], rtol=1e-6)


def test_every_image_has_its_own_gates() -> None:
    torch.manual_seed(0)
    se, x = SqueezeExcite(8, 4), torch.randn(3, 8, 4, 5)
    torch.testing.assert_close(se(x), torch.cat([se(image[None]) for image in x]))


def unit(r: int, *blocks: tuple[int, int]) -> int:
    """What units cost: section 4's 2/r * sum of N * C^2, and the biases; a row is (how many, channels)."""
    return sum(n * (2 * c * (c // r) + c + c // r) for n, c in blocks)


@pytest.mark.parametrize("layers", [50, 101, 152])
def test_cost_is_the_papers_formula(layers: int) -> None:
    blocks = list(zip(STAGES[layers], (256, 512, 1024, 2048), strict=True))
    plain, excited = account(f"resnet{layers}").totals, account(f"se_resnet{layers}").totals
    assert excited.params - plain.params == unit(16, *blocks)
    assert excited.macs - plain.macs == 2 * sum(n * c * c for n, c in blocks) // 16


def test_about_two_and_a_half_million_more() -> None:
    """Section 4: ResNet-50 grows by about 2.5 million weights, a tenth; less its last stage, by 4%."""
    weights = {name: account(name).totals.weights for name in ("resnet50", "se_resnet50")}
    assert weights["se_resnet50"] - weights["resnet50"] == 2_514_944
    last = 2 * 3 * 2048**2 // 16
    assert (2_514_944 - last) / account("resnet50").totals.params == pytest.approx(0.04, abs=0.005)


@pytest.mark.parametrize("r", [2, 4, 8, 32])
def test_reduction(r: int) -> None:
    blocks = list(zip(STAGES[50], (256, 512, 1024, 2048), strict=True))
    assert account(f"se_resnet50_r{r}").totals.params - account("resnet50").totals.params == unit(r, *blocks)


@pytest.mark.parametrize(
    ("excited", "plain", "blocks"),
    [
        ("se_vgg16", "vgg16_bn", [(2, 64), (2, 128), (3, 256), (6, 512)]),
        ("se_mobilenet_v1", "mobilenet_v1", [(1, 64), (2, 128), (2, 256), (6, 512), (2, 1024)]),
        ("se_inception_resnet_v2", "inception_resnet_v2", [(5, 384), (10, 1152), (5, 2144)]),
        ("se_resnet20", "resnet20", [(3, 16), (3, 32), (3, 64)]),
        ("se_resnet110", "preact_resnet110", [(18, 16), (18, 32), (18, 64)]),
        ("se_resnet164", "preact_resnet164", [(18, 64), (18, 128), (18, 256)]),
        ("se_wrn16_8", "wrn16_8", [(2, 128), (2, 256), (2, 512)]),
    ],
)
def test_cost_on_other_networks(excited: str, plain: str, blocks: list[tuple[int, int]]) -> None:
    assert account(excited).totals.params - account(plain).totals.params == unit(16, *blocks)


@pytest.mark.parametrize(
    ("name", "layers", "plain", "excited"),
    [
        ("se_resnet50", 50, 3.86, 3.87),
        ("se_resnet101", 101, 7.58, 7.60),
        ("se_resnet152", 152, 11.30, 11.32),
        ("se_resnext50_32x4d", 50, 4.24, 4.25),
        ("se_resnext101_32x4d", 101, 7.99, 8.00),
    ],
)
def test_what_table_2_counts(name: str, layers: int, plain: float, excited: float) -> None:
    """The gap of several claims: what the units add there is their multiply-adds and one product a scaled value."""
    widths, sides = (256, 512, 1024, 2048), (56, 28, 14, 7)
    rows = account(name).rows
    units = sum(r.macs for r in rows if ".se." in r.path)
    scaled = sum(n * c * s * s for n, c, s in zip(STAGES[layers], widths, sides, strict=True))
    assert (units + scaled) / 1e9 == pytest.approx(excited - plain, abs=0.01)


def gates(net: nn.Module, bias: float) -> nn.Module:
    """`net` with every gate held: 40 opens it (the sigmoid is 1 to the last bit), -200 shuts it."""
    units = [m for m in net.modules() if isinstance(m, SqueezeExcite)]
    assert units
    for se in units:
        nn.init.zeros_(se.expand.weight)
        nn.init.constant_(se.expand.bias, bias)  # type: ignore[arg-type]
    return net.eval()


def carried(plain: nn.Module, excited: nn.Module, *renames: tuple[str, str]) -> nn.Module:
    """`plain` with the weights of `excited` but those of its units, names changed as told."""
    weights = {}
    for name, t in excited.state_dict().items():
        if not re.search(r"(^|\.)se\d*\.", name):
            for old, new in renames:
                name = name.replace(old, new)
            weights[name] = t
    plain.load_state_dict(weights)
    return plain.eval()


DEPTHS = (1, 2, 1, 1)
SHORT = V2 | dict(counts=(1, 1, 1))
CAFFE = dict(rows=AS_PRINTED, inception=partial(Inception, avg=partial(nn.AvgPool2d, 3, 1, 1)))
V1_5: dict[str, Any] = dict(block=BottleneckV15, depths=DEPTHS)
CASES: dict[str, tuple[Any, ...]] = {  # with units, without, pixels, how the names differ
    "resnet": (
        partial(SEResNet, **V1_5, pool=partial(nn.MaxPool2d, 3, 2, 1)),
        partial(ResNet, **V1_5, widths=(256, 512, 1024, 2048)),
        40,
    ),
    "vgg": (
        partial(SEVGG, "A", input=(3, 32, 32), classes=5),
        partial(VGG, "A", norm=nn.BatchNorm2d, input=(3, 32, 32), classes=5),
        32,
    ),
    "bn_inception": (SEBNInception, partial(BNInception, **CAFFE), 64, (".branches.", ".")),
    "inception_resnet": (
        partial(SEInceptionResNet, base=SHORT),
        partial(InceptionResNet, **SHORT),
        85,
        ("widen.conv", "widen"),
    ),
    "mobilenet": (partial(SEMobileNetV1, width=0.25), partial(MobileNetV1, width=0.25), 40),
    "cifar": (partial(SECifarResNet, depth=8), partial(CifarResNet, depth=8), 9),
    "preact": (partial(SECifarPreActResNet, depth=11), partial(CifarPreActResNet, depth=11), 9),
    "preact_basic": (
        partial(SECifarPreActResNet, depth=8, **BASIC),
        partial(CifarPreActResNet, depth=8, **BASIC),
        9,
    ),
    "wide": (partial(SECifarWideResNet, depth=10, width=2), partial(CifarWideResNet, depth=10, width=2), 9),
}


@pytest.mark.parametrize("case", CASES)
def test_open_gates_leave_the_plain_network(case: str) -> None:
    torch.manual_seed(0)
    make, make_plain, size, *renames = CASES[case]
    excited = gates(make(), 40.0)
    x = torch.randn(2, 3, size, size)
    plain = carried(make_plain(), excited, *renames)
    assert excited(x).equal(plain(x))
    assert not gates(excited, 0.0)(x).equal(plain(x))  # gates of a half do show


def block(place: Place) -> tuple[Residual, Tensor]:
    torch.manual_seed(0)
    made = excite(Bottleneck(64, 128, 2), 16, place)
    assert isinstance(made, Residual)
    return made, torch.randn(2, 64, 6, 6)


@pytest.mark.parametrize("place", PLACES)
def test_places(place: Place) -> None:
    """Fig. 7: what is left of a block when the gates of its unit are open, and when they are shut."""
    made, x = block(place)
    gates(made, 40.0)
    plain = carried(Bottleneck(64, 128, 2), made, ("relu.relu", "relu"), ("shortcut.path.", "shortcut."))
    assert made(x).equal(plain(x))
    gates(made, -200.0)
    assert isinstance(plain, Residual)
    assert plain.shortcut is not None
    left = {
        "standard": plain.shortcut(x).relu(),
        "pre": (plain.shortcut(x) + plain.branch(0 * x)).relu(),
        "post": 0 * plain(x),
        "identity": plain.branch(x).relu(),
    }
    torch.testing.assert_close(made(x), left[place])


def test_where_the_unit_stands() -> None:
    units = {p: [(n, m) for n, m in block(p)[0].named_modules() if isinstance(m, SqueezeExcite)] for p in PLACES}
    assert {p: [(n, m.reduce.in_channels) for n, m in found] for p, found in units.items()} == {
        "standard": [("branch.se", 128)],
        "pre": [("branch.se", 64)],
        "post": [("relu.se", 128)],
        "identity": [("shortcut.se", 128)],
    }
    assert [n for n, _ in block("pre")[0].branch.named_children()] == ["se", "conv1", "conv2", "conv3"]
    assert [n for n, _ in block("standard")[0].branch.named_children()] == ["conv1", "conv2", "conv3", "se"]


def test_senet_154() -> None:
    """Appendix: three 3x3 convolutions for the 7x7, the first 1x1 halved, 3x3 projections where the map is halved."""
    with torch.device("meta"):
        net = find("senet154").build()
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters() if name.endswith("conv.weight")}
    assert shapes["stem.conv3.conv.weight"] == (128, 64, 3, 3)
    assert shapes["stages.conv2.block1.branch.conv1.conv.weight"] == (128, 128, 1, 1)
    assert shapes["stages.conv2.block1.branch.conv2.conv.weight"] == (256, 2, 3, 3)
    assert shapes["stages.conv2.block1.shortcut.conv.weight"] == (256, 128, 1, 1)
    assert shapes["stages.conv3.block1.shortcut.conv.weight"] == (512, 256, 3, 3)
    assert shapes["stages.conv5.block1.branch.conv3.conv.weight"] == (2048, 2048, 1, 1)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.2]


def test_the_stem_pools_as_caffe() -> None:
    """Without padding, rounding up: 6 pixels make 3, the last window overhanging."""
    pool = SEResNet(depths=DEPTHS).stem.get_submodule("pool")
    x = torch.arange(36.0).view(1, 1, 6, 6)
    assert pool(x)[0, 0].tolist() == [[14, 16, 17], [26, 28, 29], [32, 34, 35]]


def test_user_errors() -> None:
    with pytest.raises(UserError, match="no position for an SE unit named 'before'; choose from standard, pre"):
        find("se_resnet50").build(place="before")
    with pytest.raises(UserError, match="reduction=32 does not fit an SE unit of 16 channels; give 1 to 16"):
        find("se_resnet20").build(reduction=32)
    with pytest.raises(UserError, match="reduction=0 does not fit an SE unit of 64 channels"):
        find("se_vgg16").build(reduction=0)
