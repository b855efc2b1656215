"""Stochastic depth: Deep Networks with Stochastic Depth (Huang et al., 2016), https://arxiv.org/abs/1603.09382

Read beside section 3. ResNets that train with a random subset of their blocks in each mini-batch, and test with all.
Block l of L survives with probability 1 - l/L (1 - p_L); if it does not, its branch is not computed.
On CIFAR the shortcuts that change shape pool (2x2, average) and pad with zero maps; ImageNet has ResNet-152's blocks.
The released code (main.lua, for 110 and 152 layers on CIFAR and SVHN) has He's convolutions and otherwise Torch7's
initialisation, with batch norm's scales uniform in (0, 1). Its ImageNet and 1202-layer programs were not released.
Nothing normalises the sum of the branches: with 1202 layers the first loss is about 7, not ln 10 (see resnet_cifar.py).
Departures from the paper: convolutions have no biases (the released code keeps them beside batch norm).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError, unknown
from ..layers import torch7_
from .resnet import TABLE_1, BasicBlock, Block, PaddedShortcut, Residual, ResNet
from .resnet_cifar import CifarResNet

PAPER = Paper("Deep Networks with Stochastic Depth", "Huang et al.", 2016, "https://arxiv.org/abs/1603.09382")


class BlockDrop(nn.Dropout):
    """In training, closed with probability p for a whole mini-batch; in evaluation, scales by 1 - p."""

    def closed(self) -> bool:
        return self.training and torch.rand((), device="cpu").item() < self.p

    def forward(self, x: Tensor) -> Tensor:
        return x if self.training else x * (1 - self.p)


class StochasticBlock(Residual):
    """A residual block that runs its branch only while its drop is open."""

    def __init__(self, block: Residual, drop: float):
        super().__init__(block.branch, block.shortcut)
        self.drop = BlockDrop(drop)

    def forward(self, x: Tensor) -> Tensor:
        assert self.shortcut is not None
        if self.drop.closed():
            return F.relu(self.shortcut(x))  # not in place: the identity returns x itself
        return self.relu(self.drop(self.branch(x)) + self.shortcut(x))


class PooledShortcut(PaddedShortcut):
    """Option A with average pooling by the stride, and the zero maps after the cin maps."""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__(cin, cout, stride)
        self.before, self.after = 0, cout - cin

    def forward(self, x: Tensor) -> Tensor:
        pooled = F.avg_pool2d(x, self.stride, ceil_mode=True)
        return F.pad(pooled, (0, 0, 0, 0, self.before, self.after))


def pooled_block(cin: int, cout: int, stride: int, shortcut: str | None) -> Residual:
    """A basic block with a shortcut that pools instead of subsampling."""
    block = BasicBlock(cin, cout, stride, shortcut)
    if isinstance(block.shortcut, PaddedShortcut):
        block.shortcut = PooledShortcut(cin, cout, stride)
    return block


def dropping(block: Callable[[int, int, int, str | None], Residual], blocks: int, survival: float) -> Block:
    """`block` with linear decay: the l-th of L = `blocks` is dropped with probability l/L (1 - survival)."""
    if not 0 < survival <= 1:
        raise UserError(f"survival={survival} is not a probability", "give one above 0 and at most 1")
    index = count(1)

    def make(cin: int, cout: int, stride: int, shortcut: str | None) -> nn.Module:
        return StochasticBlock(block(cin, cout, stride, shortcut), next(index) / blocks * (1 - survival))

    return make


class CifarStochasticDepth(CifarResNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 4.

    `depth` is 6n + 2; `survival` is p_L, the survival probability of the last block.
    """

    has_unused_parameters = True

    def __init__(self, *, depth: int = 110, survival: float = 0.5, classes: int = 10, channels: int = 3):
        block = dropping(pooled_block, (depth - 2) // 2, survival)
        super().__init__(depth=depth, block=block, classes=classes, channels=channels)
        torch7_(self)

    def init_classifier(self, layer: nn.Module) -> None:
        """Torch's initialisation is kept."""


class StochasticDepth(ResNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `depth` is a ResNet's (18 to 152); `survival` is p_L, the survival probability of the last block.
    """

    has_unused_parameters = True

    def __init__(self, *, depth: int = 152, survival: float = 0.5, classes: int = 1000, channels: int = 3):
        if depth not in TABLE_1:
            raise unknown("depth", str(depth), map(str, TABLE_1))
        row = TABLE_1[depth]
        block = dropping(row["block"], sum(row["depths"]), survival)
        super().__init__(**row | dict(block=block), classes=classes, channels=channels)


HUANG = "DenseNet (Huang et al., 2016), Table 2"
BARE = "DenseNet (Huang et al., 2016), Table 2, no augmentation"


def counts(params: str, macs: str) -> list[Claim]:
    return [Claim("params", params, "layer arithmetic"), Claim("macs", macs, "layer arithmetic")]


# fmt: off
VARIANTS = (*family(CifarStochasticDepth, PAPER, [
    Variant("stochastic_depth_resnet110", dict(depth=110), recipe="stochastic_depth", claims=[
        *counts("1,727,962", "252,887,680"),
        Claim("cifar10_err", "5.23", "Table 1, standard augmentation"), Claim("cifar10_err", "5.25", "README"),
        Claim("cifar100_err", "24.58", "Table 1, standard augmentation"),
        Claim("cifar10_err", "11.66", BARE), Claim("cifar100_err", "37.80", BARE)]),
    Variant("stochastic_depth_resnet152_svhn", dict(depth=152), recipe="stochastic_depth_svhn", claims=[
        Claim("svhn_err", "1.75", "Table 1")], note="a CIFAR network of 152 layers (n = 25), for SVHN"),
    Variant("stochastic_depth_resnet1202", dict(depth=1202), recipe="stochastic_depth_1202", claims=[
        *counts("19,421,274", "2,829,238,912"), Claim("cifar10_err", "4.91", "section 4, standard augmentation"),
        Claim("params", "10.2M", HUANG, gap="a slip there: 10.2M is the 1001-layer pre-activation network")]),
], input=(3, 32, 32)),
*family(StochasticDepth, PAPER, [
    Variant("stochastic_depth_resnet152", dict(depth=152), recipe="resnet_torch", claims=[
        *counts("60,192,808", "11,282,415,616"), Claim("top1_err", "21.98", "Table 1, validation")]),
]))
# fmt: on
