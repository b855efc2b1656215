"""Inception-ResNet: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning
(Szegedy et al., 2016), https://arxiv.org/abs/1602.07261

Read beside Figures 3, 7 and 10 to 20 and Table 1. Cheap Inception branches as residuals: a linear 1x1 convolution
widens their concatenation, which is scaled down and added to the input.
Departures from the paper: Figures 17 and 19 print 1154 and 2048 channels where their reductions give 1152 and 2144, as
here. For the scales "between 0.1 and 0.3" we take the released network's. That network (tf-slim), with twice the
blocks, another stem, and batch norm that only shifts (no gamma), is the row inception_resnet_v2_slim; the published
errors are for it. timm's has gamma, and torch's momentum: inception_resnet_v2_timm. None has the release's auxiliary
classifier. Batch norm's epsilon (0.001) and decay (0.9997: torch's momentum 0.0003) are the release's, too. No
initialisation is given: He's is used, in every row (the release: Xavier's).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from ..catalogue import Claim, Variant, family
from ..layers import ConvNet, classifier, he_, stack, unscaled_
from .inception_v3 import Inception, conv, path
from .inception_v4 import PAPER, REDUCTION_A
from .inception_v4 import stem as stem_v4


def stem_v1(channels: int) -> tuple[nn.Sequential, int]:
    """Figure 14: (channels, 299, 299) -> (256, 35, 35)."""
    return path(channels, "3x3/2 V 32, 3x3 V 32, 3x3 64, max, 1x1 80, 3x3 V 192, 3x3/2 V 256")


def stem_slim(channels: int) -> tuple[nn.Sequential, int]:
    """Inception-v3's stem plus one module: (channels, 299, 299) -> (320, 35, 35)."""
    first, cin = path(channels, "3x3/2 V 32, 3x3 V 32, 3x3 64, max, 1x1 80, 3x3 V 192, max")
    mixed = Inception(cin, "1x1 96 | 1x1 48, 5x5 64 | 1x1 64, 3x3 96, 3x3 96 | avg, 1x1 64")
    return stack(**dict(first.named_children()), mixed=mixed), mixed.cout


class Residual(nn.Module):
    """relu(x + scale * widen(branches(x))): Figure 20 around the branches of one of the block figures."""

    def __init__(self, cin: int, drawn: str, scale: float, relu: bool = True):
        super().__init__()
        self.branches = Inception(cin, drawn)
        self.widen = nn.Conv2d(self.branches.cout, cin, 1)
        self.scale, self.relu = scale, relu

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.scale * self.widen(self.branches(x))
        return F.relu(y) if self.relu else y

    def extra_repr(self) -> str:
        return f"scale={self.scale}, relu={self.relu}"


class InceptionResNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32 (299 pixels to 8).

    `a`, `b`, `c` describe the branches of the blocks at 35x35, 17x17 and 8x8; `counts` is the number of each, `scales`
    the factors of their residuals. `tail` ends the blocks as in the released network: the last one unscaled and without
    ReLU, then a 1x1 convolution to that many channels. `bn_scale`: batch norm scales, and does not only shift;
    `bn_momentum` is that of its moving averages.
    """

    def __init__(
        self,
        *,
        stem: Callable[[int], tuple[nn.Sequential, int]],
        a: str,
        reduction_a: str,
        b: str,
        reduction_b: str,
        c: str,
        counts: tuple[int, int, int] = (5, 10, 5),
        scales: tuple[float, float, float] = (0.17, 0.10, 0.20),
        tail: int | None = None,
        bn_scale: bool = True,
        bn_momentum: float = 0.0003,
        dropout: float = 0.2,
        classes: int = 1000,
        channels: int = 3,
    ):
        super().__init__()
        self.stem, cin = stem(channels)
        stages: dict[str, nn.Module] = {}
        for letter, drawn, count, scale, reduction in zip(
            "abc", (a, b, c), counts, scales, (reduction_a, reduction_b, None), strict=True
        ):
            for i in range(1, count + 1):
                last = tail is not None and letter == "c" and i == count
                stages[f"block_{letter}{i}"] = Residual(cin, drawn, 1.0 if last else scale, relu=not last)
            if reduction is not None:
                stages[f"reduction_{letter}"] = reduce = Inception(cin, reduction)
                cin = reduce.cout
        if tail is not None:
            stages["conv"], cin = conv(cin, f"1x1 {tail}")
        self.stages = stack(**stages)
        self.head = classifier(cin, classes, dropout)
        he_(self, "fan_in")
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = bn_momentum
        if not bn_scale:
            unscaled_(self)


V1 = dict(  # Figures 10 to 14
    stem=stem_v1,
    a="1x1 32 | 1x1 32, 3x3 32 | 1x1 32, 3x3 32, 3x3 32",
    reduction_a=REDUCTION_A.format(k=192, l=192, m=256, n=384),
    b="1x1 128 | 1x1 128, 1x7 128, 7x1 128",
    reduction_b="1x1 256, 3x3/2 V 384 | 1x1 256, 3x3/2 V 256 | 1x1 256, 3x3 256, 3x3/2 V 256 | max",
    c="1x1 192 | 1x1 192, 1x3 192, 3x1 192",
)
V2 = dict(  # Figures 3 and 16 to 19
    stem=stem_v4,
    a="1x1 32 | 1x1 32, 3x3 32 | 1x1 32, 3x3 48, 3x3 64",
    reduction_a=REDUCTION_A.format(k=256, l=256, m=384, n=384),
    b="1x1 192 | 1x1 128, 1x7 160, 7x1 192",
    reduction_b="1x1 256, 3x3/2 V 384 | 1x1 256, 3x3/2 V 288 | 1x1 256, 3x3 288, 3x3/2 V 320 | max",
    c="1x1 192 | 1x1 192, 1x3 224, 3x1 256",
)
RELEASED_BLOCKS = dict(stem=stem_slim, counts=(10, 20, 10), tail=1536)
SLIM = V2 | RELEASED_BLOCKS | dict(bn_scale=False)
TIMM = V2 | RELEASED_BLOCKS | dict(bn_momentum=0.1)

ERRORS = [  # network, crops, top-1, top-5 error % of 1 model on ILSVRC-2012 val: Tables 2, 3, 4
    ("v1", 1, "21.3", "5.5"),
    ("v1", 12, "19.8", "4.6"),
    ("v1", 144, "18.8", "4.3"),
    ("v2", 1, "19.9", "4.9"),
    ("v2", 12, "18.7", "4.1"),
    ("v2", 144, "17.8", "3.7"),
]


def errors(network: str) -> list[Claim]:
    table = {1: "Table 2, 1 crop, 48,238 images of", 12: "Table 3, 12 crops,", 144: "Table 4, 144 crops,"}
    rows = [(f"{table[crops]} ILSVRC-2012 val", top1, top5) for n, crops, top1, top5 in ERRORS if n == network]
    return [claim for where, t1, t5 in rows for claim in (Claim("top1_err", t1, where), Claim("top5_err", t5, where))]


RELEASED = [
    Claim("params", "55,813,192", "layer arithmetic"),
    Claim("macs", "13,155,794,016", "layer arithmetic"),
    Claim("params", "55.8M", "NASNet (Zoph et al., 2017), Table 2"),
    Claim("gmacs", "13.2", "NASNet (Zoph et al., 2017), Table 2"),
    Claim("top1_acc", "80.4", "tf-slim, inception_resnet_v2 of 2016-08-30, single crop"),
    Claim("top5_acc", "95.3", "tf-slim, inception_resnet_v2 of 2016-08-30, single crop"),
    Claim(
        "gmacs",
        "11.75",
        "SENet (Hu et al., 2017), Table 2, re-implementation",
        gap="of a layout that they do not tell; the released network takes 13.16, the paper's figures 9.26",
    ),
    *errors("v2"),
]
CONVERTED = [
    Claim("params", "55,843,464", "timm 1.0.31"),
    Claim("macs", "13,155,794,016", "timm 1.0.31, 299x299"),
    Claim("top1_acc", "80.434", "timm, inception_resnet_v2.tf_in1k, 299x299, crop 0.897, bicubic"),
    Claim("top5_acc", "95.312", "timm, inception_resnet_v2.tf_in1k, 299x299, crop 0.897, bicubic"),
]

# fmt: off
VARIANTS = family(InceptionResNet, PAPER, [
    Variant("inception_resnet_v1", V1, claims=errors("v1")),
    Variant("inception_resnet_v2", V2, claims=errors("v2")),
    Variant("inception_resnet_v2_slim", SLIM, claims=RELEASED, note="tf-slim's: 10, 20 and 10 blocks, no gamma"),
    Variant("inception_resnet_v2_timm", TIMM, claims=CONVERTED, note="timm's: the released one with gamma"),
], input=(3, 299, 299), recipe="inception_v4")
# fmt: on
