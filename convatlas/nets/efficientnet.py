"""EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks (Tan and Le, 2019),
https://arxiv.org/abs/1905.11946

Read beside Table 1 (B0) and section 3.3. MobileNetV2's inverted residual with squeeze-and-excitation, scaled in depth,
width and resolution at once. The option `phi` of B0 scales by the rule: alpha = 1.2, beta = 1.1, gamma = 1.15, each to
the power phi. The published B1 ... B7 (COEFFICIENTS, from the authors' code) are rounded by hand and depart from the
rule: B7's width 2.0, depth 3.1 and 600 pixels correspond to phi = 7.3, 6.2 and 7.05.
Batch norm's momentum of 0.99 (section 5.2) is a decay: torch's momentum is 0.01.
Details not in the paper follow that code (tensorflow/tpu): padding ("SAME"), batch-norm epsilon (1e-3), channel counts
in multiples of 8, initial weights, and a drop path of 0.2 (0.3 in the paper's first version). The `_symmetric` rows
pad both sides equally, as torchvision and timm do, and have their batch norm: torch's (epsilon 1e-5, momentum 0.1),
except for torchvision's B5 to B7.
Departures from the paper: none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil, isfinite
from typing import Any

from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError
from ..layers import ConvBN, ConvNet, DropPath, classifier, stack
from .mobilenet_v2 import round8

PAPER = Paper(
    "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
    "Tan and Le",
    2019,
    "https://arxiv.org/abs/1905.11946",
)

TABLE_1 = [  # expansion, kernel, stride of the first, channels, layers (a 3x3 of 32 before, a 1x1 of 1280 after)
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
]
COEFFICIENTS = {  # width, depth, resolution, dropout
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
    "b4": (1.4, 1.8, 380, 0.4),
    "b5": (1.6, 2.2, 456, 0.4),
    "b6": (1.8, 2.6, 528, 0.5),
    "b7": (2.0, 3.1, 600, 0.5),
}
ALPHA, BETA, GAMMA = 1.2, 1.1, 1.15  # of depth, width, resolution
MOST_PHI = 20  # a million times B0's multiply-adds

Conv = Callable[..., nn.Module]  # cin, cout, kernel, stride, groups=, act=
SAME = partial(ConvBN, padding="same", eps=1e-3, momentum=0.01)


class EfficientNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `width` multiplies channels, `depth` layers. `drop_path` is the rate of the last block and grows linearly up to it.
    `conv` makes a convolution with its batch norm and activation.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        depth: float = 1.0,
        conv: Conv = SAME,
        dropout: float = 0.2,
        drop_path: float = 0.2,
        classes: int = 1000,
        channels: int = 3,
    ):
        super().__init__()
        for name, factor in (("width", width), ("depth", depth)):
            if factor <= 0:
                raise UserError(f"{name}={factor} is not positive", "give a positive multiplier, such as 1.0")
        cin = round8(32 * width)
        self.stem = stack(conv=conv(channels, cin, 3, 2, act=nn.SiLU))
        total = sum(ceil(depth * layers) for *_, layers in TABLE_1)
        before = 0  # blocks
        stages: dict[str, nn.Module] = {}
        for i, (expand, kernel, stride, c, layers) in enumerate(TABLE_1, 1):
            cout = round8(c * width)
            blocks: dict[str, nn.Module] = {}
            for j in range(1, ceil(depth * layers) + 1):
                drop = drop_path * before / total
                blocks[f"block{j}"] = MBConv(cin, cout, kernel, stride if j == 1 else 1, expand, conv, drop)
                cin, before = cout, before + 1
            stages[f"stage{i}"] = stack(**blocks)
        last = round8(1280 * width)
        self.stages = stack(**stages, last=conv(cin, last, 1, act=nn.SiLU))
        self.head = classifier(last, classes, dropout)
        init(self)

    def init_classifier(self, layer: nn.Module) -> None:
        init(layer)


class MBConv(nn.Module):
    """(N, cin, H, W) -> (N, cout, H / stride, W / stride) through expand * cin maps; added to x if it fits.

    Squeeze-and-excitation, after the depthwise convolution, squeezes to a quarter of cin.
    """

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expand: int, conv: Conv, drop_path: float):
        super().__init__()
        mid = cin * expand
        wider = {"expand": conv(cin, mid, 1, act=nn.SiLU)} if expand > 1 else {}
        self.branch = stack(
            **wider,
            depthwise=conv(mid, mid, kernel, stride, groups=mid, act=nn.SiLU),
            se=SqueezeExcite(mid, max(1, cin // 4)),
            project=conv(mid, cout, 1, act=None),
        )
        self.drop_path = DropPath(drop_path)
        self.fits = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.branch(x)) if self.fits else self.branch(x)


class SqueezeExcite(nn.Module):
    """x times a gate in (0, 1) per map, computed from the maps' means through `squeezed` values."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.gate = stack(
            pool=nn.AdaptiveAvgPool2d(1),
            reduce=nn.Conv2d(channels, squeezed, 1),
            act=nn.SiLU(),
            expand=nn.Conv2d(squeezed, channels, 1),
            sigmoid=nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def init(net: nn.Module) -> None:
    """The authors' code: convolutions normal, variance 2 / fan-out; the classifier uniform, +-1 / sqrt(classes)."""
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            fan_out = m.kernel_size[0] * m.kernel_size[1] * m.out_channels // m.groups
            nn.init.normal_(m.weight, std=(2 / fan_out) ** 0.5)
        if isinstance(m, nn.Linear):
            nn.init.uniform_(m.weight, -(m.out_features**-0.5), m.out_features**-0.5)
        if isinstance(m, nn.Conv2d | nn.Linear) and m.bias is not None:
            nn.init.zeros_(m.bias)


