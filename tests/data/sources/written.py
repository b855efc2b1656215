"""Data sets written as their formats are described: shards, IDX files."""

from __future__ import annotations

import json
import struct
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def jpeg(i: int, kind: str = "JPEG") -> bytes:
    g = np.random.default_rng(i)
    out = BytesIO()
    Image.fromarray(g.integers(0, 256, (3, 4, 3), np.uint8)).resize((24 + i % 3, 20)).save(out, kind)
    return out.getvalue()


Members = Sequence[tuple[str, bytes]]


def tar(path: Path, members: Members) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))


def sample(i: int, label: object, extension: str = "cls", image: str = "jpg") -> Members:
    content = json.dumps({"label": label}) if extension == "json" else str(label)
    kind = {"jpg": "JPEG", "png": "PNG", "gif": "GIF"}[image]
    return [(f"{i:04}.{image}", jpeg(i, kind)), (f"{i:04}.{extension}", content.encode())]


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, CODES[array.dtype.name], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


IMAGES = np.arange(6 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(6, 28, 28)
LABELS = np.array([0, 1, 2, 2, 1, 0], np.uint8)


def write_set(folder: Path, **changes: bytes) -> Path:
    """A set of 6 training and 3 test images; `changes` replaces a file's content by its first words (train_images)."""
    files = {
        "train-images-idx3-ubyte": idx(IMAGES),
        "train-labels-idx1-ubyte": idx(LABELS),
        "t10k-images-idx3-ubyte": idx(IMAGES[:3]),
        "t10k-labels-idx1-ubyte": idx(LABELS[:3]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        content = changes.get("_".join(name.split("-")[:2]), content)
        (folder / name).write_bytes(content)
    return folder
