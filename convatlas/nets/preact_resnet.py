"""Pre-activation ResNet: Identity Mappings in Deep Residual Networks (He et al., 2016), https://arxiv.org/abs/1603.05027

Read beside Fig. 4 and Table 5. Batch norm and ReLU move before the convolutions, so that the path from one addition to
the next is the identity. Section 4.1: the first unit's activation comes right after conv1, before the split; after the
last unit there is one more. A unit that changes shape feeds its activated input to its shortcut as well, which has
batch norm only if the branch ends in it; stride, initial variance 2 / fan-out and a classifier without initial biases
are as in the released code (resnet-1k-layers), the zero maps of option A as in resnet.py.
Departures from the paper: none; `_v1_5` rows have the stride on the 3x3 convolution, as fb.resnet.torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import unknown
from ..layers import ConvBN, ConvNet, classifier, he_, stack, zero_bias_
from .resnet import shortcut_path

PAPER = Paper("Identity Mappings in Deep Residual Networks", "He et al.", 2016, "https://arxiv.org/abs/1603.05027")

FIGURE_4 = {  # order: what surrounds each convolution of the branch, how much its end omits, after the addition
    "original": ("conv bn relu", 1, "relu"),
    "bn_after": ("conv bn relu", 2, "bn relu"),
    "relu_before": ("conv bn relu", 0, ""),
    "relu_only": ("relu conv bn", 0, ""),
    "full": ("bn relu conv", 0, ""),
}
Convs = Sequence[tuple[int, int, int]]  # of a branch: output channels, kernel, stride


def modules(steps: str, channels: int) -> dict[str, nn.Module]:
    """The modules for `bn relu`."""
    return {step: nn.BatchNorm2d(channels) if step == "bn" else nn.ReLU() for step in steps.split()}


def activation(order: str) -> str:
    """What comes before a convolution in an order: nothing, "relu" or "bn relu"."""
    if order not in FIGURE_4:
        raise unknown("activation order", order, FIGURE_4)
    return FIGURE_4[order][0].partition("conv")[0].strip()


def unit_shortcut(option: str, cin: int, cout: int, stride: int, order: str) -> nn.Module | None:
    """None for the identity; a projection has batch norm if the branch ends in it."""
    if cin == cout and stride == 1 and option != "C":
        return None
    path = shortcut_path(option, cin, cout, stride)
    return path.get_submodule("conv") if isinstance(path, ConvBN) and order in ("bn_after", "full") else path


class PreActUnit(nn.Module):
    """(N, cin, H, W) -> (N, cout, H / stride, W / stride) through the convolutions of `convs`, in an order of Fig. 4.

    The input of the `first` unit of a network is already activated.
    """

    def __init__(self, cin: int, convs: Convs, shortcut: str = "B", order: str = "full", first: bool = False):
        super().__init__()
        steps, left_out, after = FIGURE_4[order]
        branch: list[tuple[str, nn.Module]] = []
        channels, stride = cin, 1
        for i, (cout, kernel, s) in enumerate(convs, start=1):
            for step in steps.split():
                if step == "conv":
                    conv = nn.Conv2d(channels, cout, kernel, s, kernel // 2, bias=False)
                    branch.append((f"conv{i}", conv))
                    channels, stride = cout, stride * s
                else:
                    branch += [(f"{step}{i}", m) for m in modules(step, channels).values()]
        before = activation(order)
        self.preact = stack(**modules(before, cin)) if before and not first else None
        self.branch = stack(**dict(branch[len(before.split()) : len(branch) - left_out]))
        self.shortcut = unit_shortcut(shortcut, cin, channels, stride, order)
        self.after = stack(**modules(after, channels)) if after else None

    def forward(self, x: Tensor) -> Tensor:
        activated = x if self.preact is None else self.preact(x)
        y = (x if self.shortcut is None else self.shortcut(activated)) + self.branch(activated)
        return y if self.after is None else self.after(y)


def basic(cout: int, stride: int) -> Convs:
    return (cout, 3, stride), (cout, 3, 1)


def bottleneck(cout: int, stride: int) -> Convs:
    return (cout // 4, 1, stride), (cout // 4, 3, 1), (cout, 1, 1)


def bottleneck_v1_5(cout: int, stride: int) -> Convs:
    return (cout // 4, 1, 1), (cout // 4, 3, stride), (cout, 1, 1)


def preact_stages(
    convs: Callable[[int, int], Convs],
    cin: int,
    depths: Sequence[int],
    widths: Sequence[int],
    shortcut: str,
    order: str,
) -> nn.Sequential:
    """conv2, conv3, ...: `depths` units of `widths` maps; the first unit of each but conv2 halves the map."""
    stages: dict[str, nn.Module] = {}
    for stage, (depth, cout) in enumerate(zip(depths, widths, strict=True), start=2):
        units: dict[str, nn.Module] = {}
        for i in range(depth):
            stride = 2 if i == 0 and stage > 2 else 1
            units[f"unit{i + 1}"] = PreActUnit(cin, convs(cout, stride), shortcut, order, first=stage == 2 and i == 0)
            cin = cout
        stages[f"conv{stage}"] = stack(**units)
    return stack(**stages)


class PreActResNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `convs(cout, stride)` are the convolutions of a unit, `order` a key of FIGURE_4, `shortcut` an option of ResNet.
    """

    def __init__(
        self,
        *,
        depths: Sequence[int] = (3, 4, 6, 3),
        widths: Sequence[int] = (256, 512, 1024, 2048),
        convs: Callable[[int, int], Convs] = bottleneck,
        shortcut: str = "B",
        order: str = "full",
        classes: int = 1000,
        channels: int = 3,
    ):
        super().__init__()
        last = modules(activation(order), widths[-1])
        self.stem = stack(conv1=ConvBN(channels, 64, 7, 2), pool=nn.MaxPool2d(3, 2, 1))
        self.stages = preact_stages(convs, 64, depths, widths, shortcut, order)
        self.head = stack(**last, **dict(classifier(widths[-1], classes).named_children()))
        he_(self, "fan_out")
        self.init_classifier(self.head.get_submodule("linear"))

    def init_classifier(self, layer: nn.Module) -> None:
        zero_bias_(layer)


