"""How other counters count, as data: each tool's total to the digit, and the differences between it and ours.

A tool adds something for modules of certain classes, for calls of certain Python functions, or for certain aten
operators, and misses the rest. `TOOLS` lists what; `reconcile` (reconcile.py) applies it to one traced pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import prod
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from ..trace import Node


@dataclass(frozen=True)
class Event:
    """Something that a tool may count: a call of a module or of a Python function, or an operator."""

    name: str  # the module's class, the function, the operator
    x: tuple[int, ...]  # shape of its input, including the batch
    y: tuple[int, ...]  # shape of its output
    nodes: tuple[Node, ...]  # the operators inside it that compute something
    own: Mapping[str, int]  # a module's parameters: name, number of values

    @property
    def macs(self) -> int:
        return sum(n.macs for n in self.nodes)


# What a tool adds for an event.


def macs(e: Event) -> int:
    return e.macs


def twice_macs(e: Event) -> int:
    return 2 * e.macs


def inputs(e: Event) -> int:
    return prod(e.x)


def outputs(e: Event) -> int:
    return prod(e.y)


def layer_biases(e: Event) -> int:
    """One per output of a layer that has a bias."""
    return prod(e.y) if "bias" in e.own else 0


def biased_outputs(e: Event) -> int:
    """One per output of an operator that adds a bias."""
    return sum(prod(n.shape) for n in e.nodes if n.op == "addmm" or (n.op == "convolution" and n.args[2] is not None))


SCALES = {
    "native_batch_norm": 1,
    "native_group_norm": 1,
    "native_layer_norm": 2,
}  # operator: the argument with its scales


def normalised(plain: int, scaled: int, plain_training: int = 0, scaled_training: int = 0) -> Callable[[Event], int]:
    """These many per value of a normalisation: without scales, with scales, and when it uses the batch's statistics."""

    def amount(e: Event) -> int:
        norm = e.nodes[-1]
        has_scales = norm.args[SCALES[norm.op]] is not None
        if plain_training and (norm.op != "native_batch_norm" or norm.args[5]):
            return prod(e.x) * (scaled_training if has_scales else plain_training)
        return prod(e.x) * (scaled if has_scales else plain)

    return amount


def times_outputs(factor: int) -> Callable[[Event], int]:
    return lambda e: factor * prod(e.y)


def einsum_printed(e: Event) -> int:
    """What numpy.einsum_path prints for a product of two: twice its multiply-accumulates plus one, to four digits."""
    return int(float(f"{(2 * e.macs or prod(e.y)) + 1:.3e}"))


def half_einsum_printed(e: Event) -> int:
    return einsum_printed(e) // 2


