"""Parameters that a network's modules hold without registering them: in plain lists, dicts and other objects.

`parameters()`, `to()` and `state_dict()` leave them out, and so does every optimizer. They are looked for in no place
where `state` would not put things back.
"""

from __future__ import annotations

import types
from collections import deque
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from .state import OPAQUE, PLAIN

REGISTERED = frozenset({"_parameters", "_buffers", "_modules"})


class Unregistered(NamedTuple):
    modules: dict[nn.Module, str]  # with their own children; by path, as in "layers.0"
    parameters: dict[str, Tensor]  # of these modules, or held on their own; a shared one once


def unregistered(net: nn.Module) -> Unregistered:
    registered = {id(p) for p in net.parameters()}
    modules = {m: path for path, m in net.named_modules()}
    found = Unregistered({}, {})
    seen: set[int] = set()
    ahead: list[tuple[str, Any]] = []
    for module, path in modules.items():
        ahead += _attributes(module, path)
    ahead.reverse()
    while ahead:
        path, value = ahead.pop()
        if value is None or isinstance(value, OPAQUE) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if id(value) not in registered and (
                isinstance(value, nn.Parameter) or (value.requires_grad and value.is_leaf)
            ):
                found.parameters[path] = value
        elif isinstance(value, nn.Module):
            if value not in modules:
                found.modules[value] = path
                held = [(f"{path}.{k}", v) for own in (value._parameters, value._modules) for k, v in own.items()]
                ahead += reversed([*held, *_attributes(value, path)])
        else:
            ahead += reversed([(f"{path}.{k if isinstance(k, str | int) else '?'}", v) for k, v in _held(value)])
    return found


def _attributes(module: nn.Module, path: str) -> list[tuple[str, Any]]:
    own = vars(module).items()
    return [(f"{path}.{k}".lstrip("."), v) for k, v in own if k not in REGISTERED and type(v) not in PLAIN]


def _held(value: Any) -> list[tuple[Any, Any]]:
    """What an object holds, each with its name in it."""
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list | tuple | set | frozenset | deque):
        return list(enumerate(value))
    if isinstance(value, partial):
        return [*enumerate(value.args), *value.keywords.items(), ("func", value.func)]
    if isinstance(value, types.MethodType):
        return [("self", value.__self__)]
    if isinstance(value, types.FunctionType):
        return list(zip(value.__code__.co_freevars, map(_contents, value.__closure__ or ()), strict=True))
    return list(vars(value).items()) if hasattr(value, "__dict__") else []


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None
