"""Evaluating a network on a split: every image is counted exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ..data.normalise import Normalizer
from ..data.types import Data, Split
from ..errors import UserError
from ..layers import eval_mode
from ..machine.processes import World
from ..protocols import CENTER, Protocol, find_protocol
from ..runs.folder import Run
from ..weights.model import Model, load
from .classes import aligned
from .scores import Scores, scores_of
from .views import checked_answers, images_at_once

COUNTED = {  # what Scores has of each image
    "predicted": torch.int64,
    "ranks": torch.int64,
    "losses": torch.float32,
    "confidences": torch.float32,
}

Progress = Callable[[Sequence[int]], Iterable[int]]


def evaluate(
    model: Model | Run | str | Path,
    data: Data,
    *,
    split: str | None = None,
    protocol: str = "center",
    batch: int = 256,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: Progress = iter,
) -> Scores:
    """The scores of a model (see `load`) on one split of a data set (see `load_data`): by default test, else val.

    Classes are aligned by name (see `aligned`). Raises UserError for data with a class that the model does not have,
    for an unknown protocol (see protocols.py), and as `evaluate_split` does.
    """
    images, views = data.split(split), find_protocol(protocol)
    model = load(model, device=device)
    images, note = aligned(images, model.classes)
    scores = evaluate_split(
        model.net,
        images,
        model.normalizer,
        protocol=views,
        batch=batch,
        device=device,
        workers=workers,
        progress=progress,
    )
    return replace(scores, note=note)


def evaluate_split(
    net: nn.Module,
    split: Split,
    normalizer: Normalizer,
    *,
    protocol: Protocol = CENTER,
    batch: int = 256,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: Progress = iter,
    world: World | None = None,
) -> Scores:
    """The scores of `net` on every image of `split`, each counted exactly once, including the last, smaller batch.

    In a `world` of several processes, each takes its share of the batches and all get all scores. `workers` is the
    number of prefetching threads (see data/loading.py). `progress` wraps the batches' first indices, to draw a bar. The
    network is moved to `device`, evaluated in eval mode, and put back in its previous mode. Raises UserError for an
    empty split, for a network with a different number of classes, and for logits that are not finite.
    """
    if batch < 1:
        raise UserError(f"batch {batch} is too small", "give at least 1")
    n = len(split)
    if n == 0:
        raise UserError(f"the {split.name} split has no images", "give another split")
    world = world or World()
    labels = torch.as_tensor(split.labels, device="cpu")
    counted = {name: torch.zeros(n, dtype=dtype) for name, dtype in COUNTED.items()}
    times_counted = torch.zeros(n, dtype=torch.int64)
    batch = images_at_once(batch, protocol)
    starts = range(world.rank * batch, n, world.size * batch)

    def count() -> None:
        batches = [torch.arange(start, min(start + batch, n)) for start in starts]
        found = checked_answers(net, split, batches, normalizer, protocol, device, workers)
        for start, logits in zip(progress(starts), found):
            here = slice(start, min(start + batch, n))
            scores = scores_of(logits, labels[here], split.classes)
            for name, values in counted.items():
                values[here] = getattr(scores, name)
            times_counted[here] += 1

    with eval_mode(net):
        world.together(count)
    assert (world.sum(times_counted) == 1).all(), "every image is counted exactly once"
    predicted, ranks, losses, confidences = map(world.sum, counted.values())
    return Scores(tuple(split.classes), labels, predicted, ranks, losses, confidences)
