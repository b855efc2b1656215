"""One side of an image: how many windows fit on it, what they read, and what a stack of them sees."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import UserError


@dataclass(frozen=True)
class Window:
    """A kernel sliding along one side of an image, in pixels.

    `padding` is added at both ends; "same" is TensorFlow's, which makes the output ceil(n / stride) and puts an odd
    pixel at the end. `ceil` rounds up, for pooling: a last window that starts inside the image may extend past it.
    """

    kernel: int
    stride: int = 1
    padding: int | str = 0
    dilation: int = 1
    ceil: bool = False

    def __post_init__(self) -> None:
        for name in ("kernel", "stride", "dilation"):
            whole(name, getattr(self, name), 1)
        if self.padding != "same":
            whole("padding", self.padding, 0, ' or "same"')

    @property
    def reach(self) -> int:
        """From the first pixel that the kernel reads to the last, inclusive."""
        return (self.kernel - 1) * self.dilation + 1

    def pads(self, n: int) -> tuple[int, int]:
        """The padding before and after a side of `n`."""
        if isinstance(self.padding, int):
            return self.padding, self.padding
        total = max((-(-n // self.stride) - 1) * self.stride + self.reach - n, 0)
        return total // 2, total - total // 2

    def output(self, n: int) -> int:
        """The number of windows on a side of `n`. Raises UserError when none fits."""
        whole("side", n, 1)
        fits = self._fits(n)
        if fits < 1:
            spread = f" (dilated by {self.dilation}: {self.reach})" if self.dilation > 1 else ""
            padded = f" (padded: {n + sum(self.pads(n))})" if self.padding else ""
            sides = range(n + 1, self.reach + 2)
            smallest = sides[bisect_left(sides, True, key=lambda side: self._fits(side) > 0)]
            raise UserError(
                f"kernel {self.kernel}{spread} does not fit on a side of {n}{padded}",
                f"the smallest side is {smallest}",
            )
        return fits

    def _fits(self, n: int) -> int:
        room = n + sum(self.pads(n)) - self.reach
        return (-(-room // self.stride) if self.ceil else room // self.stride) + 1 - self._drops_last(n)

    def _drops_last(self, n: int) -> bool:
        """Whether rounding up adds a window that would start past the image (torch and Caffe leave it out)."""
        before, after = self.pads(n)
        last = -(-(n + before + after - self.reach) // self.stride) * self.stride
        return self.ceil and last >= n + before

    def reads(self, n: int) -> list[list[int]]:
        """The positions that each window reads; those below 0 and from `n` on are padding."""
        starts = [i * self.stride - self.pads(n)[0] for i in range(self.output(n))]
        return [[start + tap * self.dilation for tap in range(self.kernel)] for start in starts]

    def unused(self, n: int) -> int:
        """How many of the `n` positions no window reads: a stride that does not divide leaves some at the end."""
        (before, _), windows = self.pads(n), self.output(n)
        taps: dict[int, list[int]] = defaultdict(list)  # by what is left of the tap's place after whole strides: those
        for tap in range(self.kernel):
            strides, rest = divmod(tap * self.dilation, self.stride)
            taps[rest].append(strides)
        read = 0
        for rest, firsts in taps.items():  # a tap of the windows reads every stride-th pixel from its first one on
            free, stop = -((rest - before) // self.stride), -((rest - before - n) // self.stride)  # inside the image
            for first in firsts:
                free, last = max(free, first), min(first + windows, stop)
                read += max(last - free, 0)
                free = max(free, last)
        return n - read

    def formula(self, n: int) -> str:
        """The output size with the numbers substituted: "(227 + 2*0 - 11)/4 + 1 = 55"."""
        if self.padding == "same":
            before, after = self.pads(n)
            return f"ceil({n}/{self.stride}) = {self.output(n)} (padding {before} before, {after} after)"
        kernel = str(self.kernel) if self.dilation == 1 else f"{self.dilation}*({self.kernel} - 1) - 1"
        quotient = f"({n} + 2*{self.padding} - {kernel})/{self.stride}"
        if (n + sum(self.pads(n)) - self.reach) % self.stride:
            quotient = f"{'ceil' if self.ceil else 'floor'}({quotient})"
        left_out = " - 1 (the last window would start outside)" if self._drops_last(n) else ""
        return f"{quotient} + 1{left_out} = {self.output(n)}"


def output_size(
    n: int, kernel: int, stride: int = 1, padding: int | str = 0, dilation: int = 1, *, ceil: bool = False
) -> int:
    """The output's side: floor((n + 2*padding - dilation*(kernel - 1) - 1) / stride) + 1. See `Window`.

    Raises UserError when the kernel does not fit.
    """
    return Window(kernel, stride, padding, dilation, ceil).output(n)


def transposed_size(
    n: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1, output_padding: int = 0
) -> int:
    """The output side of a transposed convolution on `n`: (n - 1)*stride - 2*padding + dilation*(kernel - 1) + 1.

    It is the smallest side that the convolution maps to `n`; `output_padding`, less than the stride (or the dilation),
    gives the larger ones. Raises UserError when the output is empty.
    """
    window = Window(kernel, stride, padding, dilation)
    whole("side", n, 1)
    whole("padding", padding, 0)
    whole("output_padding", output_padding, 0)
    if output_padding >= max(stride, dilation):
        raise UserError(f"output_padding {output_padding} is not less than the stride or the dilation", "take less")
    size = (n - 1) * stride - 2 * padding + window.reach + output_padding
    if size < 1:
        raise UserError(f"padding {padding} removes all {size + 2 * padding} output positions", "take less")
    return size


class Field(NamedTuple):
    """Output i reads `size` pixels of the input from `start + i*jump` on; a start below 0 is in the padding."""

    size: int
    jump: int
    start: int


def receptive_field(windows: Iterable[Window], n: int | None = None) -> Field:
    """The receptive field of a stack of windows along one side, the first window first.

    `n`, the side of the input, is needed where padding is "same". Raises UserError if it is missing then.
    """
    size, jump, start = 1, 1, 0
    for window in windows:
        if n is None and window.padding == "same":
            raise UserError('padding "same" depends on the side of the input', "give n")
        start -= window.pads(n or 0)[0] * jump
        size += (window.reach - 1) * jump
        jump *= window.stride
        n = n and window.output(n)
    return Field(size, jump, start)


def whole(name: str, value: Any, least: int, other: str = "") -> None:
    """Raises UserError unless `value` is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value!r} is invalid", f"give a whole number of at least {least}{other}")
