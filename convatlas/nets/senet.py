"""SENet: Squeeze-and-Excitation Networks (Hu et al., 2017), https://arxiv.org/abs/1709.01507

Read beside Figs. 1 to 3, Table 1 and the released models (hujie-frank/SENet). A unit averages each map (squeeze),
passes the averages through two fully connected layers, and scales each map by the resulting gate (excitation).
It is at the end of a residual branch; senet_others.py has it in VGG, the Inceptions and MobileNet.
The bare names are as released: biases in the unit, a max pool without padding that rounds up, stride on the first 1x1
(SE-ResNet) or on the 3x3 convolution (SE-ResNeXt, SENet-154). `_v1_5` rows are timm's seresnet.
Weights are initialised as in He et al. (2015), variance 2 / fan-in; batch norm's momentum, unpublished, is torch's.
Departures from the paper: none known; our choice for a detail that it omits: SE-Identity's unit follows the projection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError, unknown
from ..layers import ConvBN, ConvNet, classifier, he_, stack
from .googlenet import max_pool
from .resnet import BasicBlock, Block, Bottleneck, BottleneckV15, Residual, residual_stages, shortcut_path
from .resnext import aggregated

PAPER = Paper("Squeeze-and-Excitation Networks", "Hu et al.", 2017, "https://arxiv.org/abs/1709.01507")

Place = Literal["standard", "pre", "post", "identity"]
PLACES = ("standard", "pre", "post", "identity")


class SqueezeExcite(nn.Module):
    """(N, channels, H, W) -> the same, each map scaled by its gate, through channels / `reduction` hidden units."""

    def __init__(self, channels: int, reduction: int = 16):
        super().__init__()
        if not 1 <= reduction <= channels:
            raise UserError(
                f"reduction={reduction} does not fit an SE unit of {channels} channels", f"give 1 to {channels}"
            )
        mid = channels // reduction
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, mid, 1)
        self.relu = nn.ReLU()
        self.expand = nn.Conv2d(mid, channels, 1)
        self.gate = nn.Sigmoid()
        he_(self, "fan_in")

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.relu(self.reduce(self.squeeze(x)))))


def excite(block: nn.Module, reduction: int, place: Place = "standard") -> nn.Module:
    """The residual block with an SE unit added at a position of Fig. 7: the end of its branch ("standard"), its start,
    after the addition and ReLU, or on the shortcut. Raises UserError for any other."""
    if place not in PLACES:
        raise unknown("position for an SE unit", place, PLACES)
    branch = block.get_submodule("branch")
    convs = [m for m in branch.modules() if isinstance(m, nn.Conv2d)]
    channels = convs[0].in_channels if place == "pre" else convs[-1].out_channels
    se = SqueezeExcite(channels, reduction)
    if place == "standard":
        branch.add_module("se", se)
    elif place == "pre":
        block.branch = stack(se=se, **dict(branch.named_children()))
    elif place == "post":
        block.relu = stack(relu=block.get_submodule("relu"), se=se)
    else:
        block.shortcut = stack(path=block.get_submodule("shortcut"), se=se)
    return block


def stem_7x7(channels: int, pool: nn.Module) -> nn.Sequential:
    return stack(conv1=ConvBN(channels, 64, 7, 2), pool=pool)


def stem_3x3(channels: int, pool: nn.Module) -> nn.Sequential:
    """SENet-154's stem: three 3x3 convolutions for the 7x7, with twice as many maps."""
    convs = dict(conv1=ConvBN(channels, 64, 3, 2), conv2=ConvBN(64, 64, 3), conv3=ConvBN(64, 128, 3))
    return stack(**convs, pool=pool)


