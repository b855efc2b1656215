"""ResNet: Deep Residual Learning for Image Recognition (He et al., 2015), https://arxiv.org/abs/1512.03385

Read beside Table 1 and Fig. 5. A block adds its input to the output of its convolutions; a plain network does not.
The paper initialises "as in [13]" (He et al., 2015), which derives variance 2 / fan-in; the Torch re-implementation
behind the `_v1_5` rows, and torchvision, take fan-out, and put a bottleneck's stride on its 3x3 convolution. The
`_caffe` rows are the models that the authors released: their max pool is not padded but rounds up, and the 50-layer one
has a bias in its first convolution.
Departures from the paper: the classifier, which has no ReLU after it, has torch's initial weights; its biases are zero,
as in [13] and in that re-implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ..catalogue import Claim, Paper, Variant, family
from ..errors import unknown
from ..layers import ConvBN, ConvNet, classifier, he_, stack, zero_bias_
from .bn_inception import ConvBiasBN
from .googlenet import max_pool

PAPER = Paper("Deep Residual Learning for Image Recognition", "He et al.", 2015, "https://arxiv.org/abs/1512.03385")

Block = Callable[[int, int, int, str | None], nn.Module]  # cin, cout, stride, shortcut option


class PaddedShortcut(nn.Module):
    """Option A, without parameters: every stride-th pixel, and zero maps on both sides of the cin maps."""

    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.stride, self.before, self.after = stride, (cout - cin) // 2, cout - cin - (cout - cin) // 2

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, zero_maps={self.before}+{self.after}"


def shortcut_path(option: str | None, cin: int, cout: int, stride: int) -> nn.Module | None:
    """The shortcut of a block by option A, B or C of section 4.1; None in a plain network."""
    if option not in ("A", "B", "C", None):
        raise unknown("shortcut option", str(option), ("A", "B", "C"))
    if option is None:
        return None
    if cin == cout and stride == 1 and option != "C":
        return nn.Identity()
    return PaddedShortcut(cin, cout, stride) if option == "A" else ConvBN(cin, cout, 1, stride, act=None)


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)); in a plain network relu(branch(x))."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module | None):
        super().__init__()
        self.branch, self.shortcut, self.relu = branch, shortcut, nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.branch(x)
        return self.relu(y if self.shortcut is None else y + self.shortcut(x))


class BasicBlock(Residual):
    """(N, cin, H, W) -> (N, cout, H / stride, W / stride) through two 3x3 convolutions (Fig. 5, left)."""

    def __init__(self, cin: int, cout: int, stride: int = 1, shortcut: str | None = "B"):
        branch = stack(conv1=ConvBN(cin, cout, 3, stride), conv2=ConvBN(cout, cout, 3, act=None))
        super().__init__(branch, shortcut_path(shortcut, cin, cout, stride))


class Bottleneck(Residual):
    """(N, cin, H, W) -> (N, cout, H / stride, W / stride) through 1x1, 3x3 and 1x1 convolutions (Fig. 5, right).

    The 1x1 convolutions reduce to `mid` maps, a quarter of cout unless given, and restore cout.
    """

    strides_first = True  # the first 1x1 convolution takes the stride

    def __init__(
        self,
        cin: int,
        cout: int,
        stride: int = 1,
        shortcut: str | None = "B",
        *,
        mid: int | None = None,
        groups: int = 1,
    ):
        mid = mid or cout // 4
        first, second = (stride, 1) if self.strides_first else (1, stride)
        branch = stack(
            conv1=ConvBN(cin, mid, 1, first),
            conv2=ConvBN(mid, mid, 3, second, groups=groups),
            conv3=ConvBN(mid, cout, 1, act=None),
        )
        super().__init__(branch, shortcut_path(shortcut, cin, cout, stride))


class BottleneckV15(Bottleneck):
    """The bottleneck of fb.resnet.torch and torchvision: the 3x3 convolution takes the stride."""

    strides_first = False


def residual_stages(
    block: Block, cin: int, depths: Sequence[int], widths: Sequence[int], shortcut: str | None
) -> nn.Sequential:
    """conv2, conv3, ...: `depths` blocks of `widths` maps; the first block of each but conv2 halves the map."""
    stages: dict[str, nn.Module] = {}
    for stage, (depth, cout) in enumerate(zip(depths, widths, strict=True), start=2):
        blocks: dict[str, nn.Module] = {}
        for i in range(depth):
            stride = 2 if i == 0 and stage > 2 else 1
            blocks[f"block{i + 1}"] = block(cin, cout, stride, shortcut)
            cin = cout
        stages[f"conv{stage}"] = stack(**blocks)
    return stack(**stages)


def padded_stem(channels: int) -> nn.Sequential:
    return stack(conv1=ConvBN(channels, 64, 7, 2), pool=nn.MaxPool2d(3, 2, 1))


def caffe_stem(channels: int, conv: Callable[..., nn.Module] = ConvBN) -> nn.Sequential:
    return stack(conv1=conv(channels, 64, 7, 2), pool=max_pool())


class ResNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `block(cin, cout, stride, shortcut)` makes a block, `stem(channels)` what comes before them; `fan` is the fan that
    the initial variance divides by.
    """

    def __init__(
        self,
        *,
        block: Block = BasicBlock,
        depths: Sequence[int] = (2, 2, 2, 2),
        widths: Sequence[int] = (64, 128, 256, 512),
        shortcut: str | None = "B",
        stem: Callable[[int], nn.Sequential] = padded_stem,
        fan: Literal["fan_in", "fan_out"] = "fan_in",
        classes: int = 1000,
        channels: int = 3,
    ):
        super().__init__()
        self.stem = stem(channels)
        self.stages = residual_stages(block, 64, depths, widths, shortcut)
        self.head = classifier(widths[-1], classes)
        he_(self, fan)
        self.init_classifier(self.head.get_submodule("linear"))

    def init_classifier(self, layer: nn.Module) -> None:
        zero_bias_(layer)


