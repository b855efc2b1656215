"""EfficientNet-Lite: what the release's builder scales and what it does not, block by block."""

import pytest
import torch
from torch import nn

from convatlas.accounting import account
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.layers import ConvNet, ConvSame, DropPath
from convatlas.nets.efficientnet_lite import VARIANTS


def on_meta(name: str = "efficientnet_lite0", **options: object) -> ConvNet:
    with torch.device("meta"):
        return find(name).build(**options)


def test_parameters_by_hand() -> None:
    total, cin = 27 * 32 + 2 * 32, 32
    for t, k, c, n in (
        (1, 3, 16, 1), (6, 3, 24, 2), (6, 5, 40, 2), (6, 3, 80, 3), (6, 5, 112, 3), (6, 5, 192, 4), (6, 3, 320, 1),
    ):  # fmt: skip
        for _ in range(n):
            mid = t * cin
            total += (cin * mid + 2 * mid) * (t > 1) + k * k * mid + 2 * mid + mid * c + 2 * c
            cin = c
    total += 320 * 1280 + 2 * 1280 + 1281 * 1000
    assert total == 4_652_008 == account("efficientnet_lite0").totals.params


@pytest.mark.parametrize(("lite", "side", "widths", "layers"), [  # round_filters and round_repeats, worked by hand
    ("lite0", 224, (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
    ("lite1", 240, (16, 24, 40, 80, 112, 192, 320), (1, 3, 3, 4, 4, 5, 1)),
    ("lite2", 260, (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
    ("lite3", 280, (24, 32, 48, 96, 136, 232, 384), (1, 3, 3, 5, 5, 6, 1)),
    ("lite4", 300, (24, 32, 56, 112, 160, 272, 448), (1, 4, 4, 6, 6, 8, 1)),
])  # fmt: skip
def test_stem_head_and_the_outer_stages_keep_their_size(
    lite: str, side: int, widths: tuple[int, ...], layers: tuple[int, ...]
) -> None:
    net = on_meta(f"efficientnet_{lite}")
    *stages, last = net.stages
    assert net.input == (3, side, side)
    assert net.stem.conv.conv.out_channels == 32
    assert tuple(len(s) for s in stages) == layers
    assert tuple(s[-1].branch.project.conv.out_channels for s in stages) == widths
    assert (last.conv.in_channels, last.conv.out_channels) == (widths[-1], 1280)


@pytest.mark.parametrize("name", [v.name for v in VARIANTS])
def test_what_makes_it_easy_to_quantise(name: str) -> None:
    kinds = {type(m) for m in on_meta(name).modules()}
    assert nn.ReLU6 in kinds
    assert not kinds & {nn.SiLU, nn.Sigmoid, nn.ReLU}  # no squeeze-and-excitation either: it has a gate
    assert (ConvSame in kinds) == (not name.endswith("_symmetric"))


def test_drop_path_and_dropout() -> None:
    rates = [m.p for m in on_meta().modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.2 * i / 16 for i in range(16)])
    assert [on_meta(f"efficientnet_lite{i}").head.dropout.p for i in range(5)] == [0.2, 0.2, 0.3, 0.3, 0.3]


def test_refusals() -> None:
    with pytest.raises(UserError, match=r"width=0 is not positive; give a positive multiplier, such as 1.0"):
        on_meta(width=0)
