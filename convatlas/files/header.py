"""The header of a safetensors file, which says how many tensors it has: checked before anything is made of it."""

from __future__ import annotations

import os
from typing import IO

LARGEST = 1 << 24  # bytes of a header; a checkpoint of the largest network here has 0.4 MB
MOST_TENSORS = 100_000


def check_header(file: IO[bytes]) -> None:
    """Raises ValueError for a header that is not there, too large, or of too many tensors."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    length = int.from_bytes(file.read(8).ljust(8, b"\xff"), "little")
    if length > size - 8:
        raise ValueError("it has no header")
    if length > LARGEST:
        raise ValueError(f"its header has {length:,} bytes, more than the {LARGEST:,} allowed")
    tensors = file.read(length).count(b'"data_offsets"')
    if tensors > MOST_TENSORS:
        raise ValueError(f"it has {tensors:,} tensors, more than the {MOST_TENSORS:,} allowed")
