"""The closed forms against torch at random settings, and against what the papers and lectures print."""

import re
import subprocess
import sys
from math import prod
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.autograd.functional import jacobian
from torch.nn import functional as F

from convatlas.arithmetic import (
    FC,
    Conv,
    Field,
    Pool,
    Transposed,
    Window,
    avg_pool_matrix,
    compound_scaling,
    conv_matrix,
    conv_weight_jacobian,
    lrn,
    lrn_jacobian,
    max_pool_matrix,
    output_size,
    receptive_field,
    relu_jacobian,
    separable_fraction,
    softmax,
    softmax_jacobian,
    stack_weights,
    stacked,
    transposed_size,
)
from convatlas.errors import UserError
from convatlas.layers import LRN, same_padding

ALEXNET = (  # the lectures' single stream
    *(Conv(96, 11, 4), Pool(3, 2), Conv(256, 5, padding=2), Pool(3, 2), Conv(384, 3, padding=1)),
    *(Conv(384, 3, padding=1), Conv(256, 3, padding=1), Pool(3, 2), FC(4096), FC(4096), FC(1000)),
)
VGG16 = (
    *(
        layer
        for c, n in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
        for layer in [Conv(c, 3, padding=1)] * n + [Pool(2)]
    ),
    *(FC(4096), FC(4096), FC(1000)),
)

sizes, kernels, strides = st.integers(1, 12), st.integers(1, 5), st.integers(1, 4)
pairs = lambda what: st.tuples(what, what)  # noqa: E731


def numbers(*shape: int) -> torch.Tensor:
    """Fixed random values, all different."""
    generator = torch.Generator().manual_seed(prod(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def torch_or_none(function: Any, *args: Any, **options: Any) -> torch.Tensor | None:
    try:
        return function(*args, **options)
    except RuntimeError:
        return None


# Sizes


@pytest.mark.parametrize(
    ("settings", "printed"),
    [
        ((7, 3, 1), 5),
        ((7, 3, 2), 3),
        ((7, 3, 3), 2),
        ((7, 3, 1, 1), 7),
        ((32, 5, 1, 2), 32),
        ((224, 2, 2), 112),
        ((227, 11, 4), 55),
        ((55, 3, 2), 27),
        ((27, 3, 2), 13),
        ((13, 3, 2), 6),
    ],
)
def test_the_lectures_sizes(settings: tuple[int, ...], printed: int) -> None:
    assert output_size(*settings) == printed


def test_a_stride_that_does_not_divide_leaves_columns_and_a_kernel_too_large_is_refused() -> None:
    assert Window(3, 3).unused(7) == 1
    assert Window(3, 2).unused(7) == 0
    assert Window(3, 3, padding=1).unused(7) == 0
    assert Window(7, 2, padding=3).unused(224) == 0  # what is left over there is padding
    assert Window(1, 2).unused(8) == 4  # a 1x1 of stride 2 reads every other column
    assert Window(3, 2, dilation=3).unused(11) == 11 - len({0, 3, 6} | {2, 5, 8} | {4, 7, 10})
    with pytest.raises(UserError, match=r"kernel 7 does not fit on a side of 5; the smallest side is 7$"):
        output_size(5, 7)
    with pytest.raises(UserError, match=r"kernel 7 does not fit on a side of 2 \(padded: 6\); the smallest side is 3$"):
        output_size(2, 7, padding=2)
    with pytest.raises(UserError, match=r"kernel 3 \(dilated by 4: 9\) does not fit on a side of 8"):
        output_size(8, 3, dilation=4)
    with pytest.raises(UserError, match=r"kernel 3 does not fit on a side of 1; the smallest side is 2$"):
        output_size(1, 3, 2, ceil=True)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 7), st.integers(0, 4), st.integers(1, 4), st.booleans())
