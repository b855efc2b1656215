"""memory(): the bytes that a network needs to train and to run, predicted without computing or allocating anything.

The forward pass, the loss, the backward pass and the optimizer's step are really executed, on tensors without values.
What autograd saves is what it passes to `torch.autograd.graph.saved_tensors_hooks`, each storage once. The peak is the
most bytes that tensors held after any operator, as seen at dispatch; kernels' workspaces, and what the allocator
reserves beyond the requested bytes, are not included.

Every figure is linear in the batch size, so two passes, with batches one image apart, give it for every batch. A peak
is the maximum of many such moments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isqrt
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint_sequential

from ...catalogue import Variant
from ...errors import UserError
from ...layers import ConvNet
from ..inputs import batch_of, meta_inputs
from ..resolve import resolve
from .figures import Affine, Checkpointed, Memory, Moment, Peak, Saved
from .watch import Factory, WatchedStep


def memory(
    network: nn.Module | Variant | str,
    input: Any = None,
    batch: int | None = None,
    *,
    optimizer: str | Factory = "sgd",
    amp: bool = False,
    auxiliary: bool = False,
    **options: Any,
) -> Memory:
    """What `network` takes to train and to run on `batch` images of `input` (as for `account`; 32 by default).

    The loss is the cross-entropy of (N, classes) logits, or the sum of any other output. `optimizer` is "sgd" (momentum
    0.9), "adam", "rmsprop" (momentum 0.9), "muon", all without weight decay, or a function from parameters to an
    optimizer; gradients are freed before each forward pass. `amp` runs forward and loss under torch.autocast to
    bfloat16. `auxiliary` trains the auxiliary classifiers too. Parameters that do not require a gradient get none, and
    nothing in the network changes. Kernels are the CPU's; in recurrent layers, torch's kernels save more than is
    predicted.

    Raises UserError for what `account` refuses, an unknown optimizer, and a network without parameters to train.
    """
    net, name, input, _ = resolve(network, input, **options)
    batch = batch_of(input, batch, 32)
    n = max(batch, 2)  # batch norm rejects a single value per channel
    train: Any = net
    if auxiliary:
        if not isinstance(net, ConvNet) or not net.has_aux:
            raise UserError(f"{name} has no auxiliary classifiers to train")
        train = net.forward_aux
    one, two = (WatchedStep(net, name, *meta_inputs(net, input, b), train, optimizer, amp) for b in (n, n + 1))
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


def inference_peak(network: nn.Module | Variant | str, input: Any = None) -> Peak:
    """The peak of inference alone, as `memory` has it, without the time that following a training step takes."""
    net, name, input, _ = resolve(network, input)
    one, two = (WatchedStep(net, name, *meta_inputs(net, input, n), net, "sgd", amp=False, learn=False) for n in (2, 3))
    return _peak(one.inference, two.inference, 2)


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

    The N units are the children of stem, stages and head, in order, with plain nn.Sequentials expanded; a unit that
    overwrites its input belongs to the one before. The last segment is not recomputed. None for a network that is not
    such a sequence. Recomputation updates batch norm's running statistics twice.
    """
    net, name, input, _ = resolve(network, input, **options)
    units = sequence(net)
    if len(units) < 4:
        return None
    segments = isqrt(len(units))

    def run(batch: int, cut: int) -> WatchedStep:
        train = (lambda x: checkpoint_sequential(units, cut, x, use_reentrant=False)) if cut else net
        return WatchedStep(net, name, *meta_inputs(net, input, batch), train, optimizer, amp, infer=False)

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
    """The modules that `net` runs in sequence, each on the output of the one before; [net] otherwise."""
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


def _saved(one: WatchedStep, two: WatchedStep, n: int) -> Iterator[Saved]:
    for (path, op), at_n in one.saved.items():
        yield Saved(path, op, _affine(at_n, two.saved[path, op], n))


def _peak(one: Sequence[tuple[str, str, int]], two: Sequence[tuple[str, str, int]], n: int) -> Peak:
    """The moments of two passes combined: those that are the largest for some batch size."""
    if [m[:2] for m in one] != [m[:2] for m in two]:
        raise UserError(
            f"the network runs different operators on {n} images than on {n + 1}, so no other batch can be predicted"
        )
    moments = [Moment(phase, op, _affine(a, b, n)) for (phase, op, a), (_, _, b) in zip(one, two)]
    moments.sort(key=lambda m: (-m.bytes.each, -m.bytes.fixed))
    largest: list[Moment] = []
    for m in moments:
        if not largest or m.bytes.fixed > largest[-1].bytes.fixed:
            largest.append(m)
    return Peak(tuple(largest))
