"""The building blocks of NASNet's cells, to be read beside appendix A.4; the cells are tables in nasnet.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import ConvBN, ConvSame, stack


class CellTable(NamedTuple):
    rows: Sequence[tuple[int, str, int, str]]
    joined: Sequence[int]  # the states that the output concatenates


class ReluConvBN(nn.Sequential):
    """ReLU, 1x1 convolution, batch norm: (N, cin, H, W) -> (N, cout, H / stride, W / stride)."""

    def __init__(self, cin: int, cout: int, stride: int = 1, *, eps: float):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(cin, cout, 1, stride, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=eps)


class Separable(nn.Sequential):
    """A depthwise-separable convolution, applied twice; the first takes the stride and changes the width."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, *, eps: float):
        super().__init__()
        for n, c, s in ((1, cin, stride), (2, cout, 1)):
            self.add_module(f"relu{n}", nn.ReLU())
            self.add_module(f"depthwise{n}", ConvSame(c, c, kernel, s, groups=c))
            self.add_module(f"pointwise{n}", nn.Conv2d(c, cout, 1, bias=False))
            self.add_module(f"bn{n}", nn.BatchNorm2d(cout, eps=eps))


class FactorizedReduction(nn.Module):
    """Halves the map by two strided 1x1 convolutions of cout / 2 filters, the second on the map shifted by a pixel."""

    def __init__(self, cin: int, cout: int, *, eps: float):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(cin, cout // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(cin, cout // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(cout, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.bn(torch.cat([self.conv1(x), self.conv2(F.pad(x, (-1, 1, -1, 1)))], 1))


class Pool(nn.Module):
    """A 3x3 pool to ceil(size / stride), padded as TensorFlow's "SAME"; maximum and mean ignore the padding."""

    def __init__(self, kind: str, stride: int):
        super().__init__()
        self.kind, self.stride = kind, stride

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]  # to be halved, an odd size needs a pixel on both sides, an even one only on the far side
        padding = (1, 1) if self.stride == 1 else (h % 2, w % 2)
        if self.kind == "max":
            return F.max_pool2d(x, 3, self.stride, padding, ceil_mode=True)
        return F.avg_pool2d(x, 3, self.stride, padding, ceil_mode=True, count_include_pad=False)

    def extra_repr(self) -> str:
        return f"{self.kind}, 3, stride={self.stride}"


class PoolTimm(Pool):
    """timm's variant: an average pool that halves the map includes the zero padding."""

    def forward(self, x: Tensor) -> Tensor:
        if (self.kind, self.stride) != ("avg", 2):
            return super().forward(x)
        h, w = x.shape[2:]
        return F.avg_pool2d(F.pad(x, (w % 2, 1, h % 2, 1)), 3, 2)


class PoolKeras(Pool):
    """Keras' variant: whatever halves the map sees zeros around it, the maximum too."""

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 1:
            return super().forward(x)
        h, w = x.shape[2:]
        x = F.pad(x, (w % 2, 1, h % 2, 1))
        return F.max_pool2d(x, 3, 2) if self.kind == "max" else F.avg_pool2d(x, 3, 2)


class ScheduledDropPath(nn.Dropout):
    """Drops a path per image with probability p x progress (the fraction of training done); scales up those kept."""

    progress = 1.0

    def forward(self, x: Tensor) -> Tensor:
        keep = 1 - self.p * self.progress
        if not self.training or keep == 1:
            return x
        drawn = x.new_empty(x.shape[0], 1, 1, 1, dtype=torch.float32).uniform_()
        return x * (drawn < keep).to(x.dtype) / keep


def operation(name: str, cin: int, cout: int, stride: int, pool: type[Pool], eps: float) -> nn.Module:
    """A yellow box of Fig. 4; a 1x1 convolution follows a pool where the width changes."""
    kind, kernel = name[:3], name[3:4]
    if kind == "sep":
        return Separable(cin, cout, int(kernel), stride, eps=eps)
    if name == "identity":
        return nn.Identity() if cin == cout and stride == 1 else ReluConvBN(cin, cout, stride, eps=eps)
    pooled = pool(kind, stride)
    return pooled if cin == cout else stack(pool=pooled, fit=ConvBN(cin, cout, 1, act=None, eps=eps))


class Block(nn.Module):
    """left(a) + right(b), one row of a cell's table; either path may be dropped in training."""

    def __init__(self, left: nn.Module, right: nn.Module, drop_left: float = 0.0, drop_right: float = 0.0):
        super().__init__()
        self.left, self.right = left, right
        self.drop_left = ScheduledDropPath(drop_left) if drop_left else None
        self.drop_right = ScheduledDropPath(drop_right) if drop_right else None

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = self.left(a), self.right(b)
        return (self.drop_left(a) if self.drop_left else a) + (self.drop_right(b) if self.drop_right else b)


class Made(NamedTuple):
    """A cell's output: the number of maps, and how often they have been halved."""

    channels: int
    halved: int


class Cell(nn.Module):
    """(output before last, last output) -> (last output, own output), all (N, C, H, W); first maps inputs to `width`.

    The first cell takes one tensor, for both. With `pass_older`, the older input is passed on instead of the last, as
    in the reduction cells of the released large network. `drop` is the rate of its ScheduledDropPaths.
    """

    def __init__(
        self,
        table: CellTable,
        older: Made | None,
        last: Made,
        width: int,
        stride: int = 1,
        *,
        drop: float = 0.0,
        pass_older: bool = False,
        pool: type[Pool] = Pool,
        eps: float = 1e-3,
    ):
        super().__init__()
        self.table, self.pass_older = table, pass_older
        self.made = Made(len(table.joined) * width, last.halved + stride - 1)
        self.fit_last = ReluConvBN(last.channels, width, eps=eps)
        self.fit_older: nn.Module = nn.Identity()
        self.join_older: nn.Module = nn.Identity()
        widths = [width] * (2 + len(table.rows))
        if older is None:
            widths[1] = last.channels
            if 1 in table.joined:
                self.join_older = ConvBN(last.channels, width, 1, act=None, eps=eps)
        elif older.halved != last.halved:
            self.fit_older = FactorizedReduction(older.channels, width, eps=eps)
        else:
            self.fit_older = ReluConvBN(older.channels, width, eps=eps)

        def op(state: int, name: str) -> nn.Module:
            return operation(name, widths[state], width, stride if state < 2 else 1, pool, eps)

        self.blocks = nn.ModuleList(
            Block(op(a, left), op(b, right), drop * (left != "identity"), drop * (right != "identity"))
            for a, left, b, right in table.rows
        )

    def forward(self, x: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        older, last = x if isinstance(x, tuple) else (x, x)
        states = [self.fit_last(last), self.fit_older(older)]
        for (a, _, b, _), block in zip(self.table.rows, self.blocks, strict=True):
            states.append(block(states[a], states[b]))
        states[1] = self.join_older(states[1])
        return (older if self.pass_older else last), torch.cat([states[i] for i in self.table.joined], 1)
