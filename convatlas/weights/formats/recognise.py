"""Which format a weights file has: by its content, or else, where that is damaged, by its suffix."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...errors import UserError
from ...files.regular import attentive
from .protobuf import BYTES, VARINT, walk
from .sstable import MAGIC

SUFFIXES = {  # by format, which is also the reader's name: what its files are called
    "safetensors": (".safetensors",),
    "torch": (".pth", ".pt", ".th", ".bin"),
    "keras": (".h5", ".hdf5", ".keras"),
    "caffe": (".caffemodel",),
    "tensorflow": (".index", ".ckpt"),
    "npz": (".npz",),
    "tflite": (".tflite",),
    "onnx": (".onnx",),
    "deep_compression": (".net",),
}
STARTS = {  # the first bytes of a file
    b"\x89HDF\r\n\x1a\n": "keras",
}
SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")
PICKLE = b"\x80"
HEAD = 512


def recognised(path: Path) -> str:
    """The name of the reader. Raises UserError for a file that none of them can read."""
    with attentive(path) as file:
        head = file.read(HEAD)
        if head.startswith(b"PK") and zipfile.is_zipfile(file):
            return archived(file)
    for start, format in STARTS.items():
        if head.startswith(start):
            return format
    with attentive(path) as file:
        file.seek(-min(len(MAGIC), path.stat().st_size), 2)
        if file.read() == MAGIC or SHARD.search(path.name):
            return "tensorflow"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return "safetensors"
    if head[4:8] == b"TFL3":
        return "tflite"
    if head.startswith(PICKLE):
        return "torch"
    if buffer := buffered(path):
        return buffer
    by_suffix = next((f for f, suffixes in SUFFIXES.items() if path.name.lower().endswith(suffixes)), None)
    if by_suffix:
        return by_suffix
    known = ", ".join(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    raise UserError(f"{path} is not a weights file that convatlas can read", f"give one of {known}")


def archived(file: IO[bytes]) -> str:
    """What a zip file holds, by the names in it."""
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
    if "model.weights.h5" in names:
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "torch"


def buffered(path: Path) -> str | None:
    """Protocol buffers say nothing about themselves: what fields a message has tells whose it is.

    Caffe's have a name and layers of either generation; ONNX's the version of its format and a graph.
    """
    seen: dict[int, list[int]] = {}
    try:
        content: Any = np.memmap(path, np.uint8, "r")
        for number, wire, _ in walk(memoryview(content)):
            seen.setdefault(number, []).append(wire)
    except ValueError:
        return None
    if seen.get(1) == [BYTES] and {BYTES} in (set(seen.get(2, ())), set(seen.get(100, ()))):
        return "caffe"
    if seen.get(1) == [VARINT] and seen.get(7) == [BYTES]:
        return "onnx"
    return None
