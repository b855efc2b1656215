"""Inception-v2: Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2015),
https://arxiv.org/abs/1512.00567

Read beside Table 1 and Figures 5, 6, 7 and 10. Not the batch-norm paper's network, which is bn_inception.py.
Departures from the paper: Table 1 gives the stem, how many modules of which figure, and the channels between them (288,
768, 1280, 2048), but no widths inside; those are our reading: inception_v3's, its authors' release, which fit exactly.
Batch norm's epsilon and momentum are that release's, too.
No initialisation is given: He's is used.
"""

from __future__ import annotations

from ..catalogue import Claim, Variant, family
from ..layers import ConvNet, classifier, he_
from .inception_v3 import FIGURE_6, FIGURE_7, PAPER, REDUCTION_A, REDUCTION_B, modules, path

STEM = "3x3/2 V 32, 3x3 V 32, 3x3 64, max, 3x3 V 80, 3x3/2 V 192, 3x3 288"
FIGURE_5 = "1x1 64 | 1x1 48, 3x3 64 | 1x1 64, 3x3 96, 3x3 96 | avg, 1x1 64"
TABLE_1 = [  # name, branches
    ("inception_a1", FIGURE_5),
    ("inception_a2", FIGURE_5),
    ("inception_a3", FIGURE_5),
    ("reduction_a", REDUCTION_A),
    ("inception_b1", FIGURE_6.format(n=128)),
    ("inception_b2", FIGURE_6.format(n=128)),
    ("inception_b3", FIGURE_6.format(n=160)),
    ("inception_b4", FIGURE_6.format(n=160)),
    ("inception_b5", FIGURE_6.format(n=192)),
    ("reduction_b", REDUCTION_B),
    ("inception_c1", FIGURE_7),
    ("inception_c2", FIGURE_7),
]


class InceptionV2(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32 (299 pixels to 8)."""

    def __init__(self, *, dropout: float = 0.2, classes: int = 1000, channels: int = 3):
        super().__init__()
        self.stem, cin = path(channels, STEM)
        self.stages, cout = modules(cin, TABLE_1)
        self.head = classifier(cout, classes, dropout)
        he_(self, "fan_in")


CLAIMS = [
    Claim("gmacs", "3.8", "Table 3", gap="our reading takes 6.2; as released, what Table 3 gives 4.8 takes 5.7"),
    Claim("top1_err", "23.4", "Table 3, 1 model, 1 crop, 48,238 images, ILSVRC-2012 val"),
]

VARIANTS = family(
    InceptionV2, PAPER, [Variant("inception_v2", claims=CLAIMS)], input=(3, 299, 299), recipe="inception_v2"
)
