"""MobileNet: Efficient Convolutional Neural Networks for Mobile Vision Applications (Howard et al., 2017),
https://arxiv.org/abs/1704.04861

Read beside Table 1. A depthwise 3x3 convolution, then a pointwise one: 1/N + 1/9 of a 3x3 convolution's multiply-adds.
Two multipliers shrink the network: width (alpha) its channels, resolution (rho) its input.
Details not in the paper follow the released code (tf-slim): padding ("SAME"), batch norm's epsilon (1e-3) and decay of
the moving averages (0.9997: torch's momentum 0.0003), initial weights (truncated normal, deviation 0.09). That code has
ReLU6 instead of the paper's ReLU, as have the `_slim` rows.
Departures from the paper: none; the last depthwise stride, printed as 2, is 1 (the map stays 7x7 in Table 1 itself).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError
from ..layers import ConvBN, ConvNet, classifier, stack

PAPER = Paper(
    "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
    "Howard et al.",
    2017,
    "https://arxiv.org/abs/1704.04861",
)

TABLE_1 = [  # stride of the depthwise convolution, channels after the pointwise one (a stride 2, 32-channel 3x3 before)
    (1, 64),
    (2, 128), (1, 128),
    (2, 256), (1, 256),
    (2, 512), (1, 512), (1, 512), (1, 512), (1, 512), (1, 512),
    (2, 1024), (1, 1024),
]  # fmt: skip
SHALLOW = TABLE_1[:6] + TABLE_1[11:]  # Table 5: without the five layers of 14x14x512

Conv = Callable[..., nn.Module]  # cin, cout, kernel, stride, groups=
SAME = partial(ConvBN, padding="same", eps=1e-3, momentum=0.0003)


class DepthwiseSeparable(nn.Sequential):
    """(N, cin, H, W) -> (N, cout, H / stride, W / stride), first within channels, then across them (Fig. 3)."""

    def __init__(self, cin: int, cout: int, stride: int, conv: Conv):
        super().__init__(OrderedDict(depthwise=conv(cin, cin, 3, stride, groups=cin), pointwise=conv(cin, cout, 1)))


def full_convolution(cin: int, cout: int, stride: int, conv: Conv) -> nn.Module:
    """What replaces each depthwise-separable block in Table 4."""
    return conv(cin, cout, 3, stride)


class MobileNetV1(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `width` multiplies every channel count (rounded down, at least 8); `table` has (stride, channels) for each block.
    `block(cin, cout, stride, conv)` makes one; `conv` makes a convolution with its batch norm and activation.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        table: Sequence[tuple[int, int]] = TABLE_1,
        block: Callable[[int, int, int, Conv], nn.Module] = DepthwiseSeparable,
        conv: Conv = SAME,
        dropout: float = 0.0,
        classes: int = 1000,
        channels: int = 3,
    ):
        super().__init__()
        if width <= 0:
            raise UserError(f"width={width} leaves no channels", "give a positive multiplier, such as 0.5")
        cin = max(8, int(32 * width))
        self.stem = stack(conv=conv(channels, cin, 3, 2))
        blocks: dict[str, nn.Module] = {}
        for i, (stride, channels_out) in enumerate(table, start=1):
            cout = max(8, int(channels_out * width))
            blocks[f"block{i}"] = block(cin, cout, stride, conv)
            cin = cout
        self.stages = stack(**blocks)
        self.head = classifier(cin, classes, dropout)
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


COUNTED = {  # width: parameters, MACs at 224, 192, 160 and 128
    1.0: ("4,231,976", "568,740,352", "418,121,728", "290,675,200", "186,400,768"),
    0.75: ("2,585,560", "325,400,448", "239,273,472", "166,396,800", "106,770,432"),
    0.5: ("1,331,592", "149,497,088", "109,970,432", "76,524,800", "49,160,192"),
    0.25: ("470,072", "41,030,272", "30,212,608", "21,059,200", "13,570,048"),
}
NO_STEM = "the first convolution is left out there; the paper prints 325 at 224"
SLIM = "tf-slim mobilenet_v1.md"


def name(alpha: float, side: int, end: str = "") -> str:
    return "mobilenet_v1" + ("" if (alpha, side) == (1.0, 224) else f"_{alpha}_{side}".replace(".", "_")) + end


def counts(alpha: float, side: int) -> list[Claim]:
    params, *macs = COUNTED[alpha]
    at = (224, 192, 160, 128).index(side)
    return [Claim("params", params, "layer arithmetic"), Claim("macs", macs[at], "layer arithmetic")]


def paper(alpha: float, side: int, *claims: Claim) -> Variant:
    aliases = [f"{alpha} MobileNet-{side}", f"{alpha:.2f} MobileNet-{side}"]
    if side == 224:
        aliases += [f"{alpha} MobileNet", *(["MobileNet"] if alpha == 1 else [])]
    claims, size = (*counts(alpha, side), *claims), (3, side, side)
    return Variant(name(alpha, side), dict(width=alpha), size, claims, recipe="mobilenet_v1", aliases=tuple(aliases))


def printed(where: str, top1: str, mmacs: str, params: str, gap: str | None = None) -> tuple[Claim, ...]:
    return Claim("top1_acc", top1, where), Claim("mmacs", mmacs, where), Claim("params", params, where, gap)


def slim(alpha: float, side: int, top1: str, top5: str, mmacs: str, params: str, gap: str | None = None) -> Variant:
    released = [Claim("top1_acc", top1, SLIM), Claim("top5_acc", top5, SLIM)]
    size = [Claim("mmacs", mmacs, SLIM, gap), Claim("params", params, SLIM)]
    return Variant(
        name(alpha, side, "_slim"),
        dict(width=alpha, conv=partial(SAME, act=nn.ReLU6)),
        (3, side, side),
        [*counts(alpha, side), *released, *size],
        recipe="mobilenet_v1",
        note="as released in tf-slim: ReLU6; its checkpoints have 1001 classes, the first is background",
        aliases=(f"mobilenet_v1_{alpha}_{side}", f"mobilenet_{alpha:.2f}_{side}"),  # there, and in Keras
    )


# fmt: off
VARIANTS = family(MobileNetV1, PAPER, [
    paper(1.0, 224, *printed("Table 6", "70.6", "569", "4.2M"),
        Claim("mmacs", "575", "MobileNetV2 (Sandler et al., 2018), Table 4", gap="not reproduced: 568.7, as Table 6")),
    paper(1.0, 192, *printed("Table 7", "69.1", "418", "4.2M")),
    paper(1.0, 160, *printed("Table 7", "67.2", "290", "4.2M")),
    paper(1.0, 128, *printed("Table 7", "64.4", "186", "4.2M")),
    paper(0.75, 224, *printed("Table 6", "68.4", "325", "2.6M")),
    paper(0.75, 192),
    paper(0.75, 160),
    paper(0.75, 128),
    paper(0.5, 224, *printed("Table 6", "63.7", "149", "1.3M")),
    paper(0.5, 192),
    paper(0.5, 160, *printed("Table 9", "60.2", "76", "1.32M", gap="batch norm is left out there: 1,320,648")),
    paper(0.5, 128),
    paper(0.25, 224, *printed("Table 6", "50.6", "41", "0.5M")),
    paper(0.25, 192),
    paper(0.25, 160),
    paper(0.25, 128),
    Variant("mobilenet_v1_conv", dict(block=full_convolution), recipe="mobilenet_v1", aliases=("Conv MobileNet",),
        note="full 3x3 convolutions for the separable ones", claims=[
        Claim("params", "29,294,088", "layer arithmetic"), Claim("macs", "4,867,293,184", "layer arithmetic"),
        Claim("params", "29.3M", "Table 4"), Claim("top1_acc", "71.7", "Table 4"),
        Claim("mmacs", "4866", "Table 4", gap="the classifier is left out there: 4,866,269,184")]),
    Variant("mobilenet_v1_shallow", dict(table=SHALLOW), recipe="mobilenet_v1", aliases=("Shallow MobileNet",),
        note="without the five layers of 14x14x512", claims=[
        Claim("params", "2,887,976", "layer arithmetic"), Claim("macs", "307,323,392", "layer arithmetic"),
        *printed("Table 5", "65.3", "307", "2.9M")]),
    slim(1.0, 224, "70.9", "89.9", "569", "4.24M"),
    slim(1.0, 192, "70.0", "89.2", "418", "4.24M"),
    slim(1.0, 160, "68.0", "87.7", "291", "4.24M"),
    slim(1.0, 128, "65.2", "85.8", "186", "4.24M"),
    slim(0.75, 224, "68.4", "88.2", "317", "2.59M", gap=NO_STEM),
    slim(0.75, 192, "67.2", "87.3", "233", "2.59M", gap=NO_STEM),
    slim(0.75, 160, "65.3", "86.0", "162", "2.59M", gap=NO_STEM),
    slim(0.75, 128, "62.1", "83.9", "104", "2.59M", gap=NO_STEM),
    slim(0.5, 224, "63.3", "84.9", "150", "1.34M"),
    slim(0.5, 192, "61.7", "83.6", "110", "1.34M"),
    slim(0.5, 160, "59.1", "81.9", "77", "1.34M"),
    slim(0.5, 128, "56.3", "79.4", "49", "1.34M"),
    slim(0.25, 224, "49.8", "74.2", "41", "0.47M"),
    slim(0.25, 192, "47.7", "72.3", "34", "0.47M", gap="a slip there: (192/224)^2 of its 41 at 224 is 30"),
    slim(0.25, 160, "45.5", "70.3", "21", "0.47M"),
    slim(0.25, 128, "41.5", "66.3", "14", "0.47M"),
    Variant("mobilenet_v1_timm", dict(conv=partial(ConvBN, act=nn.ReLU6)), recipe="mobilenet_v1",
        aliases=("mobilenetv1_100",), note="timm's mobilenetv1_100: ReLU6, padding on both sides, epsilon 1e-5",
        claims=counts(1.0, 224)),
])
# fmt: on
