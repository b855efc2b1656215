"""BN-NIN: Network in Network with batch normalisation, as it appears in Canziani et al. (2016),
https://arxiv.org/abs/1605.07678

Read beside `ninbn` of github.com/soumith/imagenet-multiGPU.torch, since Canziani et al. print no layers: it gives 62.6%
for the network that their figure has at 62.5%. This is our reading; `bn_nin_zoo`, the other one, is the Caffe zoo's NiN
with batch norm after every convolution. Both have an epsilon of 1e-3, keep the biases of the convolutions and start as
Torch7 does, with batch norm's scales uniform in (0, 1).
Departures from the paper: none known.
"""

from __future__ import annotations

from torch import nn

from ..catalogue import Claim, Paper, Variant, family
from ..layers import ConvNet, classifier, stack, torch7_
from .nin import IMAGENET, MLPConv, NiN

PAPER = Paper(
    "An Analysis of Deep Neural Network Models for Practical Applications",
    "Canziani et al.",
    2016,
    "https://arxiv.org/abs/1605.07678",
)

BLOCKS = [  # maps of all three convolutions; kernel, stride, padding of the first; pooled (3x3 / 2, padding 1) after
    (96, 11, 4, 5, True),
    (256, 5, 1, 2, True),
    (384, 3, 1, 1, True),
    (1024, 3, 1, 1, False),
]


class BNNiN(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out, from a linear layer."""

    def __init__(self, *, classes: int = 1000, channels: int = 3):
        super().__init__()
        stages: dict[str, nn.Module] = {}
        cin = channels
        for i, (cout, kernel, stride, padding, pooled) in enumerate(BLOCKS, 1):
            stages[f"mlpconv{i}"] = MLPConv(cin, kernel, stride, padding, (cout,) * 3, ConvBNReLU)
            if pooled:
                stages[f"pool{i}"] = nn.MaxPool2d(3, 2, 1)
            cin = cout
        self.stem = stages.pop("mlpconv1")
        self.stages = stack(**stages)
        self.head = classifier(cin, classes)


class ConvBNReLU(nn.Sequential):
    """NiN's unit with batch norm."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding)
        self.bn = nn.BatchNorm2d(cout, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)
        torch7_(self)


# fmt: off
VARIANTS = family(BNNiN, PAPER, [
    Variant("bn_nin", aliases=("BN-NIN", "ninbn"), note="our reading: Torch's ninbn", claims=[
        Claim("top1_acc", "62.6", "imagenet-multiGPU.torch, ninbn.lua"),
        Claim("top1_acc", "62.5", "Fig. 1, read off to a point, centre crop")]),
], recipe="bn_nin") + family(NiN, PAPER, [
    Variant("bn_nin_zoo", dict(table=IMAGENET, unit=ConvBNReLU), note="the Caffe model zoo's NiN with batch norm",
        claims=[Claim("params", "7.6M", "the 7,595,176 of NiN, and batch norm's")]),
], recipe="bn_nin")
# fmt: on
