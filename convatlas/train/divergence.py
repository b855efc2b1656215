"""How large the gradients are; whether they, losses and weights are finite, and if not, which images to look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..accounting.rows import stage_of
from ..data.types import Split
from ..machine.processes import World

WHY = ("pixels", "outputs", "batch")  # what tells most, first
NAMED = 8  # images that a message names


def not_finite(net: nn.Module) -> str | None:
    """The name of the first weight or statistic that is not finite."""
    return first_not_finite(net.state_dict())


def first_not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor with a value that is not finite; one look at the device when there is none.

    Sums cost a tenth of looking at each value, and are finite only where all values are; those that are not are few.
    """
    if torch.stack([t.sum(dtype=torch.float32) for t in tensors.values()]).sum().isfinite():
        return None
    return next((name for name, t in tensors.items() if not t.isfinite().all()), None)


def bad_gradient(parameters: Mapping[str, nn.Parameter]) -> str | None:
    """What to say of the first gradient that is not finite, by the parameter's name."""
    name = first_not_finite({name: p.grad for name, p in parameters.items() if p.grad is not None})
    return name and f"the gradient of {name} is not finite"


def gradient_norms(net: nn.Module) -> dict[str, float]:
    """The L2 norm of the gradient of each stage's parameters, and of the stem's and the head's."""
    squares: dict[str, Tensor] = {}
    for name, p in net.named_parameters():
        if p.grad is not None:
            stage = stage_of(name)
            squares[stage] = squares.get(stage, torch.zeros((), device=p.device)) + p.grad.float().square().sum()
    return dict(zip(squares, torch.stack([*squares.values()]).sqrt().tolist(), strict=True))


def culprits(split: Split, world: World, indices: Tensor, x: Tensor, logits: Tensor) -> dict[str, Any]:
    """The images that a batch's loss or gradient is not finite for: by their pixels, their outputs, or all of them."""
    pixels, outputs = (~t.detach().flatten(1).isfinite().all(1).cpu() for t in (x, logits))
    why, bad = next(
        ((why, bad) for why, bad in (("pixels", pixels), ("outputs", outputs)) if bad.any()),
        ("batch", torch.ones(len(indices), dtype=torch.bool)),
    )
    everyone = world.collect((WHY.index(why), indices[bad].tolist()))
    first = min(at for at, _ in everyone)
    why, which = WHY[first], [i for at, those in everyone if at == first for i in those]
    where = getattr(split, "where", None)  # of sets of files
    return {"why": why, "images": which} | ({"files": [where(i) for i in which]} if where else {})


def describe_culprits(which: dict[str, Any]) -> str:
    """ "in the batch of images 3, 17, 5"."""
    names = list(map(str, which.get("files", which["images"])))
    more = f" and {len(names) - NAMED} more (all are in log.jsonl)" if len(names) > NAMED else ""
    where = {"pixels": "by the pixels of", "outputs": "by the network's outputs for", "batch": "in the batch of"}
    kind = "" if "files" in which else "training images " if len(names) > 1 else "training image "
    return f", {where[which['why']]} {kind}{', '.join(names[:NAMED])}{more}"
