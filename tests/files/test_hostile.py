"""Pickles and archives by strangers: nothing that they hold is run, and nothing of them lands where it should not.

Every pickle here makes a folder when it is unpickled plainly, which is checked first: that folder must then not be made
by the readers.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import signal
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas.data.sources import load_data
from convatlas.data.sources.pickled import read_pickle
from convatlas.errors import UserError
from convatlas.files.archive import unpack
from convatlas.weights.files import read_weights
from tests.layouts import legacy, tarred, zipped

MARK = "executed"  # the folder that a pickle makes when it is run


@pytest.fixture(autouse=True)
def _in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)

    def late(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.arguments


class Sets:
    """Unpickled, it calls in __setstate__; of a module that a pickle can name."""

    def __getstate__(self) -> dict[str, Any]:
        return {"name": MARK}

    def __setstate__(self, state: dict[str, Any]) -> None:
        os.mkdir(state["name"])


class Items(dict):  # type: ignore[type-arg]
    """Unpickled, it calls when an item is put into it."""

    def __setitem__(self, key: Any, value: Any) -> None:
        os.mkdir(MARK)


def unpickle_to_run(inner: bytes) -> bytes:
    return pickle.dumps(Calls(pickle.loads, inner))


CODE = f"__import__('os').mkdir({MARK!r})"
MKDIR = pickle.dumps(Calls(os.mkdir, MARK), protocol=2)
IN_TORCH = io.BytesIO()
torch.save(Calls(os.mkdir, MARK), IN_TORCH)

PICKLES: dict[str, bytes] = {  # run plainly, each makes the folder
    "a call of mkdir": MKDIR,
    "a call of system": pickle.dumps(Calls(os.system, f"mkdir {MARK}")),
    "protocol 0": pickle.dumps(Calls(os.mkdir, MARK), protocol=0),
    "protocol 5": pickle.dumps(Calls(os.mkdir, MARK), protocol=5),
    "eval": pickle.dumps(Calls(eval, CODE)),
    "exec": pickle.dumps(Calls(exec, CODE)),
    "getattr of a module": b"\x80\x04cbuiltins\ngetattr\n(cbuiltins\n__import__\n(Vos\ntRVmkdir\ntR(V%s\ntR."
    % MARK.encode(),
    "a dotted name": b"\x80\x04\x8c\x05posix\x8c\x05mkdir\x93(V%s\ntR." % MARK.encode(),
    "the INST instruction": b"(V%s\nios\nmkdir\n." % MARK.encode(),
    "the OBJ instruction": b"(cos\nmkdir\nV%s\no." % MARK.encode(),
    "the NEWOBJ instruction, of a file": b"\x80\x02cbuiltins\nexec\n(V%s\ntR." % CODE.encode(),
    "setstate": pickle.dumps(Sets()),
    "setitem": pickle.dumps(Items(a=1)),
    "a pickle within a pickle": unpickle_to_run(MKDIR),
    "three pickles within one another": unpickle_to_run(unpickle_to_run(unpickle_to_run(MKDIR))),
    "torch's own unpickling": pickle.dumps(Calls(torch.storage._load_from_bytes, IN_TORCH.getvalue())),
    "a map that a list is made of": pickle.dumps(Calls(list, Calls(map, os.mkdir, [MARK]))),
    "runpy": pickle.dumps(Calls(eval, f"__import__('subprocess').run(['mkdir', {MARK!r}])")),
    "in a tensor's place": pickle.dumps({"weight": Calls(os.mkdir, MARK), "bias": 1.0}),
    "and plain data after it": MKDIR[:-1] + b"0}.",
    "after much plain data": pickle.dumps([list(range(1000)), {"a": [1.5] * 99}, Calls(os.mkdir, MARK)]),
    "memo tricks": b"\x80\x02cos\nmkdir\nq\x000V%s\nq\x010h\x00(h\x01tR." % MARK.encode(),
}


LAYOUTS: dict[str, Callable[[bytes], bytes]] = {
    "zip": zipped,
    "legacy": legacy,
    "tar": tarred,
    "bare": lambda content: content,
    "compressed": lambda content: zipped(content, compressed=True),
    "twice": lambda content: zipped(content, times=2),
}


def test_there_are_twenty_and_each_would_act(tmp_path: Path) -> None:
    assert len(PICKLES) >= 20
    for name, content in PICKLES.items():
        with suppress(Exception):
            pickle.loads(content)
        assert Path(MARK).is_dir(), name
        Path(MARK).rmdir()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", PICKLES)
@pytest.mark.filterwarnings("ignore")
def test_no_pickle_is_run_as_weights(tmp_path: Path, name: str, layout: str) -> None:
    for suffix in (".pth", ".pt", ".th", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(LAYOUTS[layout](PICKLES[name]))
        with pytest.raises(
            UserError, match=r"weights\.\w+ (is damaged or contains|has compressed|is not a complete|contains )"
        ):
            read_weights(path)
        path.unlink()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PICKLES)
def test_no_pickle_is_run_as_cifar(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^it "):
        read_pickle(PICKLES[name], "it")
    assert list(tmp_path.iterdir()) == []


BOMBS: dict[str, bytes] = {  # small files that would be large
    "a hundred million copies of a list": b"\x80\x02]q\x00(" + b"h\x00" * 1000 + b"e" + b".",
    "lists in lists in lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "tuples in tuples": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "a long that takes years": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\xff" * 10 + b".",
    "text that is promised": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",
    "bytes that are promised": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "a memo slot far away": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "marks without end": b"\x80\x02" + b"(" * 1_000_000 + b".",
    "a stack that is empty": b"\x80\x02R.",
    "no stop": b"\x80\x02}",
    "a decimal that takes years": b"L" + b"9" * 1_000_000 + b"L\n.",
}


@pytest.mark.parametrize("layout", ["zip", "legacy", "bare"])
@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.filterwarnings("ignore")
def test_no_bomb_goes_off_in_weights(tmp_path: Path, name: str, layout: str) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(LAYOUTS[layout](BOMBS[name]))
    with pytest.raises(UserError, match=r"weights\.pth "):
        read_weights(path)


@pytest.mark.parametrize("name", BOMBS)
def test_no_bomb_goes_off_in_cifar(name: str) -> None:
    with pytest.raises(UserError, match=r"^it "):
        read_pickle(BOMBS[name], "it")


def test_a_tensor_that_is_larger_than_what_it_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1).expand(1 << 40)}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError, match=r"contains tensors of more than the [\d,]+ bytes"):
        read_weights(path)


# archives

Entry = tuple[str, bytes | None, dict[str, Any]]


def tar(*entries: Entry, mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as file:  # type: ignore[call-overload]
        for name, content, more in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content or b"")
            for key, value in more.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(content or b"") if info.isreg() else None)
    return out.getvalue()


def zip_of(*entries: tuple[str, bytes, int]) -> bytes:
    """Names, contents, and the mode that the archive says they have."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return out.getvalue()


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> Entry:
    return name, None, {"type": kind, "linkname": to}


