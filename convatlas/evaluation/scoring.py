"""Evaluating a network on a split: every image is counted exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.loading import fetched
from ..data.normalise import Normalizer, normalise
from ..data.types import Data, Split
from ..errors import UserError
from ..layers import eval_mode
from ..machine.processes import World
from ..protocols import CENTER, Protocol, View, find_protocol
from ..runs.folder import Run
from ..weights.model import Model, load
from .classes import aligned
from .scores import Scores, rank_of, ranking

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
    predicted, before, losses = (
        torch.zeros((n,), dtype=torch.int64),
        torch.zeros((n,), dtype=torch.int64),
        torch.zeros((n,)),
    )
    times_counted = torch.zeros(n, dtype=torch.int64)
    net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    starts = range(world.rank * batch, n, world.size * batch)

    def count() -> None:
        batches = (torch.arange(n)[s : s + batch] for s in starts)
        loaded = fetched(split, batches, normalizer.preprocess, workers=workers)
        for start, images in zip(progress(starts), loaded):
            here = slice(start, min(start + batch, n))
            logits = logits_of(net, images, normalizer, device, protocol)
            assert len(logits) == len(labels[here]), "as many rows of logits as images"
            if logits.shape[1] != len(split.classes):
                raise UserError(
                    f"the network has {logits.shape[1]} classes and the data has {len(split.classes)}",
                    "evaluate on data with the classes it was trained on",
                )
            bad = (~logits.isfinite()).any(1).nonzero()
            if len(bad):
                raise UserError(
                    f"the network's output for image {start + int(bad[0])} is not finite",
                    "training diverged: use an earlier checkpoint, or train with a smaller lr",
                )
            predicted[here] = ranking(logits, 1)[:, 0]
            before[here] = rank_of(logits, labels[here])
            losses[here] = F.cross_entropy(logits, labels[here], reduction="none")
            times_counted[here] += 1

    with eval_mode(net):
        world.together(count)
    predicted, before, losses, times_counted = map(world.sum, (predicted, before, losses, times_counted))
    assert (times_counted == 1).all(), "every image is counted exactly once"
    return Scores(tuple(split.classes), labels, predicted, before, losses)


@torch.inference_mode()
def logits_of(
    net: nn.Module,
    images: Tensor,
    normalizer: Normalizer,
    device: str | torch.device = "cpu",
    protocol: Protocol = CENTER,
) -> Tensor:
    """float32 logits (n, classes), on the CPU, for uint8 images (n, C, H, W) of the network's size, by the protocol."""
    x = normalise(images.to(device), normalizer)
    logits = [view.weight * net(seen(x, view)).float() for view in protocol.views]
    return torch.stack(logits).sum(0).cpu()


def seen(x: Tensor, view: View) -> Tensor:
    """The given view of the images (n, C, H, W), in channels_last memory."""
    if by := view.shift_px:
        h, w = x.shape[2:]
        x = F.pad(x, (abs(by),) * 4, mode="reflect")
        x = x[:, :, abs(by) - by : abs(by) - by + h, abs(by) - by : abs(by) - by + w]
    return (x.flip(3) if view.mirrored else x).contiguous(memory_format=torch.channels_last)
