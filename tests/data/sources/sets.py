"""A small data set in every format, of given images and classes: SETS."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from convatlas.data.sources import load_data
from convatlas.data.sources.pack import pack
from tests.data.sources.written import idx, jpeg, tar

SIZE = 32 * 32 * 3  # bytes of each image, whichever it is
IMAGES = [jpeg(i).ljust(SIZE, b"\0") for i in range(6)]  # of each split; a decoder stops at the end of a JPEG file
CLASSES = [0, 1, 0, 1, 1, 0]
TEST = [jpeg(10 + i).ljust(SIZE, b"\0") for i in range(6)]

Write = Callable[[Path, Sequence[bytes], Sequence[int]], None]  # where, training images, their classes


def write(kind: str, at: Path, images: Sequence[bytes] = IMAGES, classes: Sequence[int] = CLASSES) -> Path:
    """The data set with these training images and classes; its other split is always the same."""
    at.mkdir(parents=True, exist_ok=True)
    SETS[kind](at, images, classes)
    return at


def parts(images: Sequence[bytes], classes: Sequence[int]) -> dict[str, tuple[Sequence[bytes], Sequence[int]]]:
    return {"train": (images, classes), "test": (TEST, CLASSES)}


def folder(at: Path, images: Sequence[bytes], classes: Sequence[int]) -> None:
    for part, (its, of) in parts(images, classes).items():
        for i, (image, label) in enumerate(zip(its, of, strict=True)):
            file = at / part / "ab"[label] / f"{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image)


def lists(at: Path, images: Sequence[bytes], classes: Sequence[int]) -> None:
    (at / "images").mkdir(exist_ok=True)
    for part, (its, of) in parts(images, classes).items():
        for i, image in enumerate(its):
            (at / "images" / f"{part}{i}.jpg").write_bytes(image)
        (at / f"{part}.txt").write_text("".join(f"images/{part}{i}.jpg\t{label}\n" for i, label in enumerate(of)))
    (at / "classes.txt").write_text("a\nb\n")


def shards(at: Path, images: Sequence[bytes], classes: Sequence[int]) -> None:
    for part, (its, of) in parts(images, classes).items():
        both = enumerate(zip(its, of, strict=True))
        tar(at / f"{part}.tar", [m for i, (it, c) in both for m in ((f"{i}.jpg", it), (f"{i}.cls", b"%d" % c))])


def parquets(at: Path, images: Sequence[bytes], classes: Sequence[int]) -> None:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for part, (its, of) in parts(images, classes).items():
        parquet.write_table(pa.table({"image": list(its), "label": list(of)}), at / f"{part}.parquet")


def packed(at: Path, images: Sequence[bytes], classes: Sequence[int], format: str = "jpeg") -> None:
    of = write("folder", at.with_name(os.urandom(4).hex()) / "of", images, classes)
    for file in at.iterdir():
        file.unlink()
    pack(load_data(str(of)), at, size=16, format=format, workers=0)


def rows(images: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(images), np.uint8).reshape(len(images), SIZE)


def mnist(at: Path, images: Sequence[bytes], classes: Sequence[int]) -> None:
    for name, (its, of) in zip(("train", "t10k"), parts(images, classes).values(), strict=True):
        (at / f"{name}-images-idx3-ubyte").write_bytes(idx(rows(its).reshape(-1, 48, 64)))
        (at / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.array(of, np.uint8)))


def cifar(at: Path, images: Sequence[bytes], classes: Sequence[int]) -> None:
    for part, (its, of) in parts(images, classes).items():
        labels = np.array([[0, label] for label in of], np.uint8)
        (at / f"{part}.bin").write_bytes(np.concatenate([labels, rows(its)], 1).tobytes())
    (at / "fine_label_names.txt").write_text("\n".join(f"c{i}" for i in range(100)))


def svhn(at: Path, images: Sequence[bytes], classes: Sequence[int]) -> None:
    for part, (its, of) in parts(images, classes).items():
        x = rows(its).reshape(-1, 3, 32, 32).transpose(2, 3, 1, 0)
        savemat(at / f"{part}_32x32.mat", {"X": x, "y": np.array(of, np.uint8)[:, None] + 1}, do_compression=True)


SETS: dict[str, Write] = {
    "folder": folder,
    "list": lists,
    "shards": shards,
    "parquet": parquets,
    "mnist": mnist,
    "cifar100": cifar,
    "svhn": svhn,
    "pack": packed,
}
