"""Receptive fields: by hand, and for every network against the support of a gradient.

The network is run with all weights one, linear activations and average for max pooling: the pixels whose gradient is
not zero are then those that are seen. Exceptions, which have no field of their own: gates (SE) are constants, LRN the
identity (it is computed across channels alone).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from convatlas import names
from convatlas.accounting import account
from convatlas.accounting.inputs import meta_inputs
from convatlas.accounting.receptive import Axis, Field, node_fields
from convatlas.accounting.trace import Trace, trace
from convatlas.catalogue import find
from convatlas.layers import ConvNet, on_meta, stack

FAST = (  # a network of each kind: towers, branches, holes, "SAME", gates, ceil mode, dilation
    *("lenet5", "alexnet", "googlenet", "resnet18_a", "preact_resnet110", "bn_inception", "mobilenet_v1"),
    *("densenet_bc_100_12", "efficientnet_b0", "enet_encoder", "nas_v1", "fractalnet_20"),
)


def receptive_fields(trace: Trace) -> dict[str, Field]:
    """The field of every module's output, by path; "" is the network. Modules that compute nothing are left out."""
    of_nodes = node_fields(trace)
    fields: dict[str, Field] = {}
    last = [-1] * len(trace.calls)  # the last node that ran in a call, or in one within
    for kind, index in trace.events:
        if kind == "node":
            last[trace.nodes[index].call] = index
            continue
        if last[index] < 0:
            continue
        parent = trace.calls[index].parent
        if parent >= 0:
            last[parent] = last[index]
        field = of_nodes[last[index]]
        if field is not None:
            fields[trace.calls[index].path] = field
    return fields


def pixels(axis: Axis, position: int, length: int) -> set[int]:
    """The pixels that a position sees, of an image of this length."""
    turn, at = divmod(position, len(axis.masks))
    first, mask = axis.start + turn * axis.jump, axis.masks[at]
    stop = min(first + mask.bit_length(), axis.end, length)
    return {p for p in range(max(first, 0), stop) if mask >> (p - first) & 1}


def traced(net: nn.Module, *shape: int) -> Trace:
    return trace(net, *meta_inputs(net, shape, 1))


def fields_of(shape: tuple[int, ...], **modules: nn.Module) -> dict[str, Field]:
    return receptive_fields(traced(stack(**modules), *shape))


def test_by_hand() -> None:
    """AlexNet's 11x11/4 and 3x3/2 pool see 19 pixels, 8 apart; three 3x3 see what one 7x7 does."""
    fields = fields_of((3, 227, 227), conv=nn.Conv2d(3, 8, 11, 4), pool=nn.MaxPool2d(3, 2))
    assert (fields["pool"].height.size, fields["pool"].height.jump, fields["pool"].height.start) == (19, 8, 0)
    three = fields_of((3, 32, 32), **{f"conv{i}": nn.Conv2d(3, 3, 3, padding=1) for i in range(3)})
    assert three["conv2"] == fields_of((3, 32, 32), conv=nn.Conv2d(3, 3, 7, padding=3))["conv"]
    assert three["conv2"].width.start == -3
    assert three["conv2"].exact
    flat = fields_of((3, 8, 8), conv=nn.Conv2d(3, 3, 3), flatten=nn.Flatten(), linear=nn.Linear(108, 2))
    assert flat["linear"].height == Axis(0xFF, 0, 0, 8)


def test_holes_are_told() -> None:
    strided = fields_of((1, 32, 32), a=nn.Conv2d(1, 1, 1, 2), b=nn.Conv2d(1, 1, 3))
    assert strided["b"].height.size == 5
    assert pixels(strided["b"].height, 1, 32) == {2, 4, 6}
    assert not strided["b"].exact
    dilated = fields_of((1, 32, 32), a=nn.Conv2d(1, 1, 3, dilation=2))
    assert dilated["a"].width.mask == 0b10101
    filled = fields_of((1, 32, 32), a=nn.Conv2d(1, 1, 3, dilation=2), b=nn.Conv2d(1, 1, 2))
    assert filled["b"].exact


