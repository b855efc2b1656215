"""Stand-ins for tensors: a network's parameters and buffers without their values, and what makes torch run on them."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Distribution
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parameter import is_lazy

from ..errors import UserError


def put_stand_ins(
    modules: Mapping[nn.Module, str], make: Callable[[Tensor], Tensor]
) -> tuple[dict[int, tuple[str, bool]], dict[str, int]]:
    """Replaces the tensors of a network's modules by those that `make` makes; a shared tensor by a single one.

    Returns the parameters' names, which begin with their modules' paths, by the replacement's id, with whether they
    take a gradient, and their number of values by name. Raises UserError for parameters that have no shape yet.
    """
    made: dict[int, Tensor] = {}
    names: dict[int, tuple[str, bool]] = {}
    sizes: dict[str, int] = {}
    for m, path in modules.items():
        tensors: Sequence[tuple[dict[str, Any], bool]] = ((m._parameters, True), (m._buffers, False))
        for own, trained in tensors:
            for name, t in own.items():
                if t is None:
                    continue
                if id(t) not in made:
                    if type(t) not in (Tensor, nn.Parameter) and is_lazy(t):
                        raise UserError(
                            f"{type(m).__name__} has parameters without a shape yet", "run it once before counting"
                        )
                    made[id(t)] = make(t)
                    if trained:
                        full = f"{path}.{name}" if path else name
                        names[id(made[id(t)])], sizes[full] = (full, t.requires_grad), t.numel()
                own[name] = made[id(t)]
    return names, sizes


def stand_in(t: Tensor, instead: Tensor) -> Tensor:
    """`instead`, of the class of `t`, with the attributes that it was given, and taking a gradient if it does."""
    takes = t.requires_grad and t.is_leaf
    if not isinstance(type(t).__torch_dispatch__, BuiltinFunctionType):  # a class that dispatches for itself
        return instead.requires_grad_(takes)
    if type(instead) is Tensor:
        instead = Tensor._make_subclass(type(t), instead, takes)
    elif isinstance(t, nn.Parameter):
        instead.requires_grad_(takes)._is_param = True  # by which torch itself knows a parameter of another class
    vars(instead).update(vars(t))
    return instead


@contextmanager
def fake_tensors() -> Iterator[None]:
    """Tensors without values that claim to be on the CPU."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was, log.disabled = log.disabled, True  # what goes wrong is reported by the caller
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        log.disabled = was


@contextmanager
def on_cpu() -> Iterator[None]:
    """Fake tensors, on which recurrent layers and attention run as the operators that they consist of, as on the meta
    device."""
    was = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with fake_tensors(), sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch._C._set_mkldnn_enabled(was)


@contextmanager
def unchecked_distributions() -> Iterator[None]:
    """torch's distributions do not check their parameters, which would take values."""
    was = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(was)


@contextmanager
def uncollected() -> Iterator[None]:
    """Tensors are freed with their last reference; those in a reference cycle survive, as garbage collection is off.

    (It would run often: a pass makes tens of thousands of small objects.)
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
