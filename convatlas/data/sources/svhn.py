"""Street View House Numbers (Netzer et al., 2011), http://ufldl.stanford.edu/housenumbers/: its cropped digits.

Each `.mat` file (MATLAB's format 5) holds X, uint8 (32, 32, 3, N), and y, labels from 1 to 10, of which 10 is the digit
0. Training images are those of `train_32x32.mat`, followed by those of `extra_32x32.mat` where that file is there.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError, pass_on
from ...files.regular import regular, unpacked_most
from ..types import Data
from .memory import memory_data

TRAIN, EXTRA, TEST = "train_32x32.mat", "extra_32x32.mat", "test_32x32.mat"
MOST_IMAGES = 1_000_000  # of a file; SVHN's largest, extra_32x32.mat, has 531,131
MOST_BYTES = MOST_IMAGES * (32 * 32 * 3 + 8) + (1 << 20)  # unpacked
LABELS = ("uint8", "uint16", "int16", "int32", "double")  # MATLAB's classes that y may have
MOST_ELEMENTS = 100  # of a file; SVHN's have 2
COMPRESSED = 15  # the type of a compressed element
CHUNK = 1 << 20


def find(folder: Path) -> Path | None:
    """The folder that holds SVHN's training images: `folder` itself, if at all."""
    return folder if (folder / TRAIN).exists() else None


def load(folder: Path, *, seed: int = 0, val: float = 0.0) -> Data:
    """The cropped digits, with the extra training images if they are there.

    Raises UserError for missing, broken or foreign files.
    """
    if missing := [name for name in (TRAIN, TEST) if not (folder / name).exists()]:
        raise UserError(
            f"{folder} does not hold SVHN's cropped digits: no {' and no '.join(missing)}",
            "give the folder that holds the files of format 2",
        )
    files = [TRAIN, EXTRA] if (folder / EXTRA).exists() else [TRAIN]
    parts = [read_mat(folder / name) for name in files]
    splits = {
        "train": parts[0] if len(parts) == 1 else (torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])),
        "test": read_mat(folder / TEST),
    }
    what = f"SVHN, cropped digits, {'with the' if len(parts) > 1 else 'without'} extra training images"
    provenance = {"source": what, "path": str(folder)}
    return memory_data("svhn", splits, tuple("0123456789"), provenance, resize_mode="crop", val=val, seed=seed)


def read_mat(path: Path) -> tuple[Tensor, Tensor]:
    """The images uint8 (N, 3, 32, 32) and the digits int64 (N,) of a file; its other variables are not read.

    Raises UserError, from the headers where possible, unless X and y are as described above.
    """
    from scipy.io import loadmat, whosmat

    try:
        check_size(path)
        found = [(name, shape, kind) for name, shape, kind in whosmat(path) if name in ("X", "y")]
        check_shapes(path, found)
        variables = loadmat(path, variable_names=("X", "y"))
        return checked(path, variables["X"], variables["y"])
    except (UserError, OSError):
        raise
    except Exception as error:  # whatever SciPy meets in a broken file
        pass_on(path, error)
        raise UserError(f"{path} cannot be read as a MATLAB file of format 5", "download it again") from error


def check_size(path: Path) -> None:
    """Raises UserError for a file that is not of format 5, is cut short, or would unpack to more than MOST_BYTES."""
    size, unpacked, elements = regular(path, MOST_BYTES).st_size, 0, 0
    most = min(unpacked_most(size), MOST_BYTES)
    with path.open("rb") as file:
        header = file.read(128)
        order = {b"IM": "<", b"MI": ">"}.get(header[126:])
        if order is None or header[125 if order == "<" else 124] != 1:
            raise UserError(f"{path} is not a MATLAB file of format 5", "give SVHN's own files")
        while tag := file.read(8):
            kind, length = struct.unpack(f"{order}II", tag.ljust(8, b"\0"))
            if len(tag) < 8 or file.tell() + length > size:
                raise UserError(f"{path} is incomplete", "download it again")
            end = file.tell() + length
            unpacked += inflated(file, length, most - unpacked) if kind == COMPRESSED else length
            elements += 1
            if unpacked > most or elements > MOST_ELEMENTS:
                raise UserError(f"{path} holds more than X and y, the images and their labels", "give SVHN's own files")
            file.seek(end)


def inflated(file: BinaryIO, length: int, most: int) -> int:
    """The number of bytes to which the next `length` bytes of a file unpack; stops above `most`."""
    inflater, total = zlib.decompressobj(), 0
    while length and total <= most and not inflater.eof:
        chunk = file.read(min(length, CHUNK))
        length -= len(chunk)
        while chunk and total <= most:
            total += len(inflater.decompress(chunk, CHUNK))
            chunk = inflater.unconsumed_tail
    return total


def check_shapes(path: Path, variables: list[tuple[str, tuple[int, ...], str]]) -> None:
    """Raises UserError unless the headers (name, shape, class) are those of X and y, for equally many images."""
    shapes = {name: (shape, kind) for name, shape, kind in variables}
    (x, x_kind), (y, y_kind) = (shapes.get(name, ((), "")) for name in ("X", "y"))
    n = x[3] if len(x) == 4 else 1 if x == (32, 32, 3) else 0  # MATLAB drops a last dimension of 1
    right = n > 0 and x[:3] == (32, 32, 3) and x_kind == "uint8"
    if len(variables) != 2 or not right or sorted(y) != sorted((n, 1)) or y_kind not in LABELS:
        raise UserError(
            f"{path} does not hold X, uint8 images of 32 x 32 x 3 x N, and y, their N labels", "give SVHN's own files"
        )


def checked(path: Path, x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """The images and digits as tensors. Raises UserError for labels other than 1 to 10."""
    labels = y.reshape(-1)
    if x.dtype != np.uint8 or not np.isin(labels, np.arange(1, 11)).all():
        raise UserError(f"{path} has labels other than 1 to 10", "SVHN's are 1 to 9, and 10 for the digit 0")
    images = np.ascontiguousarray(x.reshape(32, 32, 3, -1, order="F").transpose(3, 2, 0, 1))
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64) % 10)
