"""VGG: Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and Zisserman, 2014),
https://arxiv.org/abs/1409.1556

Read beside Table 1. Only 3x3 convolutions, 2x2 max pools and three fully connected layers, deeper from A to E.
Departures from the paper: every depth is initialised randomly like A, while the paper initialises the deeper ones from
a trained A (the recipe's `init`); the standard deviation is 0.01, as the variance of 10^-2 in section 3.1 would make
activations grow by up to (0.01 * 9 * 512 / 2)^(1/2) = 4.8 times per layer. With 0.01
images no longer differ in the logits of 13 layers or more, which do not start to train without a trained A. The rows
ending in _bn are torchvision's, not the paper's: batch norm after each convolution.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError, unknown
from ..layers import LRN, ConvNet, Shape, dense, shape_after, stack

PAPER = Paper(
    "Very Deep Convolutional Networks for Large-Scale Image Recognition",
    "Simonyan and Zisserman",
    2014,
    "https://arxiv.org/abs/1409.1556",
)

# fmt: off
TABLE_1 = {  # the five blocks of each configuration, every convolution as kernel-channels; a max pool ends each block
    "A":     "3-64      | 3-128       | 3-256 3-256             | 3-512 3-512             | 3-512 3-512",
    "A-LRN": "3-64 LRN  | 3-128       | 3-256 3-256             | 3-512 3-512             | 3-512 3-512",
    "B":     "3-64 3-64 | 3-128 3-128 | 3-256 3-256             | 3-512 3-512             | 3-512 3-512",
    "C":     "3-64 3-64 | 3-128 3-128 | 3-256 3-256 1-256       | 3-512 3-512 1-512       | 3-512 3-512 1-512",
    "D":     "3-64 3-64 | 3-128 3-128 | 3-256 3-256 3-256       | 3-512 3-512 3-512       | 3-512 3-512 3-512",
    "E":     "3-64 3-64 | 3-128 3-128 | 3-256 3-256 3-256 3-256 | 3-512 3-512 3-512 3-512 | 3-512 3-512 3-512 3-512",
}
# fmt: on


class VGG(ConvNet):
    """Images (N, C, H, W) of the size of `input` in, logits (N, classes) out; five max pools shrink the map by 32.

    `config` is the name of a column of Table 1, or such a column ("3-64 | 3-128 3-128"; every block halves the map);
    `norm(channels)` makes the layer between a convolution and its ReLU, if any.
    """

    def __init__(
        self,
        config: str = "D",
        *,
        norm: Callable[[int], nn.Module] | None = None,
        dropout: float = 0.5,
        input: Shape = (3, 224, 224),
        classes: int = 1000,
    ):
        super().__init__()
        column = TABLE_1.get(config, config)
        if "-" not in column:
            raise unknown("VGG configuration", config, TABLE_1)
        for cell in column.replace("|", " ").split():
            if not re.fullmatch(r"LRN|\d*[13579]-[1-9]\d*", cell):
                raise UserError(
                    f"{cell!r} is not a layer of a VGG configuration", "write kernel-channels, such as 3-64"
                )
        self.input = input
        cin = input[0]
        blocks: dict[str, nn.Module] = {}
        for number, cells in enumerate(column.split("|"), start=1):
            block: dict[str, nn.Module] = {}
            for i, cell in enumerate(cells.split(), start=1):
                if cell == "LRN":
                    block["lrn"] = LRN()
                    continue
                kernel, cout = map(int, cell.split("-"))
                block[f"conv{i}"] = nn.Conv2d(cin, cout, kernel, padding=kernel // 2)
                if norm is not None:
                    block[f"norm{i}"] = norm(cout)
                block[f"relu{i}"] = nn.ReLU(inplace=True)
                cin = cout
            blocks[f"block{number}"] = stack(**block, pool=nn.MaxPool2d(2, 2))
        self.stem = nn.Sequential()  # the paper has none: the first block is like the others
        self.stages = stack(**blocks)
        c, h, w = shape_after(self.stages, input)
        self.head = stack(
            flatten=nn.Flatten(),
            fc6=nn.Linear(c * h * w, 4096),
            relu6=nn.ReLU(inplace=True),
            dropout6=nn.Dropout(dropout),
            fc7=nn.Linear(4096, 4096),
            relu7=nn.ReLU(inplace=True),
            dropout7=nn.Dropout(dropout),
            fc8=nn.Linear(4096, classes),
        )
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                gaussian_(m)

    def init_classifier(self, layer: nn.Module) -> None:
        gaussian_(layer)

    def dense(self) -> ConvNet:
        """The network of section 3.2: the same weights, fully convolutional; a larger image gives a map of logits."""
        return dense(self)


def gaussian_(layer: Any) -> None:
    """Section 3.1: weights normal, biases zero."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)


