"""Split: labelled images as the rest of the house sees them, whatever they came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from .preprocess import Preprocess


class Split(Protocol):
    """One split (train, val, test) of a labelled set: metadata, and `fetch`."""

    name: str
    classes: tuple[str, ...]
    labels: Tensor  # int64 (N,)
    provenance: dict[str, Any]  # source, path, counts, checksums: enough to say what was trained on

    def __len__(self) -> int: ...

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess) -> Tensor:
        """The images at `indices` as uint8 (n, C, H, W), their geometry as `preprocess` says."""
        ...