def test_axes_apart() -> None:
    field = fields_of((1, 32, 32), a=nn.Conv2d(1, 1, (1, 7), (1, 2), (0, 3)), b=nn.Conv2d(1, 1, (3, 1)))["b"]
    assert (field.height.size, field.height.jump, field.height.start) == (3, 1, 0)
    assert (field.width.size, field.width.jump, field.width.start) == (7, 2, -3)


def test_what_has_no_rule_is_a_bound() -> None:
    field = fields_of((3, 16, 16), conv=nn.Conv2d(3, 3, 3), fold=nn.LPPool2d(2, 2), up=nn.Upsample(20))["up"]
    assert field.bounded
    assert not field.exact
    assert field.height.size == 16


class Does(nn.Module):
    """A convolution, then a function of its map."""

    def __init__(self, then: Callable[[Tensor], Tensor]):
        super().__init__()
        self.conv, self.then = nn.Conv2d(3, 8, 3, padding=1), then

    def forward(self, x: Tensor) -> Tensor:
        return self.then(self.conv(x))


@pytest.mark.parametrize(
    "then",
    [
        lambda x: x.flip(2),
        lambda x: x.roll(1, 3),
        lambda x: x.transpose(2, 3),
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x @ x,
        lambda x: x.softmax(-1),
        lambda x: x.cumsum(2),
        lambda x: x.flatten(2),
        lambda x: x.amax(2, keepdim=True),
        lambda x: torch.cat([x, x], 2),
        lambda x: F.interpolate(x, scale_factor=1.5),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
    ],
    ids=[
        "flip",
        "roll",
        "transpose",
        "permute",
        "matmul",
        "softmax",
        "cumsum",
        "flatten",
        "amax",
        "cat",
        "interpolate",
        "interpolate from corner to corner",
    ],
)
def test_what_mixes_places_is_no_smaller_than_it_is_said_to_be(then: Callable[[Tensor], Tensor]) -> None:
    """Maps of one size before and after are no sign that each place is made of the same place."""
    field = receptive_fields(traced(Does(then), 3, 8, 8))[""]
    assert field.bounded
    assert pixels(field.height, 0, 8) == pixels(field.width, 0, 8) == set(range(8))


@pytest.mark.parametrize(
    ("then", "exact"),
    [
        (lambda x: F.gelu(x.softmax(1)) * x.amax(1, keepdim=True), True),
        (lambda x: x.view(-1, 2, 4, 8, 8).transpose(1, 2).reshape(-1, 8, 8, 8)[:, [3, 1]].chunk(2, 1)[0], True),
        (lambda x: torch.cat([x, F.max_pool2d(x, 1)], 1).mean((1,), keepdim=True), True),
        (lambda x: F.group_norm(x, 4), False),
        (lambda x: F.instance_norm(x), False),
    ],
    ids=["pointwise", "shuffle", "cat", "group_norm", "instance_norm"],
)
def test_what_stays_in_its_place(then: Callable[[Tensor], Tensor], exact: bool) -> None:
    field = receptive_fields(traced(Does(then), 3, 8, 8))[""]
    assert (field.height.size, field.height.start, field.height.jump) == (3, -1, 1)
    assert field.exact is exact
    assert field.gated is not exact, "normalised by the whole map"


def test_rows_have_their_fields() -> None:
    """As `receptive_fields` says, at every level; a layer that does nothing in evaluation sees what it is given."""
    layers = {"conv": nn.Conv2d(3, 4, 11, 4), "drop": nn.Dropout(), "pool": nn.MaxPool2d(3, 2), "bn": nn.BatchNorm2d(4)}
    counted = account(stack(**layers), input=(3, 227, 227))
    assert [(r.receptive_field, r.jump, r.start, r.exact) for r in counted.rows] == [
        ((11, 11), (4, 4), (0, 0), True),
        ((11, 11), (4, 4), (0, 0), True),
        ((19, 19), (8, 8), (0, 0), True),
        ((19, 19), (8, 8), (0, 0), True),
    ]
    stages = account("resnet18").table("stage")
    assert [(r.receptive_field[0], r.field_padding[0]) for r in stages[:3]] == [(11, 5), (43, 21), (99, 49)]
    lines = account(nn.Conv1d(3, 4, 3), input=(3, 16))
    assert lines.rows[0].receptive_field == (), "no image"


def test_other_inputs_have_no_fields() -> None:
    assert fields_of((3, 16), conv=nn.Conv1d(3, 3, 3)) == {}


