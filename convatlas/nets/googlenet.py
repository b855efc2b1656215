"""GoogLeNet: Going Deeper with Convolutions (Szegedy et al., 2014), https://arxiv.org/abs/1409.4842

Read beside Table 1 and Figure 3. Parallel filters of several sizes, with 1x1 convolutions that reduce their cost.
The naive module of Fig. 2(a) was drawn, not trained: from these weights the first loss of `googlenet_naive` is about
30, not ln 1000 = 6.9, and the recipe does not train it.
Departures from the paper: none known; details that it omits: the normalisation has AlexNet's constants, and weights are
initialised as in Caffe's replication (bvlc_googlenet: uniform with variance 1 / fan-in, biases 0.2).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from ..catalogue import Claim, Paper, Variant, family
from ..errors import UserError
from ..layers import LRN, Concat, ConvNet, Shape, classifier, shape_after, stack

PAPER = Paper("Going Deeper with Convolutions", "Szegedy et al.", 2014, "https://arxiv.org/abs/1409.4842")

TABLE_1 = [  # inception, #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
    ("3a", 64, 96, 128, 16, 32, 32),
    ("3b", 128, 128, 192, 32, 96, 64),
    ("4a", 192, 96, 208, 16, 48, 64),
    ("4b", 160, 112, 224, 24, 64, 64),
    ("4c", 128, 128, 256, 24, 64, 64),
    ("4d", 112, 144, 288, 32, 64, 64),
    ("4e", 256, 160, 320, 32, 128, 128),
    ("5a", 256, 160, 320, 32, 128, 128),
    ("5b", 384, 192, 384, 48, 128, 128),
]


class ConvReLU(nn.Sequential):
    """Convolution with bias, ReLU; padded so that stride 1 keeps the size."""

    conv: nn.Conv2d

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2)
        self.relu = nn.ReLU(inplace=True)


Conv = Callable[..., nn.Module]  # of (cin, cout, kernel, stride)


class Reduced(nn.Sequential):
    """A 1x1 convolution to `reduce` channels, then one of a larger kernel."""

    def __init__(self, cin: int, reduce: int, cout: int, kernel: int, conv: Conv = ConvReLU):
        super().__init__()
        self.reduce = conv(cin, reduce, 1)
        self.conv = conv(reduce, cout, kernel)


class Inception(Concat):
    """Figure 2(b): parallel 1x1, 3x3, 5x5 and max pooling, concatenated. The widths are a row of Table 1."""

    def __init__(
        self,
        cin: int,
        n1: int,
        reduce3: int,
        n3: int,
        reduce5: int,
        n5: int,
        proj: int,
        conv: Conv = ConvReLU,
        k5: int = 5,
    ):
        super().__init__(
            branch1=conv(cin, n1, 1),
            branch3=Reduced(cin, reduce3, n3, 3, conv),
            branch5=Reduced(cin, reduce5, n5, k5, conv),
            branch_pool=stack(pool=nn.MaxPool2d(3, 1, 1), proj=conv(cin, proj, 1)),
        )
        self.cout = n1 + n3 + n5 + proj


class NaiveInception(Concat):
    """Figure 2(a): the same without 1x1 reductions. Pooling keeps all `cin` channels, so the output can only grow."""

    def __init__(self, cin: int, n1: int, n3: int, n5: int):
        super().__init__(
            branch1=ConvReLU(cin, n1, 1),
            branch3=ConvReLU(cin, n3, 3),
            branch5=ConvReLU(cin, n5, 5),
            pool=nn.MaxPool2d(3, 1, 1),
        )
        self.cout = n1 + n3 + n5 + cin


def naive(cin: int, n1: int, reduce3: int, n3: int, reduce5: int, n5: int, proj: int) -> NaiveInception:
    """The naive module of a row of Table 1."""
    return NaiveInception(cin, n1, n3, n5)


def max_pool(kernel: int = 3) -> nn.MaxPool2d:
    return nn.MaxPool2d(kernel, 2, ceil_mode=True)  # rounded up: 112, 56, 28, 14, 7 as in Table 1


def inceptions(inception: Callable[..., nn.Module], pool4: nn.Module) -> tuple[nn.Sequential, int]:
    """Inception (3a) to (5b) with the max pools before (4a) and (5a), and the number of output channels."""
    stages: dict[str, nn.Module] = {}
    cin = 192
    for name, *widths in TABLE_1:
        if name == "4a":
            stages["pool3"] = max_pool()
        if name == "5a":
            stages["pool4"] = pool4
        stages[f"inception{name}"] = module = inception(cin, *widths)
        cin = int(module.cout)  # type: ignore[arg-type]
    return stack(**stages), cin


def aux_input(features: nn.Module, input: Shape) -> tuple[int, ...]:
    """The C x H x W that reaches an auxiliary classifier. Raises UserError for an image too small for it."""
    try:
        return shape_after(features, input)
    except UserError as error:
        raise UserError(f"{error}, for an auxiliary classifier", "aux=False removes those") from error


def aux_heads(net: ConvNet, pool: Callable[[], nn.Module], conv: Conv, input: Shape, classes: int) -> nn.ModuleDict:
    """The auxiliary classifiers of section 5, on top of (4a) and (4d)."""
    heads = nn.ModuleDict()
    for name in ("4a", "4d"):
        c, h, w = aux_input(nn.Sequential(net.trunk(f"inception{name}"), pool()), input)
        heads[name] = stack(
            pool=pool(),
            conv=conv(c, 128, 1),
            flatten=nn.Flatten(),
            fc1=nn.Linear(128 * h * w, 1024),
            relu=nn.ReLU(inplace=True),
            dropout=nn.Dropout(0.7),
            fc2=nn.Linear(1024, classes),
        )
    return heads


class GoogLeNet(ConvNet):
    """Images (N, C, H, W) in, logits (N, classes) out; the feature map shrinks by 32.

    `inception(cin, row of Table 1)` makes a module, `lrn` a normalisation. The auxiliary classifiers are for training
    (`forward_aux`, only at the size of `input`); `aux=False` removes them, for smaller images or transfer.
    """

    aux: nn.ModuleDict

    def __init__(
        self,
        *,
        inception: Callable[..., nn.Module] = Inception,
        lrn: Callable[[], nn.Module] = LRN,
        dropout: float = 0.4,
        aux: bool = True,
        input: Shape = (3, 224, 224),
        classes: int = 1000,
    ):
        super().__init__()
        self.input = input
        self.stem = stack(
            conv1=nn.Conv2d(input[0], 64, 7, 2, 3),
            relu1=nn.ReLU(inplace=True),
            pool1=max_pool(),
            lrn1=lrn(),
            conv2=Reduced(64, 64, 192, 3),
            lrn2=lrn(),
            pool2=max_pool(),
        )
        self.stages, cout = inceptions(inception, pool4=max_pool())
        self.head = classifier(cout, classes, dropout)
        self.aux = aux_heads(self, partial(nn.AvgPool2d, 5, 3), ConvReLU, input, classes) if aux else nn.ModuleDict()
        for name, m in self.named_modules():
            if isinstance(m, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_uniform_(m.weight, nonlinearity="linear")
                is_logits = name.endswith(("head.linear", "fc2"))
                nn.init.constant_(m.bias, 0.0 if is_logits else 0.2)  # type: ignore[arg-type]

    @property
    def has_aux(self) -> bool:
        return bool(self.aux)

    def init_classifier(self, layer: nn.Module) -> None:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward_aux(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits, and those of each auxiliary classifier, keyed by the module that it reads: 4a, 4d."""
        x = self.stem(x)
        extra = {}
        for name, stage in self.stages.named_children():
            x = stage(x)
            module = name.removeprefix("inception")
            if module in self.aux:
                extra[module] = self.aux[module](x)
        return self.head(x), extra


