"""Features as a file for other tools, and what they are worth without any fitting: the nearest neighbours' classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.types import Split
from ..errors import UserError
from ..evaluation.scores import wilson
from ..files.atomic import replacing
from .probed import Probed

NEIGHBOURS = 5
CHUNK = 1024  # images compared at a time


@dataclass(frozen=True)
class Nearest:
    """How many held-out images have the class of most of their nearest training images."""

    neighbours: int
    hits: int
    n: int

    def to_json(self) -> dict[str, Any]:
        low, high = wilson(self.hits, self.n)
        return {"neighbours": self.neighbours, "images": self.n, "top1": self.hits / self.n, "low": low, "high": high}


def nearest(train: Tensor, labels: Tensor, held_out: Tensor, correct: Tensor, neighbours: int = NEIGHBOURS) -> Nearest:
    """Classifies features (n, F) by the `neighbours` training images of features (N, F) with the highest cosine.

    Each votes for its class; of classes with equally many votes, that of the nearest wins.
    """
    k, classes, hits = min(neighbours, len(train)), int(labels.max()) + 1, 0
    unit = F.normalize(train, dim=1)
    for some, right in zip(held_out.split(CHUNK), correct.split(CHUNK), strict=True):
        closest = labels[(F.normalize(some, dim=1) @ unit.T).topk(k, dim=1).indices]  # (n, k), the nearest first
        votes = F.one_hot(closest, classes).sum(1).float()
        order = torch.linspace(0.5, 0, k).expand(len(some), k)
        votes = votes.scatter_reduce(1, closest, votes.gather(1, closest) + order, "amax")
        hits += int((votes.argmax(1) == right).sum())
    return Nearest(k, hits, len(held_out))


def nearest_of(found: Probed) -> Nearest:
    """Of the held-out images of a transfer."""
    return nearest(found.train.values, found.train.labels, found.held_out.values, found.held_out.labels)


def embeddings_file(file: str | Path) -> Path:
    """The path as given. Raises UserError for a name that does not end in .npz, and for a missing folder."""
    file = Path(file)
    if file.suffix != ".npz":
        raise UserError(f"{file} is not an .npz file", "give a name that ends in .npz")
    if not file.parent.is_dir():
        raise UserError(f"there is no folder {file.parent} for {file.name}", "create it first")
    return file


def write_embeddings(found: Probed, file: str | Path) -> Path:
    """Writes the features of the training and the held-out images, for numpy.load; returns the path.

    `classes` (names); for "train" and the held-out split S: `S` float32 (N, F), `S_labels` int64 (N,), `S_images`
    (names). Nothing is pickled. Raises UserError as `embeddings_file` does, and for a file that cannot be written.
    """
    file = embeddings_file(file)
    arrays: dict[str, Any] = {"classes": np.array(found.data.classes)}
    for split, features in ((found.data.train, found.train), (found.split, found.held_out)):
        arrays |= {
            split.name: features.values.numpy(),
            f"{split.name}_labels": features.labels.numpy(),
            f"{split.name}_images": names_of(split),
        }
    with replacing(file) as new, new.open("wb") as out:
        np.savez(out, **arrays)
    return file


def names_of(split: Split) -> np.ndarray:
    return np.array([split.key(i) for i in range(len(split))])