def coefficients(phi: float) -> tuple[float, float, float]:
    """Equation 3: the multipliers of depth, width and resolution for 2^phi times the compute.

    Depth d gives d times the layers; width w gives w times the channels in and out, so w^2 times the products;
    resolution r gives r^2 times the positions. Together (1.2 * 1.1^2 * 1.15^2)^phi = 1.92^phi, about 2^phi.
    """
    return ALPHA**phi, BETA**phi, GAMMA**phi


def compound(phi: float = 0.0) -> Variant:
    """B0 scaled by the rule, for any phi >= 0 (0 is B0): what the option `phi` of B0 builds.

    Its input is 224 * 1.15^phi pixels, to the nearest; its dropout grows from 0.2 to 0.5 at phi = 7, as B0's to B7's.
    Raises UserError for a phi that is no such number.
    """
    if isinstance(phi, bool) or not isinstance(phi, int | float) or not isfinite(phi):
        raise UserError(f"phi={phi!r} is not a number", "give 0 (B0) or more")
    if phi < 0:
        raise UserError(f"phi={phi} is negative", "give 0 (B0) or more")
    if phi > MOST_PHI:
        raise UserError(f"phi={phi:g} is more than {MOST_PHI}", f"give 0 (B0) to {MOST_PHI}; B7 is about 7")
    depth, width, resolution = coefficients(phi)
    side = round(224 * resolution)
    args = dict(width=width, depth=depth, dropout=min(0.2 + 0.3 * phi / 7, 0.5))
    name = f"efficientnet_phi_{phi:g}".replace(".", "_")
    return family(EfficientNet, PAPER, [Variant(name, args, (3, side, side))])[0]


TABLE_2 = {  # parameters, gigamacs ("FLOPS" there), top-1 and top-5 error (%) in the paper's first version;
    # then the later top-1 and top-5 accuracy (AutoAugment), the top-1 of plain preprocessing, exact parameters, macs
    "b0": ("5.3M", "0.39", "23.7", "6.8", "77.1", "93.3", "76.7", "5,288,548", "385,814,752"),
    "b1": ("7.8M", "0.70", "21.2", "5.6", "79.1", "94.4", "78.7", "7,794,184", "686,802,832"),
    "b2": ("9.2M", "1.0", "20.2", "5.1", "80.1", "94.9", "79.8", "9,109,994", "993,561,872"),
    "b3": ("12M", "1.8", "18.9", "4.5", "81.6", "95.7", "81.1", "", ""),
    "b4": ("19M", "4.2", "17.4", "3.7", "82.9", "96.4", "82.5", "", ""),
    "b5": ("30M", "9.9", "16.7", "3.3", "83.6", "96.7", "83.1", "", ""),
    "b6": ("43M", "19", "16.0", "3.1", "84.0", "96.8", "", "", ""),
    "b7": ("66M", "37", "15.6", "2.9", "84.3", "97.0", "", "66,347,960", "37,745,884,192"),
}
GAPS = {  # the other five are within a unit of the last digit printed
    "b1": "not reproduced: 0.687 at 240 pixels, in torchvision and timm alike",
    "b4": "not reproduced: 4.39 at 380 pixels, in torchvision and timm alike",
    "b5": "not reproduced: 10.27 at 456 pixels, in torchvision and timm alike",
}


def claims(b: str) -> list[Claim]:
    params, gmacs, top1, top5, later1, later5, plain, exact, macs = TABLE_2[b]
    found = [
        Claim("params", params, "Table 2"),
        Claim("gmacs", gmacs, "Table 2", GAPS.get(b)),
        Claim("top1_err", top1, "Table 2, first version"),
        Claim("top5_err", top5, "Table 2, first version"),
        Claim("top1_acc", later1, "Table 2, later version, AutoAugment"),
        Claim("top5_acc", later5, "Table 2, later version, AutoAugment"),
    ]
    found += [Claim("top1_acc", plain, "tensorflow/tpu README, without AutoAugment")] if plain else []
    return found + ([Claim("params", exact, COUNT), Claim("macs", macs, COUNT)] if exact else [])


COUNT = "counted: Table 1 and the authors' coefficients; torchvision, timm"
BASE: dict[str, Any] = dict(scaled=compound)  # B0's
VARIANTS = family(
    EfficientNet,
    PAPER,
    [
        Variant(
            f"efficientnet_{b}",
            dict(width=width, depth=depth, dropout=dropout),
            (3, side, side),
            claims(b),
            aliases=(f"tf_efficientnet_{b}", *(["EfficientNet"] if b == "b0" else [])),
            **(BASE if b == "b0" else {}),
        )
        for b, (width, depth, side, dropout) in COEFFICIENTS.items()
    ]
    + [
        Variant(
            f"efficientnet_{b}_symmetric",
            dict(width=width, depth=depth, dropout=dropout, conv=ConvBN if b < "b5" else partial(SAME, padding=None)),
            (3, side, side),
            note=f"padding on both sides; {'torchvision and timm: epsilon 1e-5' if b < 'b5' else 'torchvision'}",
        )
        for b, (width, depth, side, dropout) in COEFFICIENTS.items()
    ],
    recipe="efficientnet",
)
