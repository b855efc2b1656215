"""WebDataset shards: tar archives of NAME.jpg (or .png, .webp ...) and NAME.cls, .json or .txt with its class.

https://github.com/webdataset/webdataset describes the format: a sample's name ends at the first dot of its members'
base names, so that 22.05.jpg and 22.cls are of sample 22, and what its image is, the last suffix says. Nothing is
unpacked: members are indexed once and read in place.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from ...errors import UserError, unread
from ...files.archive import Limited
from ...files.plain import from_json
from ...files.regular import regular, stamp, unchanged
from ...limits import whole_number
from ..decode.reference import MAX_PIXELS, SUFFIXES, UNREAD, Content, most_bytes
from ..statistics import HOW
from ..streamed import EncodedSplit
from ..types import Data
from .labels import Label, hold_out, numbered, parts_of, safe, split_how, streamed_data, val_from_train

LABELS = (".cls", ".json", ".txt")  # the first one present
KEYS = ("label", "cls", "class")  # for the class, in a .json member
MOST = 1 << 20  # bytes of a label member
MOST_SHARD = 1 << 44  # bytes
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
        self._stamps = [stamp(shard) for shard in self.shards]
        self._files: dict[int, int] = {}
        self._lock = Lock()

    def content(self, i: int) -> Content:
        shard, offset, size = self.places[i].tolist()
        try:
            raw = os.pread(self.opened(shard), size, offset)
        except OSError as error:
            raise unread(self.where(i), error) from error
        if len(raw) < size:
            raise truncated(self.shards[shard])
        content = Content(raw)
        content.name = self.where(i)
        return content

    def check(self, i: int) -> None:
        shard = int(self.places[i, 0])
        if 0 <= stamp(self.shards[shard])[0] < self._stamps[shard][0]:
            raise truncated(self.shards[shard])
        unchanged(self.shards[shard], self._stamps[shard])

    def where(self, i: int) -> str:
        return f"{self.shards[int(self.places[i, 0])]}: {self.names[i]}"

    def key(self, i: int) -> str:
        return self.names[i]

    def sizes(self) -> np.ndarray:
        return self.places[:, 2:]

    def opened(self, shard: int) -> int:
        with self._lock:
            if shard not in self._files:
                self._files[shard] = os.open(self.shards[shard], os.O_RDONLY)
            return self._files[shard]

    def __del__(self) -> None:
        for handle in getattr(self, "_files", {}).values():
            os.close(handle)


def truncated(shard: Path) -> UserError:
    return UserError(f"{shard} is truncated", "download it again")


def find(folder: Path) -> Path | None:
    """`folder`, if it or one of its sub-folders holds shards."""
    return folder if any(folder.glob("*.tar")) or any(folder.glob("*/*.tar")) else None


def load(folder: Path, *, seed: int = 0, val: float = 0.0) -> Data:
    """The data set in a folder of shards: see `splits`."""
    return streamed_data(folder, val_from_train(splits(folder, seed=seed), val, seed))


def splits(folder: Path, *, seed: int = 0) -> dict[str, ShardSplit]:
    """The shards of a folder: train-*.tar and val-*.tar (or test), or all of them, split by `seed`.

    `classes.txt` names numbered classes. Raises UserError for anything but an archive, for a sample without a class,
    without an image or with two, for member names that lead out of the archive, and for links and devices.
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
    provenance = {
        "source": "WebDataset shards",
        "path": str(folder),
        "split": how,
        "images": len(samples),
        "shards": len(shards),
        "mean_and_std": HOW,
    }
    return ShardSplit(part, shards, places, tuple(s.name for _, s in samples), labels, classes, provenance)


Member = tuple[str, int, int]  # name, offset, bytes


