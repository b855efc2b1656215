"""EfficientNet-Lite: EfficientNet without squeeze-and-excitation, for mobile processors (Tan, 2020),
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite

Read beside Table 1 of EfficientNet's paper, and the table of the release's README. Three changes make the network easy
to quantise: no squeeze-and-excitation, ReLU6 for SiLU, and a stem, a head and a depth of the first and the last stage
that are the same at every scale. All else is EfficientNet's. `efficientnet_lite0_symmetric` pads both sides equally and
has torch's batch norm (epsilon 1e-5, momentum 0.1), as timm's efficientnet_lite0 does.
Departures from the paper: none (the paper is the release).
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil

from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError
from ..layers import ConvBN, ConvNet, DropPath, classifier, stack
from .efficientnet import SAME, TABLE_1, init
from .mobilenet_v2 import round8

PAPER = Paper(
    "EfficientNet-Lite", "Tan", 2020, "https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite"
)

Conv = Callable[..., nn.Module]  # cin, cout, kernel, stride, groups=, act=


class EfficientNetLite(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `width` multiplies the channels of the seven stages, `depth` the layers of all but the first and the last.
    `drop_path` is the rate of the last block and grows linearly up to it. `conv` makes a convolution with its batch
    norm and activation.
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
        layers = [n if i in (0, len(TABLE_1) - 1) else ceil(depth * n) for i, (*_, n) in enumerate(TABLE_1)]
        self.stem = stack(conv=conv(channels, 32, 3, 2, act=nn.ReLU6))
        cin = 32
        before = 0  # blocks
        stages: dict[str, nn.Module] = {}
        for i, (expand, kernel, stride, c, _) in enumerate(TABLE_1):
            cout = round8(c * width)
            blocks: dict[str, nn.Module] = {}
            for j in range(1, layers[i] + 1):
                drop = drop_path * before / sum(layers)
                blocks[f"block{j}"] = InvertedResidual(cin, cout, kernel, stride if j == 1 else 1, expand, conv, drop)
                cin, before = cout, before + 1
            stages[f"stage{i + 1}"] = stack(**blocks)
        self.stages = stack(**stages, last=conv(cin, 1280, 1, act=nn.ReLU6))
        self.head = classifier(1280, classes, dropout)
        init(self)

    def init_classifier(self, layer: nn.Module) -> None:
        init(layer)


class InvertedResidual(nn.Module):
    """(N, cin, H, W) -> (N, cout, H / stride, W / stride) through expand * cin maps; added to x if it fits."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expand: int, conv: Conv, drop_path: float):
        super().__init__()
        mid = cin * expand
        wider = {"expand": conv(cin, mid, 1, act=nn.ReLU6)} if expand > 1 else {}
        self.branch = stack(
            **wider,
            depthwise=conv(mid, mid, kernel, stride, groups=mid, act=nn.ReLU6),
            project=conv(mid, cout, 1, act=None),
        )
        self.drop_path = DropPath(drop_path)
        self.fits = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop_path(self.branch(x)) if self.fits else self.branch(x)


RELEASED = [  # name, width, depth, resolution, dropout; the README's params, million MAdds, top-1 (%); our macs
    ("lite0", 1.0, 1.0, 224, 0.2, "4.7M", "407", "75.1", "385,187,552"),
    ("lite1", 1.0, 1.1, 240, 0.2, "5.4M", "631", "76.7", "600,185,232"),
    ("lite2", 1.1, 1.2, 260, 0.3, "6.1M", "899", "77.6", "859,736,272"),
    ("lite3", 1.2, 1.4, 280, 0.3, "8.2M", "1440", "79.8", "1,383,321,872"),
    ("lite4", 1.4, 1.8, 300, 0.3, "13.0M", "2640", "81.5", "2,553,034,336"),
]


def claims(params: str, mmacs: str, top1: str, macs: str) -> list[Claim]:
    gap = f"not reproduced: {macs}; the rest is about three operations for each value that a convolution gives"
    return [Claim("params", params, "README"), Claim("mmacs", mmacs, "README", gap), Claim("top1_acc", top1, "README")]


VARIANTS = family(
    EfficientNetLite,
    PAPER,
    [
        Variant(
            f"efficientnet_{lite}",
            dict(width=width, depth=depth, dropout=dropout),
            (3, side, side),
            claims(*printed),
            aliases=(f"tf_efficientnet_{lite}",),
        )
        for lite, width, depth, side, dropout, *printed in RELEASED
    ]
    + [
        Variant(
            "efficientnet_lite0_symmetric",
            dict(conv=ConvBN),
            note="timm's: padding on both sides, epsilon 1e-5",
        )
    ],
    recipe="efficientnet",
)
