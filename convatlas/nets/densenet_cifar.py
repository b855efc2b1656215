"""DenseNet for CIFAR: Densely Connected Convolutional Networks (Huang et al., 2016), https://arxiv.org/abs/1608.06993

Read beside Table 2 and section 3. Three dense blocks at 32, 16 and 8 pixels; named by depth L and growth k, "BC" with
bottlenecks and compression. The stem has 16 maps, 2k with BC (the authors' later Torch code: 2k always).
Departures from the paper: none.
"""

from __future__ import annotations

from torch import nn

from ..catalogue import Claim, Variant, family
from ..errors import UserError
from ..layers import ConvNet, stack, zero_bias_
from .densenet import PAPER, counts, dense_head, dense_stages, init


class CIFARDenseNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 4.

    `depth` (the paper's L) counts weighted layers: 3n + 4 without bottlenecks, 6n + 4 with them (`bc`). A transition
    keeps `compression` (theta) of its maps: by default half of them with `bc`, else all.
    """

    def __init__(
        self,
        depth: int,
        growth: int,
        *,
        bc: bool = False,
        compression: float | None = None,
        classes: int = 10,
        channels: int = 3,
        dropout: float = 0.0,
        memory_efficient: bool = False,
    ):
        super().__init__()
        layers, rest = divmod(depth - 4, 6 if bc else 3)
        if rest or layers < 1:
            raise UserError(
                f"depth={depth} does not divide into three equal blocks", f"give {('6n + 4' if bc else '3n + 4')}"
            )
        width = 2 * growth if bc else 16
        theta = (0.5 if bc else 1.0) if compression is None else compression
        self.stem = stack(conv=nn.Conv2d(channels, width, 3, 1, 1, bias=False))
        self.stages, cout = dense_stages(width, (layers,) * 3, growth, bc, theta, dropout, memory_efficient)
        self.head = dense_head(cout, classes)
        init(self)

    def init_classifier(self, layer: nn.Module) -> None:
        zero_bias_(layer)


def table_2(printed: str, *figures: str) -> list[Claim]:
    """Table 2: parameters, then error (%) on C10, C10+, C100, C100+ and SVHN; "" where it prints none.

    + is pad-and-crop and flip; without it, the networks had dropout 0.2.
    """
    columns = ("cifar10_err", ""), ("cifar10_err", "+"), ("cifar100_err", ""), ("cifar100_err", "+"), ("svhn_err", "")
    claims = [
        Claim(what, e, f"Table 2{plus and ', augmented (+)'}")
        for (what, plus), e in zip(columns, figures, strict=True)
        if e
    ]
    return [Claim("params", printed, "Table 2"), *claims]


SECTION_3 = "counted from Section 3"

# fmt: off
VARIANTS = family(CIFARDenseNet, PAPER, [
    Variant("densenet_40_12", dict(depth=40, growth=12), aliases=("DenseNet (L=40, k=12)",), claims=[
        *counts("1,019,722", "264,812,928", SECTION_3),
        *table_2("1.0M", "7.00", "5.24", "27.55", "24.42", "1.79")]),
    Variant("densenet_100_12", dict(depth=100, growth=12), aliases=("DenseNet (L=100, k=12)",), claims=[
        *counts("6,979,642", "1,769,516,448", SECTION_3),
        *table_2("7.0M", "5.77", "4.10", "23.79", "20.20", "1.67")]),
    Variant("densenet_100_24", dict(depth=100, growth=24), aliases=("DenseNet (L=100, k=24)",), claims=[
        *counts("27,249,082", "6,889,347,744", SECTION_3),
        *table_2("27.2M", "5.83", "3.74", "23.42", "19.25", "1.59")]),
    Variant("densenet_bc_100_12", dict(depth=100, growth=12, bc=True), aliases=("DenseNet-BC (L=100, k=12)",), claims=[
        *counts("769,162", "287,929,692", SECTION_3),
        *table_2("0.8M", "5.92", "4.51", "24.15", "22.27", "1.76")]),
    Variant("densenet_bc_250_24", dict(depth=250, growth=24, bc=True), aliases=("DenseNet-BC (L=250, k=24)",), claims=[
        *counts("15,324,406", "5,418,785,724", SECTION_3),
        *table_2("15.3M", "5.19", "3.62", "19.64", "17.60", "1.74")]),
    Variant("densenet_bc_190_40", dict(depth=190, growth=40, bc=True), aliases=("DenseNet-BC (L=190, k=40)",), claims=[
        *table_2("25.6M", "", "3.46", "", "17.18", "")]),
], input=(3, 32, 32), recipe="densenet_cifar")
# fmt: on
