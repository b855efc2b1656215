"""SENet on other networks: Squeeze-and-Excitation Networks (Hu et al., 2017), https://arxiv.org/abs/1709.01507

Read beside Fig. 2 and Tables 2 and 3. The SE unit of senet.py after a whole Inception module, after the ReLU of each
VGG convolution, and in MobileNet. The base networks keep their initialisation.
Departures from the paper: none known; our choices for details that it omits: SE-Inception-ResNet-v2 has a unit on each
residual, none on its reductions; SE-MobileNet has one after each block.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from ..catalogue import Claim, Variant, family
from ..layers import Shape, stack
from .bn_inception import AS_PRINTED, BNInception, Inception
from .inception_resnet import SLIM, V2, InceptionResNet
from .inception_resnet import Residual as InceptionResidual
from .mobilenet_v1 import Conv, DepthwiseSeparable, MobileNetV1
from .senet import PAPER, PROTOTXT, README, SCALING, TABLE_2, SqueezeExcite, counts, errors
from .vgg import VGG


class SEVGG(VGG):
    """VGG with batch norm (section 6.1) and an SE unit after each convolution's ReLU."""

    def __init__(
        self,
        config: str = "D",
        *,
        reduction: int = 16,
        dropout: float = 0.5,
        input: Shape = (3, 224, 224),
        classes: int = 1000,
    ):
        super().__init__(config, norm=nn.BatchNorm2d, dropout=dropout, input=input, classes=classes)
        blocks: dict[str, nn.Module] = {}
        for name, block in self.stages.named_children():
            modules: dict[str, nn.Module] = {}
            for part, m in block.named_children():
                modules[part] = m
                if isinstance(m, nn.Conv2d):
                    channels = m.out_channels
                elif isinstance(m, nn.ReLU):
                    modules[part.replace("relu", "se")] = SqueezeExcite(channels, reduction)
            blocks[name] = stack(**modules)
        self.stages = stack(**blocks)


class SEInception(nn.Sequential):
    """A module of BN-Inception, with average pools that count the padding as in Caffe, and an SE unit on its output."""

    def __init__(self, cin: int, *widths: Any, reduction: int):
        super().__init__()
        self.branches = partial(Inception, avg=partial(nn.AvgPool2d, 3, 1, 1))(cin, *widths)
        self.cout = self.branches.cout
        self.se = SqueezeExcite(self.cout, reduction)


class SEBNInception(BNInception):
    """BN-Inception with the 128 channels that its paper prints for 4c and 4d, and an SE unit after each module."""

    def __init__(self, *, reduction: int = 16, classes: int = 1000, channels: int = 3):
        inception = partial(SEInception, reduction=reduction)
        super().__init__(rows=AS_PRINTED, inception=inception, classes=classes, channels=channels)


class SEInceptionResNet(InceptionResNet):
    """The Inception-ResNet of options `base` with an SE unit on each residual, before it is scaled down and added."""

    def __init__(self, *, base: Mapping[str, Any] = V2, reduction: int = 16, classes: int = 1000, channels: int = 3):
        super().__init__(**base, classes=classes, channels=channels)
        for m in self.modules():
            if isinstance(m, InceptionResidual):
                m.widen = stack(conv=m.widen, se=SqueezeExcite(m.widen.out_channels, reduction))  # type: ignore[assignment]


class SEDepthwiseSeparable(DepthwiseSeparable):
    """MobileNet's block and an SE unit after it."""

    def __init__(self, cin: int, cout: int, stride: int, conv: Conv, *, reduction: int):
        super().__init__(cin, cout, stride, conv)
        self.se = SqueezeExcite(cout, reduction)


class SEMobileNetV1(MobileNetV1):
    """MobileNet with an SE unit after each block."""

    def __init__(self, *, width: float = 1.0, reduction: int = 16, classes: int = 1000, channels: int = 3):
        block = partial(SEDepthwiseSeparable, reduction=reduction)
        super().__init__(width=width, block=block, classes=classes, channels=channels)


OTHER = "the paper's own Inception-ResNet-v2 (11.75 without SE) is not released; this one has"

# fmt: off
VARIANTS = (*family(SEVGG, PAPER, [
    Variant("se_vgg16", recipe="senet", claims=[
        Claim("gmacs", "15.48", "Table 2"), *errors((TABLE_2, "25.22", "7.70"))]),
]),
*family(SEBNInception, PAPER, [
    Variant("se_bn_inception", recipe="senet", claims=[
        *counts("11,931,622", "2,033,239,424", PROTOTXT), Claim("gmacs", "2.04", "Table 2"),
        *errors((TABLE_2, "24.23", "7.14"), (README, "23.62", "7.04"))]),
]),
*family(SEInceptionResNet, PAPER, [
    Variant("se_inception_resnet_v2", recipe="senet", claims=[
        Claim("gmacs", "11.76", "Table 2", gap=f"{OTHER} the blocks as drawn, 5, 10 and 5"),
        *errors(("Table 2, single crop 299, ILSVRC-2012 val", "19.80", "4.79"))]),
    Variant("se_inception_resnet_v2_slim", dict(base=SLIM), recipe="senet",
        note="on the released network: 10, 20 and 10 blocks", claims=[
        Claim("gmacs", "11.76", "Table 2", gap=f"{OTHER} the released blocks and stem")]),
], input=(3, 299, 299)),
*family(SEMobileNetV1, PAPER, [
    Variant("se_mobilenet_v1", recipe="senet", aliases=("SE-MobileNet",), claims=[
        Claim("params", "4.7M", "Table 3"), Claim("mmacs", "572", "Table 3", gap=SCALING),
        *errors(("Table 3, single crop 224, ILSVRC-2012 val", "25.3", "7.7"))]),
]))
# fmt: on
