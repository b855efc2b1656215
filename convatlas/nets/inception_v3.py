"""Inception-v3: Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2015),
https://arxiv.org/abs/1512.00567

Read beside Figures 5 to 8 and 10. Large filters become stacks of small ones: 3x3 pairs, 1x7 and 7x1, 1x3 beside 3x1.
Departures from the paper: its outline (Table 1, inception_v2.py) leaves the widths to a lost supplement, so they are
those of the network that its authors released (tf-slim): 5x5 filters at 35x35, four modules of 1x7 and 7x1, and
dropout of 0.2, batch norm's epsilon (0.001) and decay of the moving averages (0.9997: torch's momentum 0.0003). Batch
norm is that of its own paper, with scale and shift (gamma and beta): the release only shifts, which is the row
inception_v3_slim. Average pools leave out the padding, as TensorFlow's do; torchvision's (inception_v3_tv) count the
zeros, and its batch norm has torch's momentum. No initialisation is given: He's is used, in every row (the release
cuts it at two deviations).
"""

from __future__ import annotations

import re

from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..layers import Concat, ConvBN, ConvNet, Shape, classifier, he_, stack, unscaled_
from .googlenet import aux_input

PAPER = Paper(
    "Rethinking the Inception Architecture for Computer Vision",
    "Szegedy et al.",
    2015,
    "https://arxiv.org/abs/1512.00567",
)

# As in the figures: "|" separates the branches of a module, "," the layers of a branch, "&" a fork within one;
# "3x3/2 V 96" is a 3x3 convolution of stride 2, valid (without padding), to 96 channels, with batch norm and ReLU;
# "max" a 3x3 max pool of stride 2, valid; "avg" a 3x3 average pool of stride 1.
STEM = "3x3/2 V 32, 3x3 V 32, 3x3 64, max, 1x1 80, 3x3 V 192, max"
FIGURE_4 = "1x1 64 | 1x1 48, 5x5 64 | 1x1 64, 3x3 96, 3x3 96 | avg, 1x1 {pool}"
FIGURE_6 = "1x1 192 | 1x1 {n}, 1x7 {n}, 7x1 192 | 1x1 {n}, 7x1 {n}, 1x7 {n}, 7x1 {n}, 1x7 192 | avg, 1x1 192"
FIGURE_7 = "1x1 320 | 1x1 384, 1x3 384 & 3x1 384 | 1x1 448, 3x3 384, 1x3 384 & 3x1 384 | avg, 1x1 192"
REDUCTION_A = "3x3/2 V 384 | 1x1 64, 3x3 96, 3x3/2 V 96 | max"
REDUCTION_B = "1x1 192, 3x3/2 V 320 | 1x1 192, 1x7 192, 7x1 192, 3x3/2 V 192 | max"
MODULES = [  # name, branches
    ("inception_a1", FIGURE_4.format(pool=32)),
    ("inception_a2", FIGURE_4.format(pool=64)),
    ("inception_a3", FIGURE_4.format(pool=64)),
    ("reduction_a", REDUCTION_A),
    ("inception_b1", FIGURE_6.format(n=128)),
    ("inception_b2", FIGURE_6.format(n=160)),
    ("inception_b3", FIGURE_6.format(n=160)),
    ("inception_b4", FIGURE_6.format(n=192)),
    ("reduction_b", REDUCTION_B),
    ("inception_c1", FIGURE_7),
    ("inception_c2", FIGURE_7),
]


def conv(cin: int, drawn: str) -> tuple[ConvBN, int]:
    """The convolution that "3x3/2 V 96" describes, and its channels."""
    found = re.fullmatch(r"(\d)x(\d)(/2)?( V)? (\d+)", drawn)
    assert found, f"{drawn!r} does not describe a convolution"
    height, width, strided, valid, cout = found.groups()
    kernel, stride, padding = (int(height), int(width)), 2 if strided else 1, 0 if valid else None
    return ConvBN(cin, int(cout), kernel, stride, padding=padding, eps=0.001, momentum=0.0003), int(cout)


def path(cin: int, drawn: str) -> tuple[nn.Sequential, int]:
    """The layers of a branch in sequence, and its output channels."""
    layers: dict[str, nn.Module] = {}
    for i, cell in enumerate(drawn.split(", "), start=1):
        if cell == "max":
            layers[f"pool{i}"] = nn.MaxPool2d(3, 2)
        elif cell == "avg":
            layers[f"pool{i}"] = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        elif "&" in cell:
            layers[f"fork{i}"] = fork = Inception(cin, cell.replace("&", "|"))
            cin = fork.cout
        else:
            layers[f"conv{i}"], cin = conv(cin, cell)
    return stack(**layers), cin


class Inception(Concat):
    """The parallel branches of a figure: `Inception(192, "1x1 64 | 1x1 48, 5x5 64 | avg, 1x1 32")`."""

    def __init__(self, cin: int, drawn: str):
        branches = [path(cin, branch) for branch in drawn.split(" | ")]
        super().__init__(**{f"branch{i}": branch for i, (branch, _) in enumerate(branches, start=1)})
        self.cout = sum(cout for _, cout in branches)


