"""BN-Inception: Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift
(Ioffe and Szegedy, 2015), https://arxiv.org/abs/1502.03167

Read beside Figure 5. GoogLeNet with batch norm, two 3x3 convolutions for each 5x5, and stride 2 inside 3c and 4e.
Departures from the paper: the first convolution is the plain 7x7 of Figure 5, where the authors ran a separable one (as
does the row bn_inception_slim). Figure 5 prints projections of 128 in 4c and 4d, which would give 608 channels where
it also prints 576: here they are 96, as in the authors' tf-slim. No initialisation is given: He's is used, and torch's
epsilon and momentum for batch norm.
The row bn_inception_slim is that release: its batch norm has no scale, its separable convolution a bias instead of
batch norm, the averages decay by 0.9997, and there is dropout of 0.2; but it starts from He's weights, too, rather than
from tf-slim's several deviations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..layers import Concat, ConvBN, ConvNet, ConvSame, classifier, he_, pad_same, stack, unscaled_

PAPER = Paper(
    "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift",
    "Ioffe and Szegedy",
    2015,
    "https://arxiv.org/abs/1502.03167",
)

FIGURE_5 = [  # inception, #1x1, #3x3 reduce, #3x3, double #3x3 reduce, double #3x3, pool, its projection (0: none)
    ("3a", 64, 64, 64, 64, 96, "avg", 32),
    ("3b", 64, 64, 96, 64, 96, "avg", 64),
    ("3c", 0, 128, 160, 64, 96, "max", 0),
    ("4a", 224, 64, 96, 96, 128, "avg", 128),
    ("4b", 192, 96, 128, 96, 128, "avg", 128),
    ("4c", 160, 128, 160, 128, 160, "avg", 96),
    ("4d", 96, 128, 192, 160, 192, "avg", 96),
    ("4e", 0, 128, 192, 192, 256, "max", 0),
    ("5a", 352, 192, 320, 160, 224, "avg", 128),
    ("5b", 352, 192, 320, 192, 224, "max", 128),
]
AS_PRINTED = [(*row[:-1], 128) if row[0] in ("4c", "4d") else row for row in FIGURE_5]

Conv = Callable[..., nn.Module]  # of (cin, cout, kernel, stride)
avg_pool = partial(nn.AvgPool2d, 3, 1, 1, count_include_pad=False)


class MaxPoolSame(nn.MaxPool2d):
    """3x3 at stride 2, to the output size of a convolution of stride 2: half, rounded up."""

    def __init__(self) -> None:
        super().__init__(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(pad_same(x, (3, 3), (2, 2), value=-torch.inf))


class Inception(Concat):
    """Parallel 1x1, 3x3, two 3x3 and pooling; without the 1x1, at stride 2. The widths are a row of Figure 5."""

    def __init__(
        self,
        cin: int,
        n1: int,
        reduce3: int,
        n3: int,
        reduce33: int,
        n33: int,
        pool: str,
        proj: int,
        conv: Conv = ConvBN,
        avg: Callable[[], nn.Module] = avg_pool,
    ):
        stride = 1 if n1 else 2
        branch3 = stack(reduce=conv(cin, reduce3, 1), conv=conv(reduce3, n3, 3, stride))
        branch33 = stack(reduce=conv(cin, reduce33, 1), conv1=conv(reduce33, n33, 3), conv2=conv(n33, n33, 3, stride))
        if n1:
            pooling = avg() if pool == "avg" else nn.MaxPool2d(3, 1, 1)
            branch_pool = stack(pool=pooling, proj=conv(cin, proj, 1))
            super().__init__(branch1=conv(cin, n1, 1), branch3=branch3, branch33=branch33, branch_pool=branch_pool)
        else:
            super().__init__(branch3=branch3, branch33=branch33, pool=MaxPoolSame())
        self.cout = n1 + n3 + n33 + (proj or cin)


class BNInception(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `inception(cin, row of `rows`)` makes a module; `conv` and `first` make the stem's convolutions.
    """

    def __init__(
        self,
        *,
        rows: Sequence[tuple[Any, ...]] = FIGURE_5,
        inception: Callable[..., nn.Module] = Inception,
        conv: Conv = ConvBN,
        first: Conv = ConvBN,
        dropout: float = 0.0,
        classes: int = 1000,
        channels: int = 3,
    ):
        super().__init__()
        self.stem = stack(
            conv1=first(channels, 64, 7, 2),
            pool1=MaxPoolSame(),
            conv2_reduce=conv(64, 64, 1),
            conv2=conv(64, 192, 3),
            pool2=MaxPoolSame(),
        )
        stages: dict[str, nn.Module] = {}
        cin = 192
        for name, *widths in rows:
            stages[f"inception{name}"] = module = inception(cin, *widths)
            cin = int(module.cout)  # type: ignore[arg-type]
        self.stages = stack(**stages)
        self.head = classifier(cin, classes, dropout)
        he_(self, "fan_in")


