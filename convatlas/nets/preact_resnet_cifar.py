"""Pre-activation ResNet for CIFAR: Identity Mappings in Deep Residual Networks (He et al., 2016),
https://arxiv.org/abs/1603.05027

Read beside Tables 2 and 3. 110 layers of basic units with option A shortcuts, or 164 and 1001 layers of bottlenecks.
Where no batch norm follows the last addition ("original", "relu_before", "relu_only"), the sum of the branches and with
it the first loss grow with depth: about 10 with "relu_before" at 110 layers and with "original" at 1001, not ln 10.
Departures from the paper: none; what it leaves open is as in the released code (see preact_resnet.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from ..catalogue import Claim, Variant, family
from ..errors import UserError
from ..layers import ConvBN, ConvNet, classifier, he_, stack, zero_bias_
from .preact_resnet import FIGURE_4, PAPER, Convs, activation, basic, bottleneck, counts, modules, preact_stages


class CifarPreActResNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 4.

    `depth` is 6n + 2 with basic units, 9n + 2 with bottlenecks; `order` is a key of FIGURE_4.
    """

    def __init__(
        self,
        *,
        depth: int = 164,
        widths: Sequence[int] = (64, 128, 256),
        convs: Callable[[int, int], Convs] = bottleneck,
        shortcut: str = "B",
        order: str = "full",
        classes: int = 10,
        channels: int = 3,
    ):
        super().__init__()
        step = 3 * len(convs(4, 1))
        n, rest = divmod(depth - 2, step)
        if rest or n < 1:
            raise UserError(
                f"depth={depth} is not {step}n + 2", f"give {step + 2}, {2 * step + 2}, {3 * step + 2}, ..."
            )
        last = modules(activation(order), widths[-1])
        self.stem = stack(conv1=ConvBN(channels, 16, 3))
        self.stages = preact_stages(convs, 16, (n, n, n), widths, shortcut, order)
        self.head = stack(**last, **dict(classifier(widths[-1], classes).named_children()))
        he_(self, "fan_out")
        self.init_classifier(self.head.get_submodule("linear"))

    def init_classifier(self, layer: nn.Module) -> None:
        zero_bias_(layer)


def one_layer(cout: int, stride: int) -> Convs:
    return ((cout, 3, stride),)


TABLE_2 = [  # order, errors % on CIFAR-10 of ResNet-110 (whose first row is `resnet110`) and of ResNet-164
    ("original", "6.61", "5.93"),
    ("bn_after", "8.17", "6.50"),
    ("relu_before", "7.84", "6.14"),
    ("relu_only", "6.71", "5.91"),
    ("full", "6.37", "5.46"),
]
BASIC = dict(convs=basic, widths=(16, 32, 64), shortcut="A")
ONE_LAYER = BASIC | dict(depth=110, convs=one_layer)
NO_NORM = "batch norm is left out there: 10,178,490"
HUANG = "DenseNet (Huang et al., 2016), Table 2, no augmentation"


def cifar(*rows: tuple[str, str]) -> list[Claim]:
    """Median errors % of five runs on CIFAR-10; a row is (where, error)."""
    return [Claim("cifar10_err", error, where) for where, error in rows]


def ablation(depth: str, order: str, error: str, **args: Any) -> Variant:
    name, args = f"preact_resnet{depth}_{order}", args | dict(depth=int(depth), order=order)
    note = f"Fig. 4 ({'abcde'[list(FIGURE_4).index(order)]})"
    return Variant(name, args, note=note, claims=cifar(("Table 2", error)))


# fmt: off
VARIANTS = family(CifarPreActResNet, PAPER, [
    Variant("preact_resnet110", BASIC | dict(depth=110), aliases=("pre-ResNet-110",), claims=[
        *counts("1,727,962", "252,887,680"), Claim("params", "1.7M", "Table 4"), *cifar(("Tables 2 and 3", "6.37"))]),
    Variant("preact_resnet164", dict(depth=164), aliases=("pre-ResNet-164",), claims=[
        *counts("1,703,258", "244,500,992"), Claim("params", "1.7M", "Table 4"),
        *cifar(("Tables 2 and 3", "5.46"), (HUANG, "11.26")), Claim("cifar100_err", "24.33", "Table 3"),
        Claim("cifar100_err", "35.58", HUANG)]),
    Variant("preact_resnet1001", dict(depth=1001), aliases=("pre-ResNet-1001",), claims=[
        *counts("10,327,706", "1,487,849,984"), Claim("params", "10.2M", "Table 4", gap=NO_NORM),
        *cifar(("Table 3, batch 128", "4.92"), ("Table 4, batch 64", "4.62"), (HUANG, "10.56")),
        Claim("cifar100_err", "22.71", "Table 3"), Claim("cifar100_err", "33.47", HUANG)]),
    Variant("preact_resnet164_original", dict(depth=164, order="original"),
        note="Fig. 4 (a): the bottlenecks of ResNet", aliases=("ResNet-164",), claims=[
        *counts("1,704,154", "244,500,992"), *cifar(("Tables 2 and 3", "5.93")),
        Claim("cifar100_err", "25.16", "Table 3")]),
    Variant("preact_resnet1001_original", dict(depth=1001, order="original"),
        note="Fig. 4 (a): the bottlenecks of ResNet", aliases=("ResNet-1001",), claims=[
        *counts("10,328,602", "1,487,849,984"), *cifar(("Table 3", "7.61")),
        Claim("cifar100_err", "27.82", "Table 3")]),
    *(ablation("110", order, error, **BASIC) for order, error, _ in TABLE_2[1:4]),
    *(ablation("164", order, error) for order, _, error in TABLE_2[1:4]),
    Variant("preact_resnet110_one_layer", ONE_LAYER,
        note="a shortcut around each convolution", claims=cifar(("Table 3", "8.91"))),
    Variant("preact_resnet110_one_layer_original", ONE_LAYER | dict(order="original"),
        note="a shortcut around each convolution, Fig. 4 (a)", claims=cifar(("Table 3", "9.90"))),
], input=(3, 32, 32), recipe="preact_resnet_cifar")
# fmt: on
