"""Images that an int8 network is calibrated on: they set the range of every activation, and are never what it is
scored on."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import torch
from torch import Tensor

from ..data.loading import fetched
from ..data.normalise import normalise
from ..data.types import Data, Split
from ..errors import UserError
from ..weights.model import Model

IMAGES = 300  # at most; ranges hardly change beyond some hundred
PART = 50  # read at a time


def calibration_images(model: Model, data: Data, scored: Split | None = None, images: int = IMAGES) -> Tensor:
    """Training images as the model takes them, float32 (n, C, H, W), evenly spaced, without those of `scored`.

    Raises UserError for data that have no training images, or none that is not scored.
    """
    if not len(data.train):
        raise UserError(f"{data.name} has no training images to calibrate on", "give other data to --calibrate")
    at = torch.linspace(0, len(data.train) - 1, min(images, len(data.train))).round().long()
    if scored is not None:
        at = at[[not seen for seen in are_among(data.train, at, scored)]]
    if not len(at):
        raise UserError("every image to calibrate on is one of those that are scored", "give other data to --calibrate")
    parts = fetched(data.train, at.split(PART), model.preprocess)
    return torch.cat([normalise(part, model.normalizer).contiguous() for part in parts])


def are_among(split: Split, at: Tensor, others: Split) -> Iterator[bool]:
    """For each image at `at` whether `others` has one with the same bytes; only images of equal sizes are read."""
    mine, theirs = (some.sizes().prod(1).tolist() for some in (split, others))
    wanted = {mine[i] for i in at.tolist()}
    held = {content(others, i) for i, size in enumerate(theirs) if size in wanted}
    return (content(split, i) in held for i in at.tolist())


def content(split: Split, i: int) -> bytes:
    return sha256(split.stored(i)).digest()
