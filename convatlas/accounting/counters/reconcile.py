"""reconcile(): from our multiply-accumulates to another counter's total, with one line per difference."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...catalogue import Variant
from ...errors import UserError, unknown
from ..inputs import meta_inputs
from ..operators import without_values
from ..resolve import resolve
from ..trace import Trace, trace
from .conventions import TOOLS, Event, Level, Tool


class Line(NamedTuple):
    amount: int
    reason: str
    times: int  # how many layers, calls or operators it sums over


@dataclass(frozen=True)
class Reconciled:
    """A tool's total, and the lines that lead to it from our multiply-accumulates."""

    tool: str
    unit: str
    macs: int
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        return self.macs + sum(line.amount for line in self.lines)


def reconcile(
    network: nn.Module | Variant | str,
    input: Any = None,
    tools: Sequence[str] | None = None,
    *,
    training: bool = False,
    **options: Any,
) -> dict[str, Reconciled]:
    """What each tool counts on one image, and why, by the tool's name. `network`, `input`, `options` as for account().

    `tools` are names in TOOLS; None: all that have their rules for this network implemented. The forward pass runs on
    the meta device, in evaluation mode or in `training`. Raises UserError for an unknown tool, for one with a rule that
    is not implemented, and as account() does.
    """
    for tool in tools or ():
        if tool not in TOOLS:
            raise unknown("convention", tool, TOOLS)
    net, _, input, _ = resolve(network, input, **options)
    args, kwargs = meta_inputs(net, input, 1)
    with _Watch() as watch:
        traced = trace(net, args, kwargs, training, on_node=watch.note)
    run = _Run(net, traced, watch.around)
    asked = [tool for tool in TOOLS if not run.beyond(tool)] if tools is None else tools
    return {tool: _reconciled(tool, run) for tool in asked}


def _reconciled(name: str, run: _Run) -> Reconciled:
    tool = TOOLS[name]
    if beyond := run.beyond(name):
        raise UserError(f"{name} has a rule for {beyond} that is not implemented here", "ask for another convention")
    amounts: Counter[str] = Counter()
    times: Counter[str] = Counter()
    counted: set[int] = set()  # the nodes whose multiply-accumulates it counts

    def add(reason: str, amount: int) -> None:
        if amount:
            amounts[reason] += amount
            times[reason] += 1

    counts = run.counts(tool)
    unused = run.unused if tool.drops_unused else frozenset()
    for part in run.parts:
        if unused.issuperset(part.nodes):
            continue
        if part.level == "operator" and run.within(part.nodes[0], tool.unseen):
            continue
        for rule in tool.rules:
            if not rule.matches(part.level, part.event):
                continue
            amount = rule.amount(part.event)
            if rule.macs:
                add(rule.why.format(part.event.name), amount - run.macs(set(part.nodes) - counted))
                counted.update(part.nodes)
            else:
                add(rule.why.format(part.event.name), amount)
            again = counts(part) - 1
            add(f"{part.event.name} in a shared module, again for each module that has it", amount * again)
    for i, node in enumerate(run.trace.nodes):
        if i not in counted:
            why = "not needed for the result" if i in unused else "not seen"
            add(f"{why}: {node.op} in {run.trace.calls[node.call].kind}", -node.macs)
    lines = tuple(Line(amount, reason, times[reason]) for reason, amount in amounts.items() if amount)
    return Reconciled(name, tool.unit, run.macs(range(len(run.trace.nodes))), lines)


class _Part(NamedTuple):
    level: Level
    event: Event
    owner: str  # path of the module called, or that the function was called in
    nodes: tuple[int, ...]


