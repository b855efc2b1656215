"""DenseNet: Densely Connected Convolutional Networks (Huang et al., 2016), https://arxiv.org/abs/1608.06993

Read beside Table 1. Every layer of a dense block sees the maps of all layers before it and adds `growth` of its own.
Counted like the others, DenseNet-264 has 265 layers. DenseNet-161 was in the paper's first versions.
DenseNet-232 and DenseNet-264 (k=48) belong to Pleiss et al. (2017), https://arxiv.org/abs/1707.06990, as does
`memory_efficient`: each layer's concatenation and normalisation are recomputed for the gradient instead of stored.
The CIFAR networks are in densenet_cifar.py.
Departures from the paper: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError
from ..layers import ConvNet, frozen_statistics, he_, stack, zero_bias_

PAPER = Paper("Densely Connected Convolutional Networks", "Huang et al.", 2016, "https://arxiv.org/abs/1608.06993")

TABLE_1: dict[int, dict[str, Any]] = {  # depth: layers of the dense blocks at 56, 28, 14 and 7 pixels, growth k
    121: dict(blocks=(6, 12, 24, 16), growth=32),
    169: dict(blocks=(6, 12, 32, 32), growth=32),
    201: dict(blocks=(6, 12, 48, 32), growth=32),
    264: dict(blocks=(6, 12, 64, 48), growth=32),
    161: dict(blocks=(6, 12, 36, 24), growth=48),
}


class DenseNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out: DenseNet-BC for ImageNet; the feature map shrinks by 32.

    A transition keeps `compression` (theta) of its maps. `memory_efficient` changes neither outputs nor gradients; the
    memory for the backward pass grows linearly with depth instead of quadratically: for DenseNet-264, 73 MiB per
    image, not 265.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        growth: int,
        *,
        compression: float = 0.5,
        classes: int = 1000,
        channels: int = 3,
        dropout: float = 0.0,
        memory_efficient: bool = False,
    ):
        super().__init__()
        width = 2 * growth
        self.stem = stack(
            conv=nn.Conv2d(channels, width, 7, 2, 3, bias=False),
            norm=nn.BatchNorm2d(width),
            relu=nn.ReLU(inplace=True),
            pool=nn.MaxPool2d(3, 2, 1),
        )
        self.stages, cout = dense_stages(width, blocks, growth, True, compression, dropout, memory_efficient)
        self.head = dense_head(cout, classes)
        init(self)

    def init_classifier(self, layer: nn.Module) -> None:
        zero_bias_(layer)


def dense_stages(
    cin: int,
    blocks: tuple[int, ...],
    growth: int,
    bottleneck: bool,
    compression: float,
    dropout: float,
    memory_efficient: bool,
) -> tuple[nn.Sequential, int]:
    """Dense blocks with transitions between them, and the channels of the last."""
    if not 0 < compression <= 1:
        raise UserError(f"compression={compression} is not a fraction of the maps", "give one above 0 and at most 1")
    stages: dict[str, nn.Module] = {}
    for i, layers in enumerate(blocks, 1):
        stages[f"dense{i}"] = DenseBlock(cin, layers, growth, bottleneck, dropout, memory_efficient)
        cin += layers * growth
        if i < len(blocks):
            cout = max(1, int(compression * cin))
            stages[f"transition{i}"] = Transition(cin, cout, dropout)
            cin = cout
    return stack(**stages), cin


def dense_head(cin: int, classes: int) -> nn.Sequential:
    return stack(
        norm=nn.BatchNorm2d(cin),
        relu=nn.ReLU(inplace=True),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        linear=nn.Linear(cin, classes),
    )


class DenseBlock(nn.Module):
    """`layers` dense layers: (N, cin, H, W) -> (N, cin + layers * growth, H, W)."""

    def __init__(self, cin: int, layers: int, growth: int, bottleneck: bool, dropout: float, memory_efficient: bool):
        super().__init__()
        self.layers = nn.ModuleList(
            DenseLayer(cin + i * growth, growth, bottleneck, dropout, memory_efficient) for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(layer(features))
        return torch.cat(features, 1)


class DenseLayer(nn.Sequential):
    """All earlier maps, each (N, _, H, W), in; `growth` new ones out. `bottleneck` adds a 1x1 of 4 * growth before."""

    def __init__(self, cin: int, growth: int, bottleneck: bool, dropout: float, memory_efficient: bool):
        super().__init__()
        if bottleneck:
            self.squeeze = Composite(cin, 4 * growth, 1, dropout)
        self.grow = Composite(4 * growth if bottleneck else cin, growth, 3, dropout)
        self.memory_efficient = memory_efficient

    def forward(self, features: list[Tensor]) -> Tensor:
        first, *rest = cast(Iterator[Composite], iter(self))

        def join(*maps: Tensor) -> Tensor:
            return first(torch.cat(maps, 1))

        if self.memory_efficient and torch.is_grad_enabled():
            x = checkpoint(
                join, *features, use_reentrant=False, context_fn=lambda: (nullcontext(), frozen_statistics(first))
            )
        else:
            x = join(*features)
        for unit in rest:
            x = unit(x)
        return x


class Composite(nn.Sequential):
    """Section 3's composite function H: batch norm, ReLU, convolution (and dropout, if any)."""

    norm: nn.BatchNorm2d

    def __init__(self, cin: int, cout: int, kernel: int, dropout: float):
        super().__init__()
        self.norm = nn.BatchNorm2d(cin)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, bias=False)
        if dropout:
            self.dropout = nn.Dropout(dropout)


