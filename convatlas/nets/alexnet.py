"""AlexNet: ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al., 2012),
https://papers.nips.cc/paper/4824

Read beside Figure 2 and section 3.5. Two towers, one per GPU, joined in conv3 and in the linear layers: groups = 2.
The paper prints 224 x 224 images; its 55 x 55 maps need 227 (or 224 with 2 pixels of padding).
Departures from the paper: none. Caffe's two rows start as its prototxts do: fc6 and fc7 from half the paper's standard
deviation, and in `alexnet_caffe` from biases of 0.1 where the paper has 1.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError
from ..layers import LRN, ConvNet, Shape, shape_after, stack

PAPER = Paper(
    "ImageNet Classification with Deep Convolutional Neural Networks",
    "Krizhevsky et al.",
    2012,
    "https://papers.nips.cc/paper/4824",
)
OWT = Paper(
    "One weird trick for parallelizing convolutional neural networks",
    "Krizhevsky",
    2014,
    "https://arxiv.org/abs/1404.5997",
)

FIGURE_2 = [  # layer, maps, kernel, stride, padding, its towers, biases above 0 at first, normalised and pooled after
    ("conv1", 96, 11, 4, 0, 1, False, "norm, pool"),
    ("conv2", 256, 5, 1, 2, 2, True, "norm, pool"),
    ("conv3", 384, 3, 1, 1, 1, False, ""),
    ("conv4", 384, 3, 1, 1, 2, True, ""),
    ("conv5", 256, 3, 1, 1, 2, True, "pool"),
]
OWT_LAYERS = [  # layer, maps, kernel, stride, padding, pooled after
    ("conv1", 64, 11, 4, 2, True),
    ("conv2", 192, 5, 1, 2, True),
    ("conv3", 384, 3, 1, 1, False),
    ("conv4", 256, 3, 1, 1, False),
    ("conv5", 256, 3, 1, 1, True),
]

LRN_CAFFE = partial(LRN, k=1.0, divided=True)  # for weights that were trained in Caffe


class AlexNet(ConvNet):
    """Images (N, C, H, W) in, logits (N, classes) out.

    `towers` is 2 as published; 1 merges them. `lrn` makes the normalisation (`LRN_CAFFE` for weights trained in Caffe).
    It comes before the pooling, as in the paper, or after it with `pool_first`, as in the lectures and CaffeNet.
    `bias` is the initial bias where Figure 2's table has 1, `fc_std` the standard deviation of the weights of fc6, fc7.
    """

    def __init__(
        self,
        *,
        towers: int = 2,
        lrn: Callable[[], nn.Module] = LRN,
        pool_first: bool = False,
        bias: float = 1.0,
        fc_std: float = 0.01,
        dropout: float = 0.5,
        input: Shape = (3, 227, 227),
        classes: int = 1000,
    ):
        super().__init__()
        if towers not in (1, 2):
            raise UserError(f"towers={towers} is not supported", "give 2 as in the paper, or 1 to merge them")
        stages: dict[str, nn.Module] = {}
        cin = input[0]
        for name, cout, kernel, stride, padding, split, biased, after in FIGURE_2:
            conv = nn.Conv2d(cin, cout, kernel, stride, padding, groups=min(split, towers))
            gaussian_(conv, bias if biased else 0.0)
            follows: dict[str, Callable[[], nn.Module]] = {"norm": lrn, "pool": partial(nn.MaxPool2d, 3, 2)}
            order = ("pool", "norm") if pool_first else ("norm", "pool")
            stages[name] = stack(
                conv=conv, relu=nn.ReLU(inplace=True), **{what: follows[what]() for what in order if what in after}
            )
            cin = cout
        self.stem = stages.pop("conv1")
        self.stages = stack(**stages)
        c, h, w = shape_after(self.trunk(), input)
        self.head = stack(
            flatten=nn.Flatten(),
            fc6=nn.Linear(c * h * w, 4096),
            relu6=nn.ReLU(inplace=True),
            dropout6=nn.Dropout(dropout),
            fc7=nn.Linear(4096, 4096),
            relu7=nn.ReLU(inplace=True),
            dropout7=nn.Dropout(dropout),
            fc8=nn.Linear(4096, classes),
        )
        gaussian_(self.head.get_submodule("fc6"), bias, fc_std)
        gaussian_(self.head.get_submodule("fc7"), bias, fc_std)
        gaussian_(self.head.get_submodule("fc8"), 0.0)

    def init_classifier(self, layer: nn.Module) -> None:
        gaussian_(layer, 0.0)


def gaussian_(layer: Any, bias: float, std: float = 0.01) -> None:
    """Section 5: weights normal with standard deviation 0.01, biases constant."""
    nn.init.normal_(layer.weight, std=std)
    nn.init.constant_(layer.bias, bias)


class AlexNetOWT(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out: the network of "One weird trick" as torchvision has it.

    No normalisation, no towers, different widths, and adaptive pooling to 6 x 6; torch's initialisation.
    """

    def __init__(self, *, dropout: float = 0.5, classes: int = 1000, channels: int = 3):
        super().__init__()
        stages: dict[str, nn.Module] = {}
        cin = channels
        for name, cout, kernel, stride, padding, pooled in OWT_LAYERS:
            pool = {"pool": nn.MaxPool2d(3, 2)} if pooled else {}
            conv = nn.Conv2d(cin, cout, kernel, stride, padding)
            stages[name] = stack(conv=conv, relu=nn.ReLU(inplace=True), **pool)
            cin = cout
        self.stem = stages.pop("conv1")
        self.stages = stack(**stages)
        self.head = stack(
            pool=nn.AdaptiveAvgPool2d(6),
            flatten=nn.Flatten(),
            dropout6=nn.Dropout(dropout),
            fc6=nn.Linear(256 * 6 * 6, 4096),
            relu6=nn.ReLU(inplace=True),
            dropout7=nn.Dropout(dropout),
            fc7=nn.Linear(4096, 4096),
            relu7=nn.ReLU(inplace=True),
            fc8=nn.Linear(4096, classes),
        )


