"""The same weights in our network and in another library's: the same logits, and in training the same gradients.

float64, random weights, biases and statistics, max|difference| / max|value| <= 1e-9: a wrong batch-norm epsilon (1e-3
for 1e-5) is about 1e-3, a wrong padding or stride more. Sizes are small, even one way and odd the other, so that a
padding on the wrong side shows. Where a library has a network under no name, it is built from that library's blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from convatlas import layers
from convatlas.catalogue import find
from convatlas.layers import same_padding
from convatlas.nets.efficientnet import compound
from tests import oracles
from tests.nets.timm_nasnet import ours

LIMIT = 1e-9
SMALL = (66, 71)  # even and odd
Make = Callable[[], nn.Module]


@dataclass(frozen=True)
class Pair:
    ours: str
    theirs: str  # whose, and what: "torchvision vgg11"
    make: Make
    size: tuple[int, int] = SMALL
    options: dict[str, Any] = field(default_factory=dict)  # of ours
    order: oracles.Order = "run"
    gradients: bool = True
    slow: bool = False


def torchvision(name: str, **options: Any) -> tuple[str, Make]:
    return f"torchvision {name}", lambda: getattr(oracles.torchvision_models(), name)(**options)


def timm(name: str, **options: Any) -> tuple[str, Make]:
    return f"timm {name}", lambda: oracles.timm().create_model(name, **options)


def unscaled(theirs: tuple[str, Make]) -> tuple[str, Make]:
    """Another library's network without the scales of batch norm, as tf-slim has them."""
    name, make = theirs

    def made() -> nn.Module:
        net = make()
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.register_parameter("weight", None)
        return net

    return f"{name} unscaled", made


# --- torchvision's blocks ---


