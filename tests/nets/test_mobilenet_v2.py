"""MobileNetV2: Table 2 line by line, sums worked by hand, what its options change."""

import pytest
import torch
from torch import nn

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import ConvBN, ConvNet, ConvSame
from convatlas.nets.mobilenet_v2 import SAME, VARIANTS, InvertedResidual, round8

ROWS = {v.name: v for v in VARIANTS}


def build(name: str = "mobilenet_v2", **options: object) -> ConvNet:
    return ROWS[name].build(**options)


def params(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_the_input_sizes_of_table_2() -> None:
    blocks = {r.path: r.shape for r in account(ROWS["mobilenet_v2"]).table("block")}
    printed = [  # the input of each line of the table, C x H x W: what the line before gives
        ("stem.conv", (32, 112, 112)),
        ("stages.stage1.block1", (16, 112, 112)),
        ("stages.stage2.block2", (24, 56, 56)),
        ("stages.stage3.block3", (32, 28, 28)),
        ("stages.stage4.block4", (64, 14, 14)),
        ("stages.stage5.block3", (96, 14, 14)),
        ("stages.stage6.block3", (160, 7, 7)),
        ("stages.stage7.block1", (320, 7, 7)),
        ("stages.last", (1280, 7, 7)),
        ("head.pool", (1280, 1, 1)),
    ]
    assert {path: blocks[path] for path, _ in printed} == dict(printed)
    assert len([path for path in blocks if "block" in path]) == 17


def by_hand(width: float) -> int:
    """Table 2 added up: weights of the convolutions, two values a channel of batch norm, the classifier."""
    widths = {  # 32, 16, 24, 32, 64, 96, 160, 320, 1280 of the table, times the width, in eights
        1.0: (32, 16, 24, 32, 64, 96, 160, 320, 1280),
        0.35: (16, 8, 8, 16, 24, 32, 56, 112, 1280),  # 11.2 -> 8 would be under 90%: 16
        1.4: (48, 24, 32, 48, 88, 136, 224, 448, 1792),
    }[width]
    stem, *stages, last = widths
    total, cin = 27 * stem + 2 * stem, stem
    for t, c, n in zip((1, 6, 6, 6, 6, 6, 6), stages, (1, 2, 3, 4, 3, 3, 1), strict=True):
        for _ in range(n):
            mid = t * cin
            total += (cin * mid + 2 * mid) * (t > 1) + 9 * mid + 2 * mid + mid * c + 2 * c
            cin = c
    return total + cin * last + 2 * last + last * 1000 + 1000


@pytest.mark.parametrize(("width", "name"), [
    (1.0, "mobilenet_v2"),
    (0.35, "mobilenet_v2_0_35_96"),
    (1.4, "mobilenet_v2_1_4_160"),
])  # fmt: skip
def test_parameters_by_hand(width: float, name: str) -> None:
    assert account(ROWS[name]).totals.params == by_hand(width)


def test_round8() -> None:
    assert [round8(c) for c in (1, 12, 11.2, 19, 20, 33.6, 44.8, 320)] == [8, 16, 16, 24, 24, 32, 48, 320]
    assert round8(11) == 16  # 8 would be under nine tenths of it


def test_every_width_and_resolution_is_there() -> None:
    pairs = {(v.args["width"], v.input[1]) for v in VARIANTS if v.input and "symmetric" not in v.name}
    assert pairs == {(w, s) for w in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4) for s in (96, 128, 160, 192, 224)}


def test_a_block_by_hand() -> None:
    torch.manual_seed(0)
    block = InvertedResidual(8, 8, 1, 6, SAME).eval()
    expand, depthwise, project = block.branch
    x = torch.randn(2, 8, 6, 6)
    y = nn.functional.conv2d(x, expand.conv.weight)
    y = (y / (1 + 1e-3) ** 0.5).clamp(0, 6)  # batch norm as it starts: mean 0, variance 1
    y = nn.functional.conv2d(y, depthwise.conv.weight, padding=1, groups=48)
    y = (y / (1 + 1e-3) ** 0.5).clamp(0, 6)
    y = nn.functional.conv2d(y, project.conv.weight) / (1 + 1e-3) ** 0.5  # linear: no clamp
    assert torch.allclose(block(x), x + y, atol=1e-5)
    assert (y < 0).any()


def test_identity_only_where_it_fits() -> None:
    assert [InvertedResidual(*shape, 6, SAME).fits for shape in ((8, 8, 1), (8, 8, 2), (8, 16, 1))] == [
        True, False, False,
    ]  # fmt: skip
    assert not any("expand" in k for k in InvertedResidual(8, 16, 1, 1, SAME).state_dict())


def test_padding_and_epsilon() -> None:
    same, symmetric = build(), build("mobilenet_v2_symmetric")
    symmetric.load_state_dict(same.state_dict())
    assert {m.eps for m in same.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    assert {m.eps for m in symmetric.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}
    assert all(isinstance(m, ConvSame) for m in same.modules() if isinstance(m, nn.Conv2d))
    # at an even size, "SAME" pads a stride-2 convolution after the image only: its first window starts at the corner
    x = torch.randn(1, 3, 64, 64)
    weight = same.stem.conv.conv.weight
    corner = (same.stem.conv.conv(x) - symmetric.stem.conv.conv(x)).abs().max()
    assert corner > 0.1
    assert torch.allclose(same.stem.conv.conv(x)[..., 0, 0], (x[..., :3, :3] * weight).sum((1, 2, 3)), atol=1e-5)


def test_options() -> None:
    assert build(dropout=0.0).head[-1].in_features == 1280
    assert not [m for m in build(dropout=0.0).modules() if isinstance(m, nn.Dropout)]
    assert build(width=0.1).head.linear.in_features == 1280  # the last layer is never made narrower
    assert build(width=2.0, classes=7).head.linear.in_features == 2560
    assert {type(m) for m in build(conv=ConvBN).modules() if isinstance(m, nn.Conv2d)} == {nn.Conv2d}
    with pytest.raises(UserError, match=r"width=0 leaves no channels; give a positive multiplier, such as 0.5"):
        build(width=0)


def test_initialisation() -> None:
    torch.manual_seed(0)
    weight = build().stages.last.conv.weight
    assert weight.abs().max().item() <= 0.18
    assert weight.std().item() == pytest.approx(0.0792, rel=0.01)  # 0.09, cut off at two deviations
