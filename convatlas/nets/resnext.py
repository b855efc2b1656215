"""ResNeXt: Aggregated Residual Transformations for Deep Neural Networks (Xie et al., 2016),
https://arxiv.org/abs/1611.05431

Read beside Table 1 and Fig. 3. A bottleneck of C ("cardinality") equal paths, d maps wide, as one grouped convolution.
Stride on the 3x3 convolution, initial variance 2 / fan-out, classifier biases of zero, as in the released code.
Departures from the paper: the CIFAR networks have ResNet's blocks, as in the released code; according to its README the
paper's results come from pre-activation blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError, unknown
from ..layers import ConvBN, ConvNet, classifier, he_, stack, zero_bias_
from .resnet import Block, BottleneckV15, Residual, ResNet, residual_stages, shortcut_path

PAPER = Paper(
    "Aggregated Residual Transformations for Deep Neural Networks",
    "Xie et al.",
    2016,
    "https://arxiv.org/abs/1611.05431",
)


class PathsSummed(nn.Module):
    """Fig. 3 (a): each path reduces, convolves and restores cout; the paths are added, then normalised."""

    def __init__(self, cin: int, cout: int, stride: int, cardinality: int, d: int):
        super().__init__()
        self.paths = nn.ModuleList(
            stack(
                conv1=ConvBN(cin, d, 1),
                conv2=ConvBN(d, d, 3, stride),
                conv3=nn.Conv2d(d, cout, 1, bias=False),
            )
            for _ in range(cardinality)
        )
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(torch.stack([path(x) for path in self.paths]).sum(0))


class PathsJoined(nn.Module):
    """Fig. 3 (b): each path reduces and convolves; one convolution on their concatenation restores cout."""

    def __init__(self, cin: int, cout: int, stride: int, cardinality: int, d: int):
        super().__init__()
        self.paths = nn.ModuleList(
            stack(conv1=ConvBN(cin, d, 1), conv2=ConvBN(d, d, 3, stride)) for _ in range(cardinality)
        )
        self.conv3 = ConvBN(cardinality * d, cout, 1, act=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(torch.cat([path(x) for path in self.paths], dim=1))


def aggregated(cardinality: int, width: int, form: str) -> Block:
    """Makes blocks of `cardinality` paths, `width` maps wide in conv2, twice as wide in each later stage (Table 2)."""
    if form not in ("a", "b", "c"):
        raise unknown("form", form, ("a", "b", "c"))
    for name, value in (("cardinality", cardinality), ("width", width)):
        if value < 1:
            raise UserError(f"{name}={value} leaves no paths", "give at least 1")

    def block(cin: int, cout: int, stride: int, shortcut: str | None) -> nn.Module:
        d = cout * width // 256  # conv2 has 256 maps
        if form == "c":
            return BottleneckV15(cin, cout, stride, shortcut, mid=cardinality * d, groups=cardinality)
        paths = PathsSummed if form == "a" else PathsJoined
        return Residual(paths(cin, cout, stride, cardinality, d), shortcut_path(shortcut, cin, cout, stride))

    return block


class ResNeXt(ResNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `cardinality` x `width`d, as in 32x4d; `form` is that of Fig. 3: "a", "b" or "c" (grouped convolutions).
    """

    def __init__(
        self,
        *,
        depths: Sequence[int] = (3, 4, 6, 3),
        cardinality: int = 32,
        width: int = 4,
        form: str = "c",
        shortcut: str | None = "B",
        classes: int = 1000,
        channels: int = 3,
    ):
        super().__init__(
            block=aggregated(cardinality, width, form),
            depths=depths,
            widths=(256, 512, 1024, 2048),
            shortcut=shortcut,
            fan="fan_out",
            classes=classes,
            channels=channels,
        )


