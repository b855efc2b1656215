"""Split and Data: labelled images as the rest of the package sees them, whatever their source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..preprocess import Preprocess, ResizeMode
from .digests import digests
from .pixels import Box, Shape, crop_and_resize, recolour, to_input_size

CACHE_BYTES = 1 << 30  # a resized memory split is cached whole up to this size


class Crops(Protocol):
    """Which part of each image is used (data/augment/crops.py)."""

    def boxes(self, indices: Tensor) -> list[Callable[[int, int], Box]]: ...


class Split(Protocol):
    """One split (train, val, test) of a labelled set: metadata, and `fetch`."""

    name: str
    classes: tuple[str, ...]
    labels: Tensor  # int64 (N,)
    provenance: dict[str, Any]  # source, path, counts: where the images come from

    def __len__(self) -> int: ...

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, crops: Crops | None = None) -> Tensor:
        """The images at `indices` as uint8 (n, C, H, W): resized as `preprocess` says, or the crops
        scaled to H x W."""
        ...

    def whole(self, i: int, channels: int) -> Tensor:
        """All of the image, upright, at its own size: uint8 (channels, h, w)."""
        ...

    def key(self, i: int) -> str:
        """The image's name within the data set, independent of where it is stored: random splits hash it."""
        ...

    def sizes(self) -> np.ndarray:
        """int64 (N, k): of each image what is known without reading it; the product of a row is its bytes."""
        ...

    def stored(self, i: int) -> Any:
        """The bytes that are stored of the image: its file, or its pixels (as a buffer)."""
        ...

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> Split:
        """The images at `indices` as a new split."""
        ...


@dataclass(frozen=True)
class Data:
    """A labelled data set: train, val (for model selection) and test; at least one of val and test."""

    name: str
    train: Split
    val: Split | None  # selects the best epoch and triggers learning-rate drops
    test: Split | None  # never used for selection
    shape: Shape | None  # native C x H x W; None if images vary in size
    mean: tuple[float, ...]  # of the training pixels, in [0, 1], per channel
    std: tuple[float, ...]
    resize_mode: ResizeMode = "crop"  # default for resizing images to a network's input (see Preprocess)
    skipped: tuple[tuple[str, str], ...] = ()  # files left out, each with the reason
    notes: tuple[str, ...] = ()  # what is odd about it, though it can be used: a sentence each

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that exist, train first."""
        return tuple(split for split in (self.train, self.val, self.test) if split is not None)

    @property
    def held_out(self) -> Split:
        """The split evaluated after each epoch: val if there is one, otherwise test."""
        split = self.val or self.test
        assert split is not None, "a data set has val or test images"
        return split

    def split(self, name: str | None = None) -> Split:
        """The split of that name; by default test, or val if there is no test. Raises UserError for any other name."""
        found = {split.name: split for split in self.splits}
        if name is None:
            return found.get("test") or self.held_out
        if name not in found:
            raise UserError(f"{self.name} has no {name} split", f"give {' or '.join(found)}")
        return found[name]

    @property
    def provenance(self) -> dict[str, Any]:
        """What identifies the data set: where each split comes from, and its digests, for which it is read."""
        about = {split.name: {**split.provenance, **digests(split)} for split in self.splits}
        return {"name": self.name, "classes": len(self.classes), **about}


@dataclass(eq=False)
class MemorySplit:
    """A split held in memory as one uint8 tensor (N, C, H, W) at native size."""

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    _shaped: tuple[Preprocess, Tensor] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        assert self.images.dtype == torch.uint8, self.images.dtype
        assert self.labels.dtype == torch.int64, self.labels.dtype
        assert len(self.images) == len(self.labels), (len(self.images), len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, crops: Crops | None = None) -> Tensor:
        """The images at `indices` as uint8 (n, C, H, W); resized once and cached if the whole split fits."""
        at = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        if crops is not None:
            return crop_and_resize(self.images[at], crops.boxes(at), preprocess)
        c, h, w = preprocess.input
        if len(self) * c * h * w > CACHE_BYTES:
            return to_input_size(self.images[at], preprocess)
        if self._shaped is None or self._shaped[0] != preprocess:
            self._shaped = preprocess, to_input_size(self.images, preprocess)
        return self._shaped[1][at]

    def whole(self, i: int, channels: int) -> Tensor:
        return recolour(self.images[i][None], channels)[0]

    def key(self, i: int) -> str:
        return str(i)

    def sizes(self) -> np.ndarray:
        return np.tile(self.images.shape[1:], (len(self), 1))

    def stored(self, i: int) -> Any:
        return self.images[i].cpu().contiguous().numpy()

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> MemorySplit:
        return MemorySplit(name, self.images[indices], self.labels[indices], self.classes, provenance)
