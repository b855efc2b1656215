"""What a split holds, as digests: a run is resumed on the data that it was begun with. One rule for every source.

Every image's name, class and size count, and of what is stored of the images (files, or pixels) all of it up to
ALL_BYTES; above, a sample of about as many bytes: evenly spaced runs of RUN images, which depend on nothing but the
split's sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ..files.plain import utf8

ALL_BYTES = 2 << 30  # of one split: a few seconds to read and hash
RUN = 64  # images; in shards and Parquet files, neighbours are read together


class Stored(Protocol):
    """The parts of a Split that its digests depend on."""

    classes: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int: ...

    def key(self, i: int) -> str: ...

    def sizes(self) -> np.ndarray:
        """int64 (N, k): of each image what is known without reading it; the product of a row is its bytes."""
        ...

    def stored(self, i: int) -> Any:
        """The bytes that are stored of the image: its file, or its pixels (as a buffer)."""
        ...


def digests(split: Stored) -> dict[str, Any]:
    """sha256 of the images' names with their classes, and of their sizes and contents, and which were read for it."""
    sizes = np.ascontiguousarray(split.sizes(), "<i8")
    runs = chosen(len(split), int(sizes.prod(1).sum()))
    contents = hashlib.sha256(sizes.data)
    for run in runs:
        for i in run:
            contents.update(split.stored(i))
    read = sum(map(len, runs))
    return {
        "sha256_of_labels": digest_of(
            f"{split.key(i)}\t{split.classes[label]}" for i, label in enumerate(split.labels.tolist())
        ),
        "sha256_of_contents": contents.hexdigest(),
        "contents_read": "all" if read == len(split) else f"{read:,}, in {len(runs):,} evenly spaced runs of {RUN}",
    }


def chosen(images: int, size: int) -> list[range]:
    """The images that are read, of so many with so many bytes."""
    if size <= ALL_BYTES or images <= RUN:
        return [range(images)]
    count = max(images * ALL_BYTES // size // RUN, 1)
    starts = [k * (images - RUN) // max(count - 1, 1) for k in range(count)]
    return [range(start, start + RUN) for start in starts]


def digest_of(lines: Iterable[str]) -> str:
    """sha256 of the lines."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(utf8(f"{line}\n"))
    return digest.hexdigest()