def test_a_gate_is_noted_and_left_out() -> None:
    with on_meta():
        net = find("se_resnet50").build()
    fields = receptive_fields(traced(net, 3, 224, 224))
    assert fields["stages.conv2"].gated
    assert not fields["stem"].gated
    assert fields["stages.conv5"].height.size == 483, "ResNet-50's, with stride in the 1x1"


class Linear(TorchFunctionMode):
    """All weights one, activations linear, average for max pooling; gradients are kept to 0 and 1."""

    SAME = (
        *("relu", "relu_", "relu6", "hardtanh", "hardtanh_", "tanh", "silu", "prelu", "batch_norm"),
        *("dropout", "dropout2d", "local_response_norm"),
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.__name__
        if name in self.SAME:
            return args[0]
        if name == "sigmoid":
            return torch.ones_like(args[0])
        if name == "conv2d":
            return ones_conv(*args, **kwargs)
        if name == "linear":
            return args[0].sum(-1, keepdim=True).expand(*args[0].shape[:-1], len(args[1]))
        if name.startswith("max_pool2d"):
            args, kwargs = args[:4], {k: v for k, v in kwargs.items() if k in ("stride", "padding", "ceil_mode")}
            return F.avg_pool2d(*args, **kwargs)
        if name in ("mul", "add", "__mul__", "__add__") and any(
            isinstance(a, Tensor) and a.device.type == "meta" for a in args
        ):
            return args[0]  # a scale or shift of the whole map
        return func(*args, **kwargs)


def ones_conv(
    x: Tensor, weight: Tensor, bias: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """A convolution with weights of one: every output channel of a group is alike, so that one is computed."""
    x = x.unflatten(1, (groups, -1)).sum(2)
    out = F.conv2d(x, torch.ones(groups, 1, *weight.shape[2:]), None, stride, padding, dilation, groups)
    if out.requires_grad:
        out.register_hook(lambda grad: (grad > 0).to(grad.dtype))
    return out.repeat_interleave(len(weight) // groups, 1) if groups > 1 else out.expand(-1, len(weight), -1, -1)


@contextmanager
def captured(net: ConvNet) -> Iterator[dict[str, Tensor]]:
    """The last output tensor of the stem and of each stage."""
    outputs: dict[str, Tensor] = {}
    modules = {"stem": net.stem} | {f"stages.{k}": m for k, m in net.stages.named_children()}
    hooks = [
        m.register_forward_hook(lambda m, i, out, path=path: outputs.update({path: tree_leaves(out)[-1]}))
        for path, m in modules.items()
    ]
    yield outputs
    for hook in hooks:
        hook.remove()


def check(name: str, flip: bool = False) -> int:
    """Compares both axes at the centre of every stage, on a long image; returns how many were whole inside it."""
    variant = find(name)
    assert variant.input is not None
    channels, *sides = variant.input
    h, w = (512, 96) if min(sides) > 64 else (96, 32)
    shape = (channels, w, h) if flip else (channels, h, w)
    without = {"aux": False} if "aux" in variant.options else {}  # auxiliary classifiers have sizes of their own
    if name == "lenet5":  # its tables say which maps are joined: a network with values
        net = variant.build(input=shape)
        for p in net.parameters():
            nn.init.ones_(p).requires_grad_(False)
    else:
        with on_meta():
            net = variant.build(input=shape, **without)
    fields = receptive_fields(traced(net, *shape))
    image = torch.zeros(1, *shape, requires_grad=True)
    with captured(net.eval()) as outputs, Linear():
        net.stages(net.stem(image))
    whole = 0
    for path in outputs.keys() & fields.keys():
        field, out = fields[path], outputs[path]
        centre = [side // 2 for side in out.shape[2:]]
        (grad,) = torch.autograd.grad(out[:, :, centre[0], centre[1]].sum(), image, retain_graph=True)
        support = grad[0].amax(0) > 0
        for dim, axis in enumerate((field.height, field.width)):
            side, first = shape[1 + dim], axis.start + centre[dim] * axis.jump
            seen = set(support.any(1 - dim).nonzero().flatten().tolist())
            assert seen == pixels(axis, centre[dim], side), f"{name} {path}, axis {dim}"
            whole += first >= 0 and first + axis.size <= side
    return whole


@pytest.mark.parametrize("name", FAST)
def test_the_gradient_reaches_what_is_predicted(name: str) -> None:
    assert check(name) >= 3, "fields inside the image, which padding and edges do not cut"


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in names() if n not in FAST])
def test_the_gradient_reaches_what_is_predicted_in_every_network(name: str) -> None:
    check(name)
    check(name, flip=True)


def strided_write(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :, ::2] = x[:, :, :17]
    return out + 0


JOINED: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {  # of a 3x3 convolution's map; whether it is exact
    "the mean added": (lambda x: x + x.mean((2, 3), keepdim=True), True),
    "without its axes": (lambda x: x + x.mean((2, 3))[:, :, None, None], True),
    "pooled and added": (lambda x: F.adaptive_avg_pool2d(x, 1) + x, True),
    "the larger": (lambda x: torch.maximum(x, x.mean((2, 3), keepdim=True)), True),
    "expanded and joined": (lambda x: torch.cat([x, F.adaptive_avg_pool2d(x, 1).expand_as(x)], 1), True),
    "interpolated and joined": (
        lambda x: torch.cat([x, F.interpolate(F.adaptive_avg_pool2d(x, 1), x.shape[2:])], 1),
        True,
    ),
    "pooled later": (lambda x: F.avg_pool2d(x + x.mean((2, 3), keepdim=True), 3), True),
    "the mean of columns": (lambda x: x + x.mean(2, keepdim=True), False),
    "the mean of a part": (lambda x: x + x[:, :, 5:9, 5:9].mean((2, 3), keepdim=True), False),
    "a row at all rows": (lambda x: x + x[:, :, :1], False),
    "two jumps": (lambda x: x[:, :, :17] + x[:, :, ::2], False),
    "two jumps joined": (lambda x: torch.cat([x[:, :, ::2], x[:, :, :17]], 1), False),
    "below each other": (lambda x: torch.cat([x[:, :, :1], x], 2), False),
    "written": (strided_write, False),
    "more rows than there are": (lambda x: x[:, :, -100:], True),
    "the last rows": (lambda x: x[:, :, -10:], True),
    "every other row": (lambda x: x[:, :, 2:100:2], True),
    "rows from the end": (lambda x: x[:, :, -7:-2, -33:], True),
}


@pytest.mark.parametrize("what", JOINED)
def test_no_position_sees_more_than_is_said(what: str) -> None:
    """By the gradient, at the corners and the centre; where it is exact, no less either."""
    then, exact = JOINED[what]
    net, shape = Does(then), (3, 33, 33)
    nn.init.ones_(net.conv.weight)
    field = receptive_fields(traced(net, *shape))[""]
    assert field.exact is exact
    image = torch.rand(1, *shape, requires_grad=True)
    out = net(image)
    h, w = out.shape[2:]
    for position in ((0, 0), (h // 2, w // 2), (h - 1, w - 1), (0, w - 1)):
        (grad,) = torch.autograd.grad(out[:, :, position[0], position[1]].sum(), image, retain_graph=True)
        seen = grad[0].abs().amax(0) > 0
        for dim, axis in enumerate((field.height, field.width)):
            found, said = set(seen.any(1 - dim).nonzero().flatten().tolist()), pixels(axis, position[dim], 33)
            assert found == said if exact and what != "the larger" else found <= said


def test_strides_without_end_are_bounded() -> None:
    net = nn.Sequential(*(nn.ConvTranspose2d(1, 1, 3, 17) for _ in range(3)))
    field = receptive_fields(traced(net, 1, 4, 4))[""]
    assert field.bounded
    assert pixels(field.height, 0, 4) == set(range(4))


def down(kernel: int = 3, **options: Any) -> nn.Module:
    return nn.Conv2d(2, 2, kernel, bias=False, **options)


def up(kernel: int, stride: int = 1, padding: int = 0, **options: Any) -> nn.Module:
    return nn.ConvTranspose2d(2, 2, kernel, stride, padding, bias=False, **options)


def smaller() -> nn.Module:
    return down(stride=2, padding=1)


class Skip(nn.Module):
    """A U of two levels."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = down(padding=1), smaller(), smaller()
        self.up2, self.up1, self.last = up(4, 2, 1), up(2, 2), down(padding=1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(one)
        return self.last(one + self.up1(two + self.up2(self.three(two))))


UP: dict[str, tuple[Callable[[], nn.Module], tuple[int, float, int, bool]]] = {  # size, step, first pixel, exact
    "twice, each pixel": (lambda: up(2, 2), (1, 0.5, 0, True)),
    "thrice, with gaps": (lambda: nn.Sequential(down(padding=1), up(2, 3)), (3, 1 / 3, -1, False)),
    "overlapping": (lambda: nn.Sequential(smaller(), up(4, 2, 1)), (5, 1, -3, True)),
    "down and up twice": (
        lambda: nn.Sequential(smaller(), smaller(), up(4, 2, 1), down(padding=1), up(4, 2, 1), down(padding=1)),
        (19, 1, -11, True),
    ),
    "up and down": (lambda: nn.Sequential(up(4, 2, 1), smaller()), (3, 1, -1, True)),
    "an odd kernel": (lambda: nn.Sequential(up(3, 2, 1, output_padding=1), down()), (3, 0.5, 0, False)),
    "of stride one": (lambda: up(3, 1, 1), (3, 1, -1, True)),
    "dilated": (lambda: nn.Sequential(up(3, 2, dilation=2), down(2)), (3, 0.5, -2, True)),
    "nearest": (lambda: nn.Sequential(smaller(), nn.Upsample(scale_factor=2), down(padding=1)), (5, 1, -3, True)),
    "bilinear": (
        lambda: nn.Sequential(smaller(), nn.Upsample(scale_factor=2, mode="bilinear"), down(padding=1)),
        (7, 1, -3, True),
    ),
    "bilinear, thrice": (
        lambda: nn.Sequential(smaller(), nn.Upsample(scale_factor=3, mode="bilinear")),
        (5, 2 / 3, -3, False),
    ),
    "shuffled": (
        lambda: nn.Sequential(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.PixelShuffle(2), down(padding=1)),
        (4, 0.5, -2, True),
    ),
    "pooled again": (lambda: nn.Sequential(up(2, 2), nn.MaxPool2d(2)), (1, 1, 0, True)),
    "all together": (lambda: nn.Sequential(up(4, 2, 1), nn.AdaptiveAvgPool2d(1)), (22, 0, -1, True)),
    "reflected": (lambda: nn.Sequential(nn.ReflectionPad2d(1), down()), (3, 1, -1, False)),
    "replicated": (lambda: down(stride=2, padding=1, padding_mode="replicate"), (3, 2, -1, False)),
    "a U": (Skip, (17, 1, -8, False)),
}


@pytest.mark.parametrize("what", UP)
def test_behind_what_makes_maps_larger(what: str) -> None:
    """Each row and each column sees what the gradient says, at the edges too."""
    make, expected = UP[what]
    net, shape = make().double(), (2, 20, 16)
    for p in net.parameters():
        nn.init.ones_(p)
    row = account(net, shape).rows[-1]
    field = receptive_fields(traced(net, *shape))[""]
    assert (row.receptive_field[0], row.jump[0], row.start[0], row.exact) == pytest.approx(expected)
    image = torch.rand(1, *shape, requires_grad=True, dtype=torch.float64)
    out = net(image) if "pooled" not in what else F.avg_pool2d(net[0](image), 2)
    for dim, axis in enumerate((field.height, field.width)):
        for position in range(out.shape[2 + dim]):
            (grad,) = torch.autograd.grad(out.select(2 + dim, position).sum(), image, retain_graph=True)
            seen = (grad[0].abs().amax(0) > 0).any(1 - dim).nonzero().flatten().tolist()
            assert set(seen) == pixels(axis, position, shape[1 + dim]), f"axis {dim}, position {position}"


def test_fields_by_hand_where_branches_differ() -> None:
    joined = account(Does(lambda x: x + x.mean((2, 3), keepdim=True)), (3, 33, 33)).rows[-1]
    assert (joined.receptive_field, joined.jump, joined.start, joined.exact) == ((35, 35), (0, 0), (-1, -1), True)
    first = receptive_fields(traced(Does(lambda x: x[:, :, -100:]), 3, 33, 33))[""].height
    assert (first.start, first.size, first.jump) == (-1, 3, 1), "row 0, with the convolution's padding"