# fmt: off
ERRORS = [  # configuration, table, evaluation, smallest side S in training, Q in testing, top-1, top-5 error %
    ("A",     3, "dense", "256",       "256",         "29.6", "10.4"),
    ("A-LRN", 3, "dense", "256",       "256",         "29.7", "10.5"),
    ("B",     3, "dense", "256",       "256",         "28.7", "9.9"),
    ("C",     3, "dense", "256",       "256",         "28.1", "9.4"),
    ("C",     3, "dense", "384",       "384",         "28.1", "9.3"),
    ("C",     3, "dense", "[256;512]", "384",         "27.3", "8.8"),
    ("D",     3, "dense", "256",       "256",         "27.0", "8.8"),
    ("D",     3, "dense", "384",       "384",         "26.8", "8.7"),
    ("D",     3, "dense", "[256;512]", "384",         "25.6", "8.1"),
    ("E",     3, "dense", "256",       "256",         "27.3", "9.0"),
    ("E",     3, "dense", "384",       "384",         "26.9", "8.7"),
    ("E",     3, "dense", "[256;512]", "384",         "25.5", "8.0"),
    ("B",     4, "dense", "256",       "224,256,288", "28.2", "9.6"),
    ("C",     4, "dense", "256",       "224,256,288", "27.7", "9.2"),
    ("C",     4, "dense", "384",       "352,384,416", "27.8", "9.2"),
    ("C",     4, "dense", "[256;512]", "256,384,512", "26.3", "8.2"),
    ("D",     4, "dense", "256",       "224,256,288", "26.6", "8.6"),
    ("D",     4, "dense", "384",       "352,384,416", "26.5", "8.6"),
    ("D",     4, "dense", "[256;512]", "256,384,512", "24.8", "7.5"),
    ("E",     4, "dense", "256",       "224,256,288", "26.9", "8.7"),
    ("E",     4, "dense", "384",       "352,384,416", "26.7", "8.6"),
    ("E",     4, "dense", "[256;512]", "256,384,512", "24.8", "7.5"),
    ("D",     5, "multi-crop",           "[256;512]", "256,384,512", "24.6", "7.5"),
    ("D",     5, "multi-crop and dense", "[256;512]", "256,384,512", "24.4", "7.2"),
    ("E",     5, "multi-crop",           "[256;512]", "256,384,512", "24.6", "7.4"),
    ("E",     5, "multi-crop and dense", "[256;512]", "256,384,512", "24.4", "7.1"),
]

COUNTS = {  # configuration: parameters (millions) in Table 2; exactly; without biases; multiply-accumulates
    "A":     ("133M", "132,863,336", "132,851,392", "7,609,090,048"),
    "A-LRN": ("133M", "132,863,336", "132,851,392", "7,609,090,048"),
    "B":     ("133M", "133,047,848", "133,035,712", "11,308,466,176"),
    "C":     ("134M", "133,638,952", "133,625,536", "11,770,888,192"),
    "D":     ("138M", "138,357,544", "138,344,128", "15,470,264,320"),
    "E":     ("144M", "143,667,240", "143,652,544", "19,632,062,464"),
}

TORCHVISION = {  # configuration with batch norm: parameters, top-1, top-5 accuracy %
    "A": ("132,868,840", "70.37", "89.81"),
    "B": ("133,053,736", "71.586", "90.374"),
    "D": ("138,365,992", "73.36", "91.516"),
    "E": ("143,678,248", "74.218", "91.842"),
}

LECTURE_ROWS = [  # the lectures' table of VGG-16: layer, weights
    ("stages.block1.conv1", "1,728"), ("stages.block1.conv2", "36,864"),
    ("stages.block2.conv1", "73,728"), ("stages.block2.conv2", "147,456"),
    ("stages.block3.conv1", "294,912"), ("stages.block3.conv2", "589,824"), ("stages.block3.conv3", "589,824"),
    ("stages.block4.conv1", "1,179,648"), ("stages.block4.conv2", "2,359,296"), ("stages.block4.conv3", "2,359,296"),
    ("stages.block5.conv1", "2,359,296"), ("stages.block5.conv2", "2,359,296"), ("stages.block5.conv3", "2,359,296"),
    ("head.fc6", "102,760,448"), ("head.fc7", "16,777,216"), ("head.fc8", "4,096,000"),
]
# fmt: on


