"""ENet's encoder: ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation (Paszke et al., 2016),
https://arxiv.org/abs/1606.02147

Read beside Table 1, down to the last line of stage 3. ENet is a segmentation network; Canziani et al. (2016) show a
classifier of that name without its layers. This is our reading: the encoder, global average pooling, one linear layer.
Details not in Table 1 (biases, epsilon 1e-3, PReLU) follow the authors' code (e-lab/ENet-training, encoder.lua);
the initial weights are Torch7's, which draws batch norm's scales from (0, 1).
Departures from the paper: a classifier in place of the decoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..catalogue import Claim, Paper, Variant, family
from ..layers import ConvNet, classifier, stack, torch7_

PAPER = Paper(
    "ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation",
    "Paszke et al.",
    2016,
    "https://arxiv.org/abs/1606.02147",
)

REPEATED = ["regular", "dilated 2", "asymmetric 5", "dilated 4", "regular", "dilated 8", "asymmetric 5", "dilated 16"]
TABLE_1 = [  # stage, maps, its bottlenecks, dropout (the initial block, 16 maps, before)
    ("bottleneck1", 64, ["downsampling", *["regular"] * 4], 0.01),
    ("bottleneck2", 128, ["downsampling", *REPEATED], 0.1),
    ("bottleneck3", 128, REPEATED, 0.1),
]


class ENetEncoder(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 8."""

    def __init__(self, *, classes: int = 1000, channels: int = 3):
        super().__init__()
        self.stem = Initial(channels)
        cin = 13 + channels
        stages: dict[str, nn.Module] = {}
        for stage, cout, kinds, dropout in TABLE_1:
            blocks: dict[str, nn.Module] = {}
            for i, kind in enumerate(kinds):
                blocks[f"{kind.split()[0]}{i}"] = Bottleneck(cin, cout, kind, dropout)
                cin = cout
            stages[stage] = stack(**blocks)
        self.stages = stack(**stages)
        self.head = classifier(cin, classes)
        torch7_(self)


class Initial(nn.Module):
    """Fig. 2 (a): (N, channels, H, W) -> (N, 13 + channels, H / 2, W / 2), a convolution beside pooling."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, 13, 3, 2, 1)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)  # rounds an odd size as the convolution does
        self.bn = nn.BatchNorm2d(13 + channels, eps=1e-3)
        self.prelu = nn.PReLU(13 + channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.bn(torch.cat([self.conv(x), self.pool(x)], 1)))


class Bottleneck(nn.Module):
    """Fig. 2 (b): (N, cin, H, W) -> (N, cout, ...) through cout / 4 maps; the shortcut pads missing maps with zeros.

    `kind`: "downsampling" (halves the size), "regular", "dilated d", or "asymmetric k" (1 x k, then k x 1).
    """

    def __init__(self, cin: int, cout: int, kind: str, dropout: float):
        super().__init__()
        mid, down = cout // 4, 2 if kind == "downsampling" else 1
        name, _, number = kind.partition(" ")
        n = int(number or 1)
        if name == "asymmetric":
            conv: nn.Module = stack(
                across=nn.Conv2d(mid, mid, (1, n), padding=(0, n // 2), bias=False),
                down=nn.Conv2d(mid, mid, (n, 1), padding=(n // 2, 0)),
            )
        else:
            conv = nn.Conv2d(mid, mid, 3, padding=n, dilation=n)
        self.branch = stack(
            reduce=nn.Conv2d(cin, mid, down, down, bias=False),
            bn1=nn.BatchNorm2d(mid, eps=1e-3),
            prelu1=nn.PReLU(mid),
            conv=conv,
            bn2=nn.BatchNorm2d(mid, eps=1e-3),
            prelu2=nn.PReLU(mid),
            expand=nn.Conv2d(mid, cout, 1, bias=False),
            bn3=nn.BatchNorm2d(cout, eps=1e-3),
            dropout=nn.Dropout2d(dropout),
        )
        self.pool = nn.MaxPool2d(2) if down == 2 else nn.Identity()
        self.missing = cout - cin
        self.prelu = nn.PReLU(cout)

    def forward(self, x: Tensor) -> Tensor:
        around = F.pad(self.pool(x), (0, 0, 0, 0, 0, self.missing))
        return self.prelu(self.branch(x) + around)


# fmt: off
VARIANTS = family(ENetEncoder, PAPER, [
    Variant("enet_encoder", aliases=("ENet",), note="our reading: ENet's encoder with a linear classifier", claims=[
        Claim("top1_acc", "68", "Canziani et al. (2016), Fig. 1, read off to a point, centre crop")]),
])
# fmt: on
