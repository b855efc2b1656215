"""Problems of a data set of images: broken or tiny files, duplicates, and the same picture in two classes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.cluster.hierarchy import DisjointSet
from torch import Tensor

from ...errors import UserError
from ..decode.fast import chw, plain_pixels
from ..decode.reference import MAX_PIXELS, read_image
from ..loading import in_order, usual_workers
from ..pixels import resize
from ..sources import folder, lists, pack, parquet, recognised, shards
from ..streamed import EncodedSplit

MIN_SIDE = 32  # pixels; an image with a shorter side is tiny
NEAR_BITS = 4  # of 64: how far the hashes of near duplicates may differ
NEAR_LEVELS = 6.0  # of 255: mean difference of their thumbnails, at most
THUMB = 8  # side of a thumbnail, in pixels
PART = 32  # images examined together

Progress = Callable[[Sequence[int]], Iterable[int]]
Image = tuple[EncodedSplit | pack.RawSplit, int]  # a split and an index in it


@dataclass(frozen=True)
class Finding:
    """A problem of some files: "bad", "tiny", "duplicate" (identical bytes), "near" (visually identical), "mislabelled"
    (the same picture in two classes), "damaged" (a shard of a pack), "odd" (an image outside the class folders ...)."""

    kind: str
    files: tuple[str, ...]
    classes: tuple[str, ...]  # of each file
    splits: tuple[str, ...]
    text: str  # one sentence


@dataclass(frozen=True)
class Report:
    images: int
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        return {"images": self.images, "findings": [asdict(finding) for finding in self.findings]}


@dataclass(frozen=True)
class Look:
    """What decoding one image yields."""

    error: str = ""
    size: tuple[int, int] = (0, 0)  # height, width
    digest: bytes = b""
    hash: int = 0
    thumb: np.ndarray | None = None  # uint8 (THUMB, THUMB, 3)


def scan(
    source: str,
    *,
    seed: int = 0,
    min_side: int = MIN_SIDE,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    progress: Progress = iter,
) -> Report:
    """Examines every image of `source` (a folder, lists, shards, Parquet files or a pack), test images included.

    Near duplicates have difference hashes (of 9 x 8 grey pixels) that differ in at most NEAR_BITS, and thumbnails that
    differ by at most NEAR_LEVELS on average: a rescaled or re-saved picture is found, a crop or mirror image is not.
    `progress` wraps the range of parts. Raises UserError for a data set in memory.
    """
    kind, at = recognised(source)
    splits, notes = splits_of(source, kind, at, seed, max_pixels)
    images: list[Image] = [(split, i) for split in splits for i in range(len(split))]
    count = usual_workers(splits[0]) if workers is None else workers
    parts = (images[start : start + PART] for start in progress(range(0, len(images), PART)))
    looks = [found for part in in_order(look, parts, count) for found in part]
    damaged = [
        Finding("damaged", (file,), (), (), f"{file} does not match its checksum; pack the data set again")
        for file in (pack.verify(at) if kind == "pack" else ())
    ]
    odd = (Finding("odd", (), (), (), text) for text in notes)
    return Report(len(images), (*damaged, *odd, *singles(images, looks, min_side), *alike(images, looks)))


def splits_of(
    source: str, kind: str, at: Path, seed: int, max_pixels: int
) -> tuple[Sequence[EncodedSplit | pack.RawSplit], tuple[str, ...]]:
    """The splits of a data set of image files, with no file checked yet, and what is odd about it, a sentence each."""
    match kind:
        case "folder":
            whole = folder.laid_out(at)
            made, _ = folder.splits(at, whole.parts, seed=seed, bad="trust", max_pixels=max_pixels)
            return [*made.values()], whole.notes
        case "list":
            listings = lists.read_lists(at)
            return [*lists.splits(at, listings, max_pixels).values()], tuple(lists.notes(listings))
        case "shards":
            return [*shards.splits(at, seed=seed).values()], ()
        case "parquet":
            return [*parquet.splits(at, seed=seed).values()], ()
        case "pack":
            return [*pack.load(at).splits], ()  # type: ignore[list-item]
    raise UserError(f"{source} is not a set of image files", "give a folder, lists, shards, Parquet files or a pack")


def look(split: EncodedSplit | pack.RawSplit, i: int) -> Look:
    try:
        if isinstance(split, EncodedSplit):
            content = split.content(i)
            plain = plain_pixels(content, split.max_pixels)
            image = read_image(content, 3, split.max_pixels) if plain is None else chw(plain)
            digest = hashlib.sha256(content).digest()
        else:
            pixels = split.pixels(i)
            image, digest = chw(pixels.copy()), hashlib.sha256(pixels.data).digest()
    except UserError as error:
        return Look(error=str(error))
    thumb = resize(image[None], (THUMB, THUMB), "bilinear")[0].permute(1, 2, 0).numpy()
    return Look("", (image.shape[1], image.shape[2]), digest, difference_hash(image), thumb)


def difference_hash(image: Tensor) -> int:
    """64 bits: whether each of 8 x 8 pixels is darker than its right neighbour (Krawetz, 2013)."""
    red, green, blue = resize(image[None], (8, 9), "bilinear")[0].to(torch.int32)
    grey = 299 * red + 587 * green + 114 * blue
    bits = (grey[:, 1:] > grey[:, :-1]).flatten().tolist()
    return sum(1 << n for n, bit in enumerate(bits) if bit)


def singles(images: Sequence[Image], looks: Sequence[Look], min_side: int) -> Iterator[Finding]:
    for image, found in zip(images, looks, strict=True):
        if found.error:
            yield finding("bad", [image], found.error)
        elif min(found.size) < min_side:
            height, width = found.size
            yield finding("tiny", [image], f"{where(image)} is {width} x {height}, shorter than {min_side} pixels")


def alike(images: Sequence[Image], looks: Sequence[Look]) -> Iterator[Finding]:
    """A finding for each group of images that show the same picture."""
    good = [i for i, found in enumerate(looks) if not found.error]
    groups = DisjointSet(good)
    first: dict[bytes, int] = {}
    for i in good:
        groups.merge(first.setdefault(looks[i].digest, i), i)
    distinct = list(first.values())
    for a, b in near([looks[i] for i in distinct]):
        groups.merge(distinct[a], distinct[b])
    for members in sorted(sorted(group) for group in groups.subsets() if len(group) > 1):
        its = [images[i] for i in members]
        exact = len({looks[i].digest for i in members}) == 1
        same = f"{len(its)} files {'are byte-identical' if exact else 'show the same picture, rescaled or re-saved'}"
        names = ", ".join(map(where, its))
        if len({label(image) for image in its}) > 1:
            classes = ", ".join(dict.fromkeys(map(label, its)))
            yield finding("mislabelled", its, f"{same} and are in different classes ({classes}): {names}")
        else:
            across = " across training and test" if len({split.name for split, _ in its}) > 1 else ""
            yield finding("duplicate" if exact else "near", its, f"{same}{across}: {names}")


def near(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """Pairs with close hashes and thumbnails; hashes that differ in at most NEAR_BITS agree on at least one band."""
    if not looks:
        return
    hashes = np.array([found.hash for found in looks], np.uint64)
    thumbs = np.stack([found.thumb for found in looks if found.thumb is not None]).reshape(len(looks), -1)
    bands = NEAR_BITS + 1
    width = -(-64 // bands)
    for band in range(bands):
        keys = (hashes >> np.uint64(band * width)) & np.uint64((1 << width) - 1)
        by_key = keys.argsort(kind="stable")
        for bucket in np.split(by_key, np.flatnonzero(np.diff(keys[by_key])) + 1):
            for n, a in enumerate(bucket[:-1]):
                others = bucket[n + 1 :]
                others = others[np.bitwise_count(hashes[others] ^ hashes[a]) <= NEAR_BITS]
                if len(others):
                    apart = np.abs(thumbs[others].astype(np.int16) - thumbs[a]).mean(1)
                    yield from ((int(a), int(b)) for b in others[apart <= NEAR_LEVELS])


def finding(kind: str, images: Sequence[Image], text: str) -> Finding:
    return Finding(
        kind,
        tuple(map(where, images)),
        tuple(map(label, images)),
        tuple(split.name for split, _ in images),
        text,
    )


def where(image: Image) -> str:
    split, i = image
    return split.where(i)


def label(image: Image) -> str:
    split, i = image
    return split.classes[int(split.labels[i])]
