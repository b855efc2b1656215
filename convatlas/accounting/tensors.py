"""Which tensors a value holds, where a view lies in its map, and a layer's geometry."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn

from ..layers import ConvSame


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors that a module takes or returns, in whatever they are: containers, dataclasses, any other object."""
    ahead, seen = [value], set[int]()
    while ahead:
        value = ahead.pop()
        if isinstance(value, Tensor):
            yield value
            continue
        if id(value) in seen or isinstance(value, type | nn.Module | Callable):
            continue
        seen.add(id(value))
        held: Sequence[Any] = ()
        if isinstance(value, Mapping):
            held = list(value.values())
        elif isinstance(value, list | tuple | set | frozenset | deque):
            held = list(value)
        elif is_dataclass(value):
            held = [getattr(value, f.name) for f in fields(value) if hasattr(value, f.name)]
        if not held and hasattr(value, "__dict__"):
            held = list(vars(value).values())
        ahead.extend(reversed(held))


def tensors_among(values: Sequence[Any]) -> list[Tensor]:
    """The tensors among an operator's arguments or results, including those in lists."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple) and value and type(value[0]) is not int:  # as most are: sizes, strides
            found += [v for v in value if isinstance(v, Tensor)]
    return found


def place(part: Tensor, whole: Tensor) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Where the rows and columns of a view lie in a map: the first one, and the step. None unless they are its rows and
    columns."""
    if whole.dim() < 2 or part.dim() < 2:
        return None
    offset, first = int(part.storage_offset() - whole.storage_offset()), [0] * whole.dim()
    for axis in sorted(range(whole.dim()), key=whole.stride, reverse=True):
        if whole.size(axis) > 1 and whole.stride(axis):
            first[axis], offset = divmod(offset, whole.stride(axis))
    found = []
    for axis in (-2, -1):
        step, rest = divmod(part.stride(axis), whole.stride(axis) or 1) if part.size(axis) > 1 else (1, 0)
        if rest or step < 1 or first[axis] + (part.size(axis) - 1) * step >= whole.size(axis):
            return None
        found.append((first[axis], step))
    return (found[0], found[1]) if not offset else None


def geometry(module: nn.Module) -> dict[str, Any]:
    """Kernel, stride, padding and groups of a convolution or pooling layer; empty for any other."""
    if "kernel_size" not in vars(module) or "stride" not in vars(module):
        return {}
    dims = next((n for n in (1, 3) if type(module).__name__.endswith(f"{n}d")), 2)
    kernel = _sides(module.kernel_size, dims)
    if not kernel:
        return {}
    padding = "same" if isinstance(module, ConvSame) else getattr(module, "padding", 0)
    return {
        "kernel": kernel,
        "stride": _sides(module.stride, dims) or kernel,  # a pool's stride defaults to its kernel
        "padding": padding if isinstance(padding, str) else _sides(padding, dims),
        "groups": getattr(module, "groups", 1),
    }


def _sides(value: Any, dims: int) -> tuple[int, ...]:
    """One number for each side; () if there is none."""
    if isinstance(value, int):
        return (value,) * dims
    whole = isinstance(value, tuple | list) and all(isinstance(n, int) for n in value)
    return tuple(value) if whole else ()