def tv_vgg(name: str, size: tuple[int, int]) -> tuple[str, Make]:
    """torchvision's with a classifier for a small image; at 224 pixels its 7x7 pooling does nothing."""

    def make() -> nn.Module:
        net = getattr(oracles.torchvision_models(), name)(init_weights=False)
        net.avgpool = nn.Identity()
        net.classifier[0] = nn.Linear(512 * (size[0] // 32) * (size[1] // 32), 4096)
        return net

    return f"torchvision {name}", make


def tv_resnet(block: str, depths: tuple[int, ...], strides_first: bool = False, **options: Any) -> tuple[str, Make]:
    """torchvision's ResNet of other depths or widths; `strides_first` moves a bottleneck's stride to its first 1x1."""

    def make() -> nn.Module:
        models = oracles.torchvision_models()
        net = models.ResNet(getattr(models.resnet, block), list(depths), **options)
        for stage in (net.layer2, net.layer3, net.layer4) if strides_first else ():
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        return net

    return f"torchvision {block} {depths}", make


def tv_cifar(block: str, n: int, stem: int, planes: int, **options: Any) -> tuple[str, Make]:
    """torchvision's ResNet with a 3x3 stem and three stages of n blocks, `planes` maps in the first."""

    def make() -> nn.Module:
        models = oracles.torchvision_models()
        kind = getattr(models.resnet, block)
        net = models.ResNet(kind, [1, 1, 1, 1], **options)
        net.conv1, net.bn1 = nn.Conv2d(3, stem, 3, 1, 1, bias=False), nn.BatchNorm2d(stem)
        net.maxpool, net.layer4, net.inplanes = nn.Identity(), nn.Identity(), stem
        net.layer1 = net._make_layer(kind, planes, n)
        net.layer2 = net._make_layer(kind, 2 * planes, n, stride=2)
        net.layer3 = net._make_layer(kind, 4 * planes, n, stride=2)
        net.fc = nn.Linear(4 * planes * kind.expansion, 10)
        return net

    return f"torchvision {block} {n}, {n}, {n}", make


def tv_densenet(blocks: tuple[int, ...], growth: int, cifar: bool = False, theta: float = 0.5) -> tuple[str, Make]:
    def make() -> nn.Module:
        settings = dict(num_init_features=2 * growth, num_classes=10 if cifar else 1000)
        densenet = oracles.torchvision_models().densenet
        net = densenet.DenseNet(growth, blocks, **settings)
        if theta != 0.5:  # torchvision has no word for it: the same blocks, fitted to one another
            maps = 2 * growth
            for i, layers in enumerate(blocks, 1):
                setattr(net.features, f"denseblock{i}", densenet._DenseBlock(layers, maps, 4, growth, 0.0))
                maps += layers * growth
                if i < len(blocks):
                    setattr(net.features, f"transition{i}", densenet._Transition(maps, int(theta * maps)))
                    maps = int(theta * maps)
            net.features.norm5, net.classifier = nn.BatchNorm2d(maps), nn.Linear(maps, settings["num_classes"])
        if cifar:
            net.features.conv0 = nn.Conv2d(3, 2 * growth, 3, 1, 1, bias=False)
            del net.features.norm0, net.features.relu0, net.features.pool0
        return net

    return f"torchvision DenseNet {growth} {blocks}", make


# --- timm's blocks ---


def timm_resnet(depths: tuple[int, ...], width: float) -> tuple[str, Make]:
    def make() -> nn.Module:
        resnet = oracles.timm().models.resnet
        channels = tuple(int(c * width) for c in (64, 128, 256, 512))
        return resnet.ResNet(resnet.BasicBlock, depths, channels=channels)

    return f"timm ResNet {depths} x{width}", make


def timm_preact(depths: tuple[int, ...], strides_first: bool) -> tuple[str, Make]:
    """timm's resnetv2 with its first batch norm before the max pool, where Identity Mappings has it."""

    def make() -> nn.Module:
        models = oracles.timm()
        norm, conv = models.layers.BatchNormAct2d, models.layers.create_conv2d
        net = models.models.resnetv2.ResNetV2(depths, norm_layer=norm, conv_layer=conv)
        first = net.stages[0].blocks[0]
        net.stem, first.norm1 = nn.Sequential(net.stem.conv, first.norm1, net.stem.pool), nn.Identity()
        for stage in list(net.stages)[1:] if strides_first else ():
            stage.blocks[0].conv1.stride, stage.blocks[0].conv2.stride = (2, 2), (1, 1)
        return net

    return f"timm ResNetV2 {depths}", make


def timm_preact_cifar(n: int, channels: tuple[int, ...], basic: bool, strides_first: bool = False) -> tuple[str, Make]:
    """timm's resnetv2 with a 3x3 stem and three stages of n units."""

    def make() -> nn.Module:
        models = oracles.timm()
        norm, conv = models.layers.BatchNormAct2d, models.layers.create_conv2d
        settings = dict(basic=basic, bottle_ratio=1.0 if basic else 0.25, stem_chs=16, num_classes=10)
        net = models.models.resnetv2.ResNetV2((n, n, n), channels, norm_layer=norm, conv_layer=conv, **settings)
        net.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        for stage in list(net.stages)[1:] if strides_first else ():
            stage.blocks[0].conv1.stride, stage.blocks[0].conv2.stride = (2, 2), (1, 1)
        return net

    return f"timm ResNetV2 {n}, {n}, {n} {channels}", make


def timm_mobilenet(version: int, width: float, act: str = "relu6") -> tuple[str, Make]:
    """With TensorFlow's padding and epsilon."""

    def make() -> nn.Module:
        make = getattr(oracles.timm().models.efficientnet, f"_gen_mobilenet_v{version}")
        return make(f"mobilenetv{version}_100", width, pad_type="same", bn_eps=1e-3, act_layer=act)

    return f"timm mobilenetv{version} {width} {act} same", make


def timm_senet(reduction: int) -> tuple[str, Make]:
    def make() -> nn.Module:
        senet = oracles.timm().models.senet
        stem = dict(inplanes=64, input_3x3=False, downsample_kernel_size=1, downsample_padding=0)
        return senet.SENet(senet.SEResNetBottleneck, (3, 4, 6, 3), groups=1, reduction=reduction, **stem)

    return f"timm SENet r={reduction}", make


def timm_senet154(depths: tuple[int, ...]) -> tuple[str, Make]:
    def make() -> nn.Module:
        senet = oracles.timm().models.senet
        stem = dict(inplanes=128, input_3x3=True, downsample_kernel_size=3, downsample_padding=1)
        return senet.SENet(senet.SEBottleneck, depths, groups=64, reduction=16, **stem)

    return f"timm SENet-154 {depths}", make


def nasnet_name(theirs: str) -> str:
    return ours(f"{theirs}.")[:-1]


def timm_nasnet(features: int, stem: int) -> tuple[str, Make]:
    return f"timm NASNetALarge {features}", lambda: oracles.timm().models.nasnet.NASNetALarge(
        num_features=features, stem_size=stem
    )


def tv_vgg_of(*cells: int | str) -> tuple[str, Make]:
    """torchvision's VGG of other layers ("M" pools), on a map of one pixel."""

    def make() -> nn.Module:
        vgg = oracles.torchvision_models().vgg
        net = vgg.VGG(vgg.make_layers(list(cells)), init_weights=False)
        net.avgpool = nn.Identity()
        net.classifier[0] = nn.Linear(max(n for n in cells if isinstance(n, int)), 4096)
        return net

    return f"torchvision VGG {cells}", make


class Excited(nn.Module):
    """torchvision's bottleneck and timm's SE module, in a place of SENet's Fig. 7."""

    def __init__(self, block: Any, se: nn.Module, place: str):
        super().__init__()
        self.block, self.se, self.place = block, se, place

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, place = self.block, self.place
        y = self.se(x) if place == "pre" else x
        y = b.relu(b.bn1(b.conv1(y)))
        y = b.relu(b.bn2(b.conv2(y)))
        y = b.bn3(b.conv3(y))
        if place == "standard":
            y = self.se(y)
        shortcut = x if b.downsample is None else b.downsample(x)
        y = b.relu(y + (self.se(shortcut) if place == "identity" else shortcut))
        return self.se(y) if place == "post" else y


def timm_basic_senet(depths: tuple[int, ...]) -> tuple[str, Make]:
    """timm's legacy_seresnet18 without the ReLU that its basic block has before the SE module."""

    def make() -> nn.Module:
        senet = oracles.timm().models.senet

        class Basic(senet.SEResNetBlock):  # type: ignore[misc, name-defined]
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
                return self.relu(self.se_module(y) + (x if self.downsample is None else self.downsample(x)))

        stem = dict(inplanes=64, input_3x3=False, downsample_kernel_size=1, downsample_padding=0)
        return senet.SENet(Basic, depths, groups=1, reduction=16, **stem)

    return f"timm SENet basic {depths}", make


def tv_se_resnet(depths: tuple[int, ...], reduction: int, place: str) -> tuple[str, Make]:
    def make() -> nn.Module:
        models, senet = oracles.torchvision_models(), oracles.timm().models.senet
        net = models.ResNet(models.resnet.Bottleneck, list(depths))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            for i, block in enumerate(stage):
                channels = block.conv1.in_channels if place == "pre" else block.conv3.out_channels
                stage[i] = Excited(block, senet.SEModule(channels, reduction), place)
        return net

    return f"torchvision SE {place} {reduction} {depths}", make


def timm_efficientnet(width: float, depth: float) -> tuple[str, Make]:
    def make() -> nn.Module:
        of = oracles.timm().models.efficientnet._gen_efficientnet
        return of("efficientnet_b0", width, depth, pad_type="same", bn_eps=1e-3)

    return f"timm EfficientNet {width:.3f} {depth:.3f}", make


DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
PREACT = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
VGGS = ("vgg11", "vgg13", "vgg16", "vgg19", "vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn")
MOBILENETS_V1 = {"": 1.0, "_0_75_224": 0.75, "_0_5_224": 0.5, "_0_25_224": 0.25}
MOBILENETS_V2 = MOBILENETS_V1 | {"_1_4_224": 1.4, "_1_3_224": 1.3, "_0_35_224": 0.35}
del MOBILENETS_V2["_0_25_224"]
RESNEXTS = (
    *((50, form) for form in ("1x64d", "2x40d", "4x24d", "8x14d", "32x4d")),
    *((101, form) for form in ("1x64d", "2x40d", "4x24d", "8x14d", "32x4d", "1x100d", "2x64d", "64x4d", "32x8d")),
)
WRNS = (  # depth, k; the last six are wide
    (16, 2), (16, 4), (28, 2), (40, 1), (40, 2), (52, 1), (16, 8), (16, 10), (22, 8), (22, 10), (40, 4), (40, 8),
    (28, 10), (28, 12), (40, 10),
)  # fmt: skip
CIFAR = (27, 33)
INCEPTION = (107, 129)  # the smallest that leave the last module a map to normalise


def vgg(name: str) -> list[Pair]:
    """On a small image with gradients, and as it is."""
    small, full = (33, 67), (224, 224)
    return [
        Pair(name, *tv_vgg(name, small), size=small, options=dict(input=(3, *small))),
        Pair(name, *torchvision(name, init_weights=False), size=full, gradients=False, slow=True),
    ]


def resnext(depth: int, form: str) -> Pair:
    groups, width = (int(n) for n in form.removesuffix("d").split("x"))
    theirs = tv_resnet("Bottleneck", DEPTHS[depth], groups=groups, width_per_group=width)
    return Pair(f"resnext{depth}_{form}", *theirs, slow=depth > 50)


def wrn(depth: int, k: int) -> Pair:
    theirs = timm_preact_cifar((depth - 4) // 6, (16 * k, 32 * k, 64 * k), basic=True)
    return Pair(f"wrn{depth}_{k}", *theirs, size=(19, 23), slow=k > 4)


def preact(depth: int) -> list[Pair]:
    slow, depths = depth > 50, PREACT[depth]
    return [
        Pair(f"preact_resnet{depth}", *timm_preact(depths, strides_first=True), slow=slow),
        Pair(f"preact_resnet{depth}_v1_5", *timm_preact(depths, strides_first=False), slow=slow),
    ]


def nasnet(features: int, stem: int, **settings: Any) -> Pair:
    theirs, size = timm_nasnet(features, stem), (97, 110)
    options = dict(features=features, stem_width=stem, aux=False)
    return Pair("nasnet_a_large_timm", *theirs, size=size, options=options, order=nasnet_name, **settings)


def se(ours: str, name: str, **settings: Any) -> Pair:
    return Pair(ours, *timm(name), order="defined", **settings)


# fmt: off
PAIRS = [
    Pair("alexnet_owt", *torchvision("alexnet")),
    *(pair for name in VGGS for pair in vgg(name)),
    Pair("googlenet_bn_3x3", *torchvision("googlenet", aux_logits=False, init_weights=False), size=(75, 97),
        options=dict(aux=False)),
    Pair("inception_v3_tv", *torchvision("inception_v3", aux_logits=False, init_weights=False), size=INCEPTION,
        options=dict(aux=False)),
    Pair("inception_v3_slim", *unscaled(torchvision("inception_v3", aux_logits=False, init_weights=False)),
        size=INCEPTION, options=dict(aux=False, count_include_pad=True)),
    Pair("inception_v4", *timm("inception_v4"), size=INCEPTION),
    Pair("inception_v4_slim", *unscaled(timm("inception_v4")), size=INCEPTION),
    Pair("inception_resnet_v2_timm", *timm("inception_resnet_v2"), size=INCEPTION),
    Pair("inception_resnet_v2_slim", *unscaled(timm("inception_resnet_v2")), size=INCEPTION),
    Pair("resnet18", *torchvision("resnet18")),
    Pair("resnet34", *torchvision("resnet34")),
    *(Pair(f"resnet{d}_v1_5", *torchvision(f"resnet{d}"), slow=d > 50) for d in (50, 101, 152)),
    *(Pair(f"resnet{d}", *tv_resnet("Bottleneck", DEPTHS[d], strides_first=True), slow=d > 50) for d in (50, 101, 152)),
    *(Pair(f"resnet{d}_b", *tv_cifar("BasicBlock", (d - 2) // 6, 16, 16), size=CIFAR) for d in (20, 32, 44, 56, 110)),
    *(pair for depth in PREACT for pair in preact(depth)),
    *(Pair(f"preact_resnet{d}_timm", *timm(f"resnetv2_{d}"), slow=d > 50) for d in (50, 101, 152)),
    Pair("preact_resnet164", *timm_preact_cifar(18, (64, 128, 256), basic=False, strides_first=True), size=CIFAR),
    *(wrn(depth, k) for depth, k in WRNS),
    *(Pair(f"wrn18_{name}", *timm_resnet(DEPTHS[18], k), slow=k > 2) for name, k in (("1_5", 1.5), ("2", 2), ("3", 3))),
    *(Pair(f"wrn34_{name}", *timm_resnet(DEPTHS[34], k), slow=True) for name, k in (("1_5", 1.5), ("2", 2))),
    *(Pair(f"wrn{d}_2", *torchvision(f"wide_resnet{d}_2"), slow=True) for d in (50, 101)),
    *(resnext(depth, form) for depth, form in RESNEXTS),
    *(Pair(f"resnext29_{c}x64d", *tv_cifar("Bottleneck", 3, 64, 64, groups=c, width_per_group=64), size=(15, 19),
        slow=c > 1) for c in (1, 8, 16)),
    *(Pair(f"densenet{d}", *torchvision(f"densenet{d}"), slow=d > 121) for d in (121, 161, 169, 201)),
    Pair("densenet264", *tv_densenet((6, 12, 64, 48), 32), slow=True),
    Pair("densenet232", *tv_densenet((6, 32, 48, 28), 48), slow=True),
    Pair("densenet264_k48", *tv_densenet((6, 12, 64, 48), 48), slow=True),
    Pair("densenet_bc_100_12", *tv_densenet((16, 16, 16), 12, cifar=True), size=CIFAR),
    Pair("densenet_bc_250_24", *tv_densenet((41, 41, 41), 24, cifar=True), size=CIFAR, slow=True),
    Pair("densenet_bc_190_40", *tv_densenet((31, 31, 31), 40, cifar=True), size=CIFAR, slow=True),
    *(Pair(name, *torchvision(name)) for name in ("squeezenet1_0", "squeezenet1_1")),
    *(Pair(f"mobilenet_v1{end}", *timm_mobilenet(1, width, "relu")) for end, width in MOBILENETS_V1.items()),
    *(Pair(f"mobilenet_v1{end}_slim", *timm_mobilenet(1, width)) for end, width in MOBILENETS_V1.items()),
    Pair("mobilenet_v1_timm", *timm("mobilenetv1_100")),
    *(Pair(f"mobilenet_v2{end}", *timm_mobilenet(2, width)) for end, width in MOBILENETS_V2.items()),
    *(Pair(f"mobilenet_v2{end}_symmetric", *torchvision("mobilenet_v2", width_mult=width))
        for end, width in MOBILENETS_V2.items()),
    *(Pair(f"efficientnet_b{i}", *timm(f"tf_efficientnet_b{i}"), slow=i > 1) for i in range(8)),
    *(Pair(f"efficientnet_b{i}_symmetric", *torchvision(f"efficientnet_b{i}"), slow=i > 1) for i in range(8)),
    *(Pair(f"efficientnet_lite{i}", *timm(f"tf_efficientnet_lite{i}"), slow=i > 0) for i in range(5)),
    Pair("efficientnet_lite0_symmetric", *timm("efficientnet_lite0")),
    nasnet(96, 12),
    nasnet(4032, 96, gradients=False, slow=True),
    *(se(f"se_resnet{d}", f"legacy_seresnet{d}", slow=d > 50) for d in (50, 101, 152)),
    *(se(f"se_resnet{d}_v1_5", f"seresnet{d}", slow=d > 50) for d in (50, 101, 152)),
    *(se(f"se_resnext{d}_32x4d", f"legacy_seresnext{d}_32x4d", slow=d > 50) for d in (50, 101)),
    *(Pair(f"se_resnet50_r{r}", *timm_senet(r), order="defined", slow=r != 4) for r in (2, 4, 8, 32)),
    se("senet154", "legacy_senet154", slow=True),
]
# fmt: on


def other(ours: str, theirs: tuple[str, Make], **options: Any) -> Pair:
    size = options.pop("size", SMALL)
    return Pair(ours, *theirs, size=size, options=options, order=options.pop("order", "run"))


def compounded(phi: float) -> Pair:
    args = dict(compound(phi).args)
    return other("efficientnet_b0", timm_efficientnet(args["width"], args["depth"]), **args)


# Depths, widths, cardinalities, compressions, reductions and phi that are in no table, asked for as options.
# fmt: off
UNSEEN = [
    other("vgg16", tv_vgg_of(8, 16, "M", 24, "M", 32, "M"), config="3-8 3-16 | 3-24 | 3-32", input=(3, 8, 8),
        size=(8, 8)),
    other("resnet18", tv_resnet("BasicBlock", (1, 2, 1, 3)), depths=(1, 2, 1, 3)),
    other("resnet50", tv_resnet("Bottleneck", (2, 1, 3, 2), strides_first=True), depths=(2, 1, 3, 2)),
    other("resnet20_b", tv_cifar("BasicBlock", 2, 16, 24), depth=14, widths=(24, 48, 96), size=CIFAR),
    other("resnext50_32x4d", tv_resnet("Bottleneck", (1, 2, 2, 1), groups=6, width_per_group=10),
        depths=(1, 2, 2, 1), cardinality=6, width=10),
    other("resnext50_32x4d", tv_resnet("Bottleneck", (1, 1, 1, 2), width_per_group=96),
        depths=(1, 1, 1, 2), cardinality=1, width=96),
    other("resnext29_8x64d", tv_cifar("Bottleneck", 2, 64, 64, groups=3, width_per_group=20), depth=20, cardinality=3,
        width=20, size=CIFAR),
    other("wrn28_10", timm_preact_cifar(1, (48, 96, 192), basic=True), depth=10, width=3, size=CIFAR),
    other("wrn28_10", timm_preact_cifar(3, (24, 48, 96), basic=True), depth=22, width=1.5, size=CIFAR),
    other("wrn50_2", tv_resnet("Bottleneck", DEPTHS[50], width_per_group=80), width=1.25),
    other("preact_resnet50", timm_preact((1, 2, 2, 1), strides_first=True), depths=(1, 2, 2, 1)),
    other("preact_resnet110", timm_preact_cifar(2, (24, 40, 64), basic=True), depth=14, widths=(24, 40, 64),
        shortcut="B", size=CIFAR),
    other("densenet121", tv_densenet((3, 5, 4, 2), 20), blocks=(3, 5, 4, 2), growth=20),
    other("densenet121", tv_densenet((3, 5, 4, 2), 12, theta=0.3), blocks=(3, 5, 4, 2), growth=12, compression=0.3),
    other("densenet_bc_100_12", tv_densenet((5, 5, 5), 18, cifar=True), depth=34, growth=18, size=CIFAR),
    other("densenet_bc_100_12", tv_densenet((4, 4, 4), 12, cifar=True, theta=0.8), depth=28, compression=0.8,
        size=CIFAR),
    other("mobilenet_v1", timm_mobilenet(1, 1.25, "relu"), width=1.25),
    other("mobilenet_v2", timm_mobilenet(2, 0.9), width=0.9),
    other("mobilenet_v2_symmetric", torchvision("mobilenet_v2", width_mult=0.2), width=0.2),
    *(compounded(phi) for phi in (0.5, 1, 1.7)),
    nasnet(192, 24),
    other("senet154", timm_senet154((1, 2, 1, 1)), depths=(1, 2, 1, 1), order="defined"),
    other("se_resnet18", timm_basic_senet((1, 3, 2, 1)), depths=(1, 3, 2, 1), order="defined"),
    *(other("se_resnet50_v1_5", tv_se_resnet((1, 2, 1, 2), r, place), depths=(1, 2, 1, 2), reduction=r, place=place)
        for r, place in ((5, "standard"), (2, "pre"), (8, "post"), (32, "identity"))),
]
# fmt: on


def cases(pairs: list[Pair]) -> list[Any]:
    return [
        pytest.param(p, id=f"{p.ours}-{p.theirs.replace(' ', '-')}", marks=pytest.mark.slow if p.slow else ())
        for p in pairs
    ]


@pytest.mark.oracles
@pytest.mark.parametrize("pair", cases(PAIRS))
def test_logits_and_gradients(pair: Pair) -> None:
    theirs = pair.make()
    torch.manual_seed(0)
    ours = find(pair.ours).build(**pair.options)
    found = oracles.compare(ours, theirs, (3, *pair.size), order=pair.order, gradients=pair.gradients)
    assert max(found.values()) <= LIMIT, found


@pytest.mark.oracles
@pytest.mark.parametrize("pair", cases(UNSEEN))
def test_what_stands_in_no_table(pair: Pair) -> None:
    test_logits_and_gradients(pair)


def test_enough_is_compared() -> None:
    """Each name once, whatever it is compared with, and no network at two resolutions under two names."""
    names, fast = {p.ours for p in PAIRS}, {p.ours for p in PAIRS if not p.slow}
    assert len(names) >= 140
    assert len(fast) >= 70  # which every change must pass
    assert len({find(name).family for name in fast}) >= 15
    built = [(find(name).net, repr(find(name).args)) for name in names]
    assert len(set(built)) == len(built)


@pytest.mark.oracles
def test_a_wrong_epsilon_is_noticed() -> None:
    theirs = oracles.torchvision_models().resnet18()
    theirs.layer3[0].bn1.eps = 1.1e-5
    found = oracles.compare(find("resnet18").build(), theirs, (3, *SMALL))
    assert min(found.values()) > LIMIT, found


@pytest.mark.oracles
def test_a_wrong_side_of_padding_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def before(*sizes: Any) -> list[int]:
        left, right, top, bottom = same_padding(*sizes)
        return [right, left, bottom, top]

    _, make = timm_mobilenet(1, 0.25, "relu")
    monkeypatch.setattr(layers, "same_padding", before)
    found = oracles.compare(find("mobilenet_v1_0_25_224").build(), make(), (3, *SMALL))
    assert min(found.values()) > 1e-3, found


@pytest.mark.oracles
def test_a_wrong_gradient_is_noticed() -> None:
    _, make = tv_cifar("BasicBlock", 3, 16, 16)
    ours = find("resnet20_b").build()
    ours.get_parameter("stem.conv1.conv.weight").register_hook(lambda grad: grad * (1 + 1e-8))
    found = oracles.compare(ours, make(), (3, *CIFAR))
    assert found["logits"] <= LIMIT
    assert found["gradients"] > LIMIT


@pytest.mark.oracles
@pytest.mark.parametrize(
    "make",
    [
        find("efficientnet_b0").build,
        find("nasnet_a_6_768").build,
        torchvision("efficientnet_b0")[1],
        timm("tf_efficientnet_b0", drop_path_rate=0.2)[1],
        timm("legacy_seresnet50", drop_rate=0.2)[1],
    ],
    ids=["ours", "our scheduled", "torchvision", "timm", "timm's function"],
)
def test_drops_are_silenced(make: Make) -> None:
    torch.manual_seed(0)
    net, x = make().train(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert not torch.equal(net(x), net(x))
        oracles.drops_off(net)
        assert torch.equal(net(x), net(x))
