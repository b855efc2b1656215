"""MNIST and other data sets in its format: IDX files (http://yann.lecun.com/exdb/mnist/), gzipped or not."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ...files.regular import regular, unpacked_most
from ..types import Data
from .labels import names_of_numbers
from .memory import memory_data

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
FILES = {"train": ("train-images", "train-labels"), "test": ("t10k-images", "t10k-labels")}
WHERE = ("", "raw", "MNIST/raw", "FashionMNIST/raw")  # the folder itself, or as torchvision lays it out
MANY = 1 << 24  # bytes per read
MOST_BYTES = 4 << 30  # of a file: all of it is held in memory


def find(folder: Path) -> Path | None:
    """The folder at or below `folder` that holds IDX training images, if any."""
    return next((folder / sub for sub in WHERE if spellings(folder / sub, FILES["train"][0])), None)


def load(folder: Path, *, seed: int = 0, val: float = 0.0) -> Data:
    """The four IDX files of `folder`, with numbers as class names. Raises UserError for a missing or malformed file."""
    at = find(folder)
    if at is None:
        raise UserError(
            f"{folder} holds no train-images-idx3-ubyte or train-images-idx3-ubyte.gz", "give the folder that holds it"
        )
    splits = {name: read_split(at, *files) for name, files in FILES.items()}
    highest, test_highest = (int(splits[part][1].max()) for part in ("train", "test"))
    if test_highest > highest:
        raise UserError(f"the test labels in {at} go up to {test_highest}, the training labels to {highest}")
    classes = names_of_numbers(highest, len(splits["train"][1]), at)
    if splits["train"][0].shape[1:] != splits["test"][0].shape[1:]:
        raise UserError(f"the training and the test images in {at} differ in size")
    provenance = {"source": "IDX files", "path": str(at)}
    return memory_data("mnist", splits, classes, provenance, resize_mode="pad", val=val, seed=seed)


def read_split(folder: Path, images_name: str, labels_name: str) -> tuple[Tensor, Tensor]:
    images_file, labels_file = one_of(folder, images_name), one_of(folder, labels_name)
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.dtype != np.uint8 or images.ndim != 3 or not images.size:
        raise UserError(
            f"{images_file} holds {describe(images)}", "give uint8 images of 3 dimensions, count x height x width"
        )
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or labels.min(initial=0) < 0:
        raise UserError(f"{labels_file} holds {describe(labels)}", "give integer labels from 0, of 1 dimension")
    if len(images) != len(labels):
        raise UserError(
            f"{images_file} holds {len(images)} images, {labels_file.name} {len(labels)} labels", "give matching files"
        )
    return torch.from_numpy(images)[:, None], torch.from_numpy(labels.astype(np.int64))


def spellings(folder: Path, name: str) -> list[Path]:
    """The files for `name`: train-images-idx3-ubyte or train-images.idx3-ubyte, plain before .gz."""
    dims = 3 if name.endswith("images") else 1
    names = (f"{name}{dash}idx{dims}-ubyte{gz}" for gz in ("", ".gz") for dash in "-.")
    return [folder / n for n in names if (folder / n).exists()]


def one_of(folder: Path, name: str) -> Path:
    files = spellings(folder, name)
    if not files:
        raise UserError(
            f"{folder} holds no {name}-idx?-ubyte, plain or .gz", "put the four files of the data set together"
        )
    return files[0]


def read_idx(path: Path) -> np.ndarray:
    """The array in an IDX file, in native byte order.

    The header: two zero bytes, a code for the type, the number of dimensions; then each dimension as a big-endian
    uint32; then the values, big-endian, last dimension fastest. Raises UserError for anything else.
    """
    held, packed = regular(path, MOST_BYTES, "give an IDX file").st_size, path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            zeros, code, ndim = struct.unpack(">HBB", file.read(4))
            if zeros or code not in DTYPES or not 0 < ndim <= 8:
                raise UserError(f"{path} begins with {zeros:04x}{code:02x}{ndim:02x}", "give an IDX file")
            shape = struct.unpack(f">{ndim}I", file.read(4 * ndim))
            dtype = np.dtype(DTYPES[code])
            promised = math.prod(shape) * dtype.itemsize
            if packed and promised > unpacked_most(held):
                raise UserError(f"{path} would unpack from {held:,} to {promised:,} bytes", "use a trusted copy")
            if not packed and promised + file.tell() != held:
                raise wrong_size(path, shape, held - file.tell(), promised)
            content = np.empty(promised, np.uint8)
            size = filled(file, content.data)
            size += len(file.read(1))
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise UserError(f"{path} is truncated or damaged ({error})", "download it again") from error
    if size != promised:
        raise wrong_size(path, shape, size, promised)
    values = content.view(dtype).reshape(shape)
    return values.astype(dtype.newbyteorder("="), copy=False)


def filled(file: Any, out: memoryview) -> int:
    """Reads until `out` is full or the file ends; returns the bytes read."""
    at = 0
    while at < len(out) and (n := file.readinto(out[at : at + MANY])):
        at += n
    return at


def wrong_size(path: Path, shape: tuple[int, ...], size: int, promised: int) -> UserError:
    has = f"only {size:,} bytes" if size < promised else "more"
    return UserError(f"{path} declares {' x '.join(map(str, shape))} values but holds {has}", "download it again")


def describe(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {' x '.join(map(str, array.shape))}"