def figures(config: str) -> list[Claim]:
    """What the paper prints of a configuration, and its exact counts."""
    table_2, params, weights, macs = COUNTS[config]
    claims = [
        Claim("params", table_2, "Table 2"),
        Claim("params", params, "layer arithmetic"),
        Claim("weights", weights, "layer arithmetic"),
        Claim("macs", macs, "layer arithmetic, 224x224"),
    ]
    for network, table, evaluation, s, q, top1, top5 in ERRORS:
        if network == config:
            where = f"Table {table}, {evaluation} evaluation, S={s}, Q={q}, ILSVRC-2012 val"
            claims += [Claim("top1_err", top1, where), Claim("top5_err", top5, where)]
    return claims


def torchvision(config: str) -> list[Claim]:
    """What torchvision's batch-norm network counts, and how its released weights do."""
    params, top1, top5 = TORCHVISION[config]
    where = "torchvision 0.28, IMAGENET1K_V1, centre crop 224 of 256"
    return [Claim("params", params, "torchvision"), Claim("top1_acc", top1, where), Claim("top5_acc", top5, where)]


LECTURE = [
    *(Claim(f"weights {path}", weights, "lecture 003, VGG-16 table") for path, weights in LECTURE_ROWS),
    Claim("params", "128M", "lecture 003", gap="a slip: its own rows sum to 138,344,128 weights"),
    Claim(
        "activations", "24M", "lectures 001, 003", gap="a slip: their rows sum to 15.2M (28.8M if ReLUs count again)"
    ),
]
CONVOLUTIONS_ALONE = "the convolutions alone, 15.347 G; the fully connected layers add 0.124 G"
OTHERS_ON_D = [
    Claim("gmacs", "15.3", "ResNet (He et al., 2015), section 4.1", gap=CONVOLUTIONS_ALONE),
    Claim("mmacs", "15300", "MobileNets (Howard et al., 2017), Table 8", gap=CONVOLUTIONS_ALONE),
]
OTHERS_ON_E = [
    Claim("gmacs", "19.6", "ResNet (He et al., 2015), Figure 3"),
    Claim("top5_err", "7.0", "Table 7, one network, multi-crop and dense evaluation, ILSVRC-2014 test"),
]
C_BN = [Claim("params", "133,647,400", "layer arithmetic")]
BN = nn.BatchNorm2d

# fmt: off
VARIANTS = family(VGG, PAPER, [
    Variant("vgg11", dict(config="A"), aliases=("VGG-A",), recipe="vgg", claims=figures("A")),
    Variant("vgg11_lrn", dict(config="A-LRN"), aliases=("VGG-A-LRN",), recipe="vgg", claims=figures("A-LRN")),
    Variant("vgg13", dict(config="B"), aliases=("VGG-B",), recipe="vgg", claims=figures("B")),
    Variant("vgg16_c", dict(config="C"), aliases=("VGG-C", "VGG-16 (1x1)"), recipe="vgg", claims=figures("C")),
    Variant("vgg16", dict(config="D"), aliases=("VGG-D",), recipe="vgg", claims=figures("D") + LECTURE + OTHERS_ON_D),
    Variant("vgg19", dict(config="E"), aliases=("VGG-E",), recipe="vgg", claims=figures("E") + OTHERS_ON_E),
    Variant("vgg11_bn", dict(config="A", norm=BN), note="torchvision's", claims=torchvision("A"), recipe="vgg"),
    Variant("vgg13_bn", dict(config="B", norm=BN), note="torchvision's", claims=torchvision("B"), recipe="vgg"),
    Variant("vgg16_c_bn", dict(config="C", norm=BN), claims=C_BN, recipe="vgg"),
    Variant("vgg16_bn", dict(config="D", norm=BN), note="torchvision's", claims=torchvision("D"), recipe="vgg"),
    Variant("vgg19_bn", dict(config="E", norm=BN), note="torchvision's", claims=torchvision("E"), recipe="vgg"),
])
# fmt: on
