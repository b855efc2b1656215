"""memory(): the bytes that a network needs to train and to run, found without computing or allocating anything.

The forward pass, the loss, the backward pass and the optimizer's step really run, on tensors without values. What
autograd saves is what it hands to `torch.autograd.graph.saved_tensors_hooks`, each storage once. The peak is the most
bytes that tensors held after any operator, as seen at dispatch: what the kernels take for themselves while they run,
and what the allocator keeps beyond what it was asked for, come on top and are not in it.

Every figure grows by the same number of bytes with each image, so two passes, of batches one image apart, give it for
every batch. A peak is the largest of many such moments.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import reduce
from math import isqrt
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.checkpoint import checkpoint_sequential

from ..catalogue import Variant
from ..errors import UserError, unknown
from ..layers import ConvNet
from .count import meta_inputs
from .operators import MACS, SHORTCUTS
from .resolve import resolve
from .rows import stage_of
from .trace import unchanged, uncollected, why

aten = torch.ops.aten

Factory = Callable[[Iterable[Tensor]], Optimizer]

OPTIMIZERS: dict[str, tuple[Factory, str]] = {
    "sgd": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "SGD with momentum"),
    "adam": (lambda p: torch.optim.Adam(p), "Adam"),
    "rmsprop": (lambda p: torch.optim.RMSprop(p, momentum=0.9), "RMSprop with momentum"),
}


@dataclass(frozen=True)
class Affine:
    """What a batch of n images takes: fixed + each * n."""

    fixed: int
    each: int

    def of(self, batch: int) -> int:
        return self.fixed + self.each * batch

    def __add__(self, other: Affine) -> Affine:
        return Affine(self.fixed + other.fixed, self.each + other.each)


@dataclass(frozen=True)
class Saved:
    """Bytes saved for the backward pass that a module is the first to save. `path` is "loss" for those of the loss."""

    path: str
    op: str  # the module's class
    bytes: Affine


@dataclass(frozen=True)
class Moment:
    """What tensors hold after one operator."""

    phase: str  # "forward", "backward" or "optimizer"
    op: str
    bytes: Affine


@dataclass(frozen=True)
class Peak:
    """The moments that are the largest for some batch."""

    moments: tuple[Moment, ...]

    def moment(self, batch: int) -> Moment:
        return max(self.moments, key=lambda m: m.bytes.of(batch))

    def of(self, batch: int) -> int:
        """The most bytes that tensors hold at any moment, parameters and the batch included."""
        return self.moment(batch).bytes.of(batch)

    def largest_batch(self, limit: int) -> int:
        """The most images whose peak is at most `limit` bytes; 0 where one is too many."""
        rooms = ((limit - m.bytes.fixed, m.bytes.each) for m in self.moments)
        return max(0, min(room // each if each > 0 else (1 << 62 if room >= 0 else 0) for room, each in rooms))


@dataclass(frozen=True)
class Checkpointed:
    """Training that saves the inputs of `segments` runs of `units` modules, and computes the rest again."""

    units: int
    segments: int
    saved: Affine
    training: Peak
    extra_macs: Affine  # computed again in the backward pass
    forward_macs: Affine


@dataclass(frozen=True)
class Memory:
    """Bytes. The optimizer's state is that after its first step; `training` is the peak of any later step."""

    name: str
    input: tuple[Any, ...]  # C x H x W; of several inputs, the shape of each
    batch: int
    optimizer: str
    amp: bool
    parameters: int
    buffers: int
    gradients: int
    optimizer_state: int
    images: Affine  # the inputs, and in training the labels
    saved: tuple[Saved, ...]  # by module, in the order in which they save; parameters, buffers and images apart
    training: Peak
    inference: Peak
    drawn: bool  # the network draws at random what it computes in training: the figures are those of one draw

    @property
    def saved_bytes(self) -> Affine:
        return sum((s.bytes for s in self.saved), Affine(0, 0))

    def stages(self) -> dict[str, Affine]:
        """What is saved, by stage: the stem, each stage, the head, the loss."""
        found: dict[str, Affine] = {}
        for s in self.saved:
            stage = stage_of(s.path)
            found[stage] = found.get(stage, Affine(0, 0)) + s.bytes
        return found