class ConvBNSame(nn.Sequential):
    """tf-slim's convolution: TensorFlow's padding, batch norm with epsilon 0.001 and without a scale, ReLU."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = ConvSame(cin, cout, kernel, stride)
        self.bn = nn.BatchNorm2d(cout, eps=0.001, momentum=0.0003)
        self.act = nn.ReLU()
        unscaled_(self)


class SeparableSame(nn.Sequential):
    """Eight filters on each input channel, then a 1x1 convolution across them: the paper's first layer.

    tf-slim gives it a bias and no batch norm: its normalizer is set for plain convolutions only.
    """

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1):
        super().__init__()
        self.depthwise = ConvSame(cin, 8 * cin, kernel, stride, groups=cin)
        self.pointwise = nn.Conv2d(8 * cin, cout, 1)
        self.act = nn.ReLU()


class ConvBiasBN(nn.Sequential):
    """Caffe's convolution: with a bias, which the batch norm after it makes redundant."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2)
        self.bn = nn.BatchNorm2d(cout)
        self.act = nn.ReLU()


SLIM = dict(inception=partial(Inception, conv=ConvBNSame), conv=ConvBNSame, first=SeparableSame, dropout=0.2)
CAFFE = dict(
    rows=AS_PRINTED,
    inception=partial(Inception, conv=ConvBiasBN, avg=partial(nn.AvgPool2d, 3, 1, 1)),
    conv=ConvBiasBN,
    first=ConvBiasBN,
)

VAL = "ILSVRC-2012 val"
CLAIMS = [
    Claim("params", "11,194,984", "layer arithmetic"),
    Claim("macs", "2,018,851,840", "layer arithmetic, 224x224"),
    Claim("gmacs", "2.0", "Rethinking the Inception Architecture (Szegedy et al., 2015), Table 3"),
    Claim("params", "13.6M", "section 4.2", gap="Figure 5 does not add up to it; auxiliary heads, perhaps"),
    Claim("top1_err", "25.2", f"Figure 4, BN-x30, 1 model, 1 crop, {VAL}"),
    Claim("top5_err", "7.82", f"Figure 4, BN-x30, 1 model, 1 crop, {VAL}"),
    Claim("top1_err", "21.99", f"Figure 4, BN-x30, 1 model, 144 crops, {VAL}"),
    Claim("top5_err", "5.82", f"Figure 4, BN-x30, 1 model, 144 crops, {VAL}"),
    Claim("top1_err", "20.1", f"Figure 4, 6 models, 144 crops, {VAL}"),
    Claim("top5_err", "4.9", f"Figure 4, 6 models, 144 crops, {VAL}"),
    Claim("top5_err", "4.82", "section 4.2.3, 6 models, ILSVRC test server"),
]
SLIM_CLAIMS = [
    Claim("params", "11,178,336", "layer arithmetic"),
    Claim("macs", "1,934,857,216", "layer arithmetic, 224x224"),
    Claim("params", "11.2M", "NASNet (Zoph et al., 2017), Table 2, Inception V2"),
    Claim("gmacs", "1.94", "NASNet (Zoph et al., 2017), Table 2, Inception V2"),
    Claim("top1_acc", "73.9", "tf-slim, inception_v2 of 2016-08-28, single crop"),
    Claim("top5_acc", "91.8", "tf-slim, inception_v2 of 2016-08-28, single crop"),
]
CAFFE_CLAIMS = [
    Claim("params", "11,295,240", "Cadene's pretrained-models, bninception"),
    Claim("macs", "2,032,600,064", "layer arithmetic, 224x224"),
    Claim("gmacs", "2.03", "SENet (Hu et al., 2017), Table 2, re-implementation"),
    Claim("top1_acc", "73.524", "Cadene's pretrained-models, bninception, centre crop"),
]

# fmt: off
VARIANTS = family(BNInception, PAPER, [
    Variant("bn_inception", claims=CLAIMS),
    Variant("bn_inception_slim", SLIM, claims=SLIM_CLAIMS, note="tf-slim's inception_v2: separable stem, no gamma"),
    Variant("bn_inception_caffe", CAFFE, claims=CAFFE_CLAIMS, note="Caffe's: with biases, 128 in 4c and 4d"),
], recipe="bn_inception")
# fmt: on
