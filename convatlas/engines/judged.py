"""What int8 costs a model in accuracy, and how much faster it is here: measured before it is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..data.types import Data
from ..evaluation.scores import Scores, usual_topk
from ..evaluation.scoring import evaluate
from ..weights.model import Model
from .sessions import on
from .timing import Ratio, ratio, rounds

IMAGES = 500  # that are scored, at most
BATCH = 50
SECONDS = 3.0


@dataclass(frozen=True)
class Judged:
    """A model in int8 beside the same in fp32, on one engine; times are for one image on one thread."""

    engine: str
    split: str
    n: int  # images
    fp32: dict[int, float]  # top-k accuracy, by k
    int8: dict[int, float]
    faster: Ratio

    def __str__(self) -> str:
        faster = f"{self.faster.median:.1f} times as fast ({self.faster.low:.1f} to {self.faster.high:.1f})"
        return (
            f"int8 on {self.engine}: {percents(self.int8)}, in fp32 {percents(self.fp32)}, "
            f"of {self.n:,} images of {self.split}; {faster}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "engine": self.engine,
            "split": self.split,
            "images": self.n,
            "fp32": {f"top{k}": accuracy for k, accuracy in self.fp32.items()},
            "int8": {f"top{k}": accuracy for k, accuracy in self.int8.items()},
            "times_as_fast": {"median": self.faster.median, "p10": self.faster.low, "p90": self.faster.high},
        }


def percents(accuracies: dict[int, float]) -> str:
    return ", ".join(f"top-{k} {100 * accuracy:.1f}%" for k, accuracy in accuracies.items())


def judged(model: Model, engine: str, data: Data, calibrate: Tensor) -> Judged:
    """The model on the engine in int8 and in fp32, on at most IMAGES images of the data's test split, else val."""
    split = data.split()
    at = torch.linspace(0, len(split) - 1, min(IMAGES, len(split))).round().long()
    some = replace(data, val=split.part(at, split.name, {}), test=None)
    models = on(model, engine), on(model, engine, "int8", calibrate=calibrate)
    fp32, int8 = (evaluate(it, some, split=split.name, batch=BATCH) for it in models)
    x = calibrate[:1]
    with torch.inference_mode():
        slow, fast = rounds([partial(it.net, x) for it in models], SECONDS)
    ks = usual_topk(len(model.classes))
    return Judged(engine, split.name, fp32.n, accuracies(fp32, ks), accuracies(int8, ks), ratio(slow, fast))


def accuracies(scores: Scores, ks: Sequence[int]) -> dict[int, float]:
    return {k: scores.top(k) for k in ks}
