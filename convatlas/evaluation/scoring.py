"""How good a network is on a split: top-k accuracy, loss, confusion. Every image is counted exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.loading import fetched
from ..data.normalise import Normalizer, normalise
from ..data.types import Data, Split
from ..errors import UserError
from ..layers import eval_mode
from .scores import Scores, rank_of, ranking

if TYPE_CHECKING:
    from ..machine.processes import World
    from ..runs.folder import Run  # train calls evaluate_split: not the other way round

Progress = Callable[[Sequence[int]], Iterable[int]]
VIEWS = {  # how many: (pixels that the image is moved by, to the lower right; whether mirrored; weight of the logits)
    1: ((0, False, 1.0),),
    2: ((0, False, 0.5), (0, True, 0.5)),
    6: tuple((by, mirrored, 0.25 if by == 0 else 0.125) for by in (0, 1, -1) for mirrored in (False, True)),
}


def evaluate(
    run: Run,
    data: Data,
    *,
    split: str | None = None,
    which: str | None = None,
    views: int = 1,
    batch: int = 256,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: Progress = iter,
) -> Scores:
    """The scores of a run (see `open_run`) on one split of data (see `load_data`): by default test, else val.

    Raises UserError for data whose classes are not the run's, and as `evaluate_split` does.
    """
    images = data.split(split)
    match_classes(images, run.classes)
    net = run.load(which, device=device)
    return evaluate_split(
        net, images, run.normalizer, views=views, batch=batch, device=device, workers=workers, progress=progress
    )


def evaluate_split(
    net: nn.Module,
    split: Split,
    normalizer: Normalizer,
    *,
    views: int = 1,
    batch: int = 256,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: Progress = iter,
    world: World | None = None,
) -> Scores:
    """The scores of `net` on every image of `split`, each counted exactly once, the last, smaller batch included.

    `views` is how many of each image its logits are the average of (see `logits_of`).
    Of `ranks`, the processes that train together, each takes every so many-th batch, and all get all scores.
    `workers` is how many threads read ahead (see data/loading.py). `progress` wraps the batches' first indices, to draw
    a bar. The network is moved to `device`, evaluated in eval
    mode, and left in the mode it was in. Raises UserError for an empty split, for a network with another number of
    classes, and for logits that are not finite.
    """
    if views not in VIEWS:
        raise UserError(f"{views} views of each image are none of the choices", f"give {', '.join(map(str, VIEWS))}")
    if batch < 1:
        raise UserError(f"batch {batch} is no number of images", "give at least 1")
    n = len(split)
    if n == 0:
        raise UserError(f"the {split.name} split has no image", "there is nothing to evaluate")
    rank, size = (world.rank, world.size) if world else (0, 1)
    labels = torch.as_tensor(split.labels, device="cpu")
    predicted, before, losses = (
        torch.zeros((n,), dtype=torch.int64),
        torch.zeros((n,), dtype=torch.int64),
        torch.zeros((n,)),
    )
    times_counted = torch.zeros(n, dtype=torch.int64)
    net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with eval_mode(net):
        starts = range(rank * batch, n, size * batch)
        batches = (torch.arange(n)[s : s + batch] for s in starts)
        loaded = fetched(split, batches, normalizer.preprocess, workers=workers)
        for start, images in zip(progress(starts), loaded):
            here = slice(start, min(start + batch, n))
            logits = logits_of(net, images, normalizer, device, views)
            assert len(logits) == len(labels[here]), "as many rows of logits as images"
            if logits.shape[1] != len(split.classes):
                raise UserError(
                    f"the network has {logits.shape[1]} classes and the data have {len(split.classes)}",
                    "evaluate on data of the classes it was trained on",
                )
            bad = (~logits.isfinite()).any(1).nonzero()
            if len(bad):
                raise UserError(
                    f"the network's output for image {start + int(bad[0])} is not finite, so the classes have "
                    "no ranking",
                    "its training diverged: take an earlier checkpoint, or train with a smaller lr",
                )
            predicted[here] = ranking(logits, 1)[:, 0]
            before[here] = rank_of(logits, labels[here])
            losses[here] = F.cross_entropy(logits, labels[here], reduction="none")
            times_counted[here] += 1
    if world:
        predicted, before, losses, times_counted = map(world.sum, (predicted, before, losses, times_counted))
    assert (times_counted == 1).all(), "every image is counted exactly once"
    return Scores(tuple(split.classes), labels, predicted, before, losses)


@torch.inference_mode()
def logits_of(
    net: nn.Module, images: Tensor, normalizer: Normalizer, device: str | torch.device = "cpu", views: int = 1
) -> Tensor:
    """float32 logits (n, classes), on the CPU, of uint8 images (n, C, H, W) whose geometry is already right.

    With 2 views they are the average of the image's and its mirror image's; with 6, half of them are those two, and
    half the same of the image moved by one pixel to the lower right and to the upper left, what is left free mirrored
    (Jordan, 2024, section 3.5).
    """
    x = normalise(images.to(device), normalizer)
    logits = [weight * net(view(x, by, mirrored)).float() for by, mirrored, weight in VIEWS[views]]
    return torch.stack(logits).sum(0).cpu()


def view(x: Tensor, by: int, mirrored: bool) -> Tensor:
    """Images (n, C, H, W) moved by -1, 0 or 1 pixels to the lower right, and mirrored; in channels_last memory."""
    if by:
        h, w = x.shape[2:]
        x = F.pad(x, (1,) * 4, mode="reflect")[:, :, 1 - by : 1 - by + h, 1 - by : 1 - by + w]
    return (x.flip(3) if mirrored else x).contiguous(memory_format=torch.channels_last)


def match_classes(split: Split, classes: Sequence[str]) -> None:
    """Raises UserError unless the split's classes are the run's `classes`, in the same order."""
    ours, theirs = tuple(classes), tuple(split.classes)
    if ours == theirs:
        return
    new, missing = [c for c in theirs if c not in set(ours)], [c for c in ours if c not in set(theirs)]
    if new or missing:
        parts = [f"{_some(new)} new to it"] if new else []
        parts += [f"{_some(missing)} missing"] if missing else []
        differ = f"the data's classes are not the run's: {', '.join(parts)}"
    else:
        i, (a, b) = next((i, pair) for i, pair in enumerate(zip_longest(ours, theirs)) if pair[0] != pair[1])
        differ = f"the data number their classes otherwise than the run: class {i} is {b!r} here, {a!r} there"
    raise UserError(f"{differ}", f"evaluate on data with the run's {len(ours)} classes")


def _some(names: Sequence[str], limit: int = 3) -> str:
    shown = ", ".join(repr(c) for c in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
