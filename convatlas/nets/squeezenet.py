"""SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size (Iandola et al., 2016),
https://arxiv.org/abs/1602.07360

Read beside Table 1 and Fig. 2. A Fire module squeezes with 1x1 convolutions, then expands with parallel 1x1 and 3x3.
Table 1 prints a 224-pixel input and the sizes 111, 55, 27 and 13, which result from the released network's 227;
that is the input here, with Caffe's pooling, which rounds sizes up.
What was released (github.com/forresti/SqueezeNet): 1.0 with one pixel of padding around conv10, unlike Table 1
(the `_caffe` row), and later 1.1, with a smaller stem and earlier pooling.
Pixels are only centred, and nothing normalises the sum of branch and bypass: from Caffe's "xavier", which the simple
bypass's release (github.com/songhan/SqueezeNet-Residual) has, too, its first loss is about 15, not ln 1000 = 6.9, and
at the recipe's rate, which is the other networks', its last ReLUs can all die. A lower rate (0.01) starts it. The
complex bypass was not released: from the same its first loss is above 200, and it diverges.
Departures from the paper: none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import unknown
from ..layers import ConvNet, stack

PAPER = Paper(
    "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size",
    "Iandola et al.",
    2016,
    "https://arxiv.org/abs/1602.07360",
)

Fires = Sequence[tuple[str, int, int, int]]

TABLE_1 = [  # module, squeeze 1x1, expand 1x1, expand 3x3
    ("fire2", 16, 64, 64),
    ("fire3", 16, 64, 64),
    ("fire4", 32, 128, 128),
    ("fire5", 32, 128, 128),
    ("fire6", 48, 192, 192),
    ("fire7", 48, 192, 192),
    ("fire8", 64, 256, 256),
    ("fire9", 64, 256, 256),
]


def fires(
    base_e: int = 128, incr_e: int = 128, pct_3x3: float = 0.5, freq: int = 2, sr: float = 0.125
) -> list[tuple[str, int, int, int]]:
    """Section 5's metaparameters as the rows of a table: every `freq` modules, `incr_e` more expand filters.

    `pct_3x3` is the fraction of 3x3 filters among them, `sr` the squeeze ratio. The defaults give Table 1.
    """
    rows = []
    for i in range(8):
        e = base_e + incr_e * (i // freq)
        rows.append((f"fire{i + 2}", round(sr * e), e - round(pct_3x3 * e), round(pct_3x3 * e)))
    return rows


class SqueezeNet(ConvNet):
    """Images (N, channels, H, W) in, logits (N, classes) out; the feature map shrinks by 16.

    `stem` is the first convolution's kernel and width, `pools` the modules with pooling after them.
    `bypass` adds a module's input to its output: "simple" where both have equally many maps, "complex" elsewhere too,
    through 1x1 convolutions (Fig. 2). `pad10` is the last convolution's padding. `signed` leaves out the last ReLU: the
    logits of a new classifier, which start around 0, can die behind it.
    """

    def __init__(
        self,
        *,
        stem: tuple[int, int] = (7, 96),
        fires: Fires = TABLE_1,
        pools: Sequence[str] = ("fire4", "fire8"),
        bypass: str | None = None,
        pad10: int = 0,
        dropout: float = 0.5,
        signed: bool = False,
        classes: int = 1000,
        channels: int = 3,
    ):
        super().__init__()
        self.signed = signed
        if bypass not in ("simple", "complex", None):
            raise unknown("bypass", str(bypass), ("simple", "complex"))
        kernel, cin = stem
        self.stem = stack(conv1=nn.Conv2d(channels, cin, kernel, 2), relu=nn.ReLU(inplace=True), pool1=pool())
        stages: dict[str, nn.Module] = {}
        for name, squeeze, expand1x1, expand3x3 in fires:
            stages[name] = Fire(cin, squeeze, expand1x1, expand3x3, bypass)
            cin = expand1x1 + expand3x3
            if name in pools:
                stages[name.replace("fire", "pool")] = pool()
        self.stages = stack(**stages)
        conv10 = nn.Conv2d(cin, classes, 1, padding=pad10)
        self.head = stack(
            dropout=nn.Dropout(dropout),
            conv10=conv10,
            relu=nn.Identity() if signed else nn.ReLU(inplace=True),
            pool10=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
        )
        for m in self.modules():
            if isinstance(m, nn.Conv2d):  # as in the released prototxt: Caffe's "xavier", and a Gaussian for conv10
                bound = (3 / m.weight[0].numel()) ** 0.5
                nn.init.uniform_(m.weight, -bound, bound)
                nn.init.zeros_(m.bias)  # type: ignore[arg-type]
        nn.init.normal_(conv10.weight, std=0.01)

    @property
    def logits_layers(self) -> list[str]:
        return ["head.conv10"]

    def reset_head(self, classes: int) -> None:
        super().reset_head(classes)
        relu = classes and not self.signed  # the classifier's: features stay signed
        self.head.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def init_classifier(self, layer: nn.Module) -> None:
        nn.init.normal_(layer.weight, std=0.01)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class Fire(nn.Module):
    """(N, cin, H, W) -> (N, expand1x1 + expand3x3, H, W)."""

    def __init__(self, cin: int, squeeze: int, expand1x1: int, expand3x3: int, bypass: str | None = None):
        super().__init__()
        cout = expand1x1 + expand3x3
        self.squeeze1x1 = nn.Conv2d(cin, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand1x1, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand3x3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.bypass: nn.Module | None = None
        if bypass and cin == cout:
            self.bypass = nn.Identity()
        elif bypass == "complex":
            self.bypass = nn.Conv2d(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.relu(self.squeeze1x1(x))
        y = torch.cat([self.relu(self.expand1x1(squeezed)), self.relu(self.expand3x3(squeezed))], 1)
        return y if self.bypass is None else y + self.bypass(x)


def pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


V1_1 = dict(stem=(3, 64), pools=("fire3", "fire5"))


def accuracy(top1: str, top5: str, where: str) -> list[Claim]:
    return [Claim("top1_acc", top1, where), Claim("top5_acc", top5, where)]


# fmt: off
VARIANTS = family(SqueezeNet, PAPER, [
    Variant("squeezenet1_0", aliases=("SqueezeNet", "SqueezeNet v1.0"), claims=[
        Claim("params", "1,248,424", "Table 1's total; torchvision"),
        *[Claim(f"params {path}", n, "Table 1") for path, n in (
            ("stem.conv1", "14,208"), ("stages.fire2", "11,920"), ("stages.fire3", "12,432"),
            ("stages.fire4", "45,344"), ("stages.fire5", "49,440"), ("stages.fire6", "104,880"),
            ("stages.fire7", "111,024"), ("stages.fire8", "188,992"), ("stages.fire9", "197,184"),
            ("head.conv10", "513,000"))],
        Claim("size_mb", "4.8", "Table 2 (MiB: 1,248,424 values of 4 bytes are 4.76 MiB)"),
        Claim("mmacs", "1700", "MobileNets (Howard et al., 2017), Table 9",
            gap="operations, perhaps: twice the 861 of squeezenet1_0_caffe"),
        *accuracy("57.5", "80.3", "Table 2, centre crop")]),
    Variant("squeezenet1_0_caffe", dict(pad10=1), note="as released: conv10 has padding", claims=[
        Claim("params", "1,248,424", "the released prototxt")]),
    Variant("squeezenet1_0_simple_bypass", dict(bypass="simple"), claims=[
        Claim("params", "1,248,424", "Fig. 2: a bypass has none"),
        Claim("size_mb", "4.8", "Table 3"), *accuracy("60.4", "82.5", "Table 3, centre crop")]),
    Variant("squeezenet1_0_complex_bypass", dict(bypass="complex"), claims=[
        Claim("params", "1,589,672", "Fig. 2: 1x1 convolutions around fire2, 4, 6, 8"),
        Claim("size_mb", "7.7", "Table 3 (our 1,589,672 values are 6.06 MiB)"),
        *accuracy("58.8", "82.0", "Table 3, centre crop")]),
    Variant("squeezenet1_1", V1_1, aliases=("SqueezeNet v1.1",), claims=[
        Claim("params", "1,235,496", "the released prototxt; torchvision"),
        *accuracy("57.5", "80.3", "SqueezeNet_v1.1 README: the accuracy of 1.0")]),
], input=(3, 227, 227), recipe="squeezenet")
# fmt: on