class TimmPreActResNet(PreActResNet):
    """timm's resnetv2: conv1's batch norm and ReLU come after the max pool, as part of the first unit."""

    def __init__(self, *, depths: Sequence[int] = (3, 4, 6, 3), classes: int = 1000, channels: int = 3):
        super().__init__(depths=depths, convs=bottleneck_v1_5, classes=classes, channels=channels)
        conv, bn, relu = self.stem.get_submodule("conv1").children()
        self.stem = stack(conv1=conv, pool=nn.MaxPool2d(3, 2, 1))
        first = self.stages.get_submodule("conv2.unit1")
        assert isinstance(first, PreActUnit)
        first.preact = stack(bn=bn, relu=relu)


DEPTHS = {  # layers: units in conv2 to conv5
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
V1_5 = dict(convs=bottleneck_v1_5)
STRIDE = "stride on the 3x3 convolution (fb.resnet.torch)"
TIMM = "timm's resnetv2: stride on the 3x3 convolution, first batch norm after the max pool"


def counts(params: str, macs: str) -> list[Claim]:
    return [Claim("params", params, "layer arithmetic"), Claim("macs", macs, "layer arithmetic")]


def imagenet(where: str, top1: str, top5: str) -> list[Claim]:
    return [Claim("top1_err", top1, where), Claim("top5_err", top5, where)]


# fmt: off
VARIANTS = (*family(PreActResNet, PAPER, [
    Variant("preact_resnet50", dict(depths=DEPTHS[50]), aliases=("ResNet-50-v2",),
        claims=counts("25,549,352", "3,857,973,248")),
    Variant("preact_resnet101", dict(depths=DEPTHS[101]), aliases=("ResNet-101-v2",),
        claims=counts("44,541,480", "7,570,194,432")),
    Variant("preact_resnet152", dict(depths=DEPTHS[152]), aliases=("ResNet-152-v2",), claims=[
        *counts("60,185,128", "11,282,415,616"), *imagenet("Table 5, single crop 320", "21.1", "5.5")]),
    Variant("preact_resnet200", dict(depths=DEPTHS[200]), aliases=("ResNet-200", "pre-ResNet-200"),
        claims=[
        Claim("params", "64.7M", "wide-residual-networks, pretrained README"),
        *imagenet("Table 5, single crop 320", "20.7", "5.3"),
        *imagenet("Table 5, single crop 320, aspect-ratio augmentation", "20.1", "4.8")]),
    Variant("preact_resnet101_bn_after", dict(depths=DEPTHS[101], order="bn_after"),
        note="Fig. 4 (b)", claims=imagenet("section 5, single crop 224", "24.6", "7.5")),
    Variant("preact_resnet200_original", dict(depths=DEPTHS[200], order="original"),
        note="Fig. 4 (a): the bottlenecks of ResNet", claims=imagenet("Table 5, single crop 320", "21.8", "6.0")),
    Variant("preact_resnet50_v1_5", V1_5 | dict(depths=DEPTHS[50]), recipe="resnet_torch", note=STRIDE,
        claims=counts("25,549,352", "4,089,184,256")),
    Variant("preact_resnet101_v1_5", V1_5 | dict(depths=DEPTHS[101]), recipe="resnet_torch", note=STRIDE,
        claims=counts("44,541,480", "7,801,405,440")),
    Variant("preact_resnet152_v1_5", V1_5 | dict(depths=DEPTHS[152]), recipe="resnet_torch", note=STRIDE,
        claims=counts("60,185,128", "11,513,626,624")),
    Variant("preact_resnet200_v1_5", V1_5 | dict(depths=DEPTHS[200]), recipe="resnet_torch", note=STRIDE,
        claims=imagenet("fb.resnet.torch README, single crop 224", "21.66", "5.79")),
], recipe="preact_resnet"), *family(TimmPreActResNet, PAPER, [
    Variant("preact_resnet50_timm", dict(depths=DEPTHS[50]), note=TIMM, aliases=("resnetv2_50",),
        claims=counts("25,549,352", "4,089,184,256")),
    Variant("preact_resnet101_timm", dict(depths=DEPTHS[101]), note=TIMM, aliases=("resnetv2_101",),
        claims=counts("44,541,480", "7,801,405,440")),
    Variant("preact_resnet152_timm", dict(depths=DEPTHS[152]), note=TIMM, aliases=("resnetv2_152",),
        claims=counts("60,185,128", "11,513,626,624")),
], recipe="preact_resnet"))
# fmt: on
