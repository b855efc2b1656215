"""Resolves what the user calls a network: a catalogue name, a Variant, a module, or a callable in a Python file."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from inspect import isclass, isfunction
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ..catalogue import Variant, find
from ..errors import UserError, unknown

if TYPE_CHECKING:
    from torch import nn

    Given = nn.Module | Variant | str

_LOADED = count()


class Network(NamedTuple):
    """A network, its name and its input; `variant` is its row of the catalogue if it was built from there."""

    net: nn.Module
    name: str
    input: Any  # (channels, height, width); for a network with other inputs, as given
    variant: Variant | None = None


def resolve(
    network: Given, input: Any = None, *, meta: bool = True, needs_input: bool = True, **options: Any
) -> Network:
    """The network for a catalogue name, a Variant, a module, or "path/to/file.py:callable".

    `options` go to `Variant.build`, or to the callable. `input` defaults to the size that the network was built for. A
    catalogue network is built on the meta device unless `meta` is False; a file runs as Python would run it.

    Raises UserError for an unknown name or option, options for a module that is already built, a network whose input
    size is unknown, and a file that does not provide a module.
    """
    from torch import nn

    from ..layers import on_meta

    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        network = network.module
    if isinstance(network, str) and network.endswith(".onnx"):
        raise UserError(
            f"{network} is a graph, not a module: it is counted and drawn, not run", "see `show` and `draw`"
        )
    if isinstance(network, str) and is_file(network):
        net = build_from_file(network, **options)
        name = f"{Path(network.rpartition(':')[0]).name}:{network.rpartition(':')[2]}"
    elif isinstance(network, nn.Module):
        if options:
            raise UserError(f"option {next(iter(options))!r} is for building a network, but this one is already built")
        net, name = network, getattr(network, "variant", "") or type(network).__name__
    else:
        variant = find(network) if isinstance(network, str) else network
        if meta:
            with on_meta():
                built = variant.build(input=input, **options)
        else:
            built = variant.build(input=input, **options)
        return Network(built, variant.name, built.input, variant)
    input = getattr(net, "input", None) if input is None else input
    if input is None and needs_input:
        raise UserError(f"the input size of {name} is unknown", "give input=(channels, height, width)")
    return Network(net, name, input)


def is_file(text: str) -> bool:
    """Whether `text` names a Python file or a callable in one, rather than a network of the catalogue."""
    return text.rpartition(":")[0].endswith(".py") or text.endswith(".py")


def build_from_file(text: str, **options: Any) -> nn.Module:
    """The module that "path/to/file.py:callable" returns. The file is imported with its own folder first on the path.
    Raises UserError if it does not return one."""
    from torch import nn

    path, _, name = text.rpartition(":")
    file = Path(path or text)
    if not file.is_file():
        raise UserError(f"no file {file}", "give path/to/file.py:callable, or a name that `list` shows")
    with _folder_first(file):
        module = _run(file)
        callables = [n for n, value in vars(module).items() if not n.startswith("_") and _makes_networks(value, module)]
        if not path:
            raise UserError(
                f"{file.name} does not say which network", f"give {text}:NAME, one of {', '.join(callables) or 'none'}"
            )
        if name not in vars(module):
            raise unknown(f"callable in {file.name}", name, callables)
        make = vars(module)[name]
        if isinstance(make, nn.Module):
            return make
        if not callable(make):
            raise UserError(
                f"{name} in {file.name} is not callable", "give a function or class that makes an nn.Module"
            )
        made = _call(lambda: make(**options), f"{file.name}:{name}", file)
    if not isinstance(made, nn.Module):
        raise UserError(f"{file.name}:{name} returns {type(made).__name__}, not an nn.Module")
    return made


def _run(file: Path) -> ModuleType:
    """The file, imported under a unique name. It runs each time, as it may have changed."""
    name = f"_convatlas_file_{next(_LOADED)}_{file.stem}"
    spec = spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look it up there
    loader = spec.loader
    try:
        _call(lambda: loader.exec_module(module), file.name, file)
    except UserError:
        del sys.modules[name]
        raise
    return module


def _call(function: Callable[[], Any], what: str, file: Path) -> Any:
    try:
        return function()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [f.lineno for f in frames if Path(f.filename).resolve() == file.resolve()]
        if isinstance(error, SyntaxError):
            lines = [error.lineno]
        where = f" (line {lines[-1]})" if lines else ""
        reason = (error.msg if isinstance(error, SyntaxError) else str(error)).strip()
        first = f": {reason.splitlines()[0]}" if reason else ""
        raise UserError(f"{what} raised {type(error).__name__}{where}{first}") from error


@contextmanager
def _folder_first(file: Path) -> Iterator[None]:
    folder = str(file.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _makes_networks(value: Any, module: ModuleType) -> bool:
    """Whether it is a function, a network class or a network, defined in the file rather than imported."""
    from torch import nn

    makes = isfunction(value) or isinstance(value, nn.Module) or (isclass(value) and issubclass(value, nn.Module))
    return makes and value.__module__ == module.__name__