@dataclass(frozen=True)
class Measured:
    """Peaks, in bytes, of one pass that really ran on a device."""

    live: int  # what tensors held, as `memory` foretells it
    allocated: int | None  # what a GPU's allocator handed out: this and the kernels' workspaces, rounded up
    reserved: int | None  # what it took from the GPU for that; both None on the CPU, whose allocator keeps no count


def memory(
    network: nn.Module | Variant | str,
    input: Any = None,
    batch: int = 32,
    *,
    optimizer: str | Factory = "sgd",
    amp: bool = False,
    auxiliary: bool = False,
    **options: Any,
) -> Memory:
    """What `network` takes to train and to run on `batch` images of `input` (as for `account`).

    The loss is the cross-entropy of (N, classes) logits, of other outputs their sum. `optimizer` is "sgd" (momentum
    0.9), "adam", "rmsprop" (momentum 0.9), all without weight decay, or a function from parameters to an optimizer;
    gradients are dropped before each forward pass. `amp` runs forward and loss under torch.autocast to bfloat16, as
    on the CPU. `auxiliary` trains the auxiliary classifiers too. Parameters that require no gradient get none, and
    nothing in the network changes. Kernels are chosen as on the CPU, but for recurrent layers: those of torch save
    more there than is foretold.

    Raises UserError for what `account` refuses, an unknown optimizer, and a network that has nothing to train.
    """
    net, name, input, _ = resolve(network, input, **options)
    if isinstance(batch, bool) or not isinstance(batch, int) or batch < 1:
        raise UserError(f"batch={batch!r} is not a count", "give a whole number of at least 1")
    n = max(batch, 2)  # batch norm refuses a single value per channel
    train: Any = net
    if auxiliary:
        if not isinstance(net, ConvNet) or not net.has_aux:
            raise UserError(f"{name} has no auxiliary classifiers to train")
        train = net.forward_aux
    one, two = (_Run(net, name, *meta_inputs(net, input, b), train, optimizer, amp) for b in (n, n + 1))
    return Memory(
        name=name,
        input=one.input,
        batch=batch,
        optimizer=optimizer if isinstance(optimizer, str) else type(optimizer([nn.Parameter(torch.zeros(1))])).__name__,
        amp=amp,
        parameters=one.parameters,
        buffers=one.buffers,
        gradients=one.gradients,
        optimizer_state=one.optimizer_state,
        images=_affine(one.images, two.images, n),
        saved=tuple(_saved(one, two, n)),
        training=_peak(one.training, two.training, n),
        inference=_peak(one.inference, two.inference, n),
        drawn=one.drawn,
    )


def measure(
    network: nn.Module | Variant | str,
    input: Any = None,
    batch: int = 32,
    *,
    optimizer: str | Factory = "sgd",
    amp: bool = False,
    device: str = "cpu",
    **options: Any,
) -> tuple[Measured, Measured]:
    """A training step and an inference, really run on zeros: what `memory` foretells, and what the allocator took.

    Arguments and errors are those of `memory`.
    """
    net, name, input, _ = resolve(network, input, **options)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} is not there: {str(error).splitlines()[0]}") from error
    run = _Run(net, name, *meta_inputs(net, input, batch), net, optimizer, amp, device)
    training, inference = (max(n for _, _, n in moments) for moments in (run.training, run.inference))
    return Measured(training, *run.taken["_train"]), Measured(inference, *run.taken["_infer"])