class Bottleneck154(Residual):
    """SENet-154's: 64 groups, the first 1x1 convolution half as wide as ResNeXt's, 3x3 projections at stride 2."""

    def __init__(self, cin: int, cout: int, stride: int, shortcut: str | None):
        branch = stack(
            conv1=ConvBN(cin, cout // 2, 1),
            conv2=ConvBN(cout // 2, cout, 3, stride, groups=64),
            conv3=ConvBN(cout, cout, 1, act=None),
        )
        path = shortcut_path(shortcut, cin, cout, stride)
        super().__init__(branch, ConvBN(cin, cout, 3, 2, act=None) if stride == 2 else path)


class SEResNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `block(cin, cout, stride, shortcut option)` makes a residual block; stage i has `depths[i]` of `widths[i]` maps;
    `stem` ends in `pool`.
    """

    def __init__(
        self,
        *,
        block: Block = Bottleneck,
        depths: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (256, 512, 1024, 2048),
        reduction: int = 16,
        place: Place = "standard",
        stem: Callable[[int, nn.Module], nn.Sequential] = stem_7x7,
        pool: Callable[[], nn.Module] = max_pool,
        dropout: float = 0.0,
        classes: int = 1000,
        channels: int = 3,
    ):
        super().__init__()

        def excited(cin: int, cout: int, stride: int, shortcut: str | None) -> nn.Module:
            return excite(block(cin, cout, stride, shortcut), reduction, place)

        self.stem = stem(channels, pool())
        cin = [m.out_channels for m in self.stem.modules() if isinstance(m, nn.Conv2d)][-1]
        self.stages = residual_stages(excited, cin, depths, widths, "B")
        self.head = classifier(widths[-1], classes, dropout)
        he_(self, "fan_in")


BASIC = dict(block=BasicBlock, widths=(64, 128, 256, 512))
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
X = dict(block=aggregated(32, 4, "c"))
V1_5 = dict(block=BottleneckV15, pool=partial(nn.MaxPool2d, 3, 2, 1))
SENET_154 = dict(block=Bottleneck154, depths=DEPTHS[152], stem=stem_3x3, dropout=0.2)

TABLE_2 = "Table 2, single crop 224, ILSVRC-2012 val"
README = "hujie-frank/SENet README, trained longer, single crop 224, ILSVRC-2012 val"
NO_BASIC = "not in the paper; timm's have one ReLU more, or wider SE units"
TIMM = "timm's seresnet: stride on the 3x3 convolution, max pool padded"
SCALING = "counted there: the scaling by the gates too, and more than the multiply-adds of the plain network"
RELEASED = "the released SENet-154 has 115.1M, a 440 MB file"


def counts(params: str, macs: str, where: str = "layer arithmetic") -> list[Claim]:
    return [Claim("params", params, where), Claim("macs", macs, where)]


def errors(*rows: tuple[str, str, str]) -> list[Claim]:
    """Published errors on ImageNet; a row is (where, top-1 error %, top-5 error %)."""
    return [Claim(what, e, where) for where, t1, t5 in rows for what, e in (("top1_err", t1), ("top5_err", t5))]


def reduced(r: int, params: str, printed: str, top1: str, top5: str) -> Variant:
    where = f"Table 10, r = {r}, single crop 224, ILSVRC-2012 val"
    claims = [Claim("params", params, "layer arithmetic"), Claim("params", printed, where)]
    name = f"se_resnet50_r{r}"
    return Variant(name, dict(reduction=r), recipe="senet", claims=[*claims, *errors((where, top1, top5))])


def placed(place: str, note: str, top1: str, top5: str) -> Variant:
    claims = errors(("Table 14, single crop 224, ILSVRC-2012 val", top1, top5))
    return Variant(f"se_resnet50_{place}", dict(place=place), recipe="senet", claims=claims, note=note)


PROTOTXT = "hujie-frank/SENet, layer by layer"
# fmt: off
VARIANTS = family(SEResNet, PAPER, [
    Variant("se_resnet50", dict(depths=DEPTHS[50]), recipe="senet", aliases=("legacy_seresnet50",), claims=[
        *counts("28,088,024", "3,860,488,192", PROTOTXT), Claim("gmacs", "3.87", "Table 2"),
        Claim("params", "28.1M", "Table 10, r = 16"),
        *errors((TABLE_2, "23.29", "6.62"), ("Table 10, r = 16", "22.28", "6.03"), (README, "22.37", "6.36"))]),
    Variant("se_resnet101", dict(depths=DEPTHS[101]), recipe="senet", aliases=("legacy_seresnet101",), claims=[
        *counts("49,326,872", "7,574,937,600", PROTOTXT), Claim("gmacs", "7.60", "Table 2", gap=SCALING),
        *errors((TABLE_2, "22.38", "6.07"), (README, "21.75", "5.72"))]),
    Variant("se_resnet152", dict(depths=DEPTHS[152]), recipe="senet", aliases=("legacy_seresnet152",), claims=[
        *counts("66,821,848", "11,288,993,792", PROTOTXT), Claim("gmacs", "11.32", "Table 2", gap=SCALING),
        *errors((TABLE_2, "21.57", "5.73"), (README, "21.34", "5.54"))]),
    Variant("se_resnext50_32x4d", X | dict(depths=DEPTHS[50]), recipe="senet",
        aliases=("SE-ResNeXt-50", "legacy_seresnext50_32x4d"), claims=[
        *counts("27,559,896", "4,232,994,816", PROTOTXT), Claim("gmacs", "4.25", "Table 2", gap=SCALING),
        *errors((TABLE_2, "21.10", "5.49"), (README, "20.97", "5.54"))]),
    Variant("se_resnext101_32x4d", X | dict(depths=DEPTHS[101]), recipe="senet",
        aliases=("SE-ResNeXt-101", "legacy_seresnext101_32x4d"), claims=[
        *counts("48,955,416", "7,974,739,968", PROTOTXT), Claim("gmacs", "8.00", "Table 2", gap=SCALING),
        *errors((TABLE_2, "20.70", "5.01"), (README, "19.81", "4.96"))]),
    Variant("senet154", SENET_154, recipe="senet", aliases=("legacy_senet154",), claims=[
        *counts("115,088,984", "20,688,363,520", PROTOTXT),
        *errors(("Table 8, single crop 224, ILSVRC-2012 val", "18.68", "4.47"))]),
    Variant("senet154_320", SENET_154, (3, 320, 320), recipe="senet", note="SENet-154 at 320 pixels", claims=[
        Claim("gmacs", "42.3", "NASNet (Zoph et al., 2017), Table 2"),
        Claim("params", "145.8M", "NASNet (Zoph et al., 2017), Table 2", gap=RELEASED),
        *errors(("Table 8, single crop 320, ILSVRC-2012 val", "17.28", "3.79"),
            ("Table 9, trained with 320 crops, single crop 320, ILSVRC-2012 val", "16.88", "3.58"))]),
    reduced(2, "45,699,240", "45.7M", "22.29", "6.00"),
    reduced(4, "35,635,688", "35.7M", "22.25", "6.09"),
    reduced(8, "30,603,912", "30.7M", "22.26", "5.99"),
    reduced(32, "26,830,080", "26.9M", "22.72", "6.20"),
    placed("pre", "SE-PRE: the unit before the branch", "22.23", "6.00"),
    placed("post", "SE-POST: the unit after the addition and ReLU", "22.78", "6.35"),
    placed("identity", "SE-Identity: the unit on the shortcut", "22.20", "6.15"),
    Variant("se_resnet18", BASIC | dict(depths=DEPTHS[18]), recipe="senet", note=NO_BASIC,
        aliases=("legacy_seresnet18",),
        claims=counts("11,778,592", "1,814,160,384", "counted; timm 1.0.31, legacy_seresnet18")),
    Variant("se_resnet34", BASIC | dict(depths=DEPTHS[34]), recipe="senet", note=NO_BASIC,
        aliases=("legacy_seresnet34",),
        claims=counts("21,958,868", "3,663,918,592", "counted; timm 1.0.31, legacy_seresnet34")),
    Variant("se_resnet50_v1_5", V1_5 | dict(depths=DEPTHS[50]), recipe="senet", note=TIMM,
        claims=counts("28,088,024", "4,091,699,200")),
    Variant("se_resnet101_v1_5", V1_5 | dict(depths=DEPTHS[101]), recipe="senet", note=TIMM),
    Variant("se_resnet152_v1_5", V1_5 | dict(depths=DEPTHS[152]), recipe="senet", note=TIMM),
])
# fmt: on
