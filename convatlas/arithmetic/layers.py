"""Layers: the output of each for an image and its cost, with the numbers substituted into the formulas."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from ..errors import UserError
from .sides import Window, transposed_size, whole

Shape = tuple[int, ...]  # C x H x W, or the units of a fully connected layer
Sides = int | tuple[int, int]  # one for both sides, or height and width


@dataclass(frozen=True)
class Cost:
    """A layer's output for an image, and its cost. One MAC is one multiply-accumulate; biases cost none."""

    shape: Shape
    weights: int = 0
    biases: int = 0
    macs: int = 0
    unused: tuple[int, int] = (0, 0)  # rows and columns of the input that no window reads
    formulas: dict[str, str] = field(
        default_factory=dict
    )  # height, width, weights, params, macs: the formulas with numbers

    @property
    def params(self) -> int:
        return self.weights + self.biases

    @property
    def values(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Conv:
    """A convolution. `padding` is a number, (height, width) or "same" (see `Window`)."""

    filters: int
    kernel: Sides
    stride: Sides = 1
    padding: Sides | str = 0
    dilation: Sides = 1
    groups: int = 1
    bias: bool = True

    @property
    def windows(self) -> tuple[Window, Window]:
        """Along the height and along the width."""
        return _windows(self.kernel, self.stride, self.padding, self.dilation)

    def on(self, shape: Shape) -> Cost:
        """The cost on C x H x W. Raises UserError when the kernel does not fit or the groups do not divide."""
        cin, h, w = image(shape)
        rows, columns = self.windows
        out = (self.filters, rows.output(h), columns.output(w))
        weights = rows.kernel * columns.kernel * per_group(self.filters, cin, self.groups) * self.filters
        reads = f"{rows.kernel}*{columns.kernel}*{_grouped(cin, self.groups)}"
        return Cost(
            out,
            weights,
            self.filters * self.bias,
            out[1] * out[2] * weights,
            (rows.unused(h), columns.unused(w)),
            {
                "height": rows.formula(h),
                "width": columns.formula(w),
                "weights": f"{reads}*{self.filters}",
                "params": f"({reads} + 1)*{self.filters}" if self.bias else f"{reads}*{self.filters}",
                "macs": f"{out[1]}*{out[2]}*{self.filters} * {reads}",
            },
        )


@dataclass(frozen=True)
class Pool:
    """Maximum or average pooling; `stride` is the kernel's when it is None. It costs no multiply-adds."""

    kernel: Sides
    stride: Sides | None = None
    padding: Sides | str = 0
    dilation: Sides = 1
    ceil: bool = False

    @property
    def windows(self) -> tuple[Window, Window]:
        """Along the height and along the width. Raises UserError when a window could hold only padding."""
        stride = self.kernel if self.stride is None else self.stride
        windows = _windows(self.kernel, stride, self.padding, self.dilation, self.ceil)
        for window in windows:
            if isinstance(window.padding, int) and 2 * window.padding > window.kernel:
                raise UserError(
                    f"padding {window.padding} is more than half of the kernel ({window.kernel}): a window "
                    "could hold only padding",
                    f"take at most {window.kernel // 2}",
                )
        return windows

    def on(self, shape: Shape) -> Cost:
        """The cost on C x H x W. Raises UserError when the kernel does not fit."""
        cin, h, w = image(shape)
        rows, columns = self.windows
        return Cost(
            (cin, rows.output(h), columns.output(w)),
            unused=(rows.unused(h), columns.unused(w)),
            formulas={"height": rows.formula(h), "width": columns.formula(w)},
        )


@dataclass(frozen=True)
class Transposed:
    """A transposed convolution ("deconvolution"): its matrix is a convolution's, transposed."""

    filters: int
    kernel: Sides
    stride: Sides = 1
    padding: Sides = 0
    dilation: Sides = 1
    groups: int = 1
    output_padding: Sides = 0
    bias: bool = True

    def on(self, shape: Shape) -> Cost:
        """The cost on C x H x W. Raises UserError when the output is empty or the groups do not divide."""
        cin, h, w = image(shape)
        (kh, kw), (sh, sw), (ph, pw) = _pair(self.kernel), _pair(self.stride), _pair(self.padding)
        (dh, dw), (eh, ew) = _pair(self.dilation), _pair(self.output_padding)
        out = (
            self.filters,
            transposed_size(h, kh, sh, ph, dh, eh),
            transposed_size(w, kw, sw, pw, dw, ew),
        )
        weights = kh * kw * per_group(self.filters, cin, self.groups) * self.filters
        reads = f"{kh}*{kw}*{_grouped(cin, self.groups)}*{self.filters}"
        return Cost(
            out,
            weights,
            self.filters * self.bias,
            h * w * weights,
            formulas={
                "height": f"{_transposed(h, kh, sh, ph, dh, eh)} = {out[1]}",
                "width": f"{_transposed(w, kw, sw, pw, dw, ew)} = {out[2]}",
                "weights": reads,
                "params": f"{reads} + {self.filters}" if self.bias else reads,
                "macs": f"{h}*{w} * {reads}",
            },
        )


@dataclass(frozen=True)
class FC:
    """A fully connected layer on all values of its input."""

    units: int
    bias: bool = True

    def on(self, shape: Shape) -> Cost:
        """The cost on C x H x W, or on the units of another fully connected layer."""
        whole("units", self.units, 1)
        if not shape or min(shape) < 1:
            raise UserError(f"{'x'.join(map(str, shape))} is not an input", "give channels x height x width, or units")
        reads, weights = "*".join(map(str, shape)), prod(shape) * self.units
        return Cost(
            (self.units,),
            weights,
            self.units * self.bias,
            weights,
            formulas={
                "weights": f"{reads}*{self.units}",
                "params": f"({reads} + 1)*{self.units}" if self.bias else f"{reads}*{self.units}",
                "macs": f"{reads}*{self.units}",
            },
        )


Layer = Conv | Pool | Transposed | FC


def stacked(shape: Shape, *layers: Layer) -> list[Cost]:
    """The cost of each layer: the first on `shape`, each other on the output of the one before."""
    costs: list[Cost] = []
    for layer in layers:
        costs.append(layer.on(costs[-1].shape if costs else shape))
    return costs


def stack_weights(kernels: Iterable[int], channels: int) -> int:
    """Weights of square convolutions, C channels wide throughout: three 3x3 have 27 C^2, one 7x7 has 49 C^2.

    (Simonyan and Zisserman, 2014, section 2.3.)
    """
    return sum(k * k for k in kernels) * channels**2


def separable_fraction(kernel: int, filters: int) -> float:
    """The relative cost of a depthwise-separable convolution: (k*k*M + M*N) / (k*k*M*N) = 1/N + 1/k^2.

    It holds for weights and multiply-adds; the M input channels cancel (Howard et al., 2017, section 3.1).
    """
    return 1 / filters + 1 / kernel**2


class Scaling(NamedTuple):
    """The factors of a network's depth, width and resolution, and the growth of its multiply-adds."""

    depth: float
    width: float
    resolution: float
    macs: float


def compound_scaling(phi: float, alpha: float = 1.2, beta: float = 1.1, gamma: float = 1.15) -> Scaling:
    """Depth alpha^phi, width beta^phi, resolution gamma^phi; the cost grows by (alpha beta^2 gamma^2)^phi, about 2^phi.

    The cost is linear in depth, quadratic in width and in resolution (Tan and Le, 2019, equation 3).
    """
    return Scaling(alpha**phi, beta**phi, gamma**phi, (alpha * beta**2 * gamma**2) ** phi)


def image(shape: Shape) -> tuple[int, int, int]:
    """C, H, W of a shape. Raises UserError when it is not an image's."""
    if len(shape) != 3 or min(shape) < 1:
        raise UserError(f"{'x'.join(map(str, shape))} is not an image size", "give channels x height x width")
    c, h, w = shape
    return c, h, w


def per_group(filters: int, cin: int, groups: int) -> int:
    """The input channels that one filter reads. Raises UserError when the groups do not divide."""
    whole("filters", filters, 1)
    whole("groups", groups, 1)
    if cin % groups or filters % groups:
        raise UserError(
            f"{groups} groups do not divide {cin} channels into {filters} filters", "take a divisor of both"
        )
    return cin // groups


def _pair(value: Any) -> tuple[Any, Any]:
    if not isinstance(value, tuple):
        return value, value
    if len(value) != 2:
        raise UserError(f"{value!r} is not a height and a width", "give one number or two")
    return value


def _windows(
    kernel: Sides, stride: Sides, padding: Sides | str, dilation: Sides, ceil: bool = False
) -> tuple[Window, Window]:
    settings = zip(*map(_pair, (kernel, stride, padding, dilation)))
    rows, columns = (Window(k, s, p, d, ceil) for k, s, p, d in settings)
    return rows, columns


def _grouped(cin: int, groups: int) -> str:
    return str(cin) if groups == 1 else f"({cin}/{groups})"


def _transposed(n: int, kernel: int, stride: int, padding: int, dilation: int, extra: int) -> str:
    reach = str(kernel) if dilation == 1 else f"{dilation}*({kernel} - 1) + 1"
    return f"({n} - 1)*{stride} - 2*{padding} + {reach}" + (f" + {extra}" if extra else "")
