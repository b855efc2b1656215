"""GoogLeNet as in libraries: Going Deeper with Convolutions (Szegedy et al., 2014), https://arxiv.org/abs/1409.4842

Read beside Table 1 and torchvision's googlenet.py, the released weights of which fit this network, not the paper's.
Departures from the paper: batch norm for biases and normalisation, 3x3 filters for 5x5, a 2x2 pool before (5a),
auxiliary classifiers on a 4x4 average, dropout of 0.2 instead of 0.4, and a different initialisation.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from ..catalogue import Claim, Variant, family
from ..layers import ConvBN, ConvNet, Shape, classifier, stack
from .googlenet import PAPER, GoogLeNet, Inception, Reduced, aux_heads, inceptions, max_pool


class GoogLeNetBN3x3(GoogLeNet):
    """Images (N, C, H, W) in, logits (N, classes) out; `aux` as in GoogLeNet."""

    def __init__(self, *, dropout: float = 0.2, aux: bool = True, input: Shape = (3, 224, 224), classes: int = 1000):
        ConvNet.__init__(self)
        conv = partial(ConvBN, eps=0.001)
        self.input = input
        self.stem = stack(
            conv1=conv(input[0], 64, 7, 2),
            pool1=max_pool(),
            conv2=Reduced(64, 64, 192, 3, conv),
            pool2=max_pool(),
        )
        self.stages, cout = inceptions(partial(Inception, conv=conv, k5=3), pool4=max_pool(2))
        self.head = classifier(cout, classes, dropout)
        self.aux = aux_heads(self, partial(nn.AdaptiveAvgPool2d, 4), conv, input, classes) if aux else nn.ModuleDict()
        for m in self.modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(m.weight, std=0.01)

    def init_classifier(self, layer: nn.Module) -> None:
        nn.init.trunc_normal_(layer.weight, std=0.01)  # type: ignore[arg-type]


CLAIMS = [
    Claim("params", "6,624,904", "torchvision 0.28, without auxiliary heads"),
    Claim("macs", "1,498,376,192", "torchvision 0.28"),
    Claim("params", "6.6M", "NASNet (Zoph et al., 2017), Table 3, of tf-slim's, alike in that"),
    Claim("mmacs", "1448", "NASNet (Zoph et al., 2017), Table 3", gap="not reproduced: 1,498.4"),
    Claim("top1_acc", "69.778", "torchvision 0.28, IMAGENET1K_V1, centre crop 224 of 256"),
    Claim("top5_acc", "89.53", "torchvision 0.28, IMAGENET1K_V1, centre crop 224 of 256"),
]

VARIANTS = family(
    GoogLeNetBN3x3,
    PAPER,
    [Variant("googlenet_bn_3x3", claims=CLAIMS, note="torchvision's: batch norm, 3x3 where the paper has 5x5")],
    recipe="googlenet",
)
