"""BN-AlexNet: AlexNet with batch normalisation, as it appears in Canziani et al. (2016), https://arxiv.org/abs/1605.07678

Read beside `alexnetowtbn` of github.com/soumith/imagenet-multiGPU.torch, as Canziani et al. print no layers, only the
accuracy in a figure (57%). This is our reading: the layers of "One weird trick", batch norm (epsilon 1e-3) after each
but the last, and biases kept, although batch norm makes them redundant. The initial weights are Torch7's, which draws
batch norm's scales from (0, 1).
Departures from the paper: none known.
"""

from __future__ import annotations

from torch import nn

from ..catalogue import Claim, Paper, Variant, family
from ..layers import ConvNet, Shape, shape_after, stack, torch7_
from .alexnet import OWT_LAYERS

PAPER = Paper(
    "An Analysis of Deep Neural Network Models for Practical Applications",
    "Canziani et al.",
    2016,
    "https://arxiv.org/abs/1605.07678",
)


class BNAlexNet(ConvNet):
    """Images (N, C, H, W) in, logits (N, classes) out."""

    def __init__(self, *, dropout: float = 0.5, input: Shape = (3, 224, 224), classes: int = 1000):
        super().__init__()
        stages: dict[str, nn.Module] = {}
        cin = input[0]
        for name, cout, kernel, stride, padding, pooled in OWT_LAYERS:
            stages[name] = stack(
                conv=nn.Conv2d(cin, cout, kernel, stride, padding),
                bn=nn.BatchNorm2d(cout, eps=1e-3),
                relu=nn.ReLU(inplace=True),
                **({"pool": nn.MaxPool2d(3, 2)} if pooled else {}),
            )
            cin = cout
        self.stem = stages.pop("conv1")
        self.stages = stack(**stages)
        c, h, w = shape_after(self.trunk(), input)
        self.head = stack(
            flatten=nn.Flatten(),
            dropout6=nn.Dropout(dropout),
            fc6=nn.Linear(c * h * w, 4096),
            bn6=nn.BatchNorm1d(4096, eps=1e-3),
            relu6=nn.ReLU(inplace=True),
            dropout7=nn.Dropout(dropout),
            fc7=nn.Linear(4096, 4096),
            bn7=nn.BatchNorm1d(4096, eps=1e-3),
            relu7=nn.ReLU(inplace=True),
            fc8=nn.Linear(4096, classes),
        )
        torch7_(self)


# fmt: off
VARIANTS = family(BNAlexNet, PAPER, [
    Variant("bn_alexnet", aliases=("BN-AlexNet", "alexnetowtbn"), note="our reading: Torch's alexnetowtbn", claims=[
        Claim("params", "61,119,528", "layer arithmetic"),
        Claim("top1_acc", "57", "Fig. 1, read off to a point, centre crop")]),
], recipe="bn_alexnet")
# fmt: on
