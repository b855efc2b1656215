"""Small files that would be large or take long: refused within a budget of memory and time."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import pickle
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convatlas.data.sources.pickled import read_pickle
from convatlas.doctor import examine
from convatlas.errors import UserError
from convatlas.files.archive import unpack
from convatlas.weights.files import read_weights
from tests.budget import within
from tests.layouts import legacy, zipped

PRIME = (1 << 61) - 1  # Python's hash of its multiples is 0


def text(content: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content


def number(n: int) -> bytes:
    digits = n.to_bytes(n.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(digits)]) + digits


MUCH = text(b"x" * (8 << 20))
LATIN = text(b"latin1")
ENCODE = b"c_codecs\nencode\nq\x01" + MUCH + LATIN + b"\x86q\x02R"
BUFFER = b"cnumpy._core.numeric\n_frombuffer\nq\x01("
BUFFER += b"B" + struct.pack("<I", 8 << 20) + bytes(8 << 20)
BUFFER += b"cnumpy\ndtype\n" + text(b"u1") + b"\x89\x88\x87R" + number(8 << 20) + b"\x85" + text(b"C") + b"tq\x02R"

A = b"\x80\x04}" + text(b"a")  # a dict, whose value follows
PICKLES: dict[str, Callable[[], bytes]] = {
    "a text encoded again and again": lambda: A + b"](" + ENCODE + b"h\x01h\x02R" * 1000 + b"es.",
    "an array made again and again": lambda: A + b"](" + BUFFER + b"h\x01h\x02R" * 1000 + b"es.",
    "a text in a list again and again": lambda: A + b"](" + MUCH + b"q\x01" + b"h\x01" * 1000 + b"es.",
    "tuples that hold each other twice": lambda: A + doubled(100) + b"s.",
    "a list that grows once it is repeated": lambda: A + b"](]q\x01" + b"h\x01" * 1000 + b"e0h\x01" + MUCH + b"a.",
    "a list that holds itself": lambda: A + b"]q\x01h\x01as.",
    "keys that collide": lambda: b"\x80\x02}(" + b"".join(number(i * PRIME) + b"N" for i in range(1, 60_001)) + b"u.",
    "memo slots that collide": lambda: A + b"".join(b"p%d\n" % (i * PRIME) for i in range(1, 60_001)) + b".",
    "dicts without end": lambda: b"\x80\x02" + b"}" * 2_000_000 + b".",
    "bytes by their number": lambda: A + b"cbuiltins\nbytearray\n" + number(10**9) + b"\x85Rs.",
    "a tensor by its size": lambda: A + b"ctorch\nTensor\n" + number(10**9) + b"\x85Rs.",
}


def doubled(times: int) -> bytes:
    """A tuple that holds a tuple twice, which holds a tuple twice ..."""
    return text(b"x") + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(1, times))


@pytest.mark.parametrize("name", PICKLES)
def test_no_pickle_is_larger_than_its_file(name: str) -> None:
    content = PICKLES[name]()
    assert within(lambda: read_pickle(content, "it"), mb=300, seconds=8).startswith("it ")


@pytest.mark.parametrize("layout", [zipped, legacy])
@pytest.mark.parametrize("name", PICKLES)
def test_no_weights_are_larger_than_their_file(tmp_path: Path, name: str, layout: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(layout(PICKLES[name]()))
    assert "weights.pth is damaged or contains" in within(lambda: read_weights(path), mb=300, seconds=8)


def test_only_text_is_a_key() -> None:
    with pytest.raises(UserError, match="it has a int as a key, which plain data does not"):
        read_pickle(pickle.dumps({1: 2}), "it")
    with pytest.raises(UserError, match="it has a tuple as a key"):
        read_pickle(pickle.dumps({(1, 2): 2}), "it")


def test_what_is_repeated_within_bounds_is_read() -> None:
    once = np.arange(5, dtype=np.uint8)
    shared = ["a", "b"]
    record = {"x": [shared, shared, {"y": shared}], "n": ["name"] * 50_000, "t": [(1, 2)] * 3}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert read_pickle(pickle.dumps(record, protocol), "it") == record
        read = read_pickle(pickle.dumps({"a": once, "b": once}, protocol), "it")
        assert (read["a"] == once).all()
        assert (read["b"] == once).all()


# tensors


def tensor(values: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """A float32 tensor in a pickle of protocol 2, of storage 0, which has so many values."""
    sizes = [b"(" + b"".join(map(number, it)) + b"t" for it in (shape, strides)]
    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + number(values) + b"tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + b"".join(sizes) + b"\x89NtR"


def with_tensors(path: Path, tensors: bytes, stored: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", b"\x80\x02}" + tensors + b".")
        file.writestr("x/data/0", stored)
    return path


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (tensor(1, (1 << 40,), (0,)), "contains tensors of more than the"),
        (tensor(1, (1 << 20,), (0,)), "contains 'a', which reaches over 4,194,304 bytes, more than the 4 that"),
        (tensor(1, (2,), (1,)), "contains 'a', which reaches over 8 bytes, more than the 4 that are stored"),
        (tensor(1, (1,), (1,), 1), "contains 'a', which reaches over 8 bytes, more than the 4 that are stored"),
        (tensor(1, (1,), (1,), 1 << 61), "contains 'a', which reaches over"),
        (tensor(1, (1,), (1,), -1), "it has a tensor at an impossible place"),
        (tensor(1, (1,), (-1,)), "it has a tensor at an impossible place"),
        (tensor(1, (-1,), (1,)), "it has a tensor at an impossible place"),
        (tensor(1, (1 << 70,), (1,)), "it has a tensor at an impossible place"),
        (tensor(1000, (1000,), (1,)), "contains 'a', which should have 4,000 bytes, of which 4 are there"),
        (tensor(-1, (1,), (1,)), "contains 'a', which should have -4 bytes"),
        (tensor(1, (1,) * 65, (1,) * 65), "it has a tensor without a shape"),
    ],
)  # fmt: skip
def test_no_tensor_is_larger_than_its_storage(tmp_path: Path, made: bytes, message: str) -> None:
    path = with_tensors(tmp_path / "w.pth", text(b"a") + made + b"s", bytes(4))
    assert message in within(lambda: read_weights(path))


def test_tensors_that_overlap_cost_no_more_than_their_storage(tmp_path: Path) -> None:
    path = with_tensors(
        tmp_path / "w.pth", text(b"a") + tensor(16, (4, 4), (2, 1), 1) + b"s", np.arange(16.0, dtype="f4").tobytes()
    )
    assert read_weights(path).tensors["a"].tolist() == [[2.0 * i + j + 1 for j in range(4)] for i in range(4)]


def test_many_tensors_of_one_storage(tmp_path: Path) -> None:
    n = 1 << 18
    many = b"".join(text(b"%d" % i) + tensor(n, (n,), (1,)) + b"s" for i in range(10_000))
    path = with_tensors(tmp_path / "w.pth", many, bytes(4 * n))
    assert "contains tensors of more than the 8,589,934,592 bytes" in within(
        lambda: read_weights(path), mb=300, seconds=8
    )


def empties(path: Path, n: int) -> Path:
    """A safetensors file of empty tensors."""
    each = json.dumps({"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}).replace(" ", "")
    header = ("{" + ",".join(f'"{i}":{each}' for i in range(n)) + "}").encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    return path


@pytest.mark.parametrize("read", [read_weights, examine])
@pytest.mark.parametrize("n", [400_000, 150_000])
def test_tensors_without_end(tmp_path: Path, n: int, read: Callable[[Path], object]) -> None:
    path = empties(tmp_path / "w.safetensors", n)

    def refused() -> None:
        found = read(path)
        raise UserError(found.findings[0].what)  # type: ignore[attr-defined]

    assert "more than the" in within(refused)


def test_a_file_of_many_tensors_is_read_in_time(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({f"layer{i}.weight": torch.zeros(2) for i in range(5000)}, path)
    assert within(lambda: read_weights(path)) == ""


# archives


def folders(n: int, below: str = "") -> bytes:
    """A gzipped tar of folders."""
    head = bytearray(tar_header("0" * 7 + below, tarfile.DIRTYPE))
    whole = b"".join(with_number(head, i) for i in range(n))
    return gzip.compress(whole + bytes(1024), 9)


def with_number(head: bytearray, n: int) -> bytes:
    head[:7], head[148:156] = b"%07d" % n, b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def tar_header(name: str, kind: bytes, size: int = 0) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def deep_zip() -> bytes:
    """One entry in many folders."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for i in range(30):
            file.writestr("/".join([f"{i}", *"abcdefghijklmnopqrstuvwxyz" * 2]) + "/x", b"")
    return out.getvalue()


