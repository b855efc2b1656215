"""Norms of gradients, and what to report when a loss, gradient or weight is not finite: where, and for which images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.types import Split
from ..machine.processes import World

WHY = ("pixels", "outputs", "batch")  # the most specific first
NAMED = 8  # images named in a message
PIECE = 1 << 18  # values


class Diverged(RuntimeError):
    """A loss, a gradient or a weight is not finite; the message names the step and the last checkpoint."""


def not_finite(net: nn.Module) -> str | None:
    """The name of the first weight or buffer with a value that is not finite."""
    return first_not_finite(net.state_dict())


def first_not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor with a value that is not finite; waits for the device once if there is none."""
    tensors = {name: summable(t) for name, t in tensors.items()}
    if torch.stack([t.sum(dtype=torch.float32) for t in tensors.values()]).sum().isfinite():
        return None
    return next((name for name, t in tensors.items() if not t.isfinite().all()), None)


def summable(tensor: Tensor) -> Tensor:
    """Complex values as pairs, and those of 8 bits, which torch does not test, as float32."""
    if tensor.is_complex():
        return torch.view_as_real(tensor)
    return tensor.float() if tensor.is_floating_point() and tensor.itemsize == 1 else tensor


def not_finite_in(tensors: Sequence[Tensor]) -> Tensor:
    """1 if any value is not finite, else 0: float32 (), on their device, without waiting for it.

    One operation tests all tensors, the one with which torch checks scaled gradients; it multiplies them by 1.
    """
    found = tensors[0].new_zeros((), dtype=torch.float32)
    torch._amp_foreach_non_finite_check_and_unscale_(list(tensors), found, torch.ones_like(found))
    return found


def what_is_bad(loss: Tensor, net: nn.Module) -> str:
    """The loss, or the first parameter by name, of a step that is not finite on this process or, if none, another."""
    if not loss.isfinite():
        return f"the loss is {loss.item()}"
    name = first_not_finite({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    return f"the gradient of {name} is not finite" if name else "a loss or gradient of another process is not finite"


def norms(stages: Sequence[Sequence[Tensor]]) -> Tensor:
    """The L2 norm of each stage's gradients, all together: float64 (stages,), without waiting for their device."""
    pieces = [[piece for gradient in stage for piece in cut(gradient)] for stage in stages]
    each = torch.stack(torch._foreach_norm([piece for stage in pieces for piece in stage])).double()
    return torch.stack([of_stage.norm() for of_stage in each.split([len(stage) for stage in pieces])])


def cut(gradient: Tensor) -> tuple[Tensor, ...]:
    """In pieces small enough for torch on a CPU, which adds up the squares of one after the other in float32."""
    rows = gradient if gradient.ndim else gradient[None]
    return rows.split(max(1, PIECE * len(rows) // rows.numel()))


def culprits(split: Split, world: World, indices: Tensor, x: Tensor, logits: Tensor) -> dict[str, Any]:
    """The images for which a loss or gradient is not finite: by pixels, else by logits, else the whole batch."""
    pixels, outputs = (~t.detach().flatten(1).isfinite().all(1).cpu() for t in (x, logits))
    why, bad = next(
        ((why, bad) for why, bad in (("pixels", pixels), ("outputs", outputs)) if bad.any()),
        ("batch", torch.ones(len(indices), dtype=torch.bool)),
    )
    everyone = world.collect((WHY.index(why), indices[bad].tolist()))
    first = min(at for at, _ in everyone)
    why, which = WHY[first], [i for at, those in everyone if at == first for i in those]
    where = getattr(split, "where", None)  # the file of an image, for splits that are made of files
    return {"why": why, "images": which} | ({"files": [where(i) for i in which]} if where else {})


def describe_culprits(which: dict[str, Any]) -> str:
    """ "in the batch of images 3, 17, 5"."""
    names = list(map(str, which.get("files", which["images"])))
    more = f" and {len(names) - NAMED} more (all are in log.jsonl)" if len(names) > NAMED else ""
    where = {"pixels": "by the pixels of", "outputs": "by the network's outputs for", "batch": "in the batch of"}
    kind = "" if "files" in which else "training images " if len(names) > 1 else "training image "
    return f", {where[which['why']]} {kind}{', '.join(names[:NAMED])}{more}"
