"""NAS: Neural Architecture Search with Reinforcement Learning (Zoph and Le, 2016), https://arxiv.org/abs/1611.01578

Read beside Fig. 7: 15 convolutions without stride or pooling, each on the concatenated outputs of the layers with an
arrow to it. Section 4.1 also evaluates the same layers with connections from all earlier layers, or only the last.
The paper draws no classifier; global average pooling and a linear layer give its 4.2M parameters, flattening does not.
The networks with strides (20 layers) and with pooling (39 layers) are missing: see docs/not-recovered.md.
Departures from the paper: batch norm's epsilon, which was tuned to an unpublished value, and its momentum are torch's.
No initialisation is given: He's is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import unknown
from ..layers import ConvBN, ConvNet, classifier, he_, stack

PAPER = Paper(
    "Neural Architecture Search with Reinforcement Learning",
    "Zoph and Le",
    2016,
    "https://arxiv.org/abs/1611.01578",
)

FIG_7 = [  # filter height, filter width, filters, the layers it takes (0 is the image)
    (3, 3, 36, (0,)),
    (3, 3, 48, (1,)),
    (3, 3, 36, (1, 2)),
    (5, 5, 36, (1, 2, 3)),
    (3, 7, 48, (3, 4)),
    (7, 7, 48, (2, 3, 4, 5)),
    (7, 7, 48, (2, 3, 4, 5, 6)),
    (7, 3, 36, (1, 6, 7)),
    (7, 1, 36, (1, 5, 6, 8)),
    (7, 7, 36, (1, 3, 4, 5, 6, 7, 8, 9)),
    (5, 7, 36, (1, 2, 5, 6, 7, 8, 9, 10)),
    (7, 7, 48, (1, 2, 3, 4, 6, 11)),
    (7, 5, 48, (1, 3, 6, 7, 8, 9, 10, 11, 12)),
    (7, 5, 48, (3, 7, 12, 13)),
    (7, 5, 48, (2, 7, 11, 12, 13, 14)),
]


class Layer(nn.Module):
    """The image and the outputs of all earlier layers -> the same plus its own output, all (N, C, H, W)."""

    def __init__(self, widths: Sequence[int], sources: Sequence[int], kernel: tuple[int, int], cout: int):
        super().__init__()
        self.sources = tuple(sources)
        self.conv = ConvBN(sum(widths[i] for i in sources), cout, kernel)

    def forward(self, made: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        made = made if isinstance(made, tuple) else (made,)
        return (*made, self.conv(torch.cat([made[i] for i in self.sources], 1)))

    def extra_repr(self) -> str:
        return f"sources={self.sources}"


class Last(nn.Module):
    """The outputs of all layers -> the output of the last."""

    def forward(self, made: tuple[Tensor, ...]) -> Tensor:
        return made[-1]


class NAS(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the map keeps its size up to the global average.

    `skips`: the connections that the search found, those from "all" earlier layers, or "none" but the chain.
    """

    def __init__(self, *, skips: Literal["found", "all", "none"] = "found", classes: int = 10, channels: int = 3):
        super().__init__()
        if skips not in ("found", "all", "none"):
            raise unknown("choice of skips", skips, ("found", "all", "none"))
        widths, layers = [channels], {}
        for number, (height, width, filters, found) in enumerate(FIG_7, start=1):
            sources = {"found": found, "all": range(min(1, number - 1), number), "none": (number - 1,)}[skips]
            layers[f"layer{number}"] = Layer(widths, sources, (height, width), filters)
            widths.append(filters)
        self.stem = nn.Sequential()  # the paper has none
        self.stages = stack(**layers, last=Last())
        self.head = classifier(widths[-1], classes)
        he_(self)


# fmt: off
VARIANTS = family(NAS, PAPER, [
    Variant("nas_v1", recipe="nas_cifar", aliases=("NAS v1 no stride or pooling",), claims=[
        Claim("params", "4,201,630", "layer arithmetic"), Claim("macs", "4,300,665,312", "layer arithmetic"),
        Claim("params", "4.2M", "Table 1"), Claim("cifar10_err", "5.50", "Table 1")]),
    Variant("nas_v1_all", dict(skips="all"), recipe="nas_cifar", note="every layer takes all layers before it",
        claims=[Claim("cifar10_err", "5.56", "section 4.1")]),
    Variant("nas_v1_none", dict(skips="none"), recipe="nas_cifar", note="no skip connections",
        claims=[Claim("cifar10_err", "7.97", "section 4.1")]),
], input=(3, 32, 32))
# fmt: on