TABLE_1: dict[int, dict[str, Any]] = {  # layers: the block, how many of it in conv2 to conv5, and their output channels
    18: dict(block=BasicBlock, depths=(2, 2, 2, 2), widths=(64, 128, 256, 512)),
    34: dict(block=BasicBlock, depths=(3, 4, 6, 3), widths=(64, 128, 256, 512)),
    50: dict(block=Bottleneck, depths=(3, 4, 6, 3), widths=(256, 512, 1024, 2048)),
    101: dict(block=Bottleneck, depths=(3, 4, 23, 3), widths=(256, 512, 1024, 2048)),
    152: dict(block=Bottleneck, depths=(3, 8, 36, 3), widths=(256, 512, 1024, 2048)),
}
PLAIN = dict(shortcut=None)
CAFFE = dict(stem=caffe_stem)
CAFFE_50 = dict(stem=partial(caffe_stem, conv=ConvBiasBN))
V1_5 = dict(block=BottleneckV15, fan="fan_out")
RELEASED = "the authors' release: max pool not padded"
B = "shortcuts: projections where the size changes (option B), as in torchvision"

TABLE_3 = "Table 3, 10-crop"
TABLE_4 = "Table 4, fully convolutional at scales 224, 256, 384, 480, 640"
TORCH = "fb.resnet.torch README, single crop 224"
README = "deep-residual-networks README, single crop 224"
README_10 = "deep-residual-networks README, 10-crop"
PREACT = "Identity Mappings (He et al., 2016), Table 5, single crop 320"
SENET = "SENet (Hu et al., 2017), Table 2"


def counts(params: str, macs: str, gmacs: str = "") -> list[Claim]:
    exact = [Claim("params", params, "layer arithmetic"), Claim("macs", macs, "layer arithmetic")]
    return exact + ([Claim("gmacs", gmacs, "Table 1")] if gmacs else [])


def errors(*rows: tuple[str, ...]) -> list[Claim]:
    """Published errors on the ImageNet validation images; a row is (where, top-1 error %[, top-5 error %])."""
    return [Claim(what, e, row[0]) for row in rows for what, e in zip(("top1_err", "top5_err"), row[1:], strict=False)]