ARITHMETIC = "layer arithmetic"
VGG_TABLE = "VGG (Simonyan and Zisserman, 2014), Table 7"


def layers(*params: str) -> list[Claim]:
    """Parameters of conv1 to fc8, biases included."""
    paths = ["stem", *(f"stages.conv{i}" for i in range(2, 6)), *(f"head.fc{i}" for i in range(6, 9))]
    return [Claim(f"params {path}", n, ARITHMETIC) for path, n in zip(paths, params, strict=True)]


def errors(top1: str, top5: str, where: str) -> list[Claim]:
    return [Claim("top1_err", top1, where), Claim("top5_err", top5, where)]


def accuracies(top1: str, top5: str, where: str) -> list[Claim]:
    return [Claim("top1_acc", top1, where), Claim("top5_acc", top5, where)]


# fmt: off
VARIANTS = (
    *family(AlexNet, PAPER, [
        Variant("alexnet", recipe="alexnet", aliases=("AlexNet two-GPU",), claims=[
            Claim("params", "60M", "abstract"), Claim("params", "60,965,224", ARITHMETIC),
            Claim("macs", "724,406,816", ARITHMETIC), Claim("weights stem", "34,848", "lectures 000, 003: 11*11*3*96"),
            *layers("34,944", "307,456", "885,120", "663,936", "442,624", "37,752,832", "16,781,312", "4,097,000"),
            *errors("40.7", "18.2", f"{VGG_TABLE}, 1 network, 10-crop, ILSVRC-2012 val"),
            *errors("38.1", "16.4", f"{VGG_TABLE}, 5 networks, 10-crop, ILSVRC-2012 val"),
            *errors("39.0", "16.6", "Table 2, 1 network pre-trained on the Fall 2011 release, 10-crop"),
            *errors("36.7", "15.4", "Table 2, 7 networks, 2 of them pre-trained on the Fall 2011 release, 10-crop"),
            *errors("37.5", "17.0", "Table 1, ILSVRC-2010 test"),
            Claim("mmacs", "720", "MobileNets (Howard et al., 2017), Table 9", gap="rounded to tens: 724.4"),
            Claim("params", "62.3M", "lecture 001", gap="of the single stream, alexnet_single"),
            Claim("gmacs", "1.1", "lecture 001", gap="of the single stream, alexnet_single")]),
        Variant("alexnet_single", dict(towers=1, pool_first=True), recipe="alexnet", aliases=("AlexNet single stream",),
            note="the lectures' table: one stream, normalisation after pooling", claims=[
            Claim("params", "62,378,344", ARITHMETIC), Claim("weights", "62,367,776", ARITHMETIC),
            Claim("macs", "1,135,256,096", ARITHMETIC), Claim("params", "62.3M", "lecture 001"),
            Claim("gmacs", "1.1", "lecture 001"),
            *layers("34,944", "614,656", "885,120", "1,327,488", "884,992", "37,752,832", "16,781,312", "4,097,000")]),
        Variant("alexnet_caffe", dict(lrn=LRN_CAFFE, bias=0.1, fc_std=0.005), recipe="alexnet_caffe",
            aliases=("BVLC AlexNet",),
            note="Caffe's replication: its normalisation has k = 1 and divides alpha by n", claims=[
            Claim("params", "60,965,224", ARITHMETIC),
            *accuracies("57.1", "80.2", "bvlc_alexnet readme, centre crop")]),
        Variant("caffenet", dict(lrn=LRN_CAFFE, pool_first=True, fc_std=0.005), recipe="alexnet_caffe",
            aliases=("bvlc_reference_caffenet",),
            note="Caffe's reference network: two towers, pooling before normalisation", claims=[
            Claim("params", "60,965,224", ARITHMETIC),
            *accuracies("57.4", "80.4", "bvlc_reference_caffenet readme, centre crop")]),
    ], input=(3, 227, 227)),
    *family(AlexNetOWT, OWT, [
        Variant("alexnet_owt", recipe="alexnet", note="torchvision's alexnet", claims=[
            Claim("params", "61,100,840", "torchvision 0.28.0"), Claim("macs", "714,188,480", "torchvision 0.28.0"),
            *accuracies("56.522", "79.066", "torchvision 0.28.0, its weights, centre crop")]),
    ]),
)
# fmt: on
