"""NiN: Network In Network (Lin et al., 2013), https://arxiv.org/abs/1312.4400

Read beside Fig. 2. A convolution followed by two 1x1 convolutions is a small sliding perceptron (mlpconv); the last
one outputs a map per class, and its mean is the class score: global average pooling, no linear layer.
The paper prints no layer sizes. They are from the author's release (mavenlin) for CIFAR, and from the Caffe model zoo
for ImageNet, with Caffe's pooling, which rounds sizes up. So are the initial weights: the zoo's first convolutions of
mlpconv1 and mlpconv3 and its last layer start from a fifth of the standard deviation of the others.
Departures from the paper: none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import nn

from ..catalogue import Claim, Paper, Variant, family
from ..layers import ConvNet, stack

PAPER = Paper("Network In Network", "Lin et al.", 2013, "https://arxiv.org/abs/1312.4400")

Table = Sequence[tuple[int, int, int, tuple[int, ...], tuple[float, ...], str]]
Unit = Callable[[int, int, int, int, int], nn.Module]  # cin, cout, kernel, stride, padding

# kernel, stride, padding, maps of the convolution and of the 1x1 ones, standard deviations of their initial weights;
# what follows, where pools are 3x3 / 2
IMAGENET = [
    (11, 4, 0, (96, 96, 96), (0.01, 0.05, 0.05), "max"),
    (5, 1, 2, (256, 256, 256), (0.05, 0.05, 0.05), "max"),
    (3, 1, 1, (384, 384, 384), (0.01, 0.05, 0.05), "max, dropout"),
    (3, 1, 1, (1024, 1024), (0.05, 0.05, 0.01), ""),  # and one map a class
]
CIFAR = [
    (5, 1, 2, (192, 160, 96), (0.05, 0.05, 0.05), "max, dropout"),
    (5, 1, 2, (192, 192, 192), (0.05, 0.05, 0.05), "average, dropout"),
    (3, 1, 1, (192, 192), (0.05, 0.05, 0.05), ""),  # and one map a class
]


class NiN(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out.

    `unit` makes a convolution with its ReLU, and then initialises it; without one, the table does. `signed` leaves out
    what follows the last convolution: the logits of a new classifier, which start around 0, can die behind a ReLU.
    """

    def __init__(
        self,
        table: Table,
        *,
        unit: Unit | None = None,
        dropout: float = 0.5,
        signed: bool = False,
        classes: int = 1000,
        channels: int = 3,
    ):
        super().__init__()
        stages: dict[str, nn.Module] = {}
        cin = channels
        for i, (kernel, stride, padding, maps, stds, after) in enumerate(table, 1):
            widths = maps if i < len(table) else (*maps, classes)
            stages[f"mlpconv{i}"] = mlpconv = MLPConv(cin, kernel, stride, padding, widths, unit or ConvReLU)
            if signed and i == len(table):
                mlpconv[-1] = ConvAlone(widths[-2], classes, 1, 1, 0)
            if unit is None:
                for made, std in zip(mlpconv.children(), stds, strict=True):
                    gaussian_(made.get_submodule("conv"), std)
            cin = widths[-1]
            if "max" in after:
                stages[f"pool{i}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
            if "average" in after:
                stages[f"pool{i}"] = nn.AvgPool2d(3, 2, ceil_mode=True)
            if "dropout" in after:
                stages[f"dropout{i}"] = nn.Dropout(dropout)
        self.classifier_std = table[-1][4][-1] if unit is None else None
        self.stem = stages.pop("mlpconv1")
        self.stages = stack(**stages)
        self.head = stack(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())

    @property
    def logits_layers(self) -> list[str]:
        """The last 1x1 convolution, with what follows it: it outputs a map per class, which the head only averages."""
        path, last = [(path, m) for path, m in self.named_modules() if isinstance(m, MLPConv)][-1]
        return [f"{path}.{name}" for name, _ in last.named_children()][-1:]

    def _logits_maker(self, old: nn.Module) -> Callable[[int], nn.Module]:
        cin = old.get_parameter("conv.weight").shape[1]
        return partial(type(old), cin, kernel=1, stride=1, padding=0)

    def init_classifier(self, layer: nn.Module) -> None:
        if self.classifier_std is not None:
            gaussian_(layer.get_submodule("conv"), self.classifier_std)


class MLPConv(nn.Sequential):
    """(N, cin, H, W) -> (N, widths[-1], ...): a convolution, then 1x1 convolutions, each with its ReLU."""

    def __init__(self, cin: int, kernel: int, stride: int, padding: int, widths: Sequence[int], unit: Unit):
        super().__init__()
        self.conv = unit(cin, widths[0], kernel, stride, padding)
        for i, (before, width) in enumerate(pairwise(widths), 1):
            self.add_module(f"cccp{i}", unit(before, width, 1, 1, 0))  # cascaded cross-channel pooling, section 3.1


class ConvReLU(nn.Sequential):
    """Convolution and ReLU."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding)
        self.relu = nn.ReLU(inplace=True)


class ConvAlone(nn.Sequential):
    """Convolution with nothing after it."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int, padding: int):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, padding)


def gaussian_(layer: Any, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)


def errors(what: str, *rows: tuple[str, str]) -> list[Claim]:
    return [Claim(what, error, where) for error, where in rows]


# fmt: off
VARIANTS = family(NiN, PAPER, [
    Variant("nin", dict(table=IMAGENET), aliases=("NiN", "NIN-ImageNet"), note="the Caffe model zoo's", claims=[
        Claim("params", "7,595,176", "layer arithmetic"), Claim("macs", "1,100,188,800", "layer arithmetic"),
        Claim("top1_acc", "59.36", "Caffe model zoo, NIN-Imagenet")]),
], recipe="nin") + family(NiN, PAPER, [
    Variant("nin_cifar", dict(table=CIFAR, classes=10), aliases=("NIN-CIFAR10",), claims=[
        Claim("params", "966,986", "layer arithmetic"), Claim("macs", "222,486,528", "layer arithmetic"),
        *errors("cifar10_err", ("14.51", "Table 1, without dropout"), ("10.41", "Table 1, dropout"),
                ("8.81", "Table 1, dropout, augmented")),
        *errors("cifar100_err", ("35.68", "Table 2, dropout")),
        *errors("svhn_err", ("2.35", "Table 3, dropout")), *errors("mnist_err", ("0.47", "Table 4, dropout"))]),
], input=(3, 32, 32), recipe="nin_cifar")
# fmt: on
