"""One training step and one inference of a network, watched operator by operator: on the meta device or a real one."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ...catalogue import Variant
from ...errors import UserError, first_line, unknown
from ...layers import ConvNet
from ...muon import Muon
from ..inputs import batch_of, meta_inputs
from ..operators import MACS, SHORTCUTS
from ..refusals import FAILURES, PLAIN, refusal
from ..resolve import resolve
from ..stand_ins import fake_tensors, put_stand_ins, stand_in, unchecked_distributions, uncollected
from ..state import unchanged
from ..tensors import tensors_in
from ..unregistered import unregistered
from .figures import OPTIMIZERS, Measured

aten = torch.ops.aten

Factory = Callable[[Iterable[Tensor]], Optimizer]

FACTORIES: dict[str, Factory] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p),
    "rmsprop": lambda p: torch.optim.RMSprop(p, momentum=0.9),
    "muon": lambda p: Muon(p, lr=0.02),
}


def measure_memory(
    network: nn.Module | Variant | str,
    input: Any = None,
    batch: int | None = None,
    *,
    optimizer: str | Factory = "sgd",
    amp: bool = False,
    device: str = "cpu",
    **options: Any,
) -> tuple[Measured, Measured]:
    """The measured peaks of a training step and of an inference, run on zeros on `device`.

    `live` is what `memory` predicts; the rest is a GPU allocator's. Arguments and errors as for `memory`.
    """
    net, name, input, _ = resolve(network, input, **options)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device!r} is not available: {first_line(error)}") from error
    run = WatchedStep(net, name, *meta_inputs(net, input, batch_of(input, batch, 32)), net, optimizer, amp, device)
    training, inference = (max(n for _, _, n in moments) for moments in (run.training, run.inference))
    return Measured(training, *run.taken["_train"]), Measured(inference, *run.taken["_infer"])


class WatchedStep:
    """One training step and one inference of a network, watched, on the meta device or a real one."""

    def __init__(
        self,
        net: nn.Module,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        train: Callable[..., Any],  # the network, or a checkpointed version to run in training
        optimizer: str | Factory,
        amp: bool,
        device: str = "meta",
        infer: bool = True,
        learn: bool = True,
    ):
        if isinstance(optimizer, str) and optimizer not in OPTIMIZERS:
            raise unknown("optimizer", optimizer, OPTIMIZERS)
        self.name, self.forward, self.real, self.net, self.amp = name, train, device != "meta", net, amp
        self.factory = FACTORIES[optimizer] if isinstance(optimizer, str) else optimizer
        kind = torch.device(device if self.real else "cpu").type
        self.autocast: Any = torch.autocast(kind, torch.bfloat16) if amp else nullcontext()
        self.taken: dict[str, tuple[int | None, int | None]] = {}
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        shapes = tuple(tuple(t.shape[1:]) for t in tensors)
        self.input = shapes[0] if len(shapes) == 1 else shapes
        self.inference: list[tuple[str, str, int]] = []
        try:
            with ExitStack() as stack:
                stack.enter_context(uncollected())
                stack.enter_context(unchanged(net))
                stack.enter_context(unchecked_distributions())
                torch.manual_seed(0)
                net.eval()
                if device == "meta" and (amp or not isinstance(net, ConvNet)):
                    # Autocast and attention choose kernels by device, so these tensors claim to be on the CPU, which
                    # takes a few times as long. Catalogue networks run the same kernels on meta without autocast.
                    device = "cpu"
                    stack.enter_context(fake_tensors())
                self.device = device
                if infer:
                    self._within(net, args, kwargs, self._infer)
                if learn:
                    net.train()
                    self._within(net, args, kwargs, self._train)
        except UserError:
            raise
        except PLAIN as error:
            raise refusal(name, net, args, kwargs, error, amp) from error

    def _within(
        self, net: nn.Module, args: Any, kwargs: Any, run: Callable[[_Storages, nn.Module, Any, Any], None]
    ) -> None:
        """Runs with replacement tensors, so that the network's own do not change."""
        gauge = _Gauge(self.device) if self.real else None
        parameters = {k: stand_in(p, self._blank(p)) for k, p in net.named_parameters()}
        buffers = {k: stand_in(b, self._blank(b)) for k, b in net.named_buffers()}
        args, kwargs = tree_map_only(Tensor, self._blank, (args, kwargs))
        watch = _Storages(net, fast=not self.real)
        others = unregistered(net).modules
        put_stand_ins(others, lambda t: stand_in(t, self._blank(t)))
        self.parameters = watch.own((*parameters.values(), *(p for m in others for p in m.parameters())))
        self.buffers = watch.own(buffers.values())
        self.images = watch.own(t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        replaced = {f"net.{k}": t for k, t in {**parameters, **buffers}.items()}
        torch.func.functional_call(_Within(net), replaced, (lambda net: run(watch, net, args, kwargs),))
        if gauge:
            self.taken[run.__name__] = gauge.read()

    def _blank(self, t: Tensor) -> Tensor:
        made = torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=self.device)
        return made.zero_() if self.real else made

    @contextmanager
    def _explained(self, args: Any, kwargs: Any) -> Iterator[None]:
        """The forward pass: all that goes wrong in it is the network's or the input's fault."""
        try:
            yield
        except UserError:
            raise
        except FAILURES as error:
            raise refusal(self.name, self.net, args, kwargs, error, self.amp) from error

    def _infer(self, watch: _Storages, net: nn.Module, args: Any, kwargs: Any) -> None:
        with torch.no_grad(), watch, self.autocast, self._explained(args, kwargs):
            net(*args, **kwargs)
        self.inference = watch.moments

    def _train(self, watch: _Storages, net: nn.Module, args: Any, kwargs: Any) -> None:
        first = next(t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))
        labels = torch.zeros(len(first), dtype=torch.long, device=self.device)
        self.images += watch.own([labels])
        trained = [p for p in net.parameters() if p.requires_grad]
        if not trained:
            raise UserError(f"{self.name} has no parameters to train", "set requires_grad on some of them")
        optimizer = self.factory(trained)
        if self.real:
            watch.own(state_from_the_start(optimizer, trained))
        with watch:
            with self.autocast, watch.saving():
                with self._explained(args, kwargs):
                    out = self.forward(*args, **kwargs)
                loss = _loss(out, labels)
                del out
            if not loss.requires_grad:
                raise UserError(f"no parameter of {self.name} that requires a gradient affects its output")
            self.saved = watch.saved_by_module()
            self.forward_macs = watch.macs
            watch.phase = "backward"
            loss.backward()
            kept = (p.grad.untyped_storage() for p in net.parameters() if p.grad is not None)
            self.gradients = sum({storage._cdata: storage.nbytes() for storage in kept}.values())  # some share one
            passes = list(watch.moments)
            optimizer.step()  # creates its state, which stays allocated in every later pass
            self.optimizer_state = sum(t.untyped_storage().nbytes() for t in state_of(optimizer))
            watch.phase, watch.moments = "optimizer", []
            optimizer.step()
        later = 0 if self.real else self.optimizer_state  # a real pass had it all along
        self.training = [(phase, op, n + later) for phase, op, n in passes] + watch.moments
        self.macs, self.drawn = watch.macs, watch.drawn


