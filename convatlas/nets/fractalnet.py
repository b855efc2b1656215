"""FractalNet: Ultra-Deep Neural Networks without Residuals (Larsson et al., 2016), https://arxiv.org/abs/1605.07648

Read beside Fig. 1. f_1 is a convolution, f_(C+1)(z) = join(f_C(f_C(z)), f_1(z)): a block of C columns, of which
column c passes its input through 2^(c-1) convolutions, and joins where columns meet. A join is the mean of its inputs.
Details not in the paper follow the authors' generator (github.com/gustavla/fractalnet): dropout between convolution and
batch norm, which has neither scale nor shift; 2x2 pooling of every column before a block's last join.
Departures from the paper: batch norm's statistics are torch's moving averages (momentum 0.1), where Caffe's weigh some
thousand batches alike (moving_average_fraction 0.999).
Not recovered: the 38.6M parameters of `fractalnet_20`; which columns of `fractalnet_40` have 1x1 filters (here none
has, and 22.9M parameters become 47M); whether FractalNet-34 pools after its last block (here it does not, so that the
classifier sees 7x7 maps as ResNet-34's does).
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from functools import reduce
from operator import add
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError
from ..layers import ConvNet, classifier, stack
from ._fractalnet_plans import Plan, drop_path_plan, ending, whole
from ._fractalnet_plans import only as only

PAPER = Paper(
    "FractalNet: Ultra-Deep Neural Networks without Residuals",
    "Larsson et al.",
    2016,
    "https://arxiv.org/abs/1605.07648",
)


class PlannedDropPath(nn.Dropout):
    """Draws a plan for every training batch; as with dropout, `p = 0` switches it off."""

    def draw(self, blocks: int, columns: int) -> Plan:
        if not self.training or self.p == 0:
            return whole(blocks, columns)
        seed = int(torch.randint(2**31, (), device="cpu"))
        return drop_path_plan(blocks, columns, seed, 0, local=self.p)


class FractalNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; B = len(widths) blocks of C = `columns` columns.

    `thin` halves the width from column to column; 1x1 convolutions widen again before joins. `dropouts` has a rate for
    each block. `drop_path` is the probability that a local plan drops a join's input; at 0 nothing is dropped. With
    `imagenet`, ResNet-34's 7x7 convolution and pooling come first, and the last block does not pool.
    """

    has_unused_parameters = True

    def __init__(
        self,
        columns: int,
        widths: Sequence[int],
        *,
        thin: bool = False,
        imagenet: bool = False,
        dropouts: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4),
        drop_path: float = 0.15,
        classes: int = 10,
        channels: int = 3,
    ):
        super().__init__()
        if len(dropouts) != len(widths):
            raise UserError(
                f"dropouts={dropouts} has {len(dropouts)} rates", f"give one for each of {len(widths)} blocks"
            )
        if columns < 1:
            raise UserError(f"columns={columns} leaves no path through a block", "give at least 1")
        self.columns = columns
        cin = 64 if imagenet else channels
        self.stem = (
            stack(conv1=FractalUnit(channels, 64, 64, kernel=7, stride=2), pool1=nn.MaxPool2d(3, 2, 1))
            if imagenet
            else nn.Identity()
        )
        blocks: dict[str, nn.Module] = {}
        for i, (width, dropout) in enumerate(zip(widths, dropouts, strict=True), 1):
            of_columns = [width // 2 ** (c - 1) if thin else width for c in range(1, columns + 1)]
            blocks[f"block{i}"] = FractalBlock(cin, of_columns, dropout, pool=not imagenet or i < len(widths))
            cin = width
        self.stages = stack(**blocks)
        self.head = classifier(cin, classes)
        self.drop_path = PlannedDropPath(drop_path)
        for m in self.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                xavier_(m)

    def init_classifier(self, layer: nn.Module) -> None:
        xavier_(layer)

    @property
    def blocks(self) -> list[FractalBlock]:
        return cast("list[FractalBlock]", list(self.stages.children()))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1])

    def features(self, x: Tensor) -> list[Tensor]:
        """The map of each block; in training, the plan is drawn from torch's generator."""
        return self.planned(x, self.drop_path.draw(len(self.blocks), self.columns))

    def planned(self, x: Tensor, plan: Plan) -> list[Tensor]:
        """The map of each block, where the joins keep what `plan` says."""
        maps: list[Tensor] = []
        x = self.stem(x)
        for block, kept in zip(self.blocks, plan.kept, strict=True):
            x = block(x, kept)
            maps.append(x)
        return maps

    def column(self, column: int) -> ConvNet:
        """A copy of one column (1 is the shallowest) as a plain network."""
        if not 1 <= column <= self.columns:
            raise UserError(f"there is no column {column}", f"give one of 1 ... {self.columns}")
        plain = ConvNet()
        plain.input = self.input
        plain.stem = deepcopy(self.stem)
        plain.stages = stack(**{f"block{i}": block.column(column) for i, block in enumerate(self.blocks, 1)})
        plain.head = deepcopy(self.head)
        return plain


