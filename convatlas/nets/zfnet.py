"""ZFNet: Visualizing and Understanding Convolutional Networks (Zeiler and Fergus, 2013), https://arxiv.org/abs/1311.2901

Read beside Fig. 3. AlexNet with different first layers (7x7 / 2 for 11x11 / 4, then 5x5 / 2), one stream, and contrast
normalisation after the pooling. `zfnet` is the paper's network. The lectures' ZFNet, `zfnet_512`, with 512, 1024 and
512 maps in conv3 to conv5, is the enlarged model (b) of its Table 2; ONNX's "ZFNet-512" is different again.
The paper's sizes, 110, 55, 26, 13 and 6 from 224 pixels, require a pixel of padding in conv1 and in the first pools.
Departures from the paper: the constants of the normalisation, which it does not print, are AlexNet's; its initial
weights of "10^-2" are taken to be a standard deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..catalogue import Claim, Paper, Variant, family
from ..layers import LRN, ConvNet, Shape, shape_after, stack

PAPER = Paper(
    "Visualizing and Understanding Convolutional Networks", "Zeiler and Fergus", 2013, "https://arxiv.org/abs/1311.2901"
)

Table = Sequence[tuple[str, int, int, int, int, int, int, bool]]

FIGURE_3 = [  # layer, maps, kernel, stride, padding, pooling's kernel (0: none; stride 2) and padding, normalised
    ("conv1", 96, 7, 2, 1, 3, 1, True),
    ("conv2", 256, 5, 2, 0, 3, 1, True),
    ("conv3", 384, 3, 1, 1, 0, 0, False),
    ("conv4", 384, 3, 1, 1, 0, 0, False),
    ("conv5", 256, 3, 1, 1, 3, 0, False),
]
ENLARGED = [  # Table 2 (b)
    *FIGURE_3[:2],
    ("conv3", 512, 3, 1, 1, 0, 0, False),
    ("conv4", 1024, 3, 1, 1, 0, 0, False),
    ("conv5", 512, 3, 1, 1, 3, 0, False),
]
ONNX = [
    ("conv1", 96, 7, 2, 0, 3, 0, True),
    ("conv2", 256, 5, 2, 0, 3, 0, True),
    ("conv3", 512, 3, 1, 1, 0, 0, False),
    ("conv4", 512, 3, 1, 1, 0, 0, False),
    ("conv5", 512, 3, 1, 1, 2, 0, False),
]


class ZFNet(ConvNet):
    """Images (N, C, H, W) in, logits (N, classes) out.

    `hidden` are the widths of fc6 and fc7. Normalisation follows the pooling unless `norm_first`.
    """

    def __init__(
        self,
        *,
        table: Table = FIGURE_3,
        hidden: tuple[int, int] = (4096, 4096),
        norm_first: bool = False,
        dropout: float = 0.5,
        input: Shape = (3, 224, 224),
        classes: int = 1000,
    ):
        super().__init__()
        stages: dict[str, nn.Module] = {}
        cin = input[0]
        for name, cout, kernel, stride, padding, pool, pool_padding, normalised in table:
            layers: dict[str, nn.Module] = {"conv": nn.Conv2d(cin, cout, kernel, stride, padding)}
            layers["relu"] = nn.ReLU(inplace=True)
            for what in ("norm", "pool") if norm_first else ("pool", "norm"):
                if what == "pool" and pool:
                    layers["pool"] = nn.MaxPool2d(pool, 2, pool_padding)
                if what == "norm" and normalised:
                    layers["norm"] = LRN()
            stages[name] = stack(**layers)
            cin = cout
        self.stem = stages.pop("conv1")
        self.stages = stack(**stages)
        c, h, w = shape_after(self.trunk(), input)
        self.head = stack(
            flatten=nn.Flatten(),
            fc6=nn.Linear(c * h * w, hidden[0]),
            relu6=nn.ReLU(inplace=True),
            dropout6=nn.Dropout(dropout),
            fc7=nn.Linear(hidden[0], hidden[1]),
            relu7=nn.ReLU(inplace=True),
            dropout7=nn.Dropout(dropout),
            fc8=nn.Linear(hidden[1], classes),
        )
        for m in self.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                gaussian_(m)

    def init_classifier(self, layer: nn.Module) -> None:
        gaussian_(layer)


def gaussian_(layer: Any) -> None:
    """Section 3.1: weights normal with standard deviation 0.01, biases zero."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)


ARITHMETIC = "layer arithmetic"
VGG_TABLE = "VGG (Simonyan and Zisserman, 2014), Table 7"


def counts(params: str, macs: str) -> list[Claim]:
    return [Claim("params", params, ARITHMETIC), Claim("macs", macs, ARITHMETIC)]


def errors(top1: str, top5: str, where: str) -> list[Claim]:
    return [Claim("top1_err", top1, where), Claim("top5_err", top5, where)]


# fmt: off
VARIANTS = family(ZFNet, PAPER, [
    Variant("zfnet", aliases=("ZFNet (a)",), claims=[
        *counts("62,357,608", "1,168,032,896"),
        *errors("38.4", "16.5", "Table 2, 1 network (a)"), *errors("36.7", "15.3", "Table 2, 5 networks (a)"),
        *errors("36.0", "14.7", "Table 2, 6 networks, (a) and (b)"),
        Claim("top5_err", "14.8", f"{VGG_TABLE}, 6 networks, ILSVRC-2012 test")]),
    Variant("zfnet_512", dict(table=ENLARGED), aliases=("ZFNet (b)",),
        note="the lectures' ZFNet: 512, 1024, 512 maps in conv3 to conv5", claims=[
        *counts("107,627,624", "2,476,704,896"),
        *errors("37.5", "16.0", "Table 2, 1 network (b)"),
        Claim("top5_err", "16.1", f"{VGG_TABLE}, 1 network, ILSVRC-2012 test")]),
    Variant("zfnet_512_onnx", dict(table=ONNX, hidden=(4096, 1024), norm_first=True),
        note="the ZFNet-512 of the ONNX model zoo: 512, 512, 512 maps, fc7 of 1024, no padding around pooling", claims=[
        Claim("params", "87,250,536", "onnx test data, light_zfnet512.onnx")]),
], recipe="zfnet")
# fmt: on
