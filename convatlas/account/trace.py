"""A network's forward pass as plain data: every operator that runs, what it reads, and the module it runs in.

`trace` runs the pass once on the meta device, so nothing is computed or allocated, and nothing in the network changes.
"""

from __future__ import annotations

import random
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..errors import UserError
from ..layers import ConvNet, ConvSame, shape_after
from .operators import INERT, KNOWN, MACS, SHORTCUTS

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True, slots=True)
class Node:
    """One operator call."""

    op: str  # the operator's name, such as "convolution", "relu_"
    call: int  # the index of the module call that it ran in
    inputs: tuple[int, ...]  # the nodes whose outputs it reads; -1 is the network's input
    parameters: tuple[str, ...]  # the parameters that it reads
    args: tuple[Any, ...]  # its arguments, a tensor's place taken by the tensor's shape
    shape: tuple[int, ...]  # of its first output, with the batch
    itemsize: int  # bytes of a value of it
    macs: int


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a module."""

    path: str
    kind: str  # the module's class
    parent: int  # the index of the call around it; -1 for the network's own
    leaf: bool  # has no submodules
    container: bool  # nn.Sequential or the like, which adds nothing of its own
    geometry: Mapping[str, Any]  # kernel, stride, padding, groups, of layers that have them


@dataclass(frozen=True)
class Trace:
    """`events` are the nodes as they ran, and each call when it ended: ("node", index), ("call", index)."""

    nodes: tuple[Node, ...]
    calls: tuple[Call, ...]
    events: tuple[tuple[str, int], ...]
    inputs: tuple[tuple[int, ...], ...]  # the shapes of the network's input tensors, with the batch
    outputs: Mapping[int, tuple[int, ...]]  # call: shape of its first output tensor, with the batch
    makers: Mapping[int, int]  # call: the node that made that tensor; -1 is the network's input
    parameters: Mapping[str, int]  # name: values; a shared parameter stands once
    uncounted: tuple[str, ...]  # operators that have no rule


def trace(net: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], training: bool = False) -> Trace:
    """The trace of `net(*args, **kwargs)`; the tensors among them are on the meta device.

    Raises UserError when the inputs do not pass, or when the network reads values, which meta tensors do not have.
    """
    if any(is_lazy(t) for t in (*net.parameters(), *net.buffers())):
        raise UserError(f"{type(net).__name__} has parameters without a shape yet; run it once, then count it")
    stand_ins = {k: torch.empty_like(t, device="meta") for k, t in (*net.named_parameters(), *net.named_buffers())}
    parameters = {k: p.numel() for k, p in net.named_parameters()}
    tracer = _Tracer(net, {id(stand_ins[k]): k for k in parameters})
    tracer.note_inputs((*args, *kwargs.values()))
    try:
        with unchanged(net), torch.no_grad(), tracer:
            net.train(training)
            torch.func.functional_call(net, stand_ins, tuple(args), dict(kwargs))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        if isinstance(net, ConvNet) and len(args) == 1 and not training:
            shape_after(net, tuple(args[0].shape[1:]))  # says in words what does not fit
        given = ", ".join("x".join(map(str, t.shape)) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        reason = why(error)
        raise UserError(f"{type(net).__name__} does not run on input {given}: {reason}") from error
    return Trace(
        tuple(tracer.nodes),
        tuple(tracer.calls),
        tuple(tracer.events),
        tuple(tuple(t.shape) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)),
        tracer.outputs,
        tracer.makers,
        parameters,
        tuple(tracer.uncounted),
    )


def why(error: Exception) -> str:
    """An error of torch's in a line."""
    first = str(error).strip().splitlines()[0]
    unknown = re.match(
        r"(\S+): (?:attempted to run this operator with Meta tensors|We could not find the fake impl)", first
    )
    return f"torch does not know what {unknown[1]} makes without values to compute" if unknown else first


@contextmanager
def unchanged(net: nn.Module) -> Iterator[None]:
    """Afterwards each module has the attributes that it had (its mode, buffers, what it keeps for later), and what
    draws random numbers goes on as if nothing had been drawn."""
    before = [(m, [(name, value, _held(name, value)) for name, value in vars(m).items()]) for m in net.modules()]
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        for m, attributes in before:
            vars(m).clear()
            for name, value, held in attributes:
                vars(m)[name] = value
                if held is not None:
                    value.clear()
                    value.extend(held) if isinstance(value, list) else value.update(held)


TORCHS_OWN = frozenset(vars(nn.Module())) - {"_parameters", "_buffers", "_modules"}


def _held(name: str, value: Any) -> Any:
    """A copy of what an attribute holds that is a list or a dict."""
    return None if name in TORCHS_OWN or type(value) not in (list, dict, OrderedDict) else type(value)(value)


class _Tracer(TorchDispatchMode):
    def __init__(self, net: nn.Module, names: dict[int, str]):
        super().__init__()
        self.nodes: list[Node] = []
        self.calls: list[Call] = []
        self.events: list[tuple[str, int]] = []
        self.outputs: dict[int, tuple[int, ...]] = {}
        self.makers: dict[int, int] = {}
        self.uncounted: dict[str, None] = {}
        self.running: list[int] = []
        self.paths = {m: path for path, m in net.named_modules()}
        # tensors by id: the node that made it, or the parameters that it is (a view of); all kept, so that ids last
        self.made: dict[int, int] = {}
        self.parameters: dict[int, tuple[str, ...]] = {i: (name,) for i, name in names.items()}
        self.kept: list[Any] = []

    def note_inputs(self, values: Any) -> None:
        for t in tree_leaves(values):
            if isinstance(t, Tensor):
                self.made[id(t)] = -1
                self.kept.append(t)

    def __enter__(self) -> _Tracer:
        self.hooks = [
            register_module_forward_pre_hook(self._enter_module),
            register_module_forward_hook(self._leave_module, always_call=True),
        ]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self.hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        shortcut = SHORTCUTS.get(func)
        out = shortcut(*args, **kwargs) if shortcut else None
        if out is None:
            out = func(*args, **kwargs)
        self.kept.append(out)
        op = func.overloadpacket
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        parameters = tuple(name for t in tensors for name in self.parameters.get(id(t), ()))
        inputs = tuple(self.made[id(t)] for t in tensors if id(t) in self.made)
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        if op in INERT and parameters and not inputs:  # a view of a parameter is that parameter
            self.parameters.update((id(t), parameters) for t in made)
            return out
        if not made:
            return out
        self.made.update((id(t), len(self.nodes)) for t in made)
        if op not in KNOWN:
            place = self.calls[self.running[-1]]
            self.uncounted[f"{place.path or place.kind}: {op}"] = None
        self.events.append(("node", len(self.nodes)))
        self.nodes.append(
            Node(
                op=op.__name__,
                call=self.running[-1],
                inputs=inputs,
                parameters=parameters,
                args=tuple(tuple(a.shape) if isinstance(a, Tensor) else a for a in args),
                shape=tuple(made[0].shape),
                itemsize=made[0].element_size(),
                macs=MACS[op](out, *args, **kwargs) if op in MACS else 0,
            )
        )
        return out

    def _enter_module(self, module: nn.Module, args: Any) -> None:
        if module not in self.paths:
            return
        self.calls.append(
            Call(
                path=self.paths[module],
                kind=type(module).__name__,
                parent=self.running[-1] if self.running else -1,
                leaf=next(module.children(), None) is None,
                container=type(module) in CONTAINERS,
                geometry=geometry(module),
            )
        )
        self.running.append(len(self.calls) - 1)

    def _leave_module(self, module: nn.Module, args: Any, out: Any) -> None:
        if module not in self.paths:
            return
        call = self.running.pop()
        self.events.append(("call", call))
        tensor = next((t for t in tree_leaves(out) if isinstance(t, Tensor)), None)
        if tensor is not None:
            self.outputs[call] = tuple(tensor.shape)
            if id(tensor) in self.made:
                self.makers[call] = self.made[id(tensor)]


def geometry(module: nn.Module) -> dict[str, Any]:
    """Kernel, stride, padding and groups of a convolution or pooling layer; of another, nothing."""
    dims = next((n for n in (1, 3) if type(module).__name__.endswith(f"{n}d")), 2)
    kernel = _sides(getattr(module, "kernel_size", None), dims)
    if not kernel or not hasattr(module, "stride"):
        return {}
    padding = "same" if isinstance(module, ConvSame) else getattr(module, "padding", 0)
    return {
        "kernel": kernel,
        "stride": _sides(module.stride, dims) or kernel,  # a pool's, when it has none of its own
        "padding": padding if isinstance(padding, str) else _sides(padding, dims),
        "groups": getattr(module, "groups", 1),
    }


def _sides(value: Any, dims: int) -> tuple[int, ...]:
    """One number for each side; () for what has none."""
    if isinstance(value, int):
        return (value,) * dims
    whole = isinstance(value, tuple | list) and all(isinstance(n, int) for n in value)
    return tuple(value) if whole else ()
