"""A split whose classes are a model's, in the model's order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.names import outputs_of, unnamed
from ..data.types import Crops, Split
from ..errors import UserError
from ..preprocess import Preprocess

SHOWN = 3  # classes named in a message


class Aligned:
    """A split with the labels and classes of a model's outputs."""

    def __init__(self, split: Split, outputs: Sequence[int], classes: tuple[str, ...]):
        self.of, self.classes = split, classes
        self.name, self.provenance = split.name, split.provenance
        self.labels = torch.tensor(outputs, dtype=torch.int64)[split.labels.cpu()]

    def __len__(self) -> int:
        return len(self.of)

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, crops: Crops | None = None) -> Tensor:
        return self.of.fetch(indices, preprocess, crops)

    def key(self, i: int) -> str:
        return self.of.key(i)

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> Split:
        raise AssertionError("an aligned split is only evaluated")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.of, name)


def aligned(split: Split, classes: Sequence[str]) -> tuple[Split, str]:
    """The split with the model's classes, and what was done, if anything.

    Classes go together by name, by synset (n01440764), or by one of the words that name them, whatever their order.
    Data may have a part of the model's classes: all of its outputs still compete. Outputs without names are taken in
    the order of the data's classes. Raises UserError for a class that the model does not have.
    """
    ours, theirs = tuple(classes), tuple(split.classes)
    if ours == theirs:
        return split, ""
    outputs = outputs_of(theirs, ours)
    unknown = [name for name, output in zip(theirs, outputs, strict=True) if output is None]
    if len(ours) == len(theirs) and ours == unnamed(len(ours)):
        return Aligned(split, range(len(ours)), theirs), "the model's outputs have no names: taken in the data's order"
    if unknown:
        raise UserError(
            f"the data's classes differ from the model's: {some(unknown)} {'is' if len(unknown) == 1 else 'are'} not "
            f"among {some(ours)}",
            f"evaluate on data with some of the model's {len(ours)} classes",
        )
    known = [output for output in outputs if output is not None]
    other = next((f"{a!r} is {ours[i]!r}" for a, i in zip(theirs, known, strict=True) if a != ours[i]), "")
    said = [f"classes aligned by name: {other}" if other else "classes in another order: aligned by name"]
    if len(theirs) < len(ours):
        part = f"the data has {len(theirs)} of the model's {len(ours)} classes; all outputs compete"
        said = [*(said if other else ()), part]
    return Aligned(split, known, ours), "; ".join(said)


def some(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:SHOWN]))
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown
