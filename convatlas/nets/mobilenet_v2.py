"""MobileNetV2: Inverted Residuals and Linear Bottlenecks (Sandler et al., 2018), https://arxiv.org/abs/1801.04381

Read beside Table 2. Narrow ends, a wide depthwise middle, no activation where a block is narrow.
Details not in the paper follow the released code (tf-slim): padding ("SAME"), batch norm's epsilon (1e-3) and decay of
the moving averages (0.997: torch's momentum 0.003), dropout, channel counts in multiples of 8, initial weights
(truncated normal, deviation 0.09). The `_symmetric` rows pad both sides equally and have torch's batch norm (epsilon
1e-5, momentum 0.1), as in torchvision and timm.
Departures from the paper: none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError
from ..layers import ConvBN, ConvNet, classifier, stack

PAPER = Paper(
    "MobileNetV2: Inverted Residuals and Linear Bottlenecks", "Sandler et al.", 2018, "https://arxiv.org/abs/1801.04381"
)

TABLE_2 = [  # t expansion, c channels, n repeats, s stride of the first (a 3x3 of 32 before, a 1x1 of 1280 after)
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]

Conv = Callable[..., nn.Module]  # cin, cout, kernel, stride, groups=, act=
SAME = partial(ConvBN, padding="same", eps=1e-3, momentum=0.003)


class MobileNetV2(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `width` multiplies every channel count; the last is never narrower than in the paper. `conv` makes a convolution
    with its batch norm and activation.
    """

    def __init__(
        self, *, width: float = 1.0, conv: Conv = SAME, dropout: float = 0.2, classes: int = 1000, channels: int = 3
    ):
        super().__init__()
        if width <= 0:
            raise UserError(f"width={width} leaves no channels", "give a positive multiplier, such as 0.5")
        cin = round8(32 * width)
        self.stem = stack(conv=conv(channels, cin, 3, 2, act=nn.ReLU6))
        stages: dict[str, nn.Module] = {}
        for i, (expand, c, repeats, stride) in enumerate(TABLE_2, 1):
            cout = round8(c * width)
            blocks: dict[str, nn.Module] = {}
            for j in range(1, repeats + 1):
                blocks[f"block{j}"] = InvertedResidual(cin, cout, stride if j == 1 else 1, expand, conv)
                cin = cout
            stages[f"stage{i}"] = stack(**blocks)
        last = round8(1280 * max(1.0, width))
        self.stages = stack(**stages, last=conv(cin, last, 1, act=nn.ReLU6))
        self.head = classifier(last, classes, dropout)
        for m in self.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                truncated_normal_(m)

    def init_classifier(self, layer: nn.Module) -> None:
        truncated_normal_(layer)


def truncated_normal_(layer: Any) -> None:
    """As in tf-slim: normal with standard deviation 0.09, truncated at two of them; biases zero."""
    nn.init.trunc_normal_(layer.weight, std=0.09, a=-0.18, b=0.18)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class InvertedResidual(nn.Module):
    """Table 1: (N, cin, H, W) -> (N, cout, H / stride, W / stride) through expand * cin maps; added to x if it fits."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int, conv: Conv):
        super().__init__()
        mid = cin * expand
        wider = {"expand": conv(cin, mid, 1, act=nn.ReLU6)} if expand > 1 else {}
        self.branch = stack(
            **wider,
            depthwise=conv(mid, mid, 3, stride, groups=mid, act=nn.ReLU6),
            project=conv(mid, cout, 1, act=None),
        )
        self.fits = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x) if self.fits else self.branch(x)


def round8(channels: float) -> int:
    """The multiple of 8 nearest to `channels`: at least 8, and at least 90% of it."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8


COUNTED = {  # by torchvision's definition; width: parameters, MACs at 224, 192, 160, 128 and 96 pixels
    1.0: ("3,504,872", "300,774,272", "221,316,608", "154,083,200", "99,074,048", "56,289,152"),
    1.4: ("6,108,776", "582,195,824", "428,211,136", "297,916,400", "191,311,616", "108,396,784"),
    1.3: ("5,386,792", "509,374,560", "374,675,840", "260,700,000", "167,447,040", "94,916,960"),
    0.75: ("2,636,424", "209,069,792", "153,941,888", "107,295,200", "69,129,728", "39,445,472"),
    0.5: ("1,968,680", "97,131,840", "71,701,760", "50,184,000", "32,578,560", "18,885,440"),
    0.35: ("1,677,128", "59,285,808", "43,896,512", "30,874,800", "20,220,672", "11,934,128"),
}
RELEASED = {  # width: million parameters; then for each size million multiply-adds, top-1, top-5 (%): tf-slim's README
    1.4: ("6.06M", [("582", "75.0", "92.5")]),
    1.3: ("5.34M", [("509", "74.4", "92.1")]),
    1.0: ("3.47M", [("300", "71.8", "91.0"), ("221", "70.7", "90.1"), ("154", "68.8", "89.0"),
                    ("99", "65.3", "86.9"), ("56", "60.3", "83.2")]),
    0.75: ("2.61M", [("209", "69.8", "89.6"), ("153", "68.7", "88.9"), ("107", "66.4", "87.3"),
                     ("69", "63.2", "85.3"), ("39", "58.8", "81.6")]),
    0.5: ("1.95M", [("97", "65.4", "86.4"), ("71", "63.9", "85.4"), ("50", "61.0", "83.2"),
                    ("32", "57.7", "80.8"), ("18", "51.2", "75.8")]),
    0.35: ("1.66M", [("59", "60.3", "82.9"), ("43", "58.2", "81.2"), ("30", "55.7", "79.1"),
                     ("20", "50.8", "75.0"), ("11", "45.5", "70.4")]),
}  # fmt: skip
TABLE_4 = {  # width: million parameters, multiply-adds, top-1 (%), at 224 pixels
    1.0: ("3.4M", "300", "72.0"),
    1.4: ("6.9M", "585", "74.7"),
}
COUNT = "counted: Table 2; torchvision"
SIZES = (224, 192, 160, 128, 96)
SLIM = "tf-slim mobilenet README"
NO_BN = "batch norm's parameters are left out there"
GAPS = {
    "3.4M": "3,470,760 without batch norm's parameters, rounded down",
    "6.9M": "not reproduced: 6,108,776, of which batch norm's are 47,936; tf-slim has 6.06M",
    "585": "not reproduced: 582,195,824; tf-slim has 582",
}


def name(width: float, side: int, end: str = "") -> str:
    return "mobilenet_v2" + ("" if (width, side) == (1.0, 224) else f"_{width}_{side}".replace(".", "_")) + end


def short(width: float) -> str:
    return f"mobilenet_v2_{width}".replace(".", "_")


def claims(width: float, side: int) -> list[Claim]:
    params, *macs = COUNTED[width]
    size, released = RELEASED[width]
    at = SIZES.index(side)
    found = [Claim("params", params, COUNT), Claim("macs", macs[at], COUNT)]
    if at < len(released):
        mmacs, top1, top5 = released[at]
        found += [Claim("params", size, SLIM, NO_BN), Claim("mmacs", mmacs, SLIM)]
        found += [Claim("top1_acc", top1, SLIM), Claim("top5_acc", top5, SLIM)]
    if width in TABLE_4 and side == 224:
        printed = zip(("params", "mmacs", "top1_acc"), TABLE_4[width], strict=True)
        found += [Claim(what, value, "Table 4", GAPS.get(value)) for what, value in printed]
    return found


VARIANTS = family(
    MobileNetV2,
    PAPER,
    [
        Variant(
            name(width, side),
            dict(width=width),
            (3, side, side),
            claims(width, side),
            aliases=(
                f"mobilenet_v2_{width}_{side}",
                f"mobilenetv2_{width:.2f}_{side}",
                *([f"MobileNetV2 {width}", short(width)] if side == 224 else []),
            ),
        )
        for width in COUNTED
        for side in SIZES
    ]
    + [
        Variant(
            name(width, 224, "_symmetric"),
            dict(width=width, conv=ConvBN),
            (3, 224, 224),
            claims(width, 224)[:2],
            note="torchvision's and timm's: padding on both sides, epsilon 1e-5",
            aliases=()
            if width in (0.35, 0.75)
            else (f"mobilenetv2_{round(100 * width):03}",),  # those spell the paper's
        )
        for width in COUNTED
    ],
    recipe="mobilenet_v2",
)