class CifarResNeXt(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 4. `depth` is 9n + 2."""

    def __init__(
        self,
        *,
        depth: int = 29,
        cardinality: int = 8,
        width: int = 64,
        form: str = "c",
        shortcut: str | None = "B",
        classes: int = 10,
        channels: int = 3,
    ):
        super().__init__()
        n, rest = divmod(depth - 2, 9)
        if rest or n < 1:
            raise UserError(f"depth={depth} is not 9n + 2", "give 11, 20, 29, 38, ...")
        self.stem = stack(conv1=ConvBN(channels, 64, 3))
        block = aggregated(cardinality, width, form)
        self.stages = residual_stages(block, 64, (n, n, n), (256, 512, 1024), shortcut)
        self.head = classifier(1024, classes)
        he_(self, "fan_out")
        self.init_classifier(self.head.get_submodule("linear"))

    def init_classifier(self, layer: nn.Module) -> None:
        zero_bias_(layer)


LAYERS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
CROP = "Tables 3 and 4, single crop 224"
SENET = "SENet (Hu et al., 2017), Table 2"
BIASES = "with a bias on every convolution it would be 83,556,712"


def counts(params: str, macs: str) -> list[Claim]:
    return [Claim("params", params, "layer arithmetic"), Claim("macs", macs, "layer arithmetic")]


def errors(where: str, top1: str, top5: str = "") -> list[Claim]:
    return [Claim("top1_err", top1, where), *([Claim("top5_err", top5, where)] if top5 else [])]


def resnext(layers: int, cardinality: int, width: int, claims: list[Claim], note: str = "") -> Variant:
    name, args = f"resnext{layers}_{cardinality}x{width}d", dict(cardinality=cardinality, width=width)
    return Variant(name, dict(depths=LAYERS[layers]) | args, claims=claims, recipe="resnext", note=note)


def cifar(cardinality: int, width: int, claims: list[Claim]) -> Variant:
    args = dict(depth=29, cardinality=cardinality, width=width)
    return Variant(f"resnext29_{cardinality}x{width}d", args, claims=claims, recipe="resnext_cifar")


# fmt: off
VARIANTS = (*family(ResNeXt, PAPER, [
    resnext(50, 1, 64, [*counts("25,557,032", "4,089,184,256"), Claim("params", "25.5M", "Table 1"),
        Claim("gmacs", "4.1", "Table 1"), *errors(CROP, "23.9")], note="ResNet-50 with the stride on the 3x3"),
    resnext(50, 2, 40, [*counts("25,425,000", "4,124,508,160"), *errors(CROP, "23.0")]),
    resnext(50, 4, 24, [*counts("25,292,968", "4,159,832,064"), *errors(CROP, "22.6")]),
    resnext(50, 8, 14, [*counts("25,603,016", "4,267,409,408"), *errors(CROP, "22.3")]),
    resnext(50, 32, 4, [*counts("25,028,904", "4,230,479,872"), Claim("params", "25.0M", "Table 1"),
        Claim("gmacs", "4.2", "Table 1"), Claim("gmacs", "4.24", SENET), *errors(CROP, "22.2")]),
    resnext(101, 1, 64, [*counts("44,549,160", "7,801,405,440"), *errors(CROP, "22.0", "6.0")],
        note="ResNet-101 with the stride on the 3x3"),
    resnext(101, 2, 40, [*counts("44,456,296", "7,843,553,280"), *errors(CROP, "21.7")]),
    resnext(101, 4, 24, [*counts("44,363,432", "7,885,701,120"), *errors(CROP, "21.4")]),
    resnext(101, 8, 14, [*counts("45,104,328", "8,076,871,680"), *errors(CROP, "21.3")]),
    resnext(101, 32, 4, [*counts("44,177,704", "7,969,996,800"), *errors(CROP, "21.2", "5.6"),
        Claim("gmacs", "7.99", SENET, gap="not reproduced: 7.970; more than multiply-adds, perhaps")]),
    resnext(101, 1, 100, [*counts("85,611,336", "15,272,862,720"), *errors(CROP, "21.3", "5.7")],
        note="the wider ResNet-101 of Table 4"),
    resnext(101, 2, 64, [*counts("84,198,184", "15,123,087,360"), *errors(CROP, "20.7", "5.5")]),
    resnext(101, 64, 4, [*counts("83,455,272", "15,460,270,080"), *errors(CROP, "20.4", "5.3"),
        *errors("Table 5, single crop 320", "19.1", "4.4"), *errors("section 5.1, multi-scale dense", "17.7", "3.7"),
        Claim("params", "83.6M", "NASNet (Zoph et al., 2017), Table 2", gap=BIASES)]),
    resnext(101, 32, 8, counts("88,791,336", "16,414,015,488"), note="torchvision's; not in the paper"),
]), *family(CifarResNeXt, PAPER, [
    cifar(1, 64, counts("4,914,250", "748,365,824")),
    cifar(8, 64, [*counts("34,426,698", "5,387,266,048"), Claim("params", "34.4M", "Table 7"),
        Claim("cifar10_err", "3.65", "Table 7, mean of 10"), Claim("cifar100_err", "17.77", "Table 7, mean of 10")]),
    cifar(16, 64, [*counts("68,155,210", "10,688,866,304"), Claim("params", "68.1M", "Table 7"),
        Claim("cifar10_err", "3.58", "Table 7, mean of 10"), Claim("cifar100_err", "17.31", "Table 7, mean of 10")]),
], input=(3, 32, 32)))
# fmt: on