def index(shard: Path) -> list[Sample]:
    """The samples of one shard, in the order of their images; of what labels each, the first of LABELS is read.

    Raises UserError as `splits` does.
    """
    images: dict[str, Member] = {}
    labels: dict[str, dict[str, list[Member]]] = {}  # sample: suffix: members
    others: dict[str, Member] = {}  # of samples that may have no image
    regular(shard, remedy="give .tar files")
    with shard.open("rb") as file:
        try:
            for member in plain_members(file, shard):
                key, suffix = sample_of(member[0], shard)
                if key is None:
                    continue
                if suffix in SUFFIXES:
                    if key in images:
                        raise two(shard, key, images[key], member)
                    if member[2] > most_bytes(MAX_PIXELS):
                        raise UserError(f"{shard}: {member[0]} is too large for an image", "remove it")
                    images[key] = member
                elif suffix in LABELS:
                    labels.setdefault(key, {}).setdefault(suffix, []).append(member)
                elif suffix in UNREAD:
                    others[key] = member
        except (UserError, OSError):
            raise
        except Exception as error:  # damaged archives make the reader raise anything
            raise UserError(f"{shard} is not a complete tar archive ({error})", "download it again") from error
        for key, (name, *_) in (others | {key: of[".cls"][0] for key, of in labels.items() if ".cls" in of}).items():
            if key not in images:
                raise UserError(
                    f"{shard} has no image for {name}", f"add a {key}.jpg, or another of {', '.join(SUFFIXES)}"
                )
        if not images:
            raise UserError(f"{shard} holds no images", "remove it, or make it again")
        return [Sample(*images[key], label_for(key, images[key], labels.get(key, {}), file, shard)) for key in images]


def sample_of(name: str, shard: Path) -> tuple[str | None, str]:
    """The sample that a member belongs to, and its last suffix, in lower case; None for what is hidden.

    Raises UserError for an image that has no name before its first dot.
    """
    path = safe(name, str(shard))
    stem, _, extension = path.name.partition(".")
    suffix = f".{extension.rpartition('.')[2].lower()}"
    if stem:
        return str(path.with_name(stem)), suffix
    if suffix in SUFFIXES and not path.name.startswith("._"):  # which are not images: macOS's own notes
        raise UserError(f"{shard}: {name} has no name before its first dot, so belongs to no sample", "rename it")
    return None, suffix


def label_for(key: str, image: Member, found: dict[str, list[Member]], file: BinaryIO, shard: Path) -> Label:
    """The class of a sample. Of several members with the chosen suffix, KEY.cls goes before KEY.other.cls."""
    suffix = next((suffix for suffix in LABELS if suffix in found), None)
    if suffix is None:
        raise UserError(f"{shard} does not give the class of {image[0]}", f"add a {key}.cls, .json or .txt")
    first, *others = sorted(found[suffix], key=lambda member: member[0].count("."))
    if others and others[0][0].count(".") == first[0].count("."):
        raise two(shard, key, first, others[0])
    name, offset, size = first
    if size > MOST:
        raise UserError(f"{shard}: {name} has {size:,} bytes, too many for a class", "write a number or a name")
    file.seek(offset)
    return label_of(file.read(size), suffix, shard, name)


def two(shard: Path, key: str, one: Member, other: Member) -> UserError:
    return UserError(
        f"{shard} has {one[0]} and {other[0]} for one sample, {key}, as its name ends at the first dot",
        "give each sample a unique name",
    )


def plain_members(file: BinaryIO, shard: Path) -> Iterator[Member]:
    with tarfile.open(fileobj=Limited(file, MOST_SHARD), mode="r:") as archive:  # uncompressed: read by offset
        for member in archive:
            if member.isfile() and not member.issparse():
                yield member.name, member.offset_data, member.size
            elif not member.isdir():
                raise UserError(f"{shard} holds a link or a device, {member.name!r}", "pack it with plain files only")
            archive.members.clear()  # type: ignore[attr-defined]  # which would keep every header


def label_of(content: bytes, suffix: str, shard: Path, name: str) -> Label:
    """The class in a label member: a number or a name."""
    try:
        text = content.decode("utf-8-sig").strip()
        if suffix != ".json":
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
