"""SENet for CIFAR: Squeeze-and-Excitation Networks (Hu et al., 2017), https://arxiv.org/abs/1709.01507

Read beside Tables 4 and 5. An SE unit at the end of each residual branch of CIFAR's ResNets, r = 16.
The paper's 110 and 164 layers are pre-activation networks, as its errors without SE show. The original ResNets of 20 to
56 layers, not in the paper, have the unit in the same position. Its Shake-Shake is missing, as is its base network.
Departures from the paper: none known; the code of these networks was not released.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..catalogue import Claim, Variant, family
from .preact_resnet import Convs, PreActUnit, bottleneck
from .preact_resnet_cifar import BASIC, CifarPreActResNet
from .resnet import Residual
from .resnet_cifar import CifarResNet
from .senet import PAPER, Place, excite
from .wide_resnet import CifarWideResNet, WideBlock


class SECifarResNet(CifarResNet):
    """CIFAR's ResNet with an SE unit in each block, at a position of Fig. 7."""

    def __init__(
        self, *, depth: int = 20, reduction: int = 16, place: Place = "standard", classes: int = 10, channels: int = 3
    ):
        super().__init__(depth=depth, classes=classes, channels=channels)
        for m in self.stages.modules():
            if isinstance(m, Residual):
                excite(m, reduction, place)


class SECifarPreActResNet(CifarPreActResNet):
    """CIFAR's pre-activation ResNet with an SE unit at the end of each branch."""

    def __init__(
        self,
        *,
        depth: int = 164,
        widths: Sequence[int] = (64, 128, 256),
        convs: Callable[[int, int], Convs] = bottleneck,
        shortcut: str = "B",
        reduction: int = 16,
        classes: int = 10,
        channels: int = 3,
    ):
        super().__init__(depth=depth, widths=widths, convs=convs, shortcut=shortcut, classes=classes, channels=channels)
        for m in self.stages.modules():
            if isinstance(m, PreActUnit):
                excite(m, reduction)


class SECifarWideResNet(CifarWideResNet):
    """CIFAR's Wide ResNet with an SE unit at the end of each branch."""

    def __init__(
        self,
        *,
        depth: int = 16,
        width: float = 8,
        dropout: float = 0.0,
        reduction: int = 16,
        classes: int = 10,
        channels: int = 3,
    ):
        super().__init__(depth=depth, width=width, dropout=dropout, classes=classes, channels=channels)
        for m in self.stages.modules():
            if isinstance(m, WideBlock):
                excite(m, reduction)


def original(depth: int) -> Variant:
    return Variant(f"se_resnet{depth}", dict(depth=depth), recipe="resnet_cifar", note="not in the paper")


def errors(cifar10: str, cifar100: str) -> list[Claim]:
    return [Claim("cifar10_err", cifar10, "Table 4"), Claim("cifar100_err", cifar100, "Table 5")]


# fmt: off
VARIANTS = (*family(SECifarResNet, PAPER, [
    original(20), original(32), original(44), original(56),
], input=(3, 32, 32)),
*family(SECifarPreActResNet, PAPER, [
    Variant("se_resnet110", BASIC | dict(depth=110), recipe="preact_resnet_cifar", claims=errors("5.21", "23.85")),
    Variant("se_resnet164", dict(depth=164), recipe="preact_resnet_cifar", claims=errors("4.39", "21.31")),
], input=(3, 32, 32)),
*family(SECifarWideResNet, PAPER, [
    Variant("se_wrn16_8", dict(depth=16, width=8), recipe="wide_resnet", aliases=("SE-WRN-16-8",),
        claims=errors("3.88", "19.14")),
], input=(3, 32, 32)))
# fmt: on