TABLE_1_COSTS = [
    # module; params as printed, and counted (the weights, in K of 1024 as the table has it); ops, and why they differ
    ("stem.conv1", "2.7K", "9.2 (2.7: a separable 7x7, 7*7*3*8 + 24*64)", "34M", "118.0M (34.0M: a separable 7x7)"),
    ("stem.conv2", "112K", "112.0", "360M", None),
    ("stages.inception3a", "159K", "159.5", "128M", None),
    ("stages.inception3b", "380K", "379.0", "304M", None),
    ("stages.inception4a", "364K", "366.8", "73M", None),
    ("stages.inception4b", "437K", "438.0", "88M", None),
    ("stages.inception4c", "463K", "497.5", "100M", None),
    ("stages.inception4d", "580K", "590.5", "119M", None),
    ("stages.inception4e", "840K", "847.0", "170M", None),
    ("stages.inception5a", "1072K", "1018.0", "54M", "its own widths give 51.1M"),
    ("stages.inception5b", "1388K", "1409.0", "71M", None),
    ("head.linear", "1000K", "1000.0", "1M", None),
]
TABLE_3 = [  # models, crops, top-5 error %
    (1, 1, "10.07"), (1, 10, "9.15"), (1, 144, "7.89"), (7, 1, "8.09"), (7, 10, "7.62"), (7, 144, "6.67"),
]  # fmt: skip
RETHINKING = "Rethinking the Inception Architecture (Szegedy et al., 2015), Table 3, 1 model, 1 crop, ILSVRC-2012 val"
CLAIMS = [
    Claim("params", "6,998,552", "layer arithmetic; BVLC's deploy network"),
    Claim("weights", "6,990,272", "layer arithmetic"),
    Claim("macs", "1,582,671,872", "layer arithmetic, 224x224"),
    Claim("gmacs", "1.5", "section 1, the budget of multiply-adds"),
    *(Claim(f"weights {path}", params, "Table 1, params", gap=f"in K of 1024, its widths give {counted}")
        for path, params, counted, _, _ in TABLE_1_COSTS),
    *(Claim(f"macs {path}", ops, "Table 1, ops", gap=gap) for path, _, _, ops, gap in TABLE_1_COSTS),
    Claim("params", "6.8M", "Table 1, params summed", gap="6,797.7 K of 1024 are 6.96M; and rows of it are off"),
    Claim("mmacs", "1502", "Table 1, ops summed", gap="conv1's row lacks 84M, 5a's has 3M too many"),
    Claim("mmacs", "1550", "MobileNets (Howard et al., 2017), Table 8", gap="no derivation given; we count 1,582.7"),
    Claim("params", "5M", "lectures 000, 001, 003", gap="loose: the table that they show sums to 6.8M"),
    *(Claim("top5_err", error, f"Table 3, {models} model(s), {crops} crop(s), ILSVRC-2014 val")
        for models, crops, error in TABLE_3),
    Claim("top5_err", "6.67", "Table 2, 7 models, 144 crops, ILSVRC-2014 test"),
    Claim("top1_err", "29.0", RETHINKING), Claim("top5_err", "9.2", RETHINKING),
]  # fmt: skip
CAFFE = [
    Claim("params", "6,998,552", "bvlc_googlenet, deploy network"),
    Claim("top1_acc", "68.7", "bvlc_googlenet, readme, centre crop"),
    Claim("top5_acc", "88.9", "bvlc_googlenet, readme, centre crop"),
]
caffe_lrn = partial(LRN, k=1.0, divided=True)

# fmt: off
VARIANTS = family(GoogLeNet, PAPER, [
    Variant("googlenet", claims=CLAIMS, aliases=("Inception-v1",)),
    Variant("googlenet_caffe", dict(lrn=caffe_lrn), claims=CAFFE, recipe="googlenet_caffe", aliases=("bvlc_googlenet",),
        note="BVLC's: Caffe's normalisation, k = 1"),
    Variant("googlenet_naive", dict(inception=naive), note="every module is Figure 2(a): what 1x1 reductions save"),
], recipe="googlenet")
# fmt: on
