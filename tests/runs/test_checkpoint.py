"""Checkpoints: whole or not at all, and never a pickle; the log beside them."""

from __future__ import annotations

import errno
import json
import os
import pickletools
import re
import resource
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from convatlas.errors import UserError
from convatlas.files.atomic import Unwritable, clean, replacing
from convatlas.files.preflight import preflight
from convatlas.runs import checkpoint
from convatlas.runs.log import Log, read_log
from tests.damages import DAMAGES
from tests.killing import killed_before_call

TENSORS = {
    "conv.weight": torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0)).to(
        memory_format=torch.channels_last
    ),
    "bn.num_batches_tracked": torch.tensor(7),
    "random/cpu": torch.arange(16, dtype=torch.uint8),
    "half": torch.tensor([float("nan"), -0.0, 1.5], dtype=torch.bfloat16),
    "sliced": torch.arange(10.0)[::2],
    "none": torch.empty(0, 4),
}
STATE = {"network": "lenet5", "state": {"epoch": 3, "best_top1": 0.1 + 0.2}, "classes": ["é", "1"]}


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.dim() else repr(tensor.item()).encode()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "last.safetensors"


@pytest.fixture
def saved(path: Path) -> Path:
    checkpoint.save(path, TENSORS, STATE)
    return path


def test_what_is_saved_is_loaded(saved: Path) -> None:
    tensors, state = checkpoint.load(saved)
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert (tensors[name].dtype, tensors[name].shape) == (tensor.dtype, tensor.shape)
        assert bits(tensors[name]) == bits(tensor), name
    assert state == {"schema": 1, **STATE}
    assert list(saved.parent.iterdir()) == [saved]


def test_the_file_is_safetensors_as_its_specification_says(saved: Path) -> None:
    """Eight bytes of length, that much JSON, then the values: nothing that could be executed."""
    whole = saved.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    assert json.loads(header.pop("__metadata__")["convatlas"])["state"]["epoch"] == 3
    begin, end = header["conv.weight"]["data_offsets"]
    assert whole[8 + length :][begin:end] == TENSORS["conv.weight"].contiguous().numpy().tobytes()
    with pytest.raises(ValueError, match=r"opcode|truncated|exhausted|expected"):
        for _ in pickletools.genops(whole):
            pass


class Failure(Exception):
    """What goes wrong while writing."""