GOOD: Entry = ("a/b.txt", b"fine", {})
LONG = b"0" * (300 << 20)  # more than the tests allow, and little when it is packed


def pax_bomb() -> bytes:
    """A header of a gigabyte, almost nothing when it is packed."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    head = info.tobuf(tarfile.USTAR_FORMAT)
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
        file.write(head)
        for _ in range(300):
            file.write(bytes(1 << 20))
    return out.getvalue()


def lying_zip() -> bytes:
    """A zip whose list says that a file of 300 MB has 4 bytes."""
    whole = bytearray(zip_of(("a.txt", LONG, 0)))
    for magic, at in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        i = whole.index(magic)
        whole[i + at : i + at + 4] = struct.pack("<I", 4)
    return bytes(whole)


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "tar, upwards": lambda: tar(GOOD, ("../escaped", b"x", {})),
    "tar, upwards from within": lambda: tar(GOOD, ("a/../../escaped", b"x", {})),
    "tar, absolute": lambda: tar(GOOD, ("/tmp/convatlas-escaped", b"x", {})),
    "tar, a link": lambda: tar(GOOD, link("a/l", "/etc")),
    "tar, a link and a file through it": lambda: tar(link("l", ".."), ("l/escaped", b"x", {})),
    "tar, a hard link": lambda: tar(GOOD, link("h", "/etc/passwd", tarfile.LNKTYPE)),
    "tar, a device": lambda: tar(GOOD, ("d", None, {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5})),
    "tar, a block device": lambda: tar(("d", None, {"type": tarfile.BLKTYPE, "devmajor": 8, "devminor": 0})),
    "tar, a pipe": lambda: tar(GOOD, ("p", None, {"type": tarfile.FIFOTYPE})),
    "tar, a name twice": lambda: tar(GOOD, ("a/b.txt", b"other", {})),
    "tar, a name twice but for case": lambda: tar(GOOD, ("A/B.TXT", b"other", {})),
    "tar, a file where a folder was": lambda: tar(GOOD, ("a", b"x", {})),
    "tar, a backslash": lambda: tar(GOOD, ("..\\escaped", b"x", {})),
    "tar, a drive": lambda: tar(GOOD, ("C:escaped", b"x", {})),
    "tar, gzip bomb": lambda: gzip.compress(tar(("big", LONG, {})), 1),
    "tar, bzip2 bomb": lambda: bz2.compress(tar(("big", LONG[: 120 << 20], {})), 1),
    "tar, xz bomb": lambda: lzma.compress(tar(("big", LONG[: 120 << 20], {})), preset=0),
    "tar, header bomb": pax_bomb,
    "tar, cut short": lambda: tar(("a", b"x" * 5000, {}))[:2000],
    "tar, gzipped and cut short": lambda: gzip.compress(tar(("a", os.urandom(5000), {})))[:-500],
    "zip, upwards": lambda: zip_of(("good.txt", b"x", 0), ("../escaped", b"x", 0)),
    "zip, absolute": lambda: zip_of(("/tmp/convatlas-escaped", b"x", 0)),
    "zip, a link": lambda: zip_of(("l", b"/etc", stat.S_IFLNK | 0o777)),
    "zip, a device": lambda: zip_of(("d", b"", stat.S_IFCHR | 0o666)),
    "zip, a name twice but for case": lambda: zip_of(("a.txt", b"x", 0), ("A.TXT", b"y", 0)),
    "zip, bomb": lambda: zip_of(("big", LONG, 0)),
    "zip, many copies": lambda: zip_of(*[(f"{i}", LONG[: 10 << 20], 0) for i in range(20)]),
    "zip, a size that lies": lying_zip,
    "zip, its list cut off": lambda: zip_of(("a", b"x" * 999, 0))[:-30],
    "no archive": lambda: b"hello" * 999,
}


def test_there_are_fifteen() -> None:
    assert len(ARCHIVES) >= 15


@pytest.mark.parametrize("name", ARCHIVES)
def test_no_archive_escapes(tmp_path: Path, name: str) -> None:
    place = tmp_path / "deep" / "down"
    place.mkdir(parents=True)
    (place / "archive").write_bytes(ARCHIVES[name]())
    with pytest.raises(UserError, match=r"archive (contains|unpacks|is too large|cannot be)"):
        unpack(place / "archive", place / "into", max_bytes=100 << 20)
    assert [f.relative_to(tmp_path).as_posix() for f in sorted(tmp_path.rglob("*"))] == [
        "deep", "deep/down", "deep/down/archive",
    ]  # fmt: skip
    assert not Path("/tmp/convatlas-escaped").exists()


@pytest.mark.parametrize("kind", ["tar", "gz", "bz2", "xz", "zip"])
def test_an_honest_archive_is_unpacked_whole(tmp_path: Path, kind: str) -> None:
    files = {"x/a.txt": b"one", "x/y/b.bin": bytes(range(256)) * 999, "c": b""}
    if kind == "zip":
        content = zip_of(*((name, held, stat.S_IFREG | 0o4777) for name, held in files.items()), ("e/", b"", 0))
    else:
        entries: list[Entry] = [(name, held, {"mode": 0o4777}) for name, held in files.items()]
        content = tar(*entries, ("e", None, {"type": tarfile.DIRTYPE}), mode="w" if kind == "tar" else f"w:{kind}")
    (tmp_path / "archive").write_bytes(content)
    into = unpack(tmp_path / "archive", tmp_path / "new" / "into")
    assert {f.relative_to(into).as_posix(): f.read_bytes() for f in into.rglob("*") if f.is_file()} == files
    assert (into / "e").is_dir()
    assert not any(f.stat().st_mode & 0o7000 for f in into.rglob("*"))
    with pytest.raises(UserError, match="already exists; remove it"):
        unpack(tmp_path / "archive", into)
    assert sorted(f.name for f in (tmp_path / "new").iterdir()) == ["into"]


@pytest.mark.parametrize("name", [name for name in ARCHIVES if name.startswith("tar")])
def test_no_archive_escapes_as_a_shard(tmp_path: Path, name: str) -> None:
    """Shards are read where they lie: nothing is unpacked; what they hold has no class, or is refused itself."""
    place = tmp_path / "shards"
    place.mkdir()
    for shard in ("train-000.tar", "test-000.tar"):
        (place / shard).write_bytes(ARCHIVES[name]())
    with pytest.raises(UserError, match=r"(train|test)-000\.tar|are all of one class"):
        load_data(f"shards:{place}")
    assert sorted(f.name for f in tmp_path.rglob("*")) == ["shards", "test-000.tar", "train-000.tar"]
    assert not Path("/tmp/convatlas-escaped").exists()