def checkpointed(
    network: nn.Module | Variant | str,
    input: Any = None,
    *,
    optimizer: str | Factory = "sgd",
    amp: bool = False,
    **options: Any,
) -> Checkpointed | None:
    """What `memory` would be under `torch.utils.checkpoint.checkpoint_sequential` in sqrt(N) segments (Chen et al.,
    2016, https://arxiv.org/abs/1604.06174, section 3).

    The N units are the children of stem, stages and head, in their order, plain nn.Sequentials opened; a unit that
    overwrites its input belongs to the one before. The last segment is not computed again. None for a network that is
    no such sequence. What is computed again updates batch norm's running statistics twice.
    """
    net, name, input, _ = resolve(network, input, **options)
    units = sequence(net)
    if len(units) < 4:
        return None
    segments = isqrt(len(units))

    def run(batch: int, cut: int) -> _Run:
        train = (lambda x: checkpoint_sequential(units, cut, x, use_reentrant=False)) if cut else net
        return _Run(net, name, *meta_inputs(net, input, batch), train, optimizer, amp, infer=False)

    one, two, plain = run(2, segments), run(3, segments), run(2, 0)
    extra = one.macs - plain.macs
    return Checkpointed(
        len(units),
        segments,
        _affine(sum(one.saved.values()), sum(two.saved.values()), 2),
        _peak(one.training, two.training, 2),
        Affine(0, extra // 2),
        Affine(0, plain.forward_macs // 2),
    )


def sequence(net: nn.Module) -> list[nn.Module]:
    """The modules that `net` runs one after the other, each on what the one before gave; [net] where it is not so."""
    plain = type(net) is nn.Sequential or (isinstance(net, ConvNet) and type(net).forward is ConvNet.forward)
    if not plain:
        return [net]
    children = [net.stem, net.stages, net.head] if isinstance(net, ConvNet) else list(net.children())
    units: list[nn.Module] = []
    for unit in (u for child in children for u in sequence(child)):
        if units and getattr(unit, "inplace", False):
            units[-1] = nn.Sequential(units[-1], unit)
        else:
            units.append(unit)
    return units


def _affine(at_n: int, at_next: int, n: int) -> Affine:
    each = at_next - at_n
    return Affine(at_n - each * n, each)


def _saved(one: _Run, two: _Run, n: int) -> Iterator[Saved]:
    for (path, op), at_n in one.saved.items():
        yield Saved(path, op, _affine(at_n, two.saved[path, op], n))


def _peak(one: Sequence[tuple[str, str, int]], two: Sequence[tuple[str, str, int]], n: int) -> Peak:
    """The moments of two passes as one: those that no other moment exceeds for every batch."""
    if [m[:2] for m in one] != [m[:2] for m in two]:
        raise UserError(f"the network runs otherwise on {n} images than on {n + 1}, so no other batch can be foretold")
    moments = [Moment(phase, op, _affine(a, b, n)) for (phase, op, a), (_, _, b) in zip(one, two)]
    moments.sort(key=lambda m: (-m.bytes.each, -m.bytes.fixed))
    largest: list[Moment] = []
    for m in moments:
        if not largest or m.bytes.fixed > largest[-1].bytes.fixed:
            largest.append(m)
    return Peak(tuple(largest))


class _Run:
    """One training step and one inference of a network, watched. On the meta device, or really on another one."""

    def __init__(
        self,
        net: nn.Module,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        train: Callable[..., Any],  # the network, or another way to run it in training
        optimizer: str | Factory,
        amp: bool,
        device: str = "meta",
        infer: bool = True,
    ):
        if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
            raise unknown("optimizer", optimizer, OPTIMIZERS)
        self.name, self.forward, self.real = name, train, device != "meta"
        self.factory = OPTIMIZERS[optimizer][0] if isinstance(optimizer, str) else optimizer
        place = torch.device(device if self.real else "cpu").type
        self.autocast: Any = torch.autocast(place, torch.bfloat16) if amp else nullcontext()
        self.taken: dict[str, tuple[int | None, int | None]] = {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        shapes = tuple(tuple(t.shape[1:]) for t in tensors)
        self.input = shapes[0] if len(shapes) == 1 else shapes
        self.inference: list[tuple[str, str, int]] = []
        try:
            with ExitStack() as stack:
                stack.enter_context(uncollected())
                stack.enter_context(unchanged(net))
                torch.manual_seed(0)
                net.eval()
                if device == "meta" and (amp or not isinstance(net, ConvNet)):
                    # Autocast, attention ... choose kernels by device: tensors that claim to be on the CPU, at a
                    # few times the cost. The atlas's own networks, without autocast, run alike on meta.
                    from torch._subclasses.fake_tensor import FakeTensorMode

                    device = "cpu"
                    stack.enter_context(_unlogged("torch._subclasses.fake_tensor"))  # what does not run is said below
                    stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
                self.device = device
                if infer:
                    self._within(net, args, kwargs, self._infer)
                net.train()
                self._within(net, args, kwargs, self._train)
        except (RuntimeError, ValueError, NotImplementedError) as error:
            if isinstance(error, UserError):
                raise
            given = ", ".join("x".join(map(str, t.shape)) for t in tensors)
            reason = why(error)
            if "_local_scalar_dense" in reason:
                reason = "it decides by values, which nothing has here" + ("; try without amp" if amp else "")
            raise UserError(f"{name} does not run on input {given}: {reason}") from error

    def _within(
        self, net: nn.Module, args: Any, kwargs: Any, run: Callable[[_Watch, nn.Module, Any, Any], None]
    ) -> None:
        """Runs with stand-ins for the network's tensors, so that its own stay as they are."""
        gauge = _Gauge(self.device) if self.real else None
        parameters = {k: self._stand_in(p).requires_grad_(p.requires_grad) for k, p in net.named_parameters()}
        buffers = {k: self._stand_in(b) for k, b in net.named_buffers()}
        args, kwargs = tree_map_only(Tensor, self._stand_in, (args, kwargs))
        watch = _Watch(net, fast=not self.real)
        self.parameters = watch.own(parameters.values())
        self.buffers = watch.own(buffers.values())
        self.images = watch.own(t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        stand_ins = {f"net.{k}": t for k, t in {**parameters, **buffers}.items()}
        torch.func.functional_call(_Within(net), stand_ins, (lambda net: run(watch, net, args, kwargs),))
        if gauge:
            self.taken[run.__name__] = gauge.read()

    def _stand_in(self, t: Tensor) -> Tensor:
        made = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=self.device)
        return made.zero_() if self.real else made

    def _infer(self, watch: _Watch, net: nn.Module, args: Any, kwargs: Any) -> None:
        with torch.no_grad(), watch, self.autocast:
            net(*args, **kwargs)
        self.inference = watch.moments

    def _train(self, watch: _Watch, net: nn.Module, args: Any, kwargs: Any) -> None:
        first = next(t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        labels = torch.zeros(len(first), dtype=torch.long, device=self.device)
        self.images += watch.own([labels])
        trained = [p for p in net.parameters() if p.requires_grad]
        if not trained:
            raise UserError(f"{self.name} has nothing to train", "give it parameters that require a gradient")
        optimizer = self.factory(trained)
        with watch:
            with self.autocast, watch.saving():
                loss = _loss(self.forward(*args, **kwargs), labels)
            if not loss.requires_grad:
                raise UserError(f"no parameter of {self.name} that requires a gradient reaches its output")
            self.saved = watch.saved_by_module()
            self.forward_macs = watch.macs
            watch.phase = "backward"
            loss.backward()
            kept = (p.grad.untyped_storage() for p in net.parameters() if p.grad is not None)
            self.gradients = sum({storage._cdata: storage.nbytes() for storage in kept}.values())  # some share one
            passes = list(watch.moments)
            optimizer.step()  # makes its state, which from then on is there through every pass
            state = [t for t in tree_leaves(list(optimizer.state.values())) if isinstance(t, Tensor)]
            self.optimizer_state = sum(t.untyped_storage().nbytes() for t in state)
            watch.phase, watch.moments = "optimizer", []
            optimizer.step()
        self.training = [(phase, op, n + self.optimizer_state) for phase, op, n in passes] + watch.moments
        self.macs, self.drawn = watch.macs, watch.drawn


@contextmanager
def _unlogged(name: str) -> Iterator[None]:
    log = logging.getLogger(name)
    was, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was


def _loss(out: Any, labels: Tensor) -> Tensor:
    """The cross-entropy of all (N, classes) outputs, the sum of others."""
    made = [t for t in tree_leaves(out) if isinstance(t, Tensor) and t.is_floating_point()]
    logits = [t for t in made if t.ndim == 2 and len(t) == len(labels)]
    losses = [F.cross_entropy(t.float(), labels) for t in logits] or [t.sum() for t in made]
    return reduce(add, losses)


class _Within(nn.Module):
    """Runs something on a network while torch.func.functional_call has put other tensors into it."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, run: Callable[[nn.Module], None]) -> None:
        run(self.net)


class _Gauge:
    """The most that a GPU's allocator hands out, and takes from the GPU, from now on."""

    def __init__(self, device: str):
        self.device = torch.device(device)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device), torch.cuda.memory_reserved(self.device)

    def read(self) -> tuple[int | None, int | None]:
        if self.device.type != "cuda":
            return None, None
        allocated, reserved = self.before
        most = torch.cuda.max_memory_allocated(self.device), torch.cuda.max_memory_reserved(self.device)
        return most[0] - allocated, most[1] - reserved


class _Watch(TorchDispatchMode):
    """Follows every storage from the operator that makes it until it is freed."""

    def __init__(self, net: nn.Module, fast: bool):
        super().__init__()
        self.fast = fast  # take the shortcuts, which compute nothing
        self.live = 0
        self.sizes: dict[int, int] = {}  # storage: its bytes, while it lives
        self.refs: dict[int, weakref.ref[Any]] = {}
        self.owned: set[int] = set()  # storages of parameters, buffers and inputs
        self.saved: dict[int, tuple[tuple[str, str], int]] = {}  # storage: the module that saved it first, its bytes
        self.moments: list[tuple[str, str, int]] = []  # phase, operator, live bytes after it
        self.phase = "forward"
        self.macs = 0
        self.drawn = False
        self.names = {m: (path, type(m).__name__) for path, m in net.named_modules()}
        self.running: list[tuple[str, str]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # or torch imports all of its compiler, which takes seconds
        return False

    def own(self, tensors: Iterable[Tensor]) -> int:
        """Notes tensors that are there from the start; returns their bytes."""
        before = self.live
        for t in tensors:
            self._note(t)
            self.owned.add(t.untyped_storage()._cdata)
        return self.live - before

    def _note(self, t: Tensor) -> None:
        storage = t.untyped_storage()
        key = storage._cdata
        if key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.live += self.sizes[key]
            self.refs[key] = weakref.ref(storage, lambda _: self._freed(key))

    def _freed(self, key: int) -> None:
        self.live -= self.sizes.pop(key)
        del self.refs[key]
        self.saved.pop(key, None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        shortcut = FASTER.get(func) if self.fast else None
        out = shortcut(*args, **kwargs) if shortcut and tree_leaves(args)[0].ndim else None
        if out is None:
            out = func(*args, **kwargs)
        made = (out,) if isinstance(out, Tensor) else [t for t in tree_leaves(out) if isinstance(t, Tensor)]
        for t in made:
            self._note(t)
        op = func.overloadpacket
        if made:
            self.moments.append((self.phase, op.__name__, self.live))
        if op in MACS:
            self.macs += MACS[op](out, *args, **kwargs)
        if op in DRAWS and made[0].device.type == "cpu" and made[0].ndim == 0:
            self.drawn = True
        return out

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Notes what autograd saves, by the innermost module that runs."""

        def enter(module: nn.Module, args: Any) -> None:
            if module in self.names:
                self.running.append(self.names[module])

        def leave(module: nn.Module, args: Any, out: Any) -> None:
            if module in self.names:
                self.running.pop()

        def pack(t: Tensor) -> Tensor:
            key = t.untyped_storage()._cdata
            if key not in self.owned and key not in self.saved:
                self._note(t)
                self.saved[key] = (self.running[-1] if self.running else ("loss", "")), self.sizes[key]
            return t

        hooks = register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True)
        try:
            with saved_tensors_hooks(pack, lambda t: t):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def saved_by_module(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for module, size in self.saved.values():
            found[module] = found.get(module, 0) + size
        return found


DRAWS = frozenset({aten.rand, aten.randint, aten.randn, aten.bernoulli})  # of a scalar: to decide what to compute


def _batch_norm(x: Tensor, weight: Tensor | None, bias: Any, mean: Any, var: Any, training: bool, *rest: Any) -> Any:
    kept, dtype = x.shape[1] if training else 0, x.dtype if weight is None else weight.dtype
    return torch.empty_like(x), x.new_empty(kept, dtype=dtype), x.new_empty(kept, dtype=dtype)


def _batch_norm_backward(grad: Tensor, x: Tensor, weight: Tensor | None, *rest: Any) -> Any:
    if weight is None or grad.dtype != x.dtype:
        return None
    mask = rest[-1]
    shapes = (x, weight, weight)
    return tuple(torch.empty_like(t) if wanted else None for t, wanted in zip(shapes, mask))


FASTER: Mapping[Any, Callable[..., Any]] = {
    **SHORTCUTS,
    aten.native_batch_norm.default: _batch_norm,  # keeps its statistics in float32 where the images are bfloat16
    aten.native_batch_norm_backward.default: _batch_norm_backward,
    aten.threshold_backward.default: lambda grad, x, threshold: torch.empty_like(grad),
}