@pytest.mark.parametrize("where", ["write_bytes", "fsync", "replace"])
def test_a_failure_while_writing_leaves_the_old_file(saved: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = saved.read_bytes()

    def half(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise Failure

    def fail(*_: Any) -> None:
        raise Failure

    if where == "write_bytes":
        monkeypatch.setattr(Path, where, half)
    else:
        monkeypatch.setattr(os, where, fail)
    with pytest.raises(Failure):
        checkpoint.save(saved, {"a": torch.ones(1000)}, {})
    monkeypatch.undo()
    assert saved.read_bytes() == old
    assert list(saved.parent.iterdir()) == [saved]  # nothing half done is left
    checkpoint.save(saved, {"a": torch.ones(1000)}, {})
    assert list(checkpoint.load(saved)[0]) == ["a"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_kill_while_writing_leaves_the_old_file(saved: Path) -> None:
    """A process that dies between the write and the rename: in a child, which exits without any clean-up."""
    old = saved.read_bytes()
    child = os.fork()
    if child == 0:
        try:
            with replacing(saved) as new:
                new.write_bytes(old[:100])
                os._exit(9)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert saved.read_bytes() == old
    (half,) = saved.parent.glob(".last.safetensors.*.new")
    assert half.stat().st_size == 100
    checkpoint.save(saved, TENSORS, STATE)  # the next writer has another name
    assert half.stat().st_size == 100
    clean(saved.parent)
    assert list(saved.parent.iterdir()) == [saved]


def test_two_writers_at_once_do_not_mix(path: Path) -> None:
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the last to end
    assert list(path.parent.iterdir()) == [path]


def test_what_is_written_is_flushed_before_the_rename(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted(handle: int) -> None:
        events.append(f"fsync {plain(Path(os.readlink(f'/proc/self/fd/{handle}')))}")
        fsync(handle)

    def renamed(a: Path, b: Path) -> None:
        events.append(f"{plain(a)} -> {plain(b)}")
        replace(a, b)

    def plain(name: Path) -> str:
        return re.sub(r"\.[0-9a-f]{8}\.new", ".new", name.name)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    checkpoint.save(path, TENSORS, STATE)
    assert events == [
        "fsync .last.safetensors.new",
        ".last.safetensors.new -> last.safetensors",
        f"fsync {path.parent.name}",
    ]


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_refused(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(
        UserError, match=r"last.safetensors is not an intact checkpoint \(.+\); use another, or train again"
    ):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    "garbage",
    [b"no checkpoint at all", b"\xff" * 4096, b"\x80\x04\x95cbuiltins\neval\n(S'1/0'\ntR."],
    ids=["text", "bytes", "pickle"],
)
def test_garbage_is_refused(path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    with pytest.raises(UserError, match="is not an intact checkpoint"):
        checkpoint.load(path)


def test_a_pickle_is_never_unpickled(path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(path.parent / "exploded"),)

    torch.save({"weights": Bomb()}, path)
    with pytest.raises(UserError, match="is not an intact checkpoint"):
        checkpoint.load(path)
    assert not (path.parent / "exploded").exists()


def test_another_programs_safetensors_are_refused(path: Path) -> None:
    from safetensors.torch import save_file

    for metadata in (None, {"format": "pt"}, {"convatlas": "{"}, {"convatlas": "[1]"}, {"convatlas": "{}"}):
        save_file({"a": torch.ones(2)}, path, metadata=metadata)
        with pytest.raises(UserError, match=r"is not an intact checkpoint \(.+\); use another"):
            checkpoint.load(path)


def test_a_folder_or_nothing_in_its_place_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no checkpoint .*last.safetensors; train first, or give another run"):
        checkpoint.load(path)
    path.mkdir()
    with pytest.raises(UserError, match="is not an intact checkpoint"):
        checkpoint.load(path)


@pytest.mark.parametrize(("schema", "way"), [(99, "update conv"), (0, "use the version"), ("x", "use the v")])
def test_another_schema_is_refused(path: Path, schema: Any, way: str) -> None:
    rewritten(path, {"convatlas": json.dumps({"schema": schema})})
    with pytest.raises(UserError, match=f"has schema {schema!r}, this convatlas reads 1; {way}"):
        checkpoint.load(path)


def rewritten(path: Path, metadata: dict[str, str]) -> None:
    """A checkpoint by safetensors' own writer."""
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, path, metadata=metadata)


def test_a_file_without_a_checksum_is_refused(path: Path) -> None:
    rewritten(path, {"convatlas": json.dumps({"schema": 1, "state": {"epoch": 2}})})
    with pytest.raises(UserError, match="its checksum does not match"):
        checkpoint.load(path)


def test_no_flipped_bit_goes_unseen(saved: Path) -> None:
    """Every byte of the file in turn, one of its bits flipped: refused, or (blanks that fill the header) the same."""
    whole = saved.read_bytes()
    refused = 0
    for i in range(len(whole)):
        saved.write_bytes(whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :])
        try:
            tensors, state = checkpoint.load(saved)
        except UserError:
            refused += 1
            continue
        assert state == {"schema": 1, **STATE}, i
        assert {name: bits(t) for name, t in tensors.items()} == {name: bits(t) for name, t in TENSORS.items()}, i
    assert refused >= len(whole) - 8


# generations


def generation(folder: Path, value: int) -> None:
    keep = folder / checkpoint.PREVIOUS
    checkpoint.save(folder / checkpoint.LAST, {"a": torch.full((300,), value)}, {"value": value}, keep)


def found(folder: Path) -> tuple[str, int, tuple[str, ...]] | None:
    it = checkpoint.newest(folder)
    return it and (it.path.name, it.state["value"], it.notes)


def test_two_generations_are_kept(tmp_path: Path) -> None:
    assert found(tmp_path) is None
    for value in range(1, 4):
        generation(tmp_path, value)
        assert found(tmp_path) == ("last.safetensors", value, ())
    assert {f.name for f in tmp_path.iterdir()} == {"last.safetensors", "previous.safetensors"}
    assert checkpoint.load(tmp_path / "previous.safetensors")[1]["value"] == 2


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_whole_one_is_taken_and_the_reason_told(tmp_path: Path, damage: str) -> None:
    for value in (1, 2):
        generation(tmp_path, value)
    last = tmp_path / "last.safetensors"
    bad = DAMAGES[damage](last.read_bytes())
    last.write_bytes(bad)
    name, value, notes = found(tmp_path) or ("", 0, ())
    assert (name, value, len(notes)) == ("previous.safetensors", 1, 1)
    assert re.fullmatch(
        rf"{last} is not an intact checkpoint \(.+\); it is now last.safetensors.broken; "
        rf"resuming from {tmp_path}/previous.safetensors",
        notes[0],
    )
    assert (tmp_path / "last.safetensors.broken").read_bytes() == bad
    generation(tmp_path, 3)  # does not put the damaged one in the good one's place
    assert checkpoint.load(tmp_path / "previous.safetensors")[1]["value"] == 1
    assert found(tmp_path) == ("last.safetensors", 3, ())


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("where", "error", "reason"),
    [
        ((Path, "read_bytes"), OSError(errno.EIO, os.strerror(errno.EIO)), "Input/output error"),
        ((Path, "read_bytes"), PermissionError(errno.EACCES, os.strerror(errno.EACCES)), "Permission denied"),
        ((Path, "stat"), OSError(errno.ESTALE, os.strerror(errno.ESTALE)), "Stale file handle"),
        ((Path, "read_bytes"), MemoryError(), "out of memory"),
        ((checkpoint, "from_bytes"), MemoryError(), "out of memory"),
    ],
)
def test_what_cannot_be_read_now_is_not_set_aside(
    tmp_path: Path, where: tuple[Any, str], error: Exception, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (1, 2):
        generation(tmp_path, value)
    with monkeypatch.context() as patch:
        patch.setattr(*where, failing(error))
        with pytest.raises(UserError, match=rf"last\.safetensors cannot be read \({reason}\); it may be intact: when"):
            checkpoint.newest(tmp_path)
    assert found(tmp_path) == ("last.safetensors", 2, ())


def test_too_many_open_files_damage_nothing(tmp_path: Path) -> None:
    for value in (1, 2):
        generation(tmp_path, value)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare, before[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be read \(Too many open files\)"):
            checkpoint.newest(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert found(tmp_path) == ("last.safetensors", 2, ())


def test_a_checkpoint_of_another_version_is_not_damaged(tmp_path: Path) -> None:
    for value in (1, 2):
        generation(tmp_path, value)
    rewritten(tmp_path / "last.safetensors", {"convatlas": json.dumps({"schema": 2})})
    with pytest.raises(UserError, match=r"last\.safetensors has schema 2, this convatlas reads 1; update convatlas"):
        checkpoint.newest(tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"last.safetensors", "previous.safetensors"}


def test_what_was_set_aside_is_not_overwritten(tmp_path: Path) -> None:
    last = tmp_path / "last.safetensors"
    for value in (1, 2):
        generation(tmp_path, value)
    for value in (1, 2, 3):
        last.write_bytes(b"broken %d" % value)
        checkpoint.newest(tmp_path)
        generation(tmp_path, value)
    kept = [tmp_path / f"last.safetensors.broken{n}" for n in ("", ".1", ".2")]
    assert [f.read_bytes() for f in kept] == [b"broken 1", b"broken 2", b"broken 3"]


def test_a_pipe_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    generation(tmp_path, 1)
    os.replace(tmp_path / "last.safetensors", tmp_path / "previous.safetensors")
    os.mkfifo(tmp_path / "last.safetensors")
    assert (found(tmp_path) or [""])[0] == "previous.safetensors"


def test_a_deleted_one_is_told(tmp_path: Path) -> None:
    for value in (1, 2):
        generation(tmp_path, value)
    (tmp_path / "last.safetensors").unlink()
    reason = f"there is no {tmp_path}/last.safetensors; resuming from {tmp_path}/previous.safetensors"
    assert found(tmp_path) == ("previous.safetensors", 1, (reason,))
    (tmp_path / "previous.safetensors").unlink()
    assert found(tmp_path) is None


def test_without_a_whole_one_it_is_refused(tmp_path: Path) -> None:
    for value in (1, 2):
        generation(tmp_path, value)
    for name in ("last", "previous"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"no checkpoint in .* is intact: .*last\.saf.*previous\.saf.*; restore a"):
        checkpoint.newest(tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"last.safetensors", "previous.safetensors"}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_kill_between_any_two_steps_of_a_save_leaves_a_whole_one(tmp_path: Path, links: bool) -> None:
    """A child exits before the n-th call that changes the folder, for every n; the next save goes through as ever."""
    generation(tmp_path, 1)
    generation(tmp_path, 2)
    value, n, status = 2, 0, 9
    while status:
        n += 1
        status = killed_before_call(n, links, lambda: generation(tmp_path, value + 1))  # noqa: B023 (called at once)
        assert status in (0, 9)
        newest = found(tmp_path)
        assert newest is not None
        assert newest[1] in (value, value + 1)
        value = newest[1]
    assert n > 5
    clean(tmp_path)
    generation(tmp_path, 99)
    assert {f.name for f in tmp_path.iterdir()} == {"last.safetensors", "previous.safetensors"}
    assert checkpoint.load(tmp_path / "previous.safetensors")[1]["value"] == value


# file systems


def test_a_file_system_that_does_not_flush_folders(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems say EINVAL: of a folder that is no failure, of a file it is."""
    fsync, kinds = os.fsync, [stat.S_ISDIR]

    def invalid(handle: int) -> None:
        if kinds[0](os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", invalid)
    checkpoint.save(saved, {"a": torch.ones(1)}, {})
    assert list(checkpoint.load(saved)[0]) == ["a"]
    assert [line.partition(" (")[0] for line in preflight(saved.parent)] == [
        f"the file system of {saved.parent} does not flush folders"
    ]
    kinds[0] = stat.S_ISREG
    with pytest.raises(Unwritable, match=r"last\.safetensors cannot be written \(Invalid argument\)"):
        checkpoint.save(saved, {"b": torch.ones(1)}, {})
    with pytest.raises(Unwritable, match=r"cannot be written \(Invalid argument\)"):
        preflight(saved.parent)
    assert list(checkpoint.load(saved)[0]) == ["a"]


def test_a_file_system_without_hard_links(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert preflight(saved.parent) == []
    monkeypatch.setattr(os, "link", failing(PermissionError(errno.EPERM, os.strerror(errno.EPERM))))
    assert [line.partition(" (")[0] for line in preflight(saved.parent)] == [
        f"the file system of {saved.parent} has no hard links"
    ]
    assert list(saved.parent.iterdir()) == [saved]


def test_a_folder_that_does_not_exist(path: Path) -> None:
    with pytest.raises(
        Unwritable, match=r"none/x cannot be written \(No such file .*\); there is no folder .*/none: create"
    ):
        checkpoint.save(path.parent / "none" / "x", TENSORS, STATE)


# a full disk


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Sets the size beyond which this process can write no file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    saved: Path, small_files: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = saved.read_bytes()
    small_files(1000)
    with pytest.raises(
        Unwritable, match=r"last.safetensors cannot be written \(File too large\); any previous version "
    ):
        checkpoint.save(saved, {"a": torch.ones(1000)}, {})
    assert saved.read_bytes() == old
    assert list(saved.parent.iterdir()) == [saved]
    small_files(resource.RLIM_INFINITY)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(Unwritable, match=r"cannot be written \(No space left on device\)"):
                checkpoint.save(saved, TENSORS, {}, saved.with_name("previous.safetensors"))
        assert saved.read_bytes() == old
        checkpoint.load(saved)


def test_a_log_that_cannot_be_written(tmp_path: Path, small_files: Callable[[int], None]) -> None:
    log = Log(tmp_path / "log.jsonl", 0, 0)
    log.write("step", step=1, epoch=1)
    small_files(50)
    with pytest.raises(Unwritable, match=r"log.jsonl cannot be written \(File too large\)"):
        log.write("step", step=2, epoch=1)
    assert read_log(log.path) == [{"kind": "step", "step": 1, "epoch": 1}]


# the log


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    path.write_bytes(b'{"kind": "step", "step": 1}\n{"kind": "step", "st')
    assert read_log(path) == [{"kind": "step", "step": 1}]
    path.write_bytes(b'{"kind": "step", "step": 1}\n\x00\x00\x00')
    assert read_log(path) == [{"kind": "step", "step": 1}]


def test_a_damaged_line_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    texts = [json.dumps({"kind": "step", "step": n}) for n in (1, 2, 3)]
    path.write_text("\n".join([texts[0], texts[1][:9] + "\x00", texts[2], ""]))
    assert [line["step"] for line in read_log(path)] == [1, 3]
    Log(path, 0, 3).write("step", step=4)
    assert [line["step"] for line in read_log(path)] == [1, 3, 4]


def test_training_that_goes_on_writes_after_the_lines_that_are_done(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path, 0, 0)
    for step in (1, 2):
        log.write("step", step=step, epoch=1)
    scores = {"loss": 1.0, "top1": 0.5}
    log.write("epoch", step=2, epoch=1, train=scores, test=scores)
    for step in (3, 4):
        log.write("step", step=step, epoch=2)
    log.write("epoch", step=4, epoch=2, train=scores, test=scores)
    with path.open("ab") as file:
        file.write(b'{"kind": "st')
    whole = read_log(path)
    assert [line["step"] for line in whole] == [1, 2, 2, 3, 4, 4]
    again = Log(path, 1, 3)  # one epoch done, and one step
    assert read_log(path) == whole[:4]
    again.write("step", step=4, epoch=2)
    assert read_log(path)[-1] == {"kind": "step", "step": 4, "epoch": 2}
    Log(path, 0, 2)  # all steps of the first epoch done, its test not: its line will be written again
    assert [(line["kind"], line["step"]) for line in read_log(path)] == [("step", 1), ("step", 2)]