class _Run:
    """One traced pass as the tools see it: calls of modules and functions, and operators."""

    def __init__(self, net: nn.Module, trace: Trace, around: Mapping[int, tuple[tuple[int, str], ...]]):
        self.net, self.trace, self.around = net, trace, around
        self.parts = [*self._modules(), *self._functions(), *self._operators()]

    def beyond(self, tool: str) -> str:
        """A module class with a rule of the tool that is not implemented here; "" if there is none."""
        return next((c.kind for c in self.trace.calls if c.kind in TOOLS[tool].beyond.split()), "")

    @property
    def unused(self) -> frozenset[int]:
        """The nodes that what the network returns does not depend on."""
        needed, waiting = set(), list(self.trace.returned)
        while waiting:
            if (node := waiting.pop()) >= 0 and node not in needed:
                needed.add(node)
                waiting += self.trace.nodes[node].inputs
        return frozenset(range(len(self.trace.nodes))) - needed

    def within(self, node: int, functions: str) -> bool:
        return any(name in functions.split() for _, name in self.around.get(node, ()))

    def macs(self, nodes: Iterable[int]) -> int:
        return sum(self.trace.nodes[n].macs for n in nodes)

    def counts(self, tool: Tool) -> Callable[[_Part], int]:
        """How often the tool counts a part: several times if its module is shared."""
        classes = {n for rule in tool.rules if rule.level == "module" for n in rule.names.split()}
        seen, owners = self._met(classes), self._met(set())

        def times(part: _Part) -> int:
            if part.level == "module":
                return seen[part.owner] * (owners[part.owner] if tool.hooks_again else 1)
            return owners[part.owner] if part.level == "function" and tool.by_owner else 1

        return times

    def _met(self, classes: set[str]) -> Counter[str]:
        """How often each module is reached from the root, without descending into modules of `classes`."""
        paths = {m: path for path, m in self.net.named_modules()}
        met: Counter[str] = Counter()

        def meet(module: nn.Module) -> None:
            met[paths[module]] += 1
            if not (_from_torch(module) and type(module).__name__ in classes):
                for child in module.children():
                    meet(child)

        meet(self.net)
        return met

    def _event(
        self, name: str, nodes: Sequence[int], shape: tuple[int, ...] = (), own: Mapping[str, int] | None = None
    ) -> Event:
        computing = tuple(n for n in map(self.trace.nodes.__getitem__, nodes) if not without_values(n.op))
        read = next((n.args[0] for n in computing if n.inputs and n.args), ())  # of the first that reads the image
        x = read if isinstance(read, tuple) else ()
        return Event(name, x, shape or (computing[-1].shape if computing else ()), computing, own or {})

    def _modules(self) -> Iterator[_Part]:
        modules = dict(self.net.named_modules())
        own: dict[str, dict[str, int]] = {}  # module path: its parameters
        for parameter, values in self.trace.parameters.items():
            path, _, name = parameter.rpartition(".")
            own.setdefault(path, {})[name] = values
        within: dict[int, list[int]] = {}
        for i, node in enumerate(self.trace.nodes):
            within.setdefault(node.call, []).append(i)
        for i, call in enumerate(self.trace.calls):
            if i not in self.trace.outputs:
                continue
            nodes = tuple(within.get(i, ()))
            read = {p for n in nodes for p in self.trace.nodes[n].parameters}  # tied ones too
            mine = {p.rpartition(".")[2]: self.trace.parameters[p] for p in read} | own.get(call.path, {})
            event = self._event(call.kind, nodes, self.trace.outputs[i], mine)
            if call.leaf:
                yield _Part("leaf", event, call.path, nodes)
            if _from_torch(modules[call.path]):
                yield _Part("module", event, call.path, nodes)

    def _functions(self) -> Iterator[_Part]:
        called: dict[tuple[int, str], list[int]] = {}
        for i in range(len(self.trace.nodes)):
            met: set[str] = set()
            for call, name in self.around.get(i, ()):
                if name not in met:  # a torch function that calls itself under another name is one call
                    called.setdefault((call, name), []).append(i)
                    met.add(name)
        for (_, name), nodes in called.items():
            path = self.trace.calls[self.trace.nodes[nodes[0]].call].path
            event = self._event(name, nodes)
            if event.nodes:
                yield _Part("function", event, path, tuple(nodes))

    def _operators(self) -> Iterator[_Part]:
        for i, node in enumerate(self.trace.nodes):
            if not without_values(node.op):
                path = self.trace.calls[node.call].path
                yield _Part("operator", self._event(node.op, [i]), path, (i,))


def _from_torch(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.nn.modules.")


PYTHON = """
    relu elu relu6 silu leaky_relu batch_norm layer_norm group_norm instance_norm adaptive_avg_pool2d
    adaptive_avg_pool3d softmax interpolate upsample
"""
BUILTIN = """
    linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d prelu gelu avg_pool1d avg_pool2d
    avg_pool3d adaptive_avg_pool1d scaled_dot_product_attention
"""
CHOOSING = """
    max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
"""  # one of two functions, by return_indices
ARITHMETIC = "matmul mm bmm addmm baddbmm add mul"


class _Watch:
    """Which functions are active when an operator runs, from Python's profiling hook: nothing is patched.

    `around`: for each node of the trace, the calls around it, outermost first, as (number of the call, function).
    """

    def __init__(self) -> None:
        self.around: dict[int, tuple[tuple[int, str], ...]] = {}
        self.running: list[tuple[int, str]] = []
        self.calls = 0
        self.python = {getattr(F, n).__code__: f"F.{n}" for n in PYTHON.split()}
        self.python[torch.einsum.__code__] = "torch.einsum"
        for n in CHOOSING.split():
            self.python[getattr(F, f"_{n}").__code__] = self.python[getattr(F, f"{n}_with_indices").__code__] = f"F.{n}"
        self.builtin = {getattr(F, n): f"F.{n}" for n in BUILTIN.split()}
        self.builtin |= {getattr(torch, n): f"torch.{n}" for n in ARITHMETIC.split()}
        self.methods = {n: f"Tensor.{n}" for n in ARITHMETIC.split()}

    def __enter__(self) -> _Watch:
        self.before = sys.getprofile()
        sys.setprofile(self._follow)
        return self

    def __exit__(self, *error: Any) -> None:
        sys.setprofile(self.before)

    def note(self, node: int) -> None:
        """Called by the trace when a node is created, from within the functions that call its operator."""
        self.around[node] = tuple(self.running)

    def _follow(self, frame: FrameType, event: str, arg: Any) -> None:
        if event in ("call", "return"):
            name = self.python.get(frame.f_code)
        else:
            owner = getattr(arg, "__self__", None)
            name = self.methods.get(arg.__name__) if isinstance(owner, Tensor) else self.builtin.get(arg)
        if name is None:
            return
        if event in ("call", "c_call"):
            self.calls += 1
            self.running.append((self.calls, name))
        else:
            self.running.pop()
