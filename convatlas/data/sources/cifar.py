"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009), https://www.cs.toronto.edu/~kriz/cifar.html: python or binary version.

The python version's pickles are read without running them (see pickled.py).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError
from ...files.regular import read_bytes
from ...files.text import read_text
from ..types import Data
from .memory import memory_data
from .pickled import read_pickle

MOST_BYTES = 1 << 30  # of a file; CIFAR's largest have 0.2 GB
PIXELS = 3 * 32 * 32  # red plane, green plane, blue plane
BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
LAYOUTS = {  # (classes, is binary): folder, training files, test file, file of the class names
    (10, False): ("cifar-10-batches-py", BATCHES, "test_batch", "batches.meta"),
    (10, True): ("cifar-10-batches-bin", tuple(f"{b}.bin" for b in BATCHES), "test_batch.bin", "batches.meta.txt"),
    (100, False): ("cifar-100-python", ("train",), "test", "meta"),
    (100, True): ("cifar-100-binary", ("train.bin",), "test.bin", "fine_label_names.txt"),
}


def find(folder: Path, classes: int) -> Path | None:
    """The folder that holds a version of CIFAR-10 or -100: `folder`, or its sub-folder with the usual name."""
    found = locate(folder, classes)
    return found and found[0]


def locate(folder: Path, classes: int) -> tuple[Path, bool] | None:
    for binary in (False, True):
        name, train, _, meta = LAYOUTS[classes, binary]
        for at in (folder, folder / name):
            if all((at / f).exists() for f in (train[0], meta)):
                return at, binary
    return None


def load(folder: Path, classes: int, *, seed: int = 0, val: float = 0.0) -> Data:
    """CIFAR-10 or CIFAR-100 with its fine labels. Raises UserError for missing, broken or foreign files."""
    found = locate(folder, classes)
    if found is None:
        wanted = " or ".join(
            f"{train[0]} and {meta}" for (n, _), (_, train, _, meta) in LAYOUTS.items() if n == classes
        )
        raise UserError(f"{folder} does not hold CIFAR-{classes}: no {wanted}", "give the folder that holds it")
    at, binary = found
    _, train, test, meta = LAYOUTS[classes, binary]
    missing = [f for f in (*train, test) if not (at / f).exists()]
    if missing:
        raise UserError(f"{at} is incomplete: {', '.join(missing)} missing", "unpack the archive again")
    read = read_binary if binary else read_python
    splits = {}
    for split, files in (("train", train), ("test", (test,))):
        parts = [read(at / f, classes) for f in files]
        splits[split] = (torch.cat([images for images, _ in parts]), torch.cat([labels for _, labels in parts]))
    provenance = {"source": f"CIFAR-{classes}, {'binary' if binary else 'python'} version", "path": str(at)}
    names = class_names(at / meta, classes)
    return memory_data(f"cifar{classes}", splits, names, provenance, resize_mode="crop", val=val, seed=seed)


def read_python(path: Path, classes: int) -> tuple[Tensor, Tensor]:
    record = read_pickle(read_bytes(path, MOST_BYTES), str(path))
    key = "labels" if classes == 10 else "fine_labels"
    for name in ("data", key):
        if name not in record:
            raise UserError(f"{path} has no {name!r}", f"it is not a batch of CIFAR-{classes}")
    labels = record[key]
    if not isinstance(labels, np.ndarray):
        whole = isinstance(labels, list) and all(type(label) is int and abs(label) < 256 for label in labels)
        labels = np.array(labels if whole else [], np.int64)
    return checked(path, record["data"], labels, classes)


def read_binary(path: Path, classes: int) -> tuple[Tensor, Tensor]:
    """Records of one label byte (CIFAR-100: coarse, then fine) and 3,072 pixels."""
    content = np.frombuffer(read_bytes(path, MOST_BYTES), np.uint8)
    record = PIXELS + (1 if classes == 10 else 2)
    if len(content) % record:
        raise UserError(
            f"{path} has {len(content):,} bytes, not a multiple of {record:,}",
            f"it is not a complete batch of CIFAR-{classes}",
        )
    rows = content.reshape(-1, record)
    return checked(path, rows[:, -PIXELS:], rows[:, -PIXELS - 1], classes)


def checked(path: Path, data: Any, labels: np.ndarray, classes: int) -> tuple[Tensor, Tensor]:
    """A batch as uint8 (N, 3, 32, 32) and int64 (N,). Raises UserError if it is malformed."""
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (PIXELS,) or not len(data):
        raise UserError(f"{path} does not hold RGB images of 32 x 32 pixels", f"it is not a batch of CIFAR-{classes}")
    if labels.dtype.kind not in "iu" or labels.shape != (len(data),):
        raise UserError(f"{path} does not hold one label for each of its {len(data)} images")
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(
            f"{path} has labels from {labels.min()} to {labels.max()}", f"CIFAR-{classes} has 0 to {classes - 1}"
        )
    return torch.from_numpy(data.reshape(-1, 3, 32, 32).copy()), torch.from_numpy(labels.astype(np.int64))


def class_names(path: Path, classes: int) -> tuple[str, ...]:
    if path.suffix == ".txt":
        names: Any = read_text(path, MOST_BYTES).split()
    else:
        names = read_pickle(read_bytes(path, MOST_BYTES), str(path)).get(
            "label_names" if classes == 10 else "fine_label_names", ()
        )
    if not isinstance(names, list) or len(names) != classes:
        raise UserError(f"{path} does not name the {classes} classes of CIFAR-{classes}")
    return tuple(n.decode("latin-1") if isinstance(n, bytes) else str(n) for n in names)