def xavier_(layer: Any) -> None:
    """Caffe's "xavier": uniform, variance 1 / fan-in; biases zero."""
    bound = (3 / layer.weight[0].numel()) ** 0.5
    nn.init.uniform_(layer.weight, -bound, bound)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class FractalBlock(nn.Module):
    """(N, cin, H, W) -> (N, widths[0], H / 2, W / 2); `widths` of the columns, the shallowest first."""

    def __init__(self, cin: int, widths: Sequence[int], dropout: float, pool: bool):
        super().__init__()
        self.columns, self.rows = len(widths), 2 ** (len(widths) - 1)
        self.pool = nn.MaxPool2d(2) if pool else nn.Identity()

        def width_after(row: int) -> int:
            return max(widths[c - 1] for c in ending(self.columns, row)) if row else cin

        for c, width in enumerate(widths, 1):
            span = self.rows // 2 ** (c - 1)
            ends = range(span, self.rows + 1, span)
            convs = [FractalUnit(width_after(end - span), width, width_after(end), dropout) for end in ends]
            self.add_module(f"column{c}", stack(**{f"conv{i}": conv for i, conv in enumerate(convs, 1)}))

    def unit(self, column: int, row: int) -> nn.Module:
        """The convolution of that column that ends at that row."""
        return cast(nn.Sequential, getattr(self, f"column{column}"))[row // self.span(column) - 1]

    def span(self, column: int) -> int:
        return self.rows // 2 ** (column - 1)

    def forward(self, x: Tensor, kept: Sequence[Sequence[int]] | None = None) -> Tensor:
        """`kept` has, for each row, the columns that its join keeps (all, when None); others are not computed."""
        kept = kept or whole(1, self.columns).kept[0]
        return self.value(self.rows, kept, {0: x})

    def value(self, row: int, kept: Sequence[Sequence[int]], after: dict[int, Tensor]) -> Tensor:
        """The output of a row; `after` has the rows already computed."""
        if row not in after:
            inputs = [self.unit(c, row)(self.value(row - self.span(c), kept, after)) for c in kept[row - 1]]
            if row == self.rows:
                inputs = [self.pool(y) for y in inputs]
            after[row] = inputs[0] if len(inputs) == 1 else reduce(add, inputs) / len(inputs)
        return after[row]

    def column(self, column: int) -> nn.Sequential:
        return stack(**deepcopy(dict(getattr(self, f"column{column}").named_children())), pool=deepcopy(self.pool))


class FractalUnit(nn.Sequential):
    """Convolution, dropout, batch norm, ReLU: cin -> width maps; to join wider columns, a linear 1x1 widens to cout."""

    def __init__(self, cin: int, width: int, cout: int, dropout: float = 0.0, kernel: int = 3, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(cin, width, kernel, stride, kernel // 2)
        if dropout:
            self.dropout = nn.Dropout(dropout)
        self.bn = nn.BatchNorm2d(width, affine=False)
        self.relu = nn.ReLU(inplace=True)
        if width != cout:
            self.project = nn.Conv2d(width, cout, 1)


CIFAR = dict(widths=(64, 128, 256, 512, 512))
THIN_40 = dict(columns=4, widths=(128, 256, 512, 1024, 1024), thin=True)
IMAGENET = dict(columns=4, widths=(128, 256, 512, 1024), dropouts=(0.0,) * 4, imagenet=True, classes=1000)

TABLE_3 = [  # depth, columns, parameters as printed and exact, macs, error (%) on CIFAR-100 with heavy augmentation
    (5, 1, "0.3M", "257,924", "4,583,936", "37.32"),
    (10, 2, "0.8M", "846,612", "19,182,080", "30.71"),
    (20, 3, "2.1M", "2,122,628", "53,834,240", "27.69"),
    (40, 4, "4.8M", "4,773,300", "128,594,432", "27.38"),
    (80, 5, "10.2M", "10,173,284", "283,570,688", "26.46"),
    (160, 6, "21.1M", "21,071,892", "598,979,072", "27.38"),
]
GENERATOR = "counted from the authors' generator"
LOST = "the widths of the authors' generator, 64 to 512 in 3 columns, give 33.7M; with 4 columns, 76M"
LOST_40 = "47M where every filter is 3x3; the paper mixes 1x1 and 3x3, which columns have which is not printed"


def errors(where: str, **figures: str) -> list[Claim]:
    """Published errors (%), `cifar10="4.60"`; c100 and so on are data sets."""
    return [Claim(f"{data}_err", e, where) for data, e in figures.items()]


# fmt: off
VARIANTS = family(FractalNet, PAPER, [
    Variant("fractalnet_20", CIFAR | dict(columns=3), aliases=("FractalNet-20", "FractalNet"), claims=[
        Claim("params", "33,714,314", GENERATOR), Claim("macs", "845,222,912", GENERATOR),
        Claim("params", "38.6M", "Table 1", LOST),
        *errors("Table 1", cifar10="10.18", cifar100="35.34", svhn="2.01"),
        *errors("Table 1, augmented", cifar10="5.22", cifar100="23.30"),
        *errors("Table 1, dropout and drop-path", cifar10="7.33", cifar100="28.20", svhn="1.87"),
        *errors("Table 1, dropout and drop-path, augmented", cifar10="4.60", cifar100="23.73"),
        *errors("Table 1, dropout and drop-path, deepest column alone", cifar10="7.27", cifar100="29.05", svhn="1.89"),
        *errors("Table 1, dropout and drop-path, deepest column alone, augmented", cifar10="4.68", cifar100="24.32")]),
    Variant("fractalnet_40", THIN_40, aliases=("FractalNet-40",), note="4 columns, each half as wide as the one before",
        claims=[
        Claim("params", "22.9M", "Table 1", LOST_40),
        *errors("Table 1, dropout and drop-path, augmented", cifar10="5.24", cifar100="22.49"),
        *errors("Table 1, dropout and drop-path, heavily augmented", cifar10="5.21", cifar100="21.49")]),
    *[Variant(f"fractalnet_{depth}_narrow", dict(columns=columns, widths=(16, 32, 64, 128, 128), classes=100),
        note="16 to 128 channels, of the study of depth", claims=[
        Claim("params", printed, "Table 3"), Claim("params", params, "counted"), Claim("macs", macs, "counted"),
        *errors("Table 3, heavily augmented", cifar100=error)])
        for depth, columns, printed, params, macs, error in TABLE_3],
], input=(3, 32, 32), recipe="fractalnet") + family(FractalNet, PAPER, [
    Variant("fractalnet_34", IMAGENET, aliases=("FractalNet-34",), claims=[
        Claim("params", "164,002,152", "counted from section 4.2"),
        Claim("top1_err", "24.12", "Table 2, 10-crop"), Claim("top5_err", "7.39", "Table 2, 10-crop")]),
], recipe="fractalnet_imagenet")
# fmt: on
