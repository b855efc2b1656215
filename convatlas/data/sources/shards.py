"""WebDataset shards: tar archives of NAME.jpg (or .png, .webp ...) and NAME.cls, .json or .txt with its class.

https://github.com/webdataset/webdataset describes the format. Nothing is unpacked: members are indexed once and
read in place.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import UserError
from ...files.plain import from_json
from ...limits import whole_number
from ..decode.reference import SUFFIXES, Content
from ..statistics import HOW
from ..streamed import EncodedSplit
from ..types import Data
from .labels import Label, digest_of, hold_out, numbered, parts_of, safe, split_how, streamed_data, val_from_train

LABELS = ("cls", "json", "txt")  # the first one present
KEYS = ("label", "cls", "class")  # for the class, in a .json member
MOST = 1 << 20  # bytes of a label member
THREADS = 8


@dataclass(frozen=True)
class Sample:
    """An image in a shard: its member's name, offset, size and class."""

    name: str
    offset: int
    size: int
    label: Label


@dataclass(eq=False)
class ShardSplit(EncodedSplit):
    """A split of images in tar archives."""

    name: str
    shards: tuple[Path, ...]
    places: np.ndarray  # int64 (N, 3): shard, offset, size
    names: tuple[str, ...]  # of the members
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        self._files: dict[int, int] = {}
        self._lock = Lock()

    def content(self, i: int) -> Content:
        shard, offset, size = self.places[i].tolist()
        try:
            raw = os.pread(self.opened(shard), size, offset)
        except OSError as error:
            raise UserError(f"{self.where(i)} cannot be read ({error.strerror})") from error
        if len(raw) < size:
            raise UserError(f"{self.shards[shard]} is truncated", "download it again")
        content = Content(raw)
        content.name = self.where(i)
        return content

    def where(self, i: int) -> str:
        return f"{self.shards[int(self.places[i, 0])]}: {self.names[i]}"

    def key(self, i: int) -> str:
        return self.names[i]

    def opened(self, shard: int) -> int:
        with self._lock:
            if shard not in self._files:
                self._files[shard] = os.open(self.shards[shard], os.O_RDONLY)
            return self._files[shard]

    def __del__(self) -> None:
        for handle in getattr(self, "_files", {}).values():
            os.close(handle)


def find(folder: Path) -> Path | None:
    """`folder`, if it or one of its sub-folders holds shards."""
    return folder if any(folder.glob("*.tar")) or any(folder.glob("*/*.tar")) else None


def load(folder: Path, *, seed: int = 0, val: float = 0.0) -> Data:
    """The data set in a folder of shards: see `splits`."""
    return streamed_data(folder, val_from_train(splits(folder, seed=seed), val, seed))


def splits(folder: Path, *, seed: int = 0) -> dict[str, ShardSplit]:
    """The shards of a folder: train-*.tar and val-*.tar (or test), or all of them, split by `seed`.

    `classes.txt` names numbered classes. Raises UserError for anything but an archive, for a sample without a class or
    with two images, for member names that lead out of the archive, and for links and devices.
    """
    parts = parts_of(folder, ".tar")
    found: dict[str, list[tuple[Path, Sample]]] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        for part, shards in parts.items():
            found[part] = [(shard, s) for shard, samples in zip(shards, pool.map(index, shards)) for s in samples]
    how = "as named"
    if "" in found:
        every = found.pop("")
        held = hold_out([s.name for _, s in every], [s.label for _, s in every], seed)
        found = {part: [it for it, test in zip(every, held) if test == (part == "test")] for part in ("train", "test")}
        how = split_how(seed)
    classes, labels = numbered(folder, {part: [s.label for _, s in samples] for part, samples in found.items()})
    return {part: split_of(folder, part, found[part], labels[part], classes, how) for part in found}


def split_of(
    folder: Path, part: str, samples: list[tuple[Path, Sample]], labels: Tensor, classes: tuple[str, ...], how: str
) -> ShardSplit:
    shards = tuple(dict.fromkeys(shard for shard, _ in samples))
    number = {shard: i for i, shard in enumerate(shards)}
    places = np.array([(number[shard], s.offset, s.size) for shard, s in samples], np.int64).reshape(-1, 3)
    lines = (f"{shard.relative_to(folder).as_posix()} {s.name} {s.size} {s.label}" for shard, s in samples)
    provenance = {
        "source": "WebDataset shards",
        "path": str(folder),
        "split": how,
        "images": len(samples),
        "shards": len(shards),
        "sha256_of_names_and_sizes": digest_of(lines),
        "mean_and_std": HOW,
    }
    return ShardSplit(part, shards, places, tuple(s.name for _, s in samples), labels, classes, provenance)


def index(shard: Path) -> list[Sample]:
    """The samples of one shard, in the order of their images. Raises UserError as `load` does."""
    images: dict[str, tuple[str, int, int]] = {}
    labels: dict[str, dict[str, Label]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:  # uncompressed: images are read by offset
            for member in plain_members(archive, shard):
                path = safe(member.name, str(shard))
                stem, _, extension = path.name.partition(".")
                key, extension = str(path.with_name(stem)), extension.lower()
                if f".{extension}" in SUFFIXES:
                    if key in images:
                        raise UserError(f"{shard} has two images named {key}", "give each sample a unique name")
                    images[key] = member.name, member.offset_data, member.size
                elif extension in LABELS and member.size <= MOST:
                    extracted = archive.extractfile(member)
                    assert extracted is not None, "it is a plain file"
                    labels.setdefault(key, {})[extension] = label_of(extracted.read(), extension, shard, member.name)
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{shard} is not a complete tar archive ({error})", "download it again") from error
    for key in images:
        if key not in labels:
            raise UserError(f"{shard} does not give the class of {images[key][0]}", f"add a {key}.cls, .json or .txt")
    return [Sample(*images[key], next(labels[key][e] for e in LABELS if e in labels[key])) for key in images]


def plain_members(archive: tarfile.TarFile, shard: Path) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        if member.isfile():
            yield member
        elif not member.isdir():
            raise UserError(f"{shard} holds a link or a device, {member.name!r}", "pack it with plain files only")


def label_of(content: bytes, extension: str, shard: Path, name: str) -> Label:
    """The class in a label member: a number or a name."""
    try:
        text = content.decode("utf-8").strip()
        if extension != "json":
            number = whole_number(text)
            return one_line(text) if number is None else number
        record = from_json(text)
        label = next(record[key] for key in KEYS if key in record)
        if isinstance(label, bool) or not isinstance(label, int | str) or (isinstance(label, int) and label < 0):
            raise ValueError(f"{label!r} is not a class")
        return label
    except (ValueError, StopIteration, TypeError) as error:
        raise UserError(
            f"{shard}: {name} does not give a class ({str(error) or 'no key ' + ', '.join(KEYS)})",
            "write a number or a name",
        ) from error


def one_line(text: str) -> str:
    if not text or "\n" in text:
        raise ValueError("not one line")
    return text
