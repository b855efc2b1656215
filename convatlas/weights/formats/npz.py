"""NumPy's `.npz`: arrays of numbers under tf-slim's names, or under torch's, with torch's layouts."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..types import Weights
from . import tensorflow
from .collect import Tensors, reading

MOST_TIMES, SMALL = 32, 1 << 20  # what an archive may unpack to: so many times its size, or so many bytes


def read(path: Path, max_bytes: int) -> Weights:
    with reading(path, ".npz file"):
        tensors = Tensors(path, max_bytes)
        held = dict(arrays(path, max_bytes))
        by_tensorflow = [name for name in held if tensorflow.variable(name.removesuffix(":0")) in tensorflow.ROLES]
        if by_tensorflow:
            for layer, role, array in tensorflow.laid_out(held.items()):
                tensors.add(layer, role, array)
            return Weights(tensors.all(), format="tensorflow", channels_last=True)
        for name, array in held.items():
            layer, _, role = name.rpartition(".")
            tensors.add(layer, role, array)
        return Weights(tensors.all(), format="npz")


def arrays(path: Path, max_bytes: int) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values. The size that the archive gives is checked before anything is unpacked."""
    with zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        size = sum(part.file_size for part in parts)
        if size > max_bytes or size > max(SMALL, MOST_TIMES * path.stat().st_size):
            raise UserError(
                f"{path} unpacks to {size:,} bytes, more than is allowed", "give a file without compression"
            )
        if len({part.filename for part in parts}) < len(parts):
            raise ValueError("a name is there twice")
        for part in parts:
            with archive.open(part) as file:
                content = file.read(part.file_size)
            yield part.filename.removesuffix(".npy"), array_of(content)


def array_of(content: bytes) -> np.ndarray:
    """An `.npy` file's array of numbers; it has as many values as it says."""
    file = io.BytesIO(content)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, fortran, dtype = read_header(file)
    if dtype.hasobject:
        raise ValueError("it has Python objects, which are not read")
    values = np.frombuffer(content[file.tell() :], dtype)
    if any(n < 0 for n in shape) or int(np.prod(shape, dtype=object)) != values.size:
        raise ValueError("it has more or fewer values than it says")
    return values.reshape(shape, order="F" if fortran else "C")