def convolution_at_outputs(e: Event) -> int:
    """Output values x kernel x channels in / groups, which is not the cost of a transposed convolution."""
    _, weight, *_, groups = e.nodes[-1].args
    return prod(e.y) * (e.nodes[-1].args[0][1] // groups) * prod(weight[2:])


def transposed_of_groups(e: Event) -> int:
    """Twice the multiply-accumulates of a transposed convolution, but with channels out divided by the groups twice."""
    x, weight, *_, groups = e.nodes[-1].args
    return 2 * prod(weight[2:]) * weight[0] * (weight[1] // groups) * x[0] * prod(x[2:])


def transposed_biases(e: Event) -> int:
    """One per output, with the number of outputs that a non-transposed convolution would have."""
    x, weight, bias, stride, padding, dilation, *_ = e.nodes[-1].args
    sizes = zip(x[2:], weight[2:], stride, padding, dilation, strict=True)
    outputs = prod((n + 2 * p - (d * (k - 1) + 1)) // s + 1 for n, k, s, p, d in sizes)
    return 0 if bias is None else weight[1] * x[0] * outputs


def adaptive_average(e: Event) -> int:
    """Outputs x (1 + the product of height in / height out and width in / width out), rounded down."""
    sizes = len(e.y) - 2
    kernel = prod(a / b for a, b in zip(e.x[-sizes:], e.y[-sizes:], strict=True))
    return int((kernel + 1) * prod(e.y))


def softmax(e: Event) -> int:
    """n exponentials, n - 1 additions and n divisions per n values."""
    n = e.x[e.nodes[-1].args[1]]
    return prod(e.x) // n * (3 * n - 1)


def upsampled(e: Event) -> int:
    by_mode = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 224 + 35}
    mode = e.nodes[-1].op.removeprefix("upsample_")[:-2]  # upsample_bilinear2d
    return prod(e.y) * by_mode.get(mode, 0)


def first_sample(e: Event) -> int:
    return prod(e.y[1:])


def upsampled_size(e: Event) -> int:
    """Height x width if the size was given, else the number of input values."""
    return prod(e.x) if isinstance(e.nodes[-1].args[-1], float) else prod(e.y[2:])


def at_positions(name: str) -> Callable[[Event], int]:
    """The size of the parameter of this name, at every output position of every image."""
    return lambda e: e.own.get(name, 0) * prod((*e.y[:1], *e.y[2:]))


def per_image(name: str) -> Callable[[Event], int]:
    """The size of the parameter of this name, once per image."""
    return lambda e: e.own.get(name, 0) * e.y[0]


def named_alike(e: Event) -> int:
    """The sizes of parameters such as weight_ih_l0, over the first two dimensions of the output."""
    alike = [n for k, n in e.own.items() if k not in ("weight", "bias") and ("weight" in k or "bias" in k)]
    return sum(alike) * prod(e.y[:2])


Level = Literal["leaf", "module", "function", "operator"]


class Rule(NamedTuple):
    """What a tool adds for each event of these names.

    `leaf`: a module without submodules, by a pattern for its class name (! for any but those); `module`: one of exactly
    the torch.nn class of that name; `function`: what Python code calls, from F., from torch. or as a tensor method (not
    by an operator sign); `operator`: of aten.
    """

    level: Level
    names: str
    amount: Callable[[Event], int]
    why: str
    macs: bool = False  # this part counts the multiply-accumulates of these events

    def matches(self, level: Level, event: Event) -> bool:
        if level != self.level:
            return False
        if level == "leaf":
            return fnmatchcase(event.name, self.names.removeprefix("!")) != self.names.startswith("!")
        return event.name in self.names.split()


class Tool(NamedTuple):
    unit: str  # what it calls its total
    rules: Sequence[Rule]
    by_owner: bool = False  # functions in a shared module count once for each module that contains it
    hooks_again: bool = False  # a shared module is hooked again for each module that contains it
    unseen: str = ""  # functions with operators that it does not see
    beyond: str = ""  # classes with rules of the tool that are not implemented here
    drops_unused: bool = False  # it counts a graph without what the network's result does not need


CONV = "Conv1d Conv2d Conv3d"
CONV_TRANSPOSE = "ConvTranspose1d ConvTranspose2d ConvTranspose3d"
BATCH_NORM = "BatchNorm1d BatchNorm2d BatchNorm3d"
INSTANCE_NORM = "InstanceNorm1d InstanceNorm2d InstanceNorm3d"
AVG_POOL = "AvgPool1d AvgPool2d AvgPool3d"
MAX_POOL = "MaxPool1d MaxPool2d MaxPool3d"
ADAPTIVE_AVG_POOL = "AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d"
ADAPTIVE_MAX_POOL = "AdaptiveMaxPool1d AdaptiveMaxPool2d AdaptiveMaxPool3d"
F_CONV = "F.conv1d F.conv2d F.conv3d"
F_CONV_TRANSPOSE = "F.conv_transpose1d F.conv_transpose2d F.conv_transpose3d"
F_POOL = """
    F.avg_pool1d F.avg_pool2d F.avg_pool3d F.max_pool1d F.max_pool2d F.max_pool3d F.adaptive_avg_pool1d
    F.adaptive_avg_pool2d F.adaptive_avg_pool3d F.adaptive_max_pool1d F.adaptive_max_pool2d F.adaptive_max_pool3d
"""
F_ACTIVATIONS = "F.relu F.prelu F.elu F.relu6 F.gelu F.silu"
RECURRENT = "RNN LSTM GRU RNNCell LSTMCell GRUCell"
ADD_MUL = "torch.add torch.mul Tensor.add Tensor.mul"
EINSUM = "torch.einsum, rounded to four digits"
TWO = "a multiply-accumulate is two operations"

TOOLS: dict[str, Tool] = {
    # torch.utils.flop_counter, as on a GPU or on the meta device: it does not know the CPU's attention kernel
    "torch": Tool("FLOPs", [Rule("operator", "convolution mm addmm bmm baddbmm", twice_macs, TWO, macs=True)]),
    "torchinfo": Tool(
        "mult-adds",
        [
            Rule("leaf", "*Conv*", at_positions("weight"), "weights of {}, at each output position", macs=True),
            Rule("leaf", "*Conv*", at_positions("bias"), "biases of {}, at each output position"),
            Rule("leaf", "!*Conv*", per_image("weight"), "weights of {}, once an image", macs=True),
            Rule("leaf", "!*Conv*", per_image("bias"), "biases of {}, once an image"),
            Rule("leaf", "*", named_alike, "parameters of {} named like weights or biases"),
        ],
    ),
    "fvcore": Tool(
        "FLOPs (one per multiply-accumulate)",
        [
            Rule("operator", "convolution mm addmm bmm", macs, "", macs=True),
            Rule("function", "torch.einsum", half_einsum_printed, EINSUM, macs=True),
            Rule(
                "operator",
                "native_batch_norm",
                normalised(1, 2, 4, 5),
                "batch norm, two for each value (five in training)",
            ),
            Rule("operator", "native_group_norm native_layer_norm", normalised(4, 5), "normalisation, five a value"),
            Rule("function", "F.adaptive_avg_pool2d", inputs, "adaptive average pooling, one for each input value"),
            Rule("operator", "upsample_nearest2d", outputs, "upsampling, one for each output value"),
            Rule("operator", "upsample_bilinear2d", times_outputs(4), "upsampling, four for each output value"),
            Rule("operator", "grid_sampler_2d", times_outputs(4), "sampling a grid, four for each output value"),
        ],
        unseen="F.scaled_dot_product_attention torch.einsum",
        beyond=RECURRENT,
        drops_unused=True,
    ),
    "thop": Tool(
        "MACs",
        [
            Rule("module", f"{CONV} Linear", macs, "", macs=True),
            Rule("module", CONV_TRANSPOSE, convolution_at_outputs, "{} counted at its output's positions", macs=True),
            Rule(
                "module",
                f"{BATCH_NORM} {INSTANCE_NORM} LayerNorm SyncBatchNorm",
                normalised(2, 4),
                "{}, four for each value (two without scales)",
            ),
            Rule("module", "PReLU", inputs, "{}, one for each value"),
            Rule("module", "Softmax", softmax, "{}, three for each value less one a sum"),
            Rule("module", AVG_POOL, outputs, "{}, one for each output value"),
            Rule("module", ADAPTIVE_AVG_POOL, adaptive_average, "{}, inputs pooled and one for each output value"),
            Rule("module", "Upsample UpsamplingBilinear2d UpsamplingNearest2d", upsampled, "{}, by its mode"),
        ],
        hooks_again=True,
        beyond=RECURRENT,
    ),
    "ptflops": Tool(
        "MACs",
        [
            Rule("module", f"{CONV} {CONV_TRANSPOSE} Linear", macs, "", macs=True),
            Rule("module", f"{CONV} {CONV_TRANSPOSE} Linear", layer_biases, "biases of {}, one for each output"),
            Rule("module", "ReLU PReLU ELU LeakyReLU ReLU6 GELU", outputs, "{}, one for each value"),
            Rule(
                "module",
                f"{AVG_POOL} {MAX_POOL} {ADAPTIVE_AVG_POOL} {ADAPTIVE_MAX_POOL}",
                inputs,
                "{}, one for each input value",
            ),
            Rule(
                "module", f"{BATCH_NORM} {INSTANCE_NORM} GroupNorm", normalised(1, 2), "{}, two a value (one unscaled)"
            ),
            Rule("module", "LayerNorm", inputs, "{}, one for each value"),
            Rule("module", "Upsample", first_sample, "{}, one for each output value of one image"),
            # functions that a hooked layer calls are counted a second time
            Rule("function", F_ACTIVATIONS, inputs, "{}, one for each value (also inside the layer just counted)"),
            Rule("function", F_POOL, inputs, "{}, one for each input value (also inside the layer just counted)"),
            Rule("function", "F.softmax", inputs, "{}, one for each value"),
            Rule("function", "F.interpolate F.upsample", outputs, "{}, one for each output value"),
            Rule(
                "function",
                "torch.matmul torch.mm torch.bmm torch.addmm torch.baddbmm "
                "Tensor.matmul Tensor.mm Tensor.bmm Tensor.addmm",
                macs,
                "",
                macs=True,
            ),
            Rule("function", "torch.addmm torch.baddbmm Tensor.addmm", inputs, "{}, one for each value added to"),
            Rule("function", ADD_MUL, outputs, "{}, one for each value"),
        ],
        beyond=f"{RECURRENT} MultiheadAttention Attention",
    ),
    "ptflops-aten": Tool(
        "MACs",
        [
            Rule("operator", "convolution mm addmm bmm", macs, "", macs=True),
            Rule("operator", "convolution addmm", biased_outputs, "biases of {}, one for each output"),
        ],
    ),
    "calflops": Tool(
        "FLOPs",
        [
            Rule(
                "function",
                f"F.linear {F_CONV} torch.matmul Tensor.matmul torch.addmm Tensor.addmm torch.baddbmm",
                twice_macs,
                TWO,
                macs=True,
            ),
            Rule("function", F_CONV_TRANSPOSE, transposed_of_groups, "{}, two a multiply-accumulate", macs=True),
            Rule("function", F_CONV_TRANSPOSE, transposed_biases, "biases of {}, at too few positions"),
            Rule("function", "torch.einsum", einsum_printed, EINSUM, macs=True),
            Rule("function", F_CONV, biased_outputs, "biases of {}, one for each output"),
            Rule("function", "torch.addmm torch.baddbmm Tensor.addmm", inputs, "{}, one for each value added to"),
            Rule("function", f"{F_ACTIVATIONS} F.leaky_relu", inputs, "{}, one for each value"),
            Rule("function", "F.batch_norm", normalised(1, 2, 4, 5), "{}, two for each value (one without scales)"),
            Rule("function", "F.layer_norm F.instance_norm F.group_norm", normalised(4, 5, 4, 5), "{}, five a value"),
            Rule("function", F_POOL, inputs, "{}, one for each input value"),
            Rule("function", "F.softmax", inputs, "{}, one for each value"),
            Rule("function", "F.interpolate F.upsample", upsampled_size, "{}, by its size or its input"),
            Rule("function", ADD_MUL, outputs, "{}, one for each value"),
        ],
        by_owner=True,
        beyond=RECURRENT,
    ),
}
