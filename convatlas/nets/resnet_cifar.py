"""ResNet for CIFAR: Deep Residual Learning for Image Recognition (He et al., 2015), https://arxiv.org/abs/1512.03385

Read beside section 4.2 and Table 6. 6n + 2 layers: a 3x3 convolution, then 2n of them at each of three map sizes.
Shortcuts pad with zero maps (option A); the paper does not say where: here half of them before and half after, as in
the commonly used weights (akamaster/pytorch_resnet_cifar10). Any other position only permutes the channels.
Nothing normalises the sum of the branches, which grows with depth: the first loss, a guess's ln 10 = 2.3 for shallow
ones, is about 4 with 110 layers, hence the paper's warm-up, and 15 with 1202.
Departures from the paper: the classifier, which has no ReLU after it, has torch's initial weights (and biases of zero).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..catalogue import Claim, Variant, family
from ..errors import UserError
from ..layers import ConvBN, ConvNet, classifier, he_, stack, zero_bias_
from .resnet import PAPER, BasicBlock, Block, residual_stages


class CifarResNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 4.

    `depth` is 6n + 2; `block(cin, cout, stride, shortcut)` makes a block.
    """

    def __init__(
        self,
        *,
        depth: int = 20,
        block: Block = BasicBlock,
        widths: Sequence[int] = (16, 32, 64),
        shortcut: str | None = "A",
        classes: int = 10,
        channels: int = 3,
    ):
        super().__init__()
        n, rest = divmod(depth - 2, 6)
        if rest or n < 1:
            raise UserError(f"depth={depth} is not 6n + 2", "give 8, 14, 20, 26, 32, ...")
        self.stem = stack(conv1=ConvBN(channels, 16, 3))
        self.stages = residual_stages(block, 16, (n, n, n), widths, shortcut)
        self.head = classifier(widths[-1], classes)
        he_(self, "fan_in")
        self.init_classifier(self.head.get_submodule("linear"))

    def init_classifier(self, layer: nn.Module) -> None:
        zero_bias_(layer)


COUNTED = {  # depth: parameters with option A or without shortcuts, MACs, parameters with option B
    20: ("269,722", "40,551,040", "272,474"),
    32: ("464,154", "68,862,592", "466,906"),
    44: ("658,586", "97,174,144", "661,338"),
    56: ("853,018", "125,485,696", "855,770"),
    110: ("1,727,962", "252,887,680", "1,730,714"),
    1202: ("19,421,274", "2,829,238,912", "19,424,026"),
}
TABLE_6 = "Table 6, standard augmentation"
HUANG = "DenseNet (Huang et al., 2016), Table 2"
BARE = "DenseNet (Huang et al., 2016), Table 2, no augmentation"
PROJECTED = "shortcuts: projections where the size changes (option B), as in most libraries"


def recipe(depth: int) -> str:
    """From 110 layers on with a warm-up."""
    return "resnet_cifar" if depth < 110 else "resnet_cifar_110"


def counts(depth: int) -> list[Claim]:
    params, macs, _ = COUNTED[depth]
    return [Claim("params", params, "layer arithmetic"), Claim("macs", macs, "layer arithmetic")]


def plain(depth: int, *claims: Claim) -> Variant:
    args = dict(depth=depth, shortcut=None)
    claims = (*counts(depth), *claims)
    return Variant(f"plain{depth}", args, recipe=recipe(depth), note="no shortcuts", claims=claims)


def resnet(depth: int, params: str, *claims: Claim) -> Variant:
    claims = (*counts(depth), Claim("params", params, "Table 6"), *claims)
    return Variant(f"resnet{depth}", dict(depth=depth), recipe=recipe(depth), claims=claims)


def projected(depth: int) -> Variant:
    claims = [Claim("params", COUNTED[depth][2], "layer arithmetic")]
    args = dict(depth=depth, shortcut="B")
    return Variant(f"resnet{depth}_b", args, recipe=recipe(depth), note=PROJECTED, claims=claims)


# fmt: off
VARIANTS = family(CifarResNet, PAPER, [
    plain(20, Claim("cifar10_err", "about 9", "Fig. 6, left")),
    plain(32),
    plain(44),
    plain(56),
    plain(110, Claim("cifar10_err", "over 60", "section 4.2")),
    resnet(20, "0.27M", Claim("cifar10_err", "8.75", TABLE_6)),
    resnet(32, "0.46M", Claim("cifar10_err", "7.51", TABLE_6)),
    resnet(44, "0.66M", Claim("cifar10_err", "7.17", TABLE_6)),
    resnet(56, "0.85M", Claim("cifar10_err", "6.97", TABLE_6)),
    resnet(110, "1.7M", Claim("cifar10_err", "6.43", f"{TABLE_6}, best of 5"),
        Claim("cifar10_err", "6.61", f"{TABLE_6}, mean of 5"), Claim("cifar10_err", "13.63", BARE),
        Claim("cifar100_err", "27.22", HUANG), Claim("cifar100_err", "44.74", BARE)),
    resnet(1202, "19.4M", Claim("cifar10_err", "7.93", TABLE_6),
        Claim("params", "10.2M", HUANG, gap="a slip there: 10.2M is the 1001-layer pre-activation network")),
    projected(20), projected(32), projected(44), projected(56), projected(110), projected(1202),
], input=(3, 32, 32))
# fmt: on
