"""Files in, ranked classes out: what a trained network takes the images of files and folders for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.check.bad import THREADS
from ..data.decode.reference import MAX_PIXELS, SUFFIXES, read_image
from ..data.normalise import Normalizer
from ..data.pixels import geometry
from ..data.sources.folder import files_of
from ..errors import UserError
from ..layers import eval_mode
from ..runs.folder import Run
from .scores import ranking
from .scoring import logits_of


@dataclass(frozen=True)
class Prediction:
    """What the network takes one file for, or why the file could not be read."""

    file: str
    ranked: tuple[tuple[str, float], ...] = ()  # (class, probability), the most likely first
    error: str | None = None  # one sentence; `ranked` is empty then

    def to_json(self) -> dict[str, Any]:
        if self.error is not None:
            return {"file": self.file, "error": self.error}
        return {"file": self.file, "ranked": [{"class": name, "probability": p} for name, p in self.ranked]}


def predict(
    run: Run,
    paths: str | Path | Iterable[str | Path],
    top: int = 5,
    *,
    which: str | None = None,
    batch: int = 32,
    device: str | torch.device = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> list[Prediction]:
    """A Prediction for each image that `paths` (files, and folders to be searched) name, in that order.

    `run` is what `open_run` gave. A file that cannot be read has a Prediction with an `error`, and the others are
    predicted all the same. Raises UserError for `top` below 1.
    """
    net = run.load(which, device=device)
    files = image_files(paths)
    return list(
        predict_files(
            net, run.classes, run.normalizer, files, top=top, batch=batch, device=device, max_pixels=max_pixels
        )
    )


def image_files(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The files among `paths`, and the image files (by their extension) in its folders and theirs, sorted by name.

    A folder without images, and a path that is not there, are listed as they are: predicting them says what is wrong.
    """
    if isinstance(paths, (str, Path)):
        paths = [paths]
    return [file for path in map(Path, paths) for file in (images_below(path) if path.is_dir() else [path]) or [path]]


def images_below(folder: Path) -> list[Path]:
    """The image files at any depth, sorted; hidden files and folders (.cache, ._image.jpg) are not looked at."""
    return sorted(file for file in files_of(folder) if file.suffix.lower() in SUFFIXES)


def predict_files(
    net: nn.Module,
    classes: Sequence[str],
    normalizer: Normalizer,
    files: Iterable[str | Path],
    *,
    top: int = 5,
    batch: int = 32,
    device: str | torch.device = "cpu",
    max_pixels: int = MAX_PIXELS,
) -> Iterator[Prediction]:
    """A Prediction for each file in turn, with the `top` likeliest classes (all, where there are fewer).

    Reads and predicts `batch` files at a time and keeps none, so any number of them will do. Images larger than
    `max_pixels` are errors.
    """
    if top < 1:
        raise UserError(f"top {top} asks for no class", "give at least 1")
    if batch < 1:
        raise UserError(f"batch {batch} is no number of images", "give at least 1")
    return _predict_files(net, classes, normalizer, files, top, batch, device, max_pixels)


def _predict_files(
    net: nn.Module,
    classes: Sequence[str],
    normalizer: Normalizer,
    files: Iterable[str | Path],
    top: int,
    batch: int,
    device: str | torch.device,
    max_pixels: int,
) -> Iterator[Prediction]:
    net.to(device)
    remaining = iter(files)
    preprocess = normalizer.preprocess

    def read(file: str | Path) -> Tensor | str:
        try:
            if Path(file).is_dir():
                raise UserError(f"folder {file} holds no image ({', '.join(SUFFIXES)})")
            return geometry(read_image(file, preprocess.input[0], max_pixels)[None], preprocess)[0]
        except UserError as error:
            return str(error)

    with eval_mode(net), ThreadPoolExecutor(THREADS) as pool:
        while these := list(islice(remaining, batch)):
            images = list(pool.map(read, these))
            good = [image for image in images if isinstance(image, Tensor)]
            ranked = iter(rank(net, classes, normalizer, torch.stack(good), top, device) if good else ())
            for file, image in zip(these, images, strict=True):
                if isinstance(image, str):
                    yield Prediction(str(file), error=image)
                else:
                    yield Prediction(str(file), next(ranked))


def rank(
    net: nn.Module,
    classes: Sequence[str],
    normalizer: Normalizer,
    images: Tensor,
    top: int,
    device: str | torch.device,
) -> list[tuple[tuple[str, float], ...]]:
    """For each uint8 image (n, C, H, W) its likeliest classes with their probabilities."""
    logits = logits_of(net, images, normalizer, device)
    if logits.shape[1] != len(classes):
        raise UserError(
            f"the network has {logits.shape[1]} outputs for {len(classes)} classes", "name as many as it has"
        )
    if not logits.isfinite().all():
        raise UserError(
            "the network's output is not finite, so there is no ranking of the classes", "its training diverged"
        )
    first = ranking(logits, min(top, len(classes)))
    probabilities = logits.double().softmax(1).gather(1, first)
    return [
        tuple((classes[c], p) for c, p in zip(cs, ps, strict=True))
        for cs, ps in zip(first.tolist(), probabilities.tolist(), strict=True)
    ]
