"""What every reader of a data set keeps to: regular files only, and memory and time in proportion to what it reads."""

from __future__ import annotations

import gzip
import os
import re
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convatlas.data.sources import load_data
from convatlas.preprocess import Preprocess
from tests.budget import MB, within
from tests.data.sources.sets import write
from tests.data.sources.written import jpeg

INPUT = Preprocess((3, 16, 16), (0.0,) * 3, (1.0,) * 3, resize_mode="crop", resize=18)


FILES: dict[str, tuple[str, ...]] = {  # of each kind of source
    "folder": ("train/a/0.jpg",),
    "list": ("train.txt", "test.txt", "classes.txt", "images/train0.jpg"),
    "shards": ("train.tar", "test.tar"),
    "parquet": ("train.parquet", "test.parquet"),
    "mnist": ("train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
    "cifar100": ("train.bin", "test.bin", "fine_label_names.txt"),
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
    "pack": ("pack.json", "train-00000.tar", "train-00000.npz"),
}


def a_pipe(file: Path) -> None:
    os.mkfifo(file)


def a_socket(file: Path) -> None:
    before = Path.cwd()
    os.chdir(file.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as it:
            it.bind(file.name)
    finally:
        os.chdir(before)


INSTEAD: dict[str, Callable[[Path], None]] = {
    "a pipe": a_pipe,
    "a socket": a_socket,
    "a folder": Path.mkdir,
    "a device": lambda file: file.symlink_to("/dev/zero"),
}


CASES = [(kind, what) for kind in FILES for what in INSTEAD if (kind, what) != ("folder", "a folder")]


@pytest.mark.parametrize(
    ("kind", "what"), [pytest.param(*it, marks=() if it[1] == "a pipe" else pytest.mark.faults) for it in CASES]
)
def test_what_is_no_file_is_named_at_once(tmp_path: Path, kind: str, what: str) -> None:
    for at, name in enumerate(FILES[kind]):
        place = write(kind, tmp_path / f"{at}")
        (place / name).unlink()
        INSTEAD[what](place / name)
        said = within(lambda: load_data(f"{kind}:{place}"))  # noqa: B023
        assert f"{name} is {what}; " in said, (name, said)


# bombs: few bytes that stand for many


def gz_bomb(at: Path) -> Path:
    """A gigabyte of zeros in a megabyte, promised by its header."""
    write("mnist", at)
    (at / "train-images-idx3-ubyte").unlink()
    squeezed = zlib.compressobj(1, wbits=31)
    with (at / "train-images-idx3-ubyte.gz").open("wb") as file:
        file.write(squeezed.compress(bytes([0, 0, 8, 3]) + struct.pack(">3I", 1024, 1024, 1024)))
        for _ in range(1024):
            file.write(squeezed.compress(bytes(MB)))
        file.write(squeezed.flush())
    return at


def gz_promise(at: Path) -> Path:
    """A header that promises 64 MB which are not there, and one that promises more than there is memory."""
    write("mnist", at)
    (at / "train-images-idx3-ubyte").unlink()
    with gzip.open(at / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(bytes([0, 0, 8, 3]) + struct.pack(">3I", 1 << 31, 1 << 31, 1 << 31))
    return at


def zeros_after(file: Path, size: int = 12 << 30) -> None:
    with file.open("r+b") as opened:
        opened.truncate(size)


def mat_bomb(at: Path) -> Path:
    """A gigabyte of zeros in one compressed element of a file as it should be otherwise."""
    write("svhn", at)
    squeezed = zlib.compressobj(1)
    parts = [squeezed.compress(struct.pack("<II", 14, 1 << 30))]
    parts += [squeezed.compress(bytes(MB)) for _ in range(1024)]
    content = b"".join([*parts, squeezed.flush()])
    with (at / "train_32x32.mat").open("ab") as file:
        file.write(struct.pack("<II", 15, len(content)) + content)
    return at


def mat_of_many(at: Path) -> Path:
    write("svhn", at)
    with (at / "train_32x32.mat").open("ab") as file:
        file.write(struct.pack("<II", 1, 0) * 1_000_000)
    return at


def parquet_of(at: Path, table: Callable[[Any], Any], **options: Any) -> Path:
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    write("parquet", at)
    parquet.write_table(table(pa), at / "train.parquet", **options)
    return at


def repeated(pa: Any, value: Any, n: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array([0] * n, pa.int32()), pa.array([value]))


def shard_with_zeros(at: Path) -> Path:
    """An image of 8 GB in a sparse shard."""
    write("shards", at)
    head = bytearray((at / "train.tar").read_bytes()[:512])
    head[124:136] = b"%011o\0" % (7 << 30)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    (at / "train.tar").write_bytes(head)
    zeros_after(at / "train.tar")
    return at


def long_header(at: Path) -> Path:
    """A tar header that announces a name of 6 GB."""
    write("shards", at)
    head = bytearray((at / "train.tar").read_bytes()[:512])
    head[124:136], head[156:157] = b"%011o\0" % (6 << 30), b"x"
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    (at / "train.tar").write_bytes(head)
    zeros_after(at / "train.tar")
    return at


def with_zeros(kind: str, name: str) -> Callable[[Path], Path]:
    def make(at: Path) -> Path:
        write(kind, at)
        zeros_after(at / name)
        return at

    return make


BOMBS: dict[str, tuple[str, Callable[[Path], Path], str]] = {  # kind, how it is written, what is said
    "gz": ("mnist", gz_bomb, "would unpack from .* to 1,073,741,824 bytes"),
    "gz, promised": ("mnist", gz_promise, "would unpack from .* bytes"),
    "labels of IDX": ("mnist", with_zeros("mnist", "train-labels-idx1-ubyte"), "more than the 4,294,967,296 that"),
    "jpeg and 12 GB": ("folder", with_zeros("folder", "train/a/0.jpg"), "0.jpg has 12,884,901,888 bytes, more than"),
    "jpeg and 12 GB, listed": ("list", with_zeros("list", "images/train0.jpg"), "train0.jpg has 12,884,901,888 bytes"),
    "a list": ("list", with_zeros("list", "train.txt"), "train.txt has 12,884,901,888 bytes, more than the"),
    "classes": ("list", with_zeros("list", "classes.txt"), "classes.txt has 12,884,901,888 bytes, more than the"),
    "cifar": ("cifar100", with_zeros("cifar100", "train.bin"), "train.bin has 12,884,901,888 bytes, more than the"),
    "pack.json": ("pack", with_zeros("pack", "pack.json"), "pack.json has 12,884,901,888 bytes, more than"),
    "pack's index": ("pack", with_zeros("pack", "train-00000.npz"), "train-00000.npz "),
    "a shard": ("shards", shard_with_zeros, "train.tar: 0.jpg is too large for an image; remove it"),
    "a shard's header": ("shards", long_header, "train.tar is not a complete tar archive"),
    "mat": ("svhn", mat_bomb, "train_32x32.mat holds more than X and y"),
    "mat of many": ("svhn", mat_of_many, "train_32x32.mat holds more than X and y"),
    "parquet, zeros": (
        "parquet",
        lambda at: parquet_of(
            at,
            lambda pa: pa.table({"image": [bytes(150 * MB)] * 2, "label": [0, 1]}),
            compression="zstd",
            use_dictionary=False,
        ),
        "train.parquet: image of row group 0 unpacks to 314,5.* bytes; use a trusted copy",
    ),
    "parquet, labels": (
        "parquet",
        lambda at: parquet_of(
            at, lambda pa: pa.table({"image": repeated(pa, jpeg(1), 50_000), "label": repeated(pa, "a" * MB, 50_000)})
        ),
        "some labels in .* are numbers and some are names",
    ),
    "parquet, fields": (
        "parquet",
        lambda at: parquet_of(
            at,
            lambda pa: pa.table(
                {
                    "image": repeated(pa, jpeg(1), 50_000),
                    "label": pa.StructArray.from_arrays([repeated(pa, "a" * MB, 50_000)], ["name"]),
                }
            ),
        ),
        "the column label is of type struct",
    ),
    "parquet, rows": (
        "parquet",
        lambda at: parquet_of(
            at, lambda pa: pa.table({"image": repeated(pa, b"x", 5_000_000), "label": repeated(pa, 1, 5_000_000)})
        ),
        "train.parquet declares 5,000,000 rows in .* bytes; use a trusted copy",
    ),
}
SLOW = ("gz", "mat", "parquet, zeros")  # they take seconds to write


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.faults if name in SLOW else ()) for name in BOMBS]
)
def test_a_bomb_is_refused_within_the_budget(tmp_path: Path, name: str) -> None:
    kind, make, message = BOMBS[name]
    at = make(tmp_path / "it")
    said = within(lambda: load_data(f"{kind}:{at}"))
    assert re.search(message, said), said


@pytest.mark.faults
def test_images_that_rows_repeat_are_in_memory_once(tmp_path: Path) -> None:
    big = jpeg(1) + bytes(2 * MB)

    def read() -> None:
        data = load_data(f"parquet:{at}")
        data.train.fetch(range(0, 2_000, 500), INPUT)

    at = parquet_of(
        tmp_path / "it",
        lambda pa: pa.table({"image": repeated(pa, big, 2_000), "label": [0, 1] * 1_000}),
    )
    assert within(read) == ""
