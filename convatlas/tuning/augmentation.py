"""Which augmentation suits images: one whose copies help the probe, by cross-validation on the training images.

A shifted photograph is one more of its kind. A digit that fills its 8 pixels is cut off by a shift, and a network
trained on such images does worse than the probe it began as.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .features import computed
from .probe import fitted, folds, mean_loss
from .probed import Bar, Probed, no_bar

SMALL_PX = 64  # images stored smaller are shifted instead of cropped
MOST = 1000  # training images that are copied

Augmentation = tuple[str, ...]


def augmentations(found: Probed) -> list[Augmentation]:
    """Random crops, or shifts of small images, by an eighth, with mirror images of colour ones; these alone; none."""
    data, size = found.data, found.model.preprocess.input[1:]
    flip: Augmentation = ("flip",) if len(data.mean) == 3 else ()  # grey ones may be writing
    small = data.shape is not None and max(data.shape[1:]) < SMALL_PX
    moved = f"pad_crop:{max(1, max(size) // 8)}" if small else "area_crop:0.35:1"
    return [(moved, *flip), *([flip] if flip else []), ()]


def losses(
    found: Probed, *, seed: int = 0, device: str | torch.device = "cpu", workers: int | None = None, bar: Bar = no_bar
) -> dict[Augmentation, float]:
    """By augmentation, the loss in cross-validation of a probe that also learns from a copy of each image (of MOST).

    The images that are judged are never augmented, and their copies are not learnt from.
    """
    labels = found.train.labels
    copied = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:MOST]
    tried = augmentations(found)
    progress = bar("trying augmentations")
    losses = {}
    for _, ops in zip(progress(range(len(tried))), tried):
        copies = torch.zeros(0, found.train.values.shape[1])
        if ops:
            copies = computed(found.model, found.data.train, copied.tolist(), device, workers, ops=ops, seed=seed)
        losses[ops] = loss_with(found, copies, copied[: len(copies)], seed)
    return losses


def loss_with(found: Probed, copies: Tensor, of: Tensor, seed: int) -> float:
    """The cross-validated loss of a probe that learns from `copies` (n, F) of the images `of` (n,) as well."""
    values, labels = found.train.values, found.train.labels
    fold = folds(labels, seed)
    logits = torch.zeros(len(labels), len(found.data.classes))
    for k in fold.unique().tolist():
        inside, copied = fold != k, fold[of] != k
        x, y = torch.cat([values[inside], copies[copied]]), torch.cat([labels[inside], labels[of][copied]])
        strength = found.probe.strength * int(inside.sum()) / len(y)  # the penalty does not lose weight to the copies
        ((weight, bias),) = fitted(x, y, (strength,), balance=found.balance, intercept=found.intercept)
        logits[fold == k] = values[fold == k] @ weight.T + bias
    return mean_loss(logits, labels, found.balance)
