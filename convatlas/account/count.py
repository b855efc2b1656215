"""One forward pass on the meta device, watched operator by operator; `account` says what it takes and refuses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..catalogue import Variant, find
from ..errors import UserError
from ..layers import ConvNet, ConvSame, Shape, eval_mode, shape_after
from .operators import FREE, INERT, MACS, POINTWISE, SHORTCUTS, aten
from .rows import Account, Row

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def count(network: nn.Module | Variant | str, input: Shape | None, batch: int, **options: Any) -> Account:
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise UserError(f"batch={batch!r} is not a count; give a whole number of at least 1")
    if isinstance(network, nn.Module):
        if options:
            raise UserError(f"a built network takes no options such as {next(iter(options))!r}; build it with them")
        return _count(network, type(network).__name__, input or getattr(network, "input", None), batch)
    variant = find(network) if isinstance(network, str) else network
    with torch.device("meta"):
        net = variant.build(input=input, **options)
    counted = _count(net, variant.name, net.input, batch)
    assert not counted.uncounted, f"{variant.name}: no rule for {', '.join(counted.uncounted)}"
    return counted


def _count(net: nn.Module, name: str, shape: Shape | None, batch: int) -> Account:
    if shape is None:
        raise UserError(f"{name} does not say what images it takes; give input=(channels, height, width)")
    if isinstance(net, ConvNet):
        name = net.variant or name
    watch = _Watch(net)
    meta = {k: torch.empty_like(t, device="meta") for k, t in (*net.named_parameters(), *net.named_buffers())}
    images = torch.empty(batch, *shape, device="meta")
    with eval_mode(net), torch.no_grad(), watch:
        try:
            torch.func.functional_call(net, meta, images)
        except RuntimeError:
            if isinstance(net, ConvNet):
                shape_after(net, shape)  # says in words what does not fit
            raise
    return Account(name, tuple(shape), batch, tuple(watch.rows), tuple(watch.uncounted), tuple(watch.idle().items()))


@dataclass
class _Frame:
    """A module while its forward runs."""

    module: nn.Module
    ops: list[Any]
    macs: int = 0


class _Watch(TorchDispatchMode):
    """Makes rows of the operators and modules that run while it is on."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.rows: list[Row] = []
        self.uncounted: dict[str, None] = {}
        self.frames: list[_Frame] = []
        self.used: set[int] = set()
        self.repeats: Counter[str] = Counter()
        self.net = net
        self.paths = {m: path for path, m in net.named_modules()}
        # taken now: during the pass, meta tensors stand in for the parameters
        self.own = {m: [(k, id(p), p.numel()) for k, p in m.named_parameters(recurse=False)] for m in self.paths}

    def __enter__(self) -> _Watch:
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
        op = func.overloadpacket
        frame = self.frames[-1]
        macs = MACS[op](out, *args, **kwargs) if op in MACS else 0
        if not any(op in known for known in (MACS, INERT, POINTWISE, FREE)):
            self.uncounted[f"{self.paths[frame.module] or type(frame.module).__name__}: {op}"] = None
        if _is_leaf(frame.module):
            frame.ops.append(op)
            frame.macs += macs
        elif op not in INERT:
            self.rows.append(self._operator_row(op, out, args, macs, frame.module))
        return out

    def _enter_module(self, module: nn.Module, args: Any) -> None:
        if module in self.paths:
            self.frames.append(_Frame(module, []))

    def _leave_module(self, module: nn.Module, args: Any, out: Any) -> None:
        if module not in self.paths:
            return
        frame = self.frames.pop()
        weights, biases = self._first_use(module)
        if type(module) in CONTAINERS:
            return
        if _is_leaf(module):
            self.rows.append(self._module_row(frame, out, weights, biases))
        elif weights or biases:
            self.rows.append(self._row(module, self.paths[module], "Parameter", (), weights=weights, biases=biases))

    def _first_use(self, module: nn.Module) -> tuple[int, int]:
        """The module's own parameters that no earlier row counted: weights, biases."""
        fresh = [(k, n) for k, i, n in self.own[module] if i not in self.used]
        self.used.update(i for _, i, _ in self.own[module])
        biases = sum(n for k, n in fresh if k.endswith("bias"))
        return sum(n for _, n in fresh) - biases, biases

    def _module_row(self, frame: _Frame, out: Any, weights: int, biases: int) -> Row:
        module = frame.module
        tensor = next(t for t in tree_leaves(out) if isinstance(t, Tensor))
        computed = [op for op in frame.ops if op not in INERT]
        geometry: dict[str, Any] = {}
        if hasattr(module, "kernel_size"):
            geometry = {k: _pair(getattr(module, a)) for k, a in (("kernel", "kernel_size"), ("stride", "stride"))}
            geometry["padding"] = "same" if isinstance(module, ConvSame) else _pair(module.padding)
            geometry["groups"] = getattr(module, "groups", 1)
        return self._row(
            module,
            self.paths[module],
            type(module).__name__,
            tuple(tensor.shape[1:]),
            **geometry,
            weights=weights,
            biases=biases,
            macs=frame.macs,
            activations=tensor.numel() if computed else 0,
            pointwise=all(op in POINTWISE for op in computed),
        )

    def _operator_row(self, op: Any, out: Any, args: Any, macs: int, module: nn.Module) -> Row:
        tensor = next(t for t in tree_leaves(out) if isinstance(t, Tensor))
        name = str(op).rpartition(".")[2].strip("_")
        path = ".".join(filter(None, (self.paths[module], name)))
        self.repeats[path] += 1
        geometry: dict[str, Any] = {}
        if op is aten.convolution:
            geometry = dict(
                kernel=tuple(args[1].shape[2:]), stride=tuple(args[3]), padding=tuple(args[4]), groups=args[8]
            )
        if self.repeats[path] > 1:
            path = f"{path}_{self.repeats[path]}"
        return self._row(
            module,
            path,
            name,
            tuple(tensor.shape[1:]),
            **geometry,
            macs=macs,
            activations=tensor.numel(),
            pointwise=op in POINTWISE,
        )

    def _row(self, module: nn.Module, path: str, op: str, shape: tuple[int, ...], **counts: Any) -> Row:
        """A row, placed in its block: the outermost module around it that is no mere container."""
        running = [f.module for f in self.frames if f.module is not module] + [module]
        around = [m for m in running if m is not self.net and type(m) not in CONTAINERS and not _is_leaf(m)]
        place = (self.paths[around[0]], type(around[0]).__name__) if around else ("", "")
        return Row(path, op, shape, **counts, block=place[0], block_op=place[1])

    def idle(self) -> dict[str, int]:
        """Parameters of modules that never ran, by the outermost such module."""
        found: Counter[str] = Counter()
        for name, p in self.net.named_parameters():
            if id(p) not in self.used:
                found[name.split(".")[0]] += p.numel()
        return dict(found)


def _is_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value if isinstance(value, str) else tuple(value)
