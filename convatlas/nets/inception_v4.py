"""Inception-v4: Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning
(Szegedy et al., 2016), https://arxiv.org/abs/1602.07261

Read beside Figures 3 to 9 and Table 1. The same kinds of module throughout: four A, seven B, three C, two reductions.
Departures from the paper: none in shape; the order of consecutive 1x7 and 7x1 (or 1x3 and 3x1), and of concatenated
branches, is the released network's (tf-slim), which differs from some figures but changes no count. Batch norm scales
and shifts, as its paper has it; the release only shifts (no gamma), which is the row inception_v4_slim. Neither has
the release's auxiliary classifier, which the paper does not mention. Batch norm's epsilon (0.001) and the decay of its
averages (0.9997: torch's momentum 0.0003) are the release's. No initialisation is given: He's is used, in every row
(the release cuts it at two deviations, and starts its classifier from Xavier's).
"""

from __future__ import annotations

from torch import nn

from ..catalogue import Claim, Paper, Variant, family
from ..layers import ConvNet, classifier, he_, stack, unscaled_
from .inception_v3 import Inception, modules, path

PAPER = Paper(
    "Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning",
    "Szegedy et al.",
    2016,
    "https://arxiv.org/abs/1602.07261",
)

# Written as in inception_v3.py: "|" separates branches, "," layers, "&" a fork; V is valid, max is 3x3/2 V, avg is 3x3.
A = "1x1 96 | 1x1 64, 3x3 96 | 1x1 64, 3x3 96, 3x3 96 | avg, 1x1 96"
REDUCTION_A = "3x3/2 V {n} | 1x1 {k}, 3x3 {l}, 3x3/2 V {m} | max"
B = "1x1 384 | 1x1 192, 1x7 224, 7x1 256 | 1x1 192, 7x1 192, 1x7 224, 7x1 224, 1x7 256 | avg, 1x1 128"
REDUCTION_B = "1x1 192, 3x3/2 V 192 | 1x1 256, 1x7 256, 7x1 320, 3x3/2 V 320 | max"
C = "1x1 256 | 1x1 384, 1x3 256 & 3x1 256 | 1x1 384, 3x1 448, 1x3 512, 1x3 256 & 3x1 256 | avg, 1x1 256"
FIGURE_9 = [
    *((f"inception_a{i}", A) for i in range(1, 5)),
    ("reduction_a", REDUCTION_A.format(k=192, l=224, m=256, n=384)),
    *((f"inception_b{i}", B) for i in range(1, 8)),
    ("reduction_b", REDUCTION_B),
    *((f"inception_c{i}", C) for i in range(1, 4)),
]


def stem(channels: int) -> tuple[nn.Sequential, int]:
    """Figure 3: (channels, 299, 299) -> (384, 35, 35)."""
    first, cin = path(channels, "3x3/2 V 32, 3x3 V 32, 3x3 64")
    mixed1 = Inception(cin, "max | 3x3/2 V 96")
    mixed2 = Inception(mixed1.cout, "1x1 64, 3x3 V 96 | 1x1 64, 1x7 64, 7x1 64, 3x3 V 96")
    mixed3 = Inception(mixed2.cout, "3x3/2 V 192 | max")
    return stack(**dict(first.named_children()), mixed1=mixed1, mixed2=mixed2, mixed3=mixed3), mixed3.cout


class InceptionV4(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32 (299 pixels to 8).

    `bn_scale`: batch norm scales, and does not only shift.
    """

    def __init__(self, *, bn_scale: bool = True, dropout: float = 0.2, classes: int = 1000, channels: int = 3):
        super().__init__()
        self.stem, cin = stem(channels)
        self.stages, cout = modules(cin, FIGURE_9)
        self.head = classifier(cout, classes, dropout)
        he_(self, "fan_in")
        if not bn_scale:
            unscaled_(self)


CLAIMS = [
    Claim("params", "42,679,816", "timm 1.0.31"),
    Claim("macs", "12,253,974,624", "timm 1.0.31, 299x299"),
    Claim("params", "48M", "EfficientNet (Tan and Le, 2019), Table 2", gap="no released model has that many"),
    Claim("gmacs", "13", "EfficientNet (Tan and Le, 2019), Table 2"),
    Claim("top1_err", "20.0", "Table 2, 1 model, 1 crop, 48,238 images of ILSVRC-2012 val"),
    Claim("top5_err", "5.0", "Table 2, 1 model, 1 crop, 48,238 images of ILSVRC-2012 val"),
    Claim("top1_err", "18.7", "Table 3, 1 model, 12 crops, ILSVRC-2012 val"),
    Claim("top5_err", "4.2", "Table 3, 1 model, 12 crops, ILSVRC-2012 val"),
    Claim("top1_err", "17.7", "Table 4, 1 model, 144 crops, ILSVRC-2012 val"),
    Claim("top5_err", "3.8", "Table 4, 1 model, 144 crops, ILSVRC-2012 val"),
    Claim("top1_err", "16.5", "Table 5, with 3 Inception-ResNet-v2, 144 crops, ILSVRC-2012 val"),
    Claim("top5_err", "3.1", "Table 5, with 3 Inception-ResNet-v2, 144 crops, ILSVRC-2012 val"),
    Claim("top5_err", "3.08", "section 5, with 3 Inception-ResNet-v2, 144 crops, ILSVRC-2012 test"),
    Claim("top1_acc", "80.144", "timm, inception_v4.tf_in1k, 299x299, crop 0.875, bicubic"),
    Claim("top5_acc", "94.982", "timm, inception_v4.tf_in1k, 299x299, crop 0.875, bicubic"),
]

SLIM = [
    Claim("params", "42,648,232", "layer arithmetic"),
    Claim("top1_acc", "80.2", "tf-slim, inception_v4 of 2016-09-09, single crop"),
    Claim("top5_acc", "95.2", "tf-slim, inception_v4 of 2016-09-09, single crop"),
]

# fmt: off
VARIANTS = family(InceptionV4, PAPER, [
    Variant("inception_v4", claims=CLAIMS, note="batch norm as in its paper"),
    Variant("inception_v4_slim", dict(bn_scale=False), claims=SLIM, note="tf-slim's, as released: no gamma"),
], input=(3, 299, 299), recipe="inception_v4")
# fmt: on
