"""Split and Data: labelled images as the rest of the house sees them, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import UserError
from ..preprocess import Preprocess
from .pixels import Box, Shape, cut, geometry

CACHE_BYTES = 1 << 30  # a memory split that was resized is kept whole up to this size


class Windows(Protocol):
    """A view of the images (data/augment/views.py): which window of each is taken."""

    def windows(self, indices: Tensor) -> list[Callable[[int, int], Box]]: ...


class Split(Protocol):
    """One split (train, val, test) of a labelled set: metadata, and `fetch`."""

    name: str
    classes: tuple[str, ...]
    labels: Tensor  # int64 (N,)
    provenance: dict[str, Any]  # source, path, counts, checksums: enough to say what was trained on

    def __len__(self) -> int: ...

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, view: Windows | None = None) -> Tensor:
        """The images at `indices` as uint8 (n, C, H, W): their geometry as `preprocess` says, or the view's windows,
        scaled to H x W."""
        ...

    def key(self, i: int) -> str:
        """What the image is called within the set, wherever the set lies: a random part is drawn by it."""
        ...

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> Split:
        """The images at `indices` as a split of their own."""
        ...


@dataclass(frozen=True)
class Data:
    """A labelled set: images to train on, to choose by (val) and to judge by (test), one of the last two at least."""

    name: str
    train: Split
    val: Split | None  # the best epoch and the rate's drops are chosen by it
    test: Split | None  # nothing is chosen by it
    shape: Shape | None  # native C x H x W; None where each image has its own
    mean: tuple[float, ...]  # of the training pixels, in [0, 1], one for each channel
    std: tuple[float, ...]
    fit: str = "crop"  # how its images reach a network's size unless chosen otherwise (see Preprocess)
    skipped: tuple[tuple[str, str], ...] = ()  # files that were left out, each with the reason

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def splits(self) -> tuple[Split, ...]:
        """Those that there are, train first."""
        return tuple(split for split in (self.train, self.val, self.test) if split is not None)

    @property
    def held_out(self) -> Split:
        """What training is judged by after each epoch: val where there is one, else test."""
        split = self.val or self.test
        assert split is not None, "a set has images that it is not trained on"
        return split

    def split(self, name: str | None = None) -> Split:
        """The split of that name; by default test, or val where there is no test. Raises UserError for another one."""
        found = {split.name: split for split in self.splits}
        if name is None:
            return found.get("test") or self.held_out
        if name not in found:
            raise UserError(f"{self.name} has no {name} split", f"give {' or '.join(found)}")
        return found[name]

    @property
    def provenance(self) -> dict[str, Any]:
        return {"name": self.name, "classes": len(self.classes)} | {s.name: s.provenance for s in self.splits}


@dataclass(eq=False)
class MemorySplit:
    """A split whose images are held as one uint8 tensor (N, C, H, W) at their native size."""

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

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, view: Windows | None = None) -> Tensor:
        """The images at `indices` as uint8 (n, C, H, W); reshaped once for all when the whole split is small enough."""
        at = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        if view is not None:
            return cut(self.images[at], view.windows(at), preprocess)
        c, h, w = preprocess.input
        if len(self) * c * h * w > CACHE_BYTES:
            return geometry(self.images[at], preprocess)
        if self._shaped is None or self._shaped[0] != preprocess:
            self._shaped = preprocess, geometry(self.images, preprocess)
        return self._shaped[1][at]

    def key(self, i: int) -> str:
        return str(i)

    def part(self, indices: Tensor, name: str, provenance: dict[str, Any]) -> MemorySplit:
        return MemorySplit(name, self.images[indices], self.labels[indices], self.classes, provenance)