@settings(max_examples=300, deadline=None)
def test_what_no_window_reads_and_the_smallest_side(
    n: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool
) -> None:
    """Against every position looked at by itself, and every side tried."""
    window = Window(kernel, stride, min(padding, kernel // 2) if ceil else padding, dilation, ceil)
    try:
        reads = window.reads(n)
    except UserError as error:
        smallest = int(str(error).rpartition(" ")[2])
        assert n < smallest
        for side in range(1, smallest):
            with pytest.raises(UserError, match=f"does not fit on a side of {side}"):
                window.output(side)
        assert window.output(smallest) >= 1
    else:
        assert window.unused(n) == n - len({p for each in reads for p in each if 0 <= p < n})


def test_sides_of_any_length_are_answered_at_once() -> None:
    assert Conv(1, 3, 2).on((1, 10**15, 10**15)).unused == (1, 1)
    with pytest.raises(UserError, match="the smallest side is 1000000000000001"):
        Window(2, dilation=10**15).output(5)


@pytest.mark.parametrize(
    ("window", "n", "formula"),
    [
        (Window(11, 4), 227, "(227 + 2*0 - 11)/4 + 1 = 55"),
        (Window(3, 3), 7, "floor((7 + 2*0 - 3)/3) + 1 = 2"),
        (Window(3, 2, ceil=True), 112, "ceil((112 + 2*0 - 3)/2) + 1 = 56"),
        (
            Window(2, 2, padding=1, ceil=True),
            3,
            "ceil((3 + 2*1 - 2)/2) + 1 - 1 (the last window would start outside) = 2",
        ),
        (Window(3, 1, padding=2, dilation=2), 32, "(32 + 2*2 - 2*(3 - 1) - 1)/1 + 1 = 32"),
        (Window(3, 2, padding="same"), 225, "ceil(225/2) = 113 (padding 1 before, 1 after)"),
    ],
)
def test_formulas_are_true(window: Window, n: int, formula: str) -> None:
    assert window.formula(n) == formula
    left, right = re.sub(r" \((the last|padding).*?\)", "", formula).split(" = ")
    names = {"floor": lambda x: int(x // 1), "ceil": lambda x: int(-(-x // 1))}
    assert eval(left, names) == int(right) == window.output(n)


@given(sizes, sizes, pairs(kernels), pairs(strides), pairs(st.integers(0, 3)), pairs(st.integers(1, 3)))
@settings(max_examples=200, deadline=None)
def test_convolutions_are_torchs(h: int, w: int, kernel: Any, stride: Any, padding: Any, dilation: Any) -> None:
    layer = Conv(4, kernel, stride, padding, dilation, groups=2)
    x = numbers(2, h, w)
    weight, bias = numbers(4, 1, *kernel), numbers(4)
    theirs = torch_or_none(F.conv2d, x[None], weight, bias, stride, padding, dilation, 2)
    if theirs is None:
        with pytest.raises(UserError, match="does not fit on a side of"):
            layer.on((2, h, w))
        return
    cost = layer.on((2, h, w))
    assert cost.shape == theirs.shape[1:]
    assert cost.params == weight.numel() + bias.numel()
    assert cost.macs == theirs[0, 0].numel() * weight.numel()
    ours = (conv_matrix(weight, (2, h, w), layer) @ x.numpy().ravel()).reshape(cost.shape) + bias.numpy()[:, None, None]
    np.testing.assert_allclose(ours, theirs[0], rtol=1e-12, atol=1e-12)


@given(sizes, sizes, pairs(kernels), pairs(strides), pairs(st.integers(1, 3)))
@settings(max_examples=100, deadline=None)
def test_same_is_tensorflows(h: int, w: int, kernel: Any, stride: Any, dilation: Any) -> None:
    layer = Conv(3, kernel, stride, "same", dilation)
    rows, columns = layer.windows
    pads = same_padding((h, w), (rows.reach, columns.reach), stride)
    assert [*columns.pads(w), *rows.pads(h)] == pads
    x, weight = numbers(2, h, w), numbers(3, 2, *kernel)
    theirs = F.conv2d(F.pad(x[None], pads), weight, None, stride, 0, dilation)[0]
    assert layer.on((2, h, w)).shape == theirs.shape == (3, -(-h // stride[0]), -(-w // stride[1]))
    ours = conv_matrix(weight, (2, h, w), layer) @ x.numpy().ravel()
    np.testing.assert_allclose(ours, theirs.ravel(), rtol=1e-12, atol=1e-12)


@given(
    sizes,
    sizes,
    pairs(kernels),
    pairs(strides),
    pairs(st.integers(0, 3)),
    pairs(st.integers(1, 3)),
    pairs(st.integers(0, 3)),
)
@settings(max_examples=200, deadline=None)
def test_transposed_convolutions_are_torchs(
    h: int, w: int, kernel: Any, stride: Any, padding: Any, dilation: Any, extra: Any
) -> None:
    layer = Transposed(6, kernel, stride, padding, dilation, 2, extra)
    x, weight = numbers(4, h, w), numbers(4, 3, *kernel)
    theirs = torch_or_none(F.conv_transpose2d, x[None], weight, None, stride, padding, extra, 2, dilation)
    if theirs is None:
        with pytest.raises(UserError, match=r"removes all|is not less than the stride or the dilation"):
            layer.on((4, h, w))
        return
    cost = layer.on((4, h, w))
    assert cost.shape == theirs.shape[1:]
    assert (cost.weights, cost.biases, cost.macs) == (weight.numel(), 6, h * w * weight.numel())
    if any(e >= s for e, s in zip(extra, stride)):  # no convolution makes h x w of it
        return
    convolution = Conv(4, kernel, stride, padding, dilation, groups=2)
    ours = conv_matrix(weight, cost.shape, convolution).T @ x.numpy().ravel()
    np.testing.assert_allclose(ours, theirs.ravel(), rtol=1e-12, atol=1e-12)


@given(sizes, kernels, strides, st.integers(0, 3), st.integers(1, 3))
@settings(deadline=None)
def test_transposed_sizes_invert(n: int, kernel: int, stride: int, padding: int, dilation: int) -> None:
    try:
        size = transposed_size(n, kernel, stride, padding, dilation)
    except UserError:
        assume(False)
    assert output_size(size, kernel, stride, padding, dilation) == n
    assert output_size(size + stride - 1, kernel, stride, padding, dilation) == n


@given(sizes, sizes, pairs(kernels), pairs(strides), pairs(st.integers(0, 3)), pairs(st.integers(1, 3)), st.booleans())
@settings(max_examples=300, deadline=None)
def test_max_pooling_is_torchs(
    h: int, w: int, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool
) -> None:
    layer = Pool(kernel, stride, padding, dilation, ceil)
    x = torch.round(numbers(2, h, w), decimals=1).requires_grad_()  # with ties
    theirs = torch_or_none(F.max_pool2d, x[None], kernel, stride, padding, dilation, ceil)
    if theirs is None:
        with pytest.raises(UserError, match=r"does not fit on a side of|is more than half of the kernel"):
            layer.on((2, h, w))
        return
    assert layer.on((2, h, w)).shape == theirs.shape[1:]
    if torch.isinf(theirs).any():
        with pytest.raises(UserError, match="holds only padding; reduce the dilation"):
            max_pool_matrix(x.detach(), layer)
        return
    matrix = max_pool_matrix(x.detach(), layer)
    assert (matrix.sum(1) == 1).all()
    np.testing.assert_array_equal(matrix @ x.detach().numpy().ravel(), theirs.detach().ravel())
    (backward,) = torch.autograd.grad(theirs, x, numbers(*theirs.shape))  # the same choice among equals
    np.testing.assert_allclose(
        numbers(*theirs.shape).numpy().ravel() @ matrix, backward.ravel(), rtol=1e-12, atol=1e-12
    )


@given(sizes, sizes, pairs(kernels), pairs(strides), pairs(st.integers(0, 2)), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_average_pooling_is_torchs(
    h: int, w: int, kernel: Any, stride: Any, padding: Any, ceil: bool, counts: bool
) -> None:
    layer = Pool(kernel, stride, padding, ceil=ceil)
    x = numbers(2, h, w)
    theirs = torch_or_none(F.avg_pool2d, x[None], kernel, stride, padding, ceil, counts)
    if theirs is None:
        with pytest.raises(UserError, match=r"does not fit on a side of|is more than half of the kernel"):
            layer.on((2, h, w))
        return
    cost = layer.on((2, h, w))
    assert cost.shape == theirs.shape[1:]
    assert (cost.params, cost.macs) == (0, 0)
    matrix = avg_pool_matrix((2, h, w), layer, count_padding=counts)
    np.testing.assert_allclose(matrix @ x.numpy().ravel(), theirs.ravel(), rtol=1e-12, atol=1e-12)


# The lectures' pooling of a 4x4 map


def test_the_lectures_pooling_matrices_of_a_4x4_map() -> None:
    x = np.array([[1, 3, 2, 1], [4, 2, 1, 5], [0, 1, 8, 2], [6, 2, 3, 4]])[None]
    chosen = max_pool_matrix(x, Pool(2))
    assert chosen.shape == (4, 16)
    assert chosen.argmax(1).tolist() == [4, 7, 12, 10]
    assert (chosen @ x.ravel()).tolist() == [4, 5, 6, 8]
    mean = avg_pool_matrix((1, 4, 4), Pool(2))
    assert mean.shape == (4, 16)
    assert mean[0].tolist() == [0.25, 0.25, 0, 0, 0.25, 0.25, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    assert (mean @ x.ravel()).tolist() == [2.5, 2.25, 2.25, 4.25]


# Jacobians


def test_matrices_are_the_jacobians_that_autograd_finds() -> None:
    x = numbers(4, 6, 5)
    weight, layer = numbers(6, 2, 3, 2), Conv(6, (3, 2), (1, 2), (1, 0), 2, groups=2)
    convolve = lambda x, w: F.conv2d(x[None], w, None, (1, 2), (1, 0), 2, 2)[0]  # noqa: E731
    in_x, in_weight = jacobian(convolve, (x, weight))
    np.testing.assert_allclose(conv_matrix(weight, x.shape, layer), in_x.reshape(-1, x.numel()), atol=1e-12)
    np.testing.assert_allclose(conv_weight_jacobian(x, layer), in_weight.reshape(-1, weight.numel()), atol=1e-12)
    in_pool = jacobian(lambda x: F.max_pool2d(x, 3, 2, 1), x).reshape(-1, x.numel())
    np.testing.assert_array_equal(max_pool_matrix(x, Pool(3, 2, 1)), in_pool)
    in_mean = jacobian(lambda x: F.avg_pool2d(x, 3, 2, 1), x).reshape(-1, x.numel())
    np.testing.assert_allclose(avg_pool_matrix(tuple(x.shape), Pool(3, 2, 1)), in_mean, atol=1e-12)
    np.testing.assert_array_equal(relu_jacobian(x), jacobian(F.relu, x).reshape(x.numel(), -1))


@pytest.mark.parametrize("n", [1, 2, 4, 5, 20])
def test_lrn_and_its_jacobian(n: int) -> None:
    x = 3 * numbers(7, 3, 2)
    constants = dict(n=n, alpha=0.1, beta=0.6, k=1.5)
    layer = LRN(**constants)
    np.testing.assert_allclose(lrn(x, **constants), layer(x[None])[0], rtol=1e-12)
    theirs = jacobian(lambda x: layer(x[None])[0], x).reshape(x.numel(), -1)
    np.testing.assert_allclose(lrn_jacobian(x, **constants), theirs, atol=1e-12)


def test_lrn_by_hand() -> None:
    x = np.array([1.0, 2, 3, 4, 5, 6]).reshape(6, 1, 1) * 100
    around_third = (100**2) * (1 + 4 + 9 + 16 + 25)
    assert lrn(x)[2, 0, 0] == pytest.approx(300 / (2 + 1e-4 * around_third) ** 0.75)


def test_softmax_and_its_jacobian() -> None:
    x = 5 * numbers(9)
    np.testing.assert_allclose(softmax(x), torch.softmax(x, 0), rtol=1e-12)
    np.testing.assert_allclose(softmax_jacobian(x), jacobian(lambda x: torch.softmax(x, 0), x), atol=1e-12)
    assert softmax([1e4, 0]).tolist() == [1, 0]


# Stacks


def test_alexnet_in_closed_form() -> None:
    """The lectures' table: its sizes, 62.3 M parameters, 1.1 billion multiply-adds."""
    costs = stacked((3, 227, 227), *ALEXNET)
    assert [c.shape for c in costs[:8]] == [
        *((96, 55, 55), (96, 27, 27), (256, 27, 27), (256, 13, 13)),
        *((384, 13, 13), (384, 13, 13), (256, 13, 13), (256, 6, 6)),
    ]
    assert [c.params for c in costs if c.params] == [
        *(34_944, 614_656, 885_120, 1_327_488, 884_992),
        *(37_752_832, 16_781_312, 4_097_000),
    ]
    assert sum(c.params for c in costs) == 62_378_344
    assert sum(c.macs for c in costs) == 1_135_256_096


def test_vgg16_in_closed_form() -> None:
    costs = stacked((3, 224, 224), *VGG16)
    assert sum(c.weights for c in costs) == 138_344_128
    assert sum(c.params for c in costs) == 138_357_544
    assert sum(c.macs for c in costs) == 15_470_264_320
    assert 3 * 224 * 224 + sum(c.values for c in costs) == 15_237_608


def test_formulas_of_cost_come_to_the_counts() -> None:
    layers = (
        (Conv(96, 11, 4), (3, 227, 227)),
        (Conv(8, (1, 7), padding="same", groups=4, bias=False), (12, 9, 8)),
        (Transposed(16, (4, 3), 2, 1, dilation=2, groups=2, output_padding=1), (8, 7, 6)),
        (Transposed(5, 3, bias=False), (2, 4, 4)),
        (FC(4096), (256, 6, 6)),
        (FC(10, bias=False), (4096,)),
    )
    for layer, shape in layers:
        cost = layer.on(shape)
        for what in ("weights", "params", "macs"):
            assert eval(cost.formulas[what]) == getattr(cost, what), (layer, what)
        for i, what in enumerate(("height", "width"), start=1):
            if what in cost.formulas:
                assert f" = {cost.shape[i]}" in cost.formulas[what]
    height = Transposed(16, 4, 2, 1, 2, output_padding=1).on((8, 7, 6)).formulas["height"]
    assert height == "(7 - 1)*2 - 2*1 + 2*(4 - 1) + 1 + 1 = 18"


def test_small_filters() -> None:
    for channels in (1, 64, 512):
        assert stack_weights([3, 3, 3], channels) == 27 * channels**2
        assert stack_weights([7], channels) == 49 * channels**2
        assert stack_weights([3, 3], channels) == 18 * channels**2
        layers = [Conv(channels, 3, padding=1, bias=False)] * 3
        assert sum(c.weights for c in stacked((channels, 9, 9), *layers)) == stack_weights([3, 3, 3], channels)
    assert receptive_field([Window(3)] * 3) == receptive_field([Window(7)]) == Field(7, 1, 0)
    assert receptive_field([Window(3)] * 2) == receptive_field([Window(5)]) == Field(5, 1, 0)


def test_the_bottleneck() -> None:
    """Lecture 002: 120M multiply-adds without, 12.4M with a 1x1 in front."""
    shape = (192, 28, 28)
    (direct,) = stacked(shape, Conv(32, 5, padding=2))
    reduced = stacked(shape, Conv(16, 1), Conv(32, 5, padding=2))
    assert direct.macs == 120_422_400
    assert [c.macs for c in reduced] == [2_408_448, 10_035_200]
    assert direct.shape == reduced[-1].shape == (32, 28, 28)


@given(st.integers(1, 7), st.integers(1, 64), st.integers(1, 64), st.integers(7, 20))
@settings(deadline=None)
def test_the_separable_fraction(kernel: int, m: int, n: int, size: int) -> None:
    shape = (m, size, size)
    (full,) = stacked(shape, Conv(n, kernel, padding="same", bias=False))
    separable = stacked(shape, Conv(m, kernel, padding="same", groups=m, bias=False), Conv(n, 1, bias=False))
    assert sum(c.macs for c in separable) / full.macs == pytest.approx(separable_fraction(kernel, n))
    assert sum(c.weights for c in separable) / full.weights == pytest.approx(separable_fraction(kernel, n))


def test_compound_scaling() -> None:
    """EfficientNet's powers: phi 4 scales 224 to 391.8 pixels; a step of phi costs 1.92 times as much."""
    assert compound_scaling(0) == (1, 1, 1, 1)
    assert compound_scaling(1).macs == pytest.approx(1.92027, abs=1e-5)
    four = compound_scaling(4)
    assert [round(v, 3) for v in four[:3]] == [2.074, 1.464, 1.749]
    assert round(224 * four.resolution, 1) == 391.8
    assert four.macs == pytest.approx(compound_scaling(1).macs ** 4)
    for layers, channels, size in ((2, 8, 10), (8, 24, 30)):  # 4 times as deep, 3 times as wide, 3 times the size
        costs = stacked((channels, size, size), *[Conv(channels, 3, padding=1)] * layers)
        assert sum(c.macs for c in costs) == 2 * 8 * 8 * 9 * 100 * (1 if layers == 2 else 4 * 3**2 * 3**2)


@given(
    st.lists(st.tuples(kernels, strides, st.integers(0, 2), st.integers(1, 2)), min_size=1, max_size=4),
    st.integers(0, 3),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_receptive_fields_are_where_gradients_reach(layers: list[Any], at: int, same: bool) -> None:
    """Positive weights: a gradient is zero only outside the field (and in the gaps that stride and dilation leave)."""
    n = 1200  # enough for any four of these windows
    windows = [Window(k, s, "same" if same else p, d) for k, s, p, d in layers]
    x = y = torch.ones(1, 1, n, dtype=torch.float64, requires_grad=True)
    for window in windows:
        ones = torch.ones(1, 1, window.kernel, dtype=torch.float64)
        y = F.conv1d(F.pad(y, window.pads(y.shape[2])), ones, None, window.stride, 0, window.dilation)
    at = min(at, y.shape[2] - 1)
    size, jump, start = receptive_field(windows, n)
    (gradient,) = torch.autograd.grad(y[0, 0, at], x)
    reached = gradient[0, 0].nonzero().ravel().tolist()
    first, last = start + at * jump, start + at * jump + size - 1
    assert all(first <= p <= last for p in reached)
    if first >= 0 and last < n:
        assert (reached[0], reached[-1]) == (first, last)


def test_receptive_field_of_alexnet_and_of_same() -> None:
    rows = [layer.windows[0] for layer in ALEXNET if not isinstance(layer, FC)]
    assert receptive_field(rows) == Field(195, 32, -64)
    with pytest.raises(UserError, match='padding "same" depends on the side of the input; give n'):
        receptive_field([Window(3, padding="same")])


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Window(0), r"kernel=0 is invalid; give a whole number of at least 1$"),
        (lambda: Window(3, 0), r"stride=0 is invalid"),
        (lambda: Window(3, padding=-1), r'padding=-1 is invalid; give a whole number of at least 0 or "same"'),
        (lambda: Conv(8, 3, padding="valid").on((3, 9, 9)), r"padding='valid' is invalid"),
        (lambda: Window(3, dilation=True), r"dilation=True is invalid"),
        (lambda: output_size(0, 1), r"side=0 is invalid"),
        (lambda: Conv(0, 3).on((3, 9, 9)), r"filters=0 is invalid"),
        (lambda: Conv(8, (3, 3, 3)).on((3, 9, 9)), r"\(3, 3, 3\) is not a height and a width"),
        (lambda: Conv(8, 3).on((9, 9)), r"9x9 is not an image size; give channels x height x width"),
        (lambda: Conv(8, 3, groups=3).on((4, 9, 9)), r"3 groups do not divide 4 channels into 8 filters"),
        (lambda: Conv(8, 3, groups=0).on((4, 9, 9)), r"groups=0 is invalid"),
        (lambda: Pool(3, 2, 2).on((4, 9, 9)), r"padding 2 is more than half of the kernel \(3\).*take at most 1"),
        (lambda: FC(0).on((4,)), r"units=0 is invalid"),
        (lambda: FC(5).on((4, 0)), r"4x0 is not an input"),
        (lambda: transposed_size(1, 3, padding=2), r"padding 2 removes all 3 output positions"),
        (lambda: transposed_size(4, 3, 2, output_padding=2), r"output_padding 2 is not less than the stride"),
        (lambda: transposed_size(4, 3, 2, padding="same"), r"padding='same' is invalid; give a whole number"),  # type: ignore[arg-type]
        (
            lambda: conv_matrix(np.ones((8, 3, 3, 3)), (4, 9, 9), Conv(8, 3)),
            r"the weight is 8x3x3x3; this convolution needs 8x4x3x3",
        ),
        (lambda: avg_pool_matrix((64, 224, 224), Pool(2)), r"a 802,816 x 3,211,264 matrix takes 20,624.4 GB"),
        (lambda: lrn(np.ones(4), n=0), r"n=0 is invalid"),
        (lambda: max_pool_matrix(np.ones((1, 1, 1)), Pool(2, 1, 1, dilation=2)), r"holds only padding"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_needs_neither_torch_nor_numpy_until_a_matrix_is_made() -> None:
    code = (
        "import sys; from convatlas.arithmetic import *; Conv(96, 11, 4).on((3, 227, 227)); "
        "assert not {'torch', 'numpy'} & set(sys.modules); avg_pool_matrix((1, 4, 4), Pool(2)); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
