"""Wide ResNet: Wide Residual Networks (Zagoruyko and Komodakis, 2016), https://arxiv.org/abs/1605.07146

Read beside Table 1. WRN-d-k: pre-activation blocks, k times as wide as ResNet's, few of them, dropout inside; on
ImageNet (Tables 7 and 8) ResNet's own blocks, made wide, with a bottleneck's stride on its 3x3 convolution.
The initial weights are the released code's: variance 2 / fan-in, classifier biases of zero, and batch norm's scales on
CIFAR are Torch7's, uniform in (0, 1), on ImageNet 1.
Departures from the paper: none; `wrn101_2`, with these initial weights, is torchvision's.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError, unknown
from ..layers import ConvNet, classifier, he_, stack, torch7_, zero_bias_
from .resnet import TABLE_1 as RESNET
from .resnet import BasicBlock, BottleneckV15, ResNet, residual_stages

PAPER = Paper("Wide Residual Networks", "Zagoruyko and Komodakis", 2016, "https://arxiv.org/abs/1605.07146")


class WideBlock(nn.Module):
    """(N, cin, H, W) -> (N, cout, H / stride, W / stride): B(3,3) of section 2.1, or other kernels.

    Batch norm and ReLU come before each convolution, dropout before all but the first. Where the shape changes, the
    projection has the same input as the branch; elsewhere the shortcut is the identity.
    """

    def __init__(self, cin: int, cout: int, stride: int = 1, *, kernels: Sequence[int] = (3, 3), dropout: float = 0.0):
        super().__init__()
        self.preact = stack(bn=nn.BatchNorm2d(cin), relu=nn.ReLU())
        same = cin == cout and stride == 1
        self.projection = None if same else nn.Conv2d(cin, cout, 1, stride, bias=False)
        steps: dict[str, nn.Module] = {}
        for i, kernel in enumerate(kernels, start=1):
            if i > 1:
                steps |= {f"bn{i}": nn.BatchNorm2d(cin), f"relu{i}": nn.ReLU()}
                steps |= {f"dropout{i}": nn.Dropout(dropout)} if dropout else {}
            steps[f"conv{i}"] = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False)
            cin, stride = cout, 1
        self.branch = stack(**steps)

    def forward(self, x: Tensor) -> Tensor:
        activated = self.preact(x)
        return (x if self.projection is None else self.projection(activated)) + self.branch(activated)


class CifarWideResNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 4.

    `depth` is 6n + 4: conv1, three projections and n blocks B(3,3) per stage. Table 2 names blocks of other `kernels`
    by the same n; `blocks` sets n directly. `width` is k.
    """

    def __init__(
        self,
        *,
        depth: int = 28,
        width: float = 10,
        kernels: Sequence[int] = (3, 3),
        blocks: int | None = None,
        dropout: float = 0.0,
        classes: int = 10,
        channels: int = 3,
    ):
        super().__init__()
        n, rest = divmod(depth - 4, 6)
        if rest or n < 1:
            raise UserError(f"depth={depth} is not 6n + 4", "give 10, 16, 22, 28, 34, 40, ...")
        n = n if blocks is None else blocks
        widths = multiplied((16, 32, 64), width)

        def block(cin: int, cout: int, stride: int, _: str | None) -> nn.Module:
            return WideBlock(cin, cout, stride, kernels=kernels, dropout=dropout)

        self.stem = stack(conv1=nn.Conv2d(channels, 16, 3, padding=1, bias=False))
        self.stages = residual_stages(block, 16, (n, n, n), widths, None)
        last = stack(bn=nn.BatchNorm2d(widths[-1]), relu=nn.ReLU())
        self.head = stack(**dict([*last.named_children(), *classifier(widths[-1], classes).named_children()]))
        he_(self, "fan_in")
        torch7_(self)
        self.init_classifier(self.head.get_submodule("linear"))

    def init_classifier(self, layer: nn.Module) -> None:
        zero_bias_(layer)