class Transition(Composite):
    """Between dense blocks: the composite function with a 1x1 convolution, then average pooling by 2."""

    def __init__(self, cin: int, cout: int, dropout: float):
        super().__init__(cin, cout, 1, dropout)
        self.pool = nn.AvgPool2d(2)


def init(net: ConvNet) -> None:
    """Section 4.2: He et al. (2015); the classifier's biases start at zero, as in the authors' Torch code."""
    he_(net)
    for m in net.modules():
        if isinstance(m, nn.Linear):
            nn.init.zeros_(m.bias)


def counts(params: str, macs: str, where: str = "counted from Table 1; torchvision") -> list[Claim]:
    return [Claim("params", params, where), Claim("macs", macs, where)]


def errors(*figures: str) -> list[Claim]:
    """Table 3: top-1 and top-5 error (%) of the centre crop, then of 10 crops."""
    return [
        Claim(what, e, f"Table 3, {crop}")
        for (crop, what), e in zip(product(("centre crop", "10-crop"), ("top1_err", "top5_err")), figures, strict=True)
    ]


README = "README of liuzhuang13/DenseNet, centre crop"
PLEISS = "Pleiss et al. (2017), centre crop"

# fmt: off
VARIANTS = family(DenseNet, PAPER, [
    Variant("densenet121", TABLE_1[121], claims=[
        *counts("7,978,856", "2,834,161,664"), *errors("25.02", "7.71", "23.61", "6.66")]),
    Variant("densenet169", TABLE_1[169], claims=[
        *counts("14,149,480", "3,359,843,328"), *errors("23.80", "6.85", "22.08", "5.92"),
        Claim("top1_err", "23.6", README)]),
    Variant("densenet201", TABLE_1[201], claims=[
        *counts("20,013,928", "4,291,365,888"), *errors("22.58", "6.34", "21.46", "5.54")]),
    Variant("densenet264", TABLE_1[264], claims=[
        Claim("params", "33.3M", "counted from Table 1"), *errors("22.15", "6.12", "20.80", "5.29"),
        Claim("top1_err", "22.1", PLEISS), Claim("top1_err", "21.6", PLEISS + ", cosine schedule")]),
    Variant("densenet161", TABLE_1[161], recipe="densenet161", note="k=48, in the paper's first versions", claims=[
        *counts("28,681,000", "7,727,907,072", "counted; torchvision"), Claim("top1_err", "22.2", README)]),
    Variant("densenet232", dict(blocks=(6, 32, 48, 28), growth=48), note="k=48, of Pleiss et al. (2017)", claims=[
        *counts("55,779,784", "16,576,060,800", "counted"), Claim("top1_err", "21.2", PLEISS)]),
    Variant("densenet264_k48", TABLE_1[264] | dict(growth=48), note="k=48, of Pleiss et al. (2017)", claims=[
        Claim("top1_err", "20.4", PLEISS + ", cosine schedule")]),
], recipe="densenet")
# fmt: on