def modules(cin: int, drawn: list[tuple[str, str]]) -> tuple[nn.Sequential, int]:
    """Named modules in sequence, and the output channels of the last."""
    made: dict[str, nn.Module] = {}
    for name, branches in drawn:
        made[name] = module = Inception(cin, branches)
        cin = module.cout
    return stack(**made), cin


class InceptionV3(ConvNet):
    """Images (N, C, H, W) in, logits (N, classes) out; the feature map shrinks by 32 (299 pixels to 8).

    The auxiliary classifier (Figure 8) reads the last 17x17 module and is for training (`forward_aux`); `aux=False`
    removes it, for smaller images or transfer. `count_include_pad`: average pools count their zero padding.
    `bn_scale`: batch norm scales, and does not only shift; `bn_momentum` is that of its moving averages.
    """

    aux: nn.ModuleDict

    def __init__(
        self,
        *,
        count_include_pad: bool = False,
        bn_scale: bool = True,
        bn_momentum: float = 0.0003,
        dropout: float = 0.2,
        aux: bool = True,
        input: Shape = (3, 299, 299),
        classes: int = 1000,
    ):
        super().__init__()
        self.input = input
        self.stem, cin = path(input[0], STEM)
        self.stages, cout = modules(cin, MODULES)
        self.head = classifier(cout, classes, dropout)
        self.aux = nn.ModuleDict()
        if aux:
            head = stack(
                pool=nn.AvgPool2d(5, 3),
                conv1=conv(768, "1x1 128")[0],
                conv2=conv(128, "5x5 V 768")[0],
                logits=classifier(768, classes),
            )
            aux_input(nn.Sequential(self.trunk("inception_b4"), head), input)
            self.aux["inception_b4"] = head
        for m in self.modules():
            if isinstance(m, nn.AvgPool2d) and m.padding:
                m.count_include_pad = count_include_pad
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = bn_momentum
        if not bn_scale:
            unscaled_(self)
        he_(self, "fan_in")

    @property
    def has_aux(self) -> bool:
        return bool(self.aux)

    def forward_aux(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits, and those of the auxiliary classifier, keyed by the module that it reads."""
        x = self.stem(x)
        extra = {}
        for name, stage in self.stages.named_children():
            x = stage(x)
            if name in self.aux:
                extra[name] = self.aux[name](x)
        return self.head(x), extra


ERRORS = [  # top-1, top-5 error %; where
    ("21.2", "5.6", "Table 3, 1 model, 1 crop, 48,238 images"),
    ("19.47", "4.48", "Table 4, 1 model, 12 crops"),
    ("18.77", "4.2", "Table 4, 1 model, 144 crops"),
    ("17.2", "3.58", "Table 5, 4 models, 144 crops"),
]
CLAIMS = [
    Claim("params", "23,834,568", "torchvision, without the auxiliary head"),
    Claim("macs", "5,713,216,096", "torchvision, 299x299"),
    Claim("params", "23.8M", "NASNet (Zoph et al., 2017), Table 2"),
    Claim("gmacs", "5.72", "NASNet (Zoph et al., 2017), Table 2"),
    Claim("gmacs", "5", "abstract"),
    Claim("gmacs", "4.8", "Table 3", gap="of the network before its release, perhaps: that takes 5.7"),
    *(Claim("top1_err", top1, f"{where}, ILSVRC-2012 val") for top1, _, where in ERRORS),
    *(Claim("top5_err", top5, f"{where}, ILSVRC-2012 val") for _, top5, where in ERRORS),
]
SLIM = [
    Claim("params", "23,817,352", "layer arithmetic, without the auxiliary head"),
    Claim("top1_acc", "78.0", "tf-slim, inception_v3 of 2016-08-28, single crop"),
    Claim("top5_acc", "93.9", "tf-slim, inception_v3 of 2016-08-28, single crop"),
]
TORCHVISION = [
    Claim("params", "23,834,568", "torchvision, without the auxiliary head"),
    Claim("top1_acc", "77.294", "torchvision 0.28, IMAGENET1K_V1, centre crop 299 of 342"),
    Claim("top5_acc", "93.45", "torchvision 0.28, IMAGENET1K_V1, centre crop 299 of 342"),
]
PADDED = dict(count_include_pad=True, bn_momentum=0.1, dropout=0.5)

# fmt: off
VARIANTS = family(InceptionV3, PAPER, [
    Variant("inception_v3", claims=CLAIMS, note="the released widths, batch norm as in its paper"),
    Variant("inception_v3_slim", dict(bn_scale=False), claims=SLIM, note="tf-slim's, as released: no gamma"),
    Variant("inception_v3_tv", PADDED, claims=TORCHVISION, note="torchvision's: average pools count their padding"),
], input=(3, 299, 299), recipe="inception_v3")
# fmt: on