def named(name: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as file:
        file.addfile(tarfile.TarInfo(name))
    return out.getvalue()


def headers(size: int) -> bytes:
    """A gzipped tar whose members each have a header of so many bytes."""
    keys = b"".join(b"12 %05x=xx\n" % i for i in range(size // 12))
    head = tar_header("pax", tarfile.XHDTYPE, len(keys)) + keys.ljust(-len(keys) // 512 * -512, b"\0")
    return gzip.compress((head + tar_header("a", tarfile.REGTYPE)) * 10 + bytes(1024), 1)


ARCHIVES: dict[str, tuple[Callable[[], bytes], str]] = {
    "folders": (lambda: folders(5000), "more files and folders than"),
    "folders in folders": (lambda: folders(40, "/a" * 40), "more files and folders than"),
    "files in folders of a zip": (deep_zip, "more files and folders than"),
    "a name that is too deep": (lambda: named("a/" * 300 + "a"), "too long or too deep"),
    "a name that is too long": (lambda: named("a" * 300), "too long or too deep"),
    "a name without end": (lambda: named("a/" * 5000 + "a"), "too long or too deep"),
    "headers": (lambda: headers(100_000), "header of more"),
    "large headers": (lambda: headers(4_000_000), "is too large"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_no_archive_is_more_than_it_holds(tmp_path: Path, name: str) -> None:
    content, message = ARCHIVES[name]
    (tmp_path / "a").write_bytes(content())
    assert re.search(message, within(lambda: unpack(tmp_path / "a", tmp_path / "into")))
    assert [f.name for f in tmp_path.iterdir()] == ["a"]


@pytest.mark.faults
def test_300_000_folders(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(lzma.compress(gzip.decompress(folders(300_000))))
    assert (tmp_path / "a").stat().st_size < 400_000
    assert "more files and folders than" in within(lambda: unpack(tmp_path / "a", tmp_path / "into"))


@pytest.mark.faults
@pytest.mark.parametrize("read", [read_weights, examine])
def test_1_500_000_tensors(tmp_path: Path, read: Callable[[Path], object]) -> None:
    test_tensors_without_end(tmp_path, 1_500_000, read)
