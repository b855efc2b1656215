"""A network's forward pass as plain data: every operator that runs, what it reads, and the module it runs in.

`trace` runs the pass on the meta device, or on fake tensors where the network mixes devices: nothing is computed or
allocated, and the network is left unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ..errors import UserError
from ..layers import ConvNet, shape_after
from .operators import READ_VIEW, RENAMED, WRITE_VIEW, Operator, like, operator
from .refusals import FAILURES, refusal
from .stand_ins import on_cpu, put_stand_ins, stand_in, unchecked_distributions
from .state import unchanged
from .tensors import geometry, place, tensors_among, tensors_in
from .unregistered import Unregistered, unregistered

COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
WAYS = (  # to run a network: the next one if it fails
    ("meta", True),
    ("meta", False),  # it runs without gradients only
    ("cpu", True),  # it makes tensors on the CPU, or moves them there: on fake ones, which are slower
    ("cpu", False),
)
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Factor(NamedTuple):
    """One of the tensors that an operator multiplies."""

    made: int | None  # the node that made it, -1 the network's input; None: a parameter or a constant
    parameter: bool
    trained: bool  # a parameter that takes a gradient


class Node(NamedTuple):
    """One operator call."""

    op: str  # the operator's name, such as "convolution", "relu_"
    call: int  # index of the module call that it ran in
    inputs: tuple[int, ...]  # nodes whose outputs it reads; -1 is the network's input
    parameters: tuple[str, ...]  # parameters that it reads
    args: tuple[Any, ...]  # its arguments, each tensor replaced by its shape
    shape: tuple[int, ...]  # of its first output, including the batch
    itemsize: int  # bytes per value
    macs: int
    factors: tuple[Factor, ...] = ()  # of a convolution or a matrix product
    recorded: bool = True  # a gradient can go through it: it is not detached, nor run without gradients
    trained: bool = False  # it reads parameters that take a gradient


class Call(NamedTuple):
    """One call of a module."""

    path: str
    kind: str  # the module's class
    parent: int  # index of the enclosing call; -1 for the network's own
    leaf: bool  # has no submodules
    container: bool  # nn.Sequential or the like, which computes nothing itself
    geometry: Mapping[str, Any]  # kernel, stride, padding, groups, for layers that have them


@dataclass(frozen=True)
class Trace:
    """`events` lists the nodes as they ran and each call when it ended: ("node", index), ("call", index)."""

    nodes: tuple[Node, ...]
    calls: tuple[Call, ...]
    events: tuple[tuple[str, int], ...]
    inputs: tuple[tuple[int, ...], ...]  # shapes of the network's input tensors, including the batch
    outputs: Mapping[int, tuple[int, ...]]  # call: shape of its first output tensor, including the batch
    makers: Mapping[int, int]  # call: the node that made that tensor; -1 is the network's input
    returned: tuple[int, ...]  # the nodes that made what the network returns
    parameters: Mapping[str, int]  # name: number of values; a shared parameter is listed once
    uncounted: tuple[str, ...]  # operators that have no rule
    unregistered: Mapping[str, int]  # as `parameters`: those that lists, dicts and other objects hold
    statistics: int = 0  # values of the running means and variances of normalisations


def trace(
    net: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    training: bool = False,
    on_node: Callable[[int], None] | None = None,
) -> Trace:
    """The trace of `net(*args, **kwargs)`; tensor arguments are on the meta device.

    `on_node` is called with the index of each node, from within the operator's call. Raises UserError when the forward
    pass fails on the inputs, or when the network reads values, which meta tensors do not have.
    """
    if isinstance(net, torch.jit.ScriptModule):
        raise UserError(f"{type(net).__name__} is compiled, so its layers are hidden", "count what it was made of")
    if isinstance(net, ConvNet):
        try:
            return _pass(
                net, args, kwargs, training, on_node, "meta", grad=False
            )  # theirs do not ask, and it is faster
        except FAILURES as error:
            if not isinstance(error, UserError) and len(args) == 1 and not training:
                shape_after(net, tuple(args[0].shape[1:]))  # explains in words what does not fit
            raise _refused(net, args, kwargs, error) from error
    failure: BaseException | None = None
    for device, grad in WAYS:
        try:
            with on_cpu() if device == "cpu" else nullcontext():
                return _pass(net, args, kwargs, training, on_node, device, grad)
        except UserError:
            raise
        except FAILURES as error:
            failure = error
    assert failure is not None
    raise _refused(net, args, kwargs, failure) from failure


def _refused(net: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], error: BaseException) -> UserError:
    return error if isinstance(error, UserError) else refusal(type(net).__name__, net, args, kwargs, error)


def _pass(
    net: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    training: bool,
    on_node: Callable[[int], None] | None,
    device: str,
    grad: bool,
) -> Trace:
    with unchanged(net), torch.set_grad_enabled(grad), unchecked_distributions():
        modules = {m: path for path, m in net.named_modules()}
        if any(m.training is not training for m in modules):
            net.train(training)
        ours = isinstance(net, ConvNet)
        others = Unregistered({}, {}) if ours else unregistered(net)
        modules |= others.modules

        def make(t: Tensor) -> Tensor:  # a parameter on the meta device may stay, a ConvNet's buffer, too: only batch
            stays = t.is_meta and device == "meta" and (ours or isinstance(t, nn.Parameter))  # norm writes to some
            return t if stays else stand_in(t, like(t, device))

        names, parameters = put_stand_ins(modules, make)
        names |= {id(t): (path, t.requires_grad) for path, t in others.parameters.items() if path not in parameters}
        if device != "meta":
            args, kwargs = tree_map_only(Tensor, lambda t: like(t, device), (args, kwargs))
        tracer = _Tracer(modules, names, _recording if grad else _always, on_node, direct=not ours)
        tracer.note_inputs((*args, *kwargs.values()))
        with tracer.watching_modules(), tracer:
            net(*args, **kwargs)
        called = {call.path for call in tracer.calls}
        statistics = sum(running_values(module) for path, module in net.named_modules() if path in called)
    return Trace(
        tuple(tracer.nodes),
        tuple(tracer.calls),
        tuple(tracer.events),
        tuple(tuple(t.shape) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)),
        tracer.outputs,
        tracer.makers,
        tracer.returned,
        {path: n for path, n in parameters.items() if path not in others.parameters},
        tuple(tracer.uncounted),
        {path: t.numel() for path, t in others.parameters.items()},
        statistics,
    )


def running_values(module: nn.Module) -> int:
    """How many running means and variances a batch norm has; 0 for other modules."""
    if not isinstance(module, _NormBase) or module.running_mean is None or module.running_var is None:
        return 0
    return module.running_mean.numel() + module.running_var.numel()


def _always() -> bool:
    return True


def _recording() -> bool:
    """Whether autograd records what runs now, or runs it within an autograd.Function, which has a backward pass of its
    own. (Such a function turns forward-mode gradients off, too; torch.no_grad does not.)"""
    return torch.is_grad_enabled() or not (torch._C._is_fwd_grad_enabled() or torch.is_inference_mode_enabled())


class _Tracer(TorchDispatchMode):
    def __init__(
        self,
        modules: Mapping[nn.Module, str],
        names: Mapping[int, tuple[str, bool]],
        recording: Callable[[], bool],
        on_node: Callable[[int], None] | None,
        direct: bool,
    ):
        super().__init__()
        self.recording, self.on_node, self.direct = recording, on_node, direct
        self.nodes: list[Node] = []
        self.calls: list[Call] = []
        self.events: list[tuple[str, int]] = []
        self.outputs: dict[int, tuple[int, ...]] = {}
        self.makers: dict[int, int] = {}
        self.uncounted: dict[str, None] = {}
        self.running: list[int] = []
        self.paths = modules
        self.entered: list[nn.Module] = []  # those whose hooks have run, and whose forward has not begun
        # tensors by id: the node that made it, or the parameters that it is (a view of); kept alive, so ids stay valid
        self.made: dict[int, int] = {}
        self.parameters: dict[int, tuple[str, ...]] = {i: (name,) for i, (name, _) in names.items()}
        self.trained: set[int] = {i for i, (_, trained) in names.items() if trained}  # parameters that take a gradient
        self.kept: list[Any] = []
        self.views: dict[int, Tensor] = {}  # view: the tensor that it is a part of
        self.written: dict[int, int] = {}  # tensor: the last node that wrote into it or a view of it
        self.unread: dict[int, dict[int, Tensor]] = {}  # tensor: the views that were written, and not read since
        self.detached: dict[int, tuple[Operator, Tensor]] = {}  # what no operator has read yet, and of what
        self.returned: tuple[int, ...] = ()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # otherwise torch imports its whole compiler and consults it at each operator
        return False

    def note_inputs(self, values: Any) -> None:
        for t in tensors_in(values):
            self.made[id(t)] = -1
            self.kept.append(t)

    @contextmanager
    def watching_modules(self) -> Iterator[None]:
        """Notes the modules' calls, and, if `self.direct`, direct ones of `forward`, which torch has no hooks for."""
        for module in self.paths if self.direct else ():
            if not isinstance(module, torch.jit.ScriptModule):
                vars(module)["forward"] = self._noting(module, module.forward)
        hooks = [
            register_module_forward_pre_hook(self._enter_module),
            register_module_forward_hook(self._leave_module, always_call=True),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _noting(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(forward)
        def noted(*args: Any, **kwargs: Any) -> Any:
            if module in self.entered:
                self.entered.remove(module)
                return forward(*args, **kwargs)
            out = None
            self._enter_module(module, args)
            self.entered.remove(module)
            try:
                out = forward(*args, **kwargs)
            finally:
                self._leave_module(module, args, out)
            return out

        return noted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in RENAMED:
            func, taken = RENAMED[func]
            args = args[:taken]
        op = operator(func)
        if op.reads and type(args[0]) is Tensor and not args[0].is_meta and id(args[0]) not in self.made:
            with unset_fake_temporarily():  # a constant of the network's own
                return func(*args, **kwargs)
        if op.composite:
            with self:
                return func._op_dk(COMPOSITE, *args, **kwargs)
        out = op.shortcut(*args, **kwargs) if op.shortcut else None
        if out is None:
            out = func(*args, **kwargs)
        self.kept.append(out)
        tensors = tensors_among((*args, *kwargs.values()))
        if op.constant or (not tensors and op.inert):
            return out
        if self.detached:
            self._note_detached(tensors)
        into = tensors_among((kwargs.get("out", args[0] if args else None),)) if op.writes else []
        if op.overwrites:
            replaced = {id(t) for t in into}
            tensors = [t for t in tensors if id(t) not in replaced]
        parameters = tuple([name for t in tensors if id(t) in self.parameters for name in self.parameters[id(t)]])
        if self.written:
            inputs = tuple([i for i in map(self._maker, tensors) if i is not None])
        else:
            inputs = tuple([self.made[id(t)] for t in tensors if id(t) in self.made])
        made = [out] if isinstance(out, Tensor) else tensors_among(out) if isinstance(out, tuple | list) else []
        recorded = not op.detaches and self.recording()
        trained = recorded and bool(parameters) and not self.trained.isdisjoint(map(id, tensors))
        if op.inert and parameters and not inputs:  # a view of a parameter is that parameter
            self.parameters.update((id(t), parameters) for t in made)
            if trained:
                self.trained.update(map(id, made))
            return out
        if op.detaches and not op.writes:  # mostly autograd's, of what it keeps for a backward pass that never comes
            self.detached[id(out)] = op, args[0]
            return out
        made = made or into  # it returns nothing
        if not made:
            return out
        factors = tuple([self._factor(args[i]) for i in op.factors]) if op.macs else ()
        if op.inert and tensors and not op.writes:
            self._note_views(tensors[0], made)
        for t in made:
            self.made[id(t)] = len(self.nodes)
        for t in into:
            self._note_write(t)
        if not op.known:
            call = self.calls[self.running[-1]]
            self.uncounted[f"{call.path or call.kind}: {func.overloadpacket}"] = None
        self._add(
            Node(
                op=op.name,
                call=self.running[-1],
                inputs=inputs,
                parameters=parameters,
                args=tuple([tuple(a.shape) if isinstance(a, Tensor) else a for a in args]),
                shape=tuple(made[0].shape),
                itemsize=made[0].element_size(),
                macs=op.macs(out, *args, **kwargs) if op.macs else 0,
                factors=factors,
                recorded=recorded and (made[0].is_floating_point() or made[0].is_complex()),
                trained=trained,
            )
        )
        return out

    def _factor(self, t: Tensor) -> Factor:
        return Factor(self.made.get(id(t)), id(t) in self.parameters, id(t) in self.trained)

    def _add(self, node: Node) -> None:
        if self.on_node:
            self.on_node(len(self.nodes))
        self.events.append(("node", len(self.nodes)))
        self.nodes.append(node)

    def _note_detached(self, tensors: Sequence[Tensor]) -> None:
        """Notes the operators that made these, if that was put off until something reads them."""
        for t in tensors:
            if id(t) in self.detached:
                op, of = self.detached.pop(id(t))
                maker = self._maker(of)
                self._note_views(of, [t])
                self.made[id(t)] = len(self.nodes)
                inputs = () if maker is None else (maker,)
                shape, size = tuple(t.shape), t.element_size()
                self._add(Node(op.name, self.running[-1], inputs, (), (shape,), shape, size, 0, recorded=False))

    def _note_views(self, of: Tensor, made: list[Tensor]) -> None:
        whole, storage = self.views.get(id(of), of), of.untyped_storage()._cdata
        for t in made:
            if t.untyped_storage()._cdata == storage:
                self.views[id(t)] = whole

    def _note_write(self, t: Tensor) -> None:
        """The next node writes into `t`: every tensor that shares its storage is out of date."""
        whole = self.views.get(id(t), t)
        self.written[id(whole)] = self.made[id(t)] = len(self.nodes)
        if t is whole:
            self.unread.pop(id(whole), None)  # they were read before, or are overwritten
        else:
            self.unread.setdefault(id(whole), {})[id(t)] = t

    def _maker(self, t: Tensor) -> int | None:
        """The node that made a tensor, or last wrote into its storage; None for a constant."""
        whole = self.views.get(id(t), t)
        if self.made.get(id(t), -2) >= self.written.get(id(whole), -2):
            return self.made.get(id(t))
        for part in self.unread.pop(id(whole), {}).values():
            self._relate(WRITE_VIEW, (whole, part), part, whole)
        if t is not whole and id(whole) in self.made:
            self._relate(READ_VIEW, (whole,), t, whole)
        return self.made.get(id(t))

    def _relate(self, op: str, reads: tuple[Tensor, ...], part: Tensor, whole: Tensor) -> None:
        made = part if op == READ_VIEW else whole
        inputs = tuple([self.made[id(t)] for t in reads if id(t) in self.made])
        args = tuple(whole.shape), tuple(part.shape), place(part, whole)
        self.made[id(made)] = len(self.nodes)
        self._add(Node(op, self.running[-1], inputs, (), args, tuple(made.shape), made.element_size(), 0))

    def _enter_module(self, module: nn.Module, args: Any) -> None:
        path = self.paths.get(module)
        if path is None:
            return
        self.calls.append(
            Call(
                path=path,
                kind=type(module).__name__,
                parent=self.running[-1] if self.running else -1,
                leaf=not any(module._modules.values()),
                container=type(module) in CONTAINERS,
                geometry=geometry(module),
            )
        )
        self.running.append(len(self.calls) - 1)
        if self.direct and not isinstance(module, torch.jit.ScriptModule):
            self.entered.append(module)

    def _leave_module(self, module: nn.Module, args: Any, out: Any) -> None:
        if module not in self.paths:
            return
        call = self.running[-1]
        tensor = out if isinstance(out, Tensor) else next(tensors_in(out), None)
        if self.detached:
            self._note_detached(list(tensors_in(out)))
        if tensor is not None:
            self.outputs[call] = tuple(tensor.shape)
            maker = self._maker(tensor) if self.written else self.made.get(id(tensor))
            if maker is not None:
                self.makers[call] = maker
        if call == 0:
            makers = [self._maker(t) for t in tensors_in(out)]
            self.returned = tuple(sorted({i for i in makers if i is not None}))
        self.running.pop()
        self.events.append(("call", call))