# fmt: off
VARIANTS = family(ResNet, PAPER, [
    Variant("plain18", TABLE_1[18] | PLAIN, recipe="resnet", note="no shortcuts", claims=[
        *counts("11,515,688", "1,794,805,760", "1.8"),
        *errors(("Table 2, 10-crop", "27.94"))]),
    Variant("plain34", TABLE_1[34] | PLAIN, recipe="resnet", note="no shortcuts", claims=[
        *counts("21,623,848", "3,644,493,824", "3.6"),
        *errors((TABLE_3, "28.54", "10.02"))]),
    Variant("resnet18", TABLE_1[18], recipe="resnet", note=B, claims=[
        *counts("11,689,512", "1,814,073,344", "1.8"),
        *errors((TORCH, "30.43", "10.76"))]),
    Variant("resnet18_a", TABLE_1[18] | dict(shortcut="A"), recipe="resnet", aliases=("ResNet-18 A",),
        note="shortcuts: all without parameters (option A)", claims=[
        *counts("11,515,688", "1,794,805,760", "1.8"),
        *errors(("Table 2, 10-crop", "27.88"))]),
    Variant("resnet34", TABLE_1[34], recipe="resnet", note=B, aliases=("ResNet-34 B",), claims=[
        *counts("21,797,672", "3,663,761,408", "3.6"),
        *errors((TABLE_3, "24.52", "7.46"), (TABLE_4, "21.84", "5.71"), (TORCH, "26.73", "8.74"))]),
    Variant("resnet34_a", TABLE_1[34] | dict(shortcut="A"), recipe="resnet", aliases=("ResNet-34 A",),
        note="shortcuts: all without parameters (option A)", claims=[
        *counts("21,623,848", "3,644,493,824", "3.6"),
        *errors((TABLE_3, "25.03", "7.76"))]),
    Variant("resnet34_c", TABLE_1[34] | dict(shortcut="C"), recipe="resnet", aliases=("ResNet-34 C",),
        note="shortcuts: all projections (option C)", claims=[
        *counts("22,716,840", "3,830,747,136"),
        *errors((TABLE_3, "24.19", "7.40"), (TABLE_4, "21.53", "5.60"))]),
    Variant("resnet50", TABLE_1[50], recipe="resnet", claims=[
        *counts("25,557,032", "3,857,973,248", "3.8"), Claim("gmacs", "3.86", SENET),
        *errors((TABLE_3, "22.85", "6.71"), (TABLE_4, "20.74", "5.25"))]),
    Variant("resnet101", TABLE_1[101], recipe="resnet", claims=[
        *counts("44,549,160", "7,570,194,432", "7.6"), Claim("gmacs", "7.58", SENET),
        *errors((TABLE_3, "21.75", "6.05"), (TABLE_4, "19.87", "4.60"))]),
    Variant("resnet152", TABLE_1[152], recipe="resnet", claims=[
        *counts("60,192,808", "11,282,415,616", "11.3"), Claim("gmacs", "11.3", SENET),
        *errors((TABLE_3, "21.43", "5.71"), (TABLE_4, "19.38", "4.49"), (PREACT, "21.3", "5.5"))]),
    Variant("resnet50_caffe", TABLE_1[50] | CAFFE_50, recipe="resnet", note=f"{RELEASED}; conv1 has a bias", claims=[
        *counts("25,557,096", "3,857,973,248"),
        *errors((README, "24.7", "7.8"), (README_10, "22.9", "6.7"))]),
    Variant("resnet101_caffe", TABLE_1[101] | CAFFE, recipe="resnet", note=RELEASED, claims=[
        *counts("44,549,160", "7,570,194,432"),
        *errors((README, "23.6", "7.1"), (README_10, "21.8", "6.1"))]),
    Variant("resnet152_caffe", TABLE_1[152] | CAFFE, recipe="resnet", note=RELEASED, claims=[
        *counts("60,192,808", "11,282,415,616"),
        *errors((README, "23.0", "6.7"), (README_10, "21.4", "5.7"))]),
    Variant("resnet50_v1_5", TABLE_1[50] | V1_5, recipe="resnet_torch", note="torchvision's resnet50", claims=[
        *counts("25,557,032", "4,089,184,256"),
        *errors((TORCH, "24.01", "7.02"))]),
    Variant("resnet101_v1_5", TABLE_1[101] | V1_5, recipe="resnet_torch", note="torchvision's resnet101", claims=[
        *counts("44,549,160", "7,801,405,440"),
        *errors((TORCH, "22.44", "6.21"))]),
    Variant("resnet152_v1_5", TABLE_1[152] | V1_5, recipe="resnet_torch", note="torchvision's resnet152", claims=[
        *counts("60,192,808", "11,513,626,624"),
        *errors((TORCH, "22.16", "6.16"))]),
])
# fmt: on
