"""Training images whose labels look wrong to a model that was fitted without them."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.types import Split
from ..files.atomic import write_text

FILE = "suspects.csv"


@dataclass(frozen=True)
class Suspect:
    """A training image that may be labelled wrongly."""

    image: str  # its name within the data set
    index: int  # its number in the training split
    label: str
    predicted: str
    probability: float  # of its label
    loss: float  # cross-entropy of its label, by a model that was fitted without it


def suspects(held_out: Tensor, split: Split) -> list[Suspect]:
    """The images of a training split for which another class is more probable than their label, the highest loss first.

    `held_out` are the logits (N, classes) of each image by a model that was fitted without it.
    """
    labels, classes = torch.as_tensor(split.labels, device="cpu"), split.classes
    probabilities = held_out.softmax(1)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    predicted = probabilities.argmax(1)
    losses = F.cross_entropy(held_out, labels, reduction="none")
    wrong = (predicted != labels).nonzero()[:, 0]
    wrong = wrong[losses[wrong].argsort(descending=True, stable=True)]
    return [
        Suspect(split.key(i), i, classes[int(labels[i])], classes[int(predicted[i])], float(own[i]), float(losses[i]))
        for i in wrong.tolist()
    ]


def write_suspects(folder: Path, found: list[Suspect]) -> None:
    """suspects.csv of a run folder: a line an image, the highest loss first."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(Suspect.__dataclass_fields__), lineterminator="\n")
    table.writeheader()
    rows: list[dict[str, Any]] = [asdict(it) for it in found]
    table.writerows(rows)
    write_text(folder / FILE, text.getvalue())