class WideResNet(ResNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `depth` is a ResNet's; `width` multiplies the maps of its basic blocks, or those of the 3x3 of its bottlenecks.
    """

    def __init__(self, *, depth: int = 50, width: float = 2, classes: int = 1000, channels: int = 3):
        if depth not in RESNET:
            raise unknown("depth", str(depth), map(str, RESNET))
        row = RESNET[depth]

        def bottleneck(cin: int, cout: int, stride: int, shortcut: str | None) -> nn.Module:
            return BottleneckV15(cin, cout, stride, shortcut, mid=multiplied((cout // 4,), width)[0])

        if row["block"] is BasicBlock:
            row = row | dict(widths=multiplied(row["widths"], width))
        else:
            row = row | dict(block=bottleneck)
        super().__init__(**row, classes=classes, channels=channels)


def multiplied(widths: Sequence[int], factor: float) -> tuple[int, ...]:
    if factor <= 0:
        raise UserError(f"width={factor} leaves no channels", "give a positive multiplier, such as 2")
    return tuple(max(1, int(w * factor)) for w in widths)


TABLE_2 = [  # kernels of a block, depth, parameters, median error % on CIFAR-10, all with k = 2
    ((1, 3, 1), 40, "1.4M", "6.06"),
    ((3, 1), 40, "1.2M", "5.78"),
    ((1, 3), 40, "1.3M", "6.42"),
    ((3, 1, 1), 40, "1.3M", "5.86"),
    ((3, 3), 28, "1.5M", "5.73"),  # wrn28_2
    ((3, 1, 3), 22, "1.1M", "5.78"),
]
TABLE_3 = [  # 3x3 convolutions in a block, blocks in a stage, median error % on CIFAR-10, all of WRN-40-2
    (1, 12, "6.69"),
    (2, 6, "5.43"),  # wrn40_2
    (3, 4, "5.65"),
    (4, 3, "5.93"),
]


def results(where: str, c10: str, c100: str = "", svhn: str = "") -> list[Claim]:
    """Errors % on CIFAR-10, CIFAR-100 and SVHN."""
    rows = (("cifar10_err", c10), ("cifar100_err", c100), ("svhn_err", svhn))
    return [Claim(what, error, where) for what, error in rows if error]


def zca(params: str, c10: str, c100: str = "") -> list[Claim]:
    return [Claim("params", params, "Table 4"), *results("Table 4, ZCA whitening", c10, c100)]


def counts(params: str, macs: str) -> list[Claim]:
    return [Claim("params", params, "layer arithmetic"), Claim("macs", macs, "layer arithmetic")]


def wrn(depth: int, k: int, params: str, macs: str, *claims: Claim) -> Variant:
    args = dict(depth=depth, width=k)
    return Variant(f"wrn{depth}_{k}", args, claims=[*counts(params, macs), *claims], recipe="wide_resnet")


def dropped(depth: int, k: int, rate: float, *claims: Claim) -> Variant:
    args = dict(depth=depth, width=k, dropout=rate)
    return Variant(f"wrn{depth}_{k}_dropout", args, claims=claims, recipe="wide_resnet", note=f"dropout {rate}")


def block_type(kernels: tuple[int, ...], depth: int, params: str, error: str) -> Variant:
    name, note = f"wrn{depth}_2_b{''.join(map(str, kernels))}", f"blocks B({','.join(map(str, kernels))})"
    claims = [Claim("params", params, "Table 2"), *results("Table 2", error)]
    return Variant(name, dict(depth=depth, width=2, kernels=kernels), claims=claims, recipe="wide_resnet", note=note)


def block_depth(layers: int, blocks: int, error: str) -> Variant:
    args = dict(depth=40, width=2, kernels=(3,) * layers, blocks=blocks)
    claims = [Claim("params", "2.2M", "Table 3"), *results("Table 3", error)]
    note = f"{layers} convolution{'s' * (layers > 1)} in a block"
    return Variant(f"wrn40_2_l{layers}", args, claims=claims, recipe="wide_resnet", note=note)


def wide(depth: int, width: float, params: str, printed: str, top1: str, top5: str, *aliases: str) -> Variant:
    where = "Table 7, single crop" if depth < 50 else "Table 8, single crop"
    claims = [Claim("params", params, "layer arithmetic"), Claim("params", printed, where)]
    claims += [Claim("top1_err", top1, where), Claim("top5_err", top5, where)]
    name, aliases = f"wrn{depth}_{width}".replace(".", "_"), (f"WRN-{depth}-{width}", *aliases)
    return Variant(name, dict(depth=depth, width=width), claims=claims, recipe="resnet_torch", aliases=aliases)


# fmt: off
VARIANTS = (*family(CifarWideResNet, PAPER, [
    wrn(40, 1, "563,930", "83,280,512", *zca("0.6M", "6.85", "30.89")),
    wrn(40, 2, "2,243,546", "327,599,360", *zca("2.2M", "5.33", "26.04"), *results("Table 3", "5.43")),
    wrn(40, 4, "8,949,210", "1,298,582,016", *zca("8.9M", "4.97", "22.89"), *results("Table 5", "4.53", "21.18")),
    wrn(40, 8, "35,748,314", "5,172,024,320", *zca("35.7M", "4.66")),
    wrn(28, 10, "36,479,194", "5,243,328,768", *zca("36.5M", "4.17", "20.50"), *results("Table 5", "4.00", "19.25")),
    wrn(28, 12, "52,517,850", "7,543,905,792", *zca("52.5M", "4.33", "20.43")),
    wrn(22, 8, "17,158,106", "2,454,115,328", *zca("17.2M", "4.38", "21.22")),
    wrn(22, 10, "26,797,914", "3,827,751,168", *zca("26.8M", "4.44", "20.75")),
    wrn(16, 8, "10,961,370", "1,548,145,664", *zca("11.0M", "4.81", "22.07"), *results("Table 5", "4.27", "20.43"),
        *results("section 3", "", "", "1.81")),
    wrn(16, 10, "17,116,634", "2,412,173,568", *zca("17.1M", "4.56", "21.59")),
    wrn(16, 4, "2,748,890", "392,612,352", Claim("params", "2.7M", "width table"),
        *results("Table 6", "5.02", "24.03", "1.85")),
    wrn(52, 1, "758,362", "111,592,064", *results("Table 6", "6.43", "29.89", "2.08")),
    wrn(16, 2, "691,674", "101,106,944"),
    wrn(28, 2, "1,467,610", "214,353,152", Claim("params", "1.5M", "Table 2"), *results("Table 2", "5.73")),
    wrn(40, 10, "55,841,754", "8,074,483,968"),
    dropped(28, 10, 0.3, *results("Table 6", "3.89", "18.85")),
    dropped(16, 4, 0.3, *results("Table 6", "5.24", "23.91"), *results("Table 6, dropout 0.4", "", "", "1.64")),
    dropped(52, 1, 0.3, *results("Table 6", "6.28", "29.78"), *results("Table 6, dropout 0.4", "", "", "1.70")),
    dropped(16, 8, 0.4, *results("README, single run", "", "", "1.54")),
    dropped(40, 10, 0.3, *results("README, single run", "3.8", "18.3")),
    *(block_type(*row) for row in TABLE_2 if row[0] != (3, 3)),
    *(block_depth(*row) for row in TABLE_3 if row[0] != 2),
], input=(3, 32, 32)),
*family(WideResNet, PAPER, [
    wide(18, 1, "11,689,512", "11.7M", "30.4", "10.93"),
    wide(18, 1.5, "25,875,816", "25.9M", "27.06", "9.0"),
    wide(18, 2, "45,618,216", "45.6M", "25.58", "8.06"),
    wide(18, 3, "101,783,976", "101.8M", "24.06", "7.33"),
    wide(34, 1, "21,797,672", "21.8M", "26.77", "8.67"),
    wide(34, 1.5, "48,613,608", "48.6M", "24.5", "7.58"),
    wide(34, 2, "86,036,008", "86.0M", "23.39", "7.00"),
    wide(50, 2, "68,883,240", "68.9M", "21.9", "6.03", "WRN-50-2-bottleneck", "wide_resnet50_2"),
    Variant("wrn101_2", dict(depth=101, width=2), recipe="resnet_torch", aliases=("wide_resnet101_2",),
        note="torchvision's wide_resnet101_2; not in the paper", claims=counts("126,886,696", "22,753,050,624")),
]))
# fmt: on
