"""Predictions: image files and folders in, ranked classes out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.decode.fast import Crop
from ..data.decode.reference import MAX_PIXELS, SUFFIXES, UNREAD, Content, content_of
from ..data.loading import fetched
from ..data.sources.walk import Walk
from ..data.streamed import EncodedSplit
from ..errors import UserError
from ..layers import eval_mode
from ..preprocess import Preprocess
from ..runs.folder import Run
from ..weights.model import Model, load
from .scores import ranking
from .views import logits_of


@dataclass(frozen=True)
class Prediction:
    """The classes predicted for one file, or why it could not be read."""

    file: str
    ranked: tuple[tuple[str, float], ...] = ()  # (class, probability), the most likely first
    error: str | None = None  # one sentence; `ranked` is empty then

    def to_json(self) -> dict[str, Any]:
        if self.error is not None:
            return {"file": self.file, "error": self.error}
        return {"file": self.file, "ranked": [{"class": name, "probability": p} for name, p in self.ranked]}


def predict(
    model: Model | Run | str | Path,
    paths: str | Path | Iterable[str | Path],
    top: int = 5,
    *,
    batch: int = 32,
    device: str | torch.device = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> list[Prediction]:
    """A Prediction for each image in `paths` (files, and folders to search), in that order.

    `model` is what `load` takes. A file that cannot be read gets a Prediction with an `error`, and the others are still
    predicted. Raises UserError for `top` below 1.
    """
    model = load(model, device=device)
    return list(predict_files(model, image_files(paths), top=top, batch=batch, device=device, max_pixels=max_pixels))


def image_files(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files in `paths`, and the image files (by extension) at any depth in its folders, sorted by name.

    A folder without images and a path that does not exist are returned as is: predicting them reports the error.
    """
    if isinstance(paths, (str, Path)):
        paths = [paths]
    return [file for path in map(Path, paths) for file in (images_below(path) if path.is_dir() else [path]) or [path]]


def images_below(folder: Path) -> list[Path]:
    """The image files at any depth, sorted, those of formats that are not supported included (predicting them reports
    it); hidden files and folders (.cache, ._image.jpg) are skipped. Raises UserError as walk.py does."""
    return sorted(file for file in Walk().files(folder) if file.suffix.lower() in (*SUFFIXES, *UNREAD))


def predict_files(
    model: Model,
    files: Iterable[str | Path],
    *,
    top: int = 5,
    batch: int = 32,
    device: str | torch.device = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Prediction]:
    """A Prediction for each file in turn, with the `top` most likely classes (all, if there are fewer).

    Prefetches a few batches of `batch` files and keeps none, so any number of files is fine. Images larger than
    `max_pixels` are errors.
    """
    if top < 1:
        raise UserError(f"top {top} is too small", "give at least 1")
    if batch < 1:
        raise UserError(f"batch {batch} is too small", "give at least 1")
    return _predicted(model, iter(files), top, batch, device, max_pixels)


def _predicted(
    model: Model, files: Iterator[str | Path], top: int, batch: int, device: str | torch.device, max_pixels: int
) -> Iterator[Prediction]:
    split, asked = Files(max_pixels), deque[Tensor]()

    def batches() -> Iterator[Tensor]:
        for start in count(step=batch):
            if not (some := list(islice(files, batch))):
                return
            split.files.update(enumerate(map(Path, some), start))
            asked.append(torch.arange(start, start + len(some)))
            yield asked[-1]

    model.net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    with eval_mode(model.net):
        for images in fetched(split, batches(), model.preprocess):
            indices = asked.popleft().tolist()
            good = [n for n, i in enumerate(indices) if i not in split.errors]
            ranked = iter(ranked_classes(model, images[good], top, device) if good else ())
            for i in indices:
                file, error = str(split.files.pop(i)), split.errors.pop(i, None)
                yield Prediction(file, error=error) if error else Prediction(file, next(ranked))


class Files(EncodedSplit):
    """Files to be predicted, by number. One that cannot be read is black, and its error is kept."""

    def __init__(self, max_pixels: int):
        self.name, self.classes, self.labels, self.provenance = "files", (), torch.zeros(0, dtype=torch.int64), {}
        self.files: dict[int, Path] = {}
        self.errors: dict[int, str] = {}
        self.max_pixels = max_pixels

    def where(self, i: int) -> str:
        return str(self.files[i])

    def content(self, i: int) -> Content:
        if self.files[i].is_dir():
            raise UserError(f"folder {self.files[i]} contains no images", f"images are {', '.join(SUFFIXES)}")
        return content_of(self.files[i], self.max_pixels)

    def put(self, out: np.ndarray, i: int, preprocess: Preprocess, crop: Crop | None) -> None:
        try:
            super().put(out, i, preprocess, crop)
        except UserError as error:
            out.fill(0)
            self.errors[i] = str(error)


def ranked_classes(
    model: Model, images: Tensor, top: int, device: str | torch.device
) -> list[tuple[tuple[str, float], ...]]:
    """For each uint8 image (n, C, H, W) its most likely classes with their probabilities."""
    logits = logits_of(model.net, images, model.normalizer, device)
    if logits.shape[1] != len(model.classes):
        raise UserError(
            f"the network has {logits.shape[1]} outputs for {len(model.classes)} classes", "give one name per output"
        )
    if not logits.isfinite().all():
        raise UserError("the network's output is not finite", "training diverged: use another checkpoint")
    first = ranking(logits, min(top, len(model.classes)))
    probabilities = logits.double().softmax(1).gather(1, first)
    return [
        tuple((model.classes[c], p) for c, p in zip(cs, ps, strict=True))
        for cs, ps in zip(first.tolist(), probabilities.tolist(), strict=True)
    ]
