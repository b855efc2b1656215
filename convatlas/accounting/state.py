"""A network's state, whatever holds it, noted before a pass and put back afterwards."""

from __future__ import annotations

import logging
import random
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import partial
from itertools import chain
from operator import is_
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PLAIN = frozenset({int, float, str, bytes, bool, complex, type(None), range, torch.dtype, torch.device, torch.Size})
OPAQUE = (type, types.ModuleType, logging.Logger, Enum, torch.Size, torch.jit.ScriptFunction)
LIBRARIES = frozenset(
    {"abc", "builtins", "collections", "enum", "numpy", "torch", "typing"}
)  # their classes keep nothing


@contextmanager
def unchanged(net: nn.Module) -> Iterator[None]:
    """Restores everything that the modules of a network hold, and the states of the random number generators: their
    tensors and modes, and what is in their containers and other objects, however deeply nested."""
    state = State(net)
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        state.restore()


class State:
    """What a network's modules hold. Modules are followed wherever they are held; global variables are not."""

    def __init__(self, net: nn.Module):
        self.undo: list[Callable[[], Any]] = []
        self.seen: set[int] = set()
        self.held: list[Any] = []  # everything seen, so that no two things have the same id
        self.compiled: list[tuple[torch.jit.ScriptModule, dict[str, Any]]] = []
        self.own: set[int] = (
            set()
        )  # parameters and buffers, which a pass does not write to: it gets others in place of them
        self.tensors: list[Tensor] = []
        self.ahead: list[Any] = [net]
        while self.ahead:
            self._look(self.ahead.pop())
        for t in self.tensors:
            if id(t) not in self.own and not t.is_meta and not t.is_inference():
                self.undo.append(partial(_put_values, t, t._version, t.detach().clone()))

    def restore(self) -> None:
        for undo in self.undo:
            undo()
        for module, before in self.compiled:
            lost = [name for name, value in before.items() if _differs(module._c.getattr(name), value)]
            assert not lost, f"{', '.join(lost)} of a compiled {module.original_name} did not come back"

    def _look(self, value: Any) -> None:
        kind = type(value)
        if kind in PLAIN or id(value) in self.seen or isinstance(value, OPAQUE):
            return
        self.seen.add(id(value))
        self.held.append(value)
        if isinstance(value, nn.Module):
            self._module(value)
        elif isinstance(value, Tensor):
            self.tensors.append(value)
        elif isinstance(value, dict):
            self._container(value, OrderedDict if isinstance(value, OrderedDict) else dict, dict(value), "update")
        elif isinstance(value, list):
            self._container(value, list, list(value), "extend")
        elif isinstance(value, deque):
            self._container(value, deque, list(value), "extend")
        elif isinstance(value, set):
            self._container(value, set, set(value), "update")
        elif isinstance(value, bytearray):
            self.undo.append(partial(value.__setitem__, slice(None), bytes(value)))
        elif isinstance(value, tuple | frozenset):
            self.ahead.extend(value)
        elif isinstance(value, np.ndarray):
            self.undo.append(partial(np.copyto, value, value.copy()))
        elif isinstance(value, random.Random):
            self.undo.append(partial(value.setstate, value.getstate()))
        elif isinstance(value, np.random.RandomState):
            self.undo.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, np.random.Generator):
            self.undo.append(partial(setattr, value.bit_generator, "state", value.bit_generator.state))
        elif isinstance(value, torch.Generator):
            self.undo.append(partial(value.set_state, value.get_state()))
        elif isinstance(value, types.MethodType):
            self.ahead += (value.__self__, value.__func__)
        elif isinstance(value, types.BuiltinMethodType):
            self.ahead.append(value.__self__)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, partial):
            self.ahead += (value.func, value.args, value.keywords)
        if kind not in BARE and not isinstance(value, nn.Module):
            self._object(value, kind)

    def _container(self, value: Any, kind: Any, held: Any, put: str) -> None:
        self.undo.append(partial(_put_contents, value, kind, held, put))
        self.ahead.extend(chain(held, held.values()) if isinstance(held, dict) else held)

    def _module(self, module: nn.Module) -> None:
        self._class(type(module))
        if isinstance(module, torch.jit.ScriptModule):
            names = module._concrete_type.get_attributes()
            before = {name: module._c.getattr(name) for name in names}
            self.own.update(id(v) for v in before.values())
            self.compiled.append((module, before))
            self.undo.append(partial(_put_compiled, module, before))
            self.ahead.extend(module.children())
            return
        now = vars(module)
        own = now.copy()
        empty: list[Any] = []  # mostly torch's dicts of hooks
        self.undo.append(partial(_put_module, now, own, empty))
        for name, value in own.items():
            kind = type(value)
            if kind in PLAIN:
                continue
            if kind in EMPTY and not value:
                empty.append(value)
            elif name in ("_parameters", "_buffers", "_modules"):
                self.own.update(map(id, value.values()))
                self.undo.append(partial(_put_contents, value, dict, value.copy(), "update"))
                self.ahead.extend([v for v in value.values() if type(v) not in BARE])
            elif kind is not tuple or not PLAIN.issuperset(map(type, value)):
                self.ahead.append(value)

    def _object(self, value: Any, kind: type) -> None:
        """The attributes of an object of any class."""
        self._class(kind)
        own = getattr(value, "__dict__", None)
        if type(own) is dict:
            before = own.copy()
            self.undo.append(partial(_put_attributes, own, before))
            self.ahead.extend(before.values())
        for base in kind.__mro__:
            for name, member in vars(base).items():
                if isinstance(member, types.MemberDescriptorType) and base.__module__.split(".")[0] not in LIBRARIES:
                    missing = not hasattr(value, name)
                    held = None if missing else getattr(value, name)
                    self.undo.append(partial(_put_slot, value, name, missing, held))
                    self.ahead.append(held)

    def _class(self, kind: type) -> None:
        if kind in BARE or id(kind) in self.seen:
            return
        for base in kind.__mro__:
            if id(base) in self.seen:
                continue
            self.seen.add(id(base))
            if base.__module__.split(".")[0] in LIBRARIES:
                continue
            before = {k: v for k, v in vars(base).items() if not k.startswith("__")}
            self.undo.append(partial(_put_class_attributes, base, before))
            self.ahead.extend(before.values())

    def _function(self, function: types.FunctionType) -> None:
        self.ahead += (function.__defaults__, function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            self.undo.append(partial(setattr, cell, "cell_contents", held))
            self.ahead.append(held)


EMPTY = frozenset({dict, OrderedDict, list, set})
BARE = frozenset({dict, OrderedDict, list, set, frozenset, tuple, deque, bytearray, np.ndarray, Tensor, nn.Parameter})


def _put_contents(value: Any, kind: Any, held: Any, put: str) -> None:
    same = len(value) == len(held)
    if same and isinstance(held, dict):
        same = all(map(is_, dict.keys(value), held)) and all(map(is_, dict.values(value), held.values()))
    elif same:
        same = all(map(is_, value, held))
    if not same:
        kind.clear(value)
        getattr(kind, put)(value, held)


def _put_module(now: dict[str, Any], before: dict[str, Any], empty: list[Any]) -> None:
    _put_attributes(now, before)
    for value in empty:
        if value:
            value.clear()


def _put_attributes(now: dict[str, Any], before: dict[str, Any]) -> None:
    now.clear()
    now.update(before)


def _put_slot(value: Any, name: str, missing: bool, held: Any) -> None:
    if missing and hasattr(value, name):
        object.__delattr__(value, name)
    elif not missing and getattr(value, name, None) is not held:
        object.__setattr__(value, name, held)


def _put_class_attributes(kind: type, before: dict[str, Any]) -> None:
    for name in [k for k in vars(kind) if not k.startswith("__") and k not in before]:
        delattr(kind, name)
    for name, value in before.items():
        if vars(kind).get(name) is not value:
            setattr(kind, name, value)


def _put_values(t: Tensor, version: int, values: Tensor) -> None:
    if t._version != version:
        with torch.no_grad():
            t.resize_(values.shape).copy_(values) if t.shape != values.shape else t.copy_(values)


def _put_compiled(module: torch.jit.ScriptModule, before: dict[str, Any]) -> None:
    for name, value in before.items():
        if _differs(module._c.getattr(name), value):
            module._c.setattr(name, value)


def _differs(one: Any, two: Any) -> bool:
    """Whether an attribute of a compiled module has changed; torch gives tensors themselves, and copies of the rest."""
    if isinstance(one, Tensor) or isinstance(two, Tensor):
        return one is not two
    try:
        return bool(one != two)
    except RuntimeError:  # lists of tensors
        return True