def state_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [t for t in tree_leaves(list(optimizer.state.values())) if isinstance(t, Tensor)]


def state_from_the_start(optimizer: torch.optim.Optimizer, trained: list[nn.Parameter]) -> list[Tensor]:
    """The optimizer's state, made by a step on zero gradients: all peaks are then those of a later step."""
    for p in trained:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if trained[0].is_cuda:
        torch.cuda.reset_peak_memory_stats(trained[0].device)
    return state_of(optimizer)


def _loss(out: Any, labels: Tensor) -> Tensor:
    """The cross-entropy of (N, classes) outputs, the sum of any other."""
    made = [torch.view_as_real(t) if t.is_complex() else t for t in tensors_in(out)]
    made = [t for t in made if t.is_floating_point()]
    if not made:
        raise UserError("the network returns no numbers to train on", "let it return logits or a loss")
    logits = [t for t in made if t.ndim == 2 and len(t) == len(labels)]
    losses = [F.cross_entropy(t.float(), labels) for t in logits] or [t.sum() for t in made]
    return reduce(add, losses)


class _Within(nn.Module):
    """Runs a function on a network while torch.func.functional_call has swapped its tensors."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, run: Callable[[nn.Module], None]) -> None:
        run(self.net)


class _Gauge:
    """The most that a GPU's allocator allocates, and reserves on the GPU, from now on."""

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


class _Storages(TorchDispatchMode):
    """Tracks every storage from the operator that creates it until it is freed."""

    def __init__(self, net: nn.Module, fast: bool):
        super().__init__()
        self.fast = fast  # the fast paths, which compute nothing
        self.live = 0
        self.sizes: dict[int, int] = {}  # storage: its bytes, while it lives
        self.refs: dict[int, weakref.ref[Any]] = {}
        self.owned: set[int] = set()  # storages of parameters, buffers and inputs
        self.saved: dict[int, tuple[tuple[str, str], int]] = {}  # storage: the module that first saved it, its bytes
        self.moments: list[tuple[str, str, int]] = []  # phase, operator, live bytes after it
        self.phase = "forward"
        self.macs = 0
        self.drawn = False
        self.names = {m: (path, type(m).__name__) for path, m in net.named_modules()}
        self.running: list[tuple[str, str]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # otherwise torch imports its whole compiler, which takes seconds
        return False

    def own(self, tensors: Iterable[Tensor]) -> int:
        """Records tensors that exist from the start; returns their bytes."""
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
        if func is aten._local_scalar_dense.default and type(args[0]) is Tensor and not args[0].is_meta:
            with unset_fake_temporarily():  # a constant of the network's own
                return func(*args, **kwargs)
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
        """Records what autograd saves, under the innermost running module."""

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


DRAWS = frozenset({aten.rand, aten.randint, aten.randn, aten.bernoulli})  # of a scalar, to decide what to compute


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
