"""What a network is called with: from a description of its inputs to arguments on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from ..errors import UserError


def batch_of(input: Any, batch: int | None, default: int) -> int:
    """The number of images: `batch` if given, the length of the first input if that is a tensor, or the default."""
    if batch is not None and (isinstance(batch, bool) or not isinstance(batch, int) or batch < 1):
        raise UserError(f"batch={batch!r} is not a positive integer", "give a whole number of at least 1")
    return batch or _length(input) or default


def meta_inputs(net: nn.Module, input: Any, batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that `input` describes, on the meta device, in the network's floating-point or complex type.

    A shape (without the batch) or a tensor is one argument, a list is several, a dict is keyword arguments, or a single
    argument if `forward` has none of these names; in any of these may be more of them. If the first input is a
    tensor, all tensors of its length are made `batch` long.
    """
    dtype = next((p.dtype for p in net.parameters() if p.is_floating_point() or p.is_complex()), torch.float32)
    length = _length(input)

    def one(value: Any) -> Any:
        if is_shape(value):
            return torch.empty(batch, *value, dtype=dtype, device="meta")
        if not isinstance(value, Tensor):
            return value
        if value.dim() and len(value) == length != batch:
            return torch.empty(batch, *value.shape[1:], dtype=value.dtype, device="meta")
        return value.to("meta")

    made = tree_map(one, input, is_leaf=is_shape)
    if isinstance(input, Tensor) or is_shape(input) or hasattr(input, "_fields"):
        return (made,), {}
    if isinstance(input, Mapping):
        return ((), made) if _by_name(net, made) else ((made,), {})
    if isinstance(input, tuple | list):
        return tuple(made), {}
    raise UserError(
        f"input {input!r} is not an image size", "give (channels, height, width), tensors, a list or a dict of them"
    )


def is_shape(value: Any) -> bool:
    return isinstance(value, tuple | list) and bool(value) and all(type(n) is int for n in value)


def _length(input: Any) -> int | None:
    """The length of the first input, if it is a tensor."""
    first = next((v for v in tree_leaves(input, is_leaf=is_shape) if is_shape(v) or isinstance(v, Tensor)), None)
    return len(first) if isinstance(first, Tensor) and first.dim() else None


def _by_name(net: nn.Module, input: Mapping[Any, Any]) -> bool:
    """Whether the items of a dict are arguments by name, rather than the dict a single one."""
    try:
        takes = signature(net.forward)
    except (TypeError, ValueError):
        return True
    for args, kwargs in (((), input), ((input,), {})):
        try:
            takes.bind(*args, **kwargs)
        except TypeError:
            continue
        return not args
    return True
