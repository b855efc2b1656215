"""Checkpoints: whole or not at all, and never a pickle; the log beside them."""

from __future__ import annotations

import json
import os
import pickletools
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from convatlas.errors import UserError
from convatlas.train import checkpoint
from convatlas.train.log import Log, read_log

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
            with checkpoint.replacing(saved) as new:
                new.write_bytes(old[:100])
                os._exit(9)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert saved.read_bytes() == old
    assert (saved.parent / ".last.safetensors.new").stat().st_size == 100
    checkpoint.save(saved, TENSORS, STATE)  # the next writer takes its place
    assert list(saved.parent.iterdir()) == [saved]


def test_what_is_written_is_flushed_before_the_rename(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted(handle: int) -> None:
        events.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        fsync(handle)

    def renamed(a: Path, b: Path) -> None:
        events.append(f"{a.name} -> {b.name}")
        replace(a, b)

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
    with pytest.raises(UserError, match=r"last.safetensors is no whole checkpoint \(.+\); use another, or train again"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    "garbage",
    [b"no checkpoint at all", b"\xff" * 4096, b"\x80\x04\x95cbuiltins\neval\n(S'1/0'\ntR."],
    ids=["text", "bytes", "pickle"],
)
def test_garbage_is_refused(path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    with pytest.raises(UserError, match="is no whole checkpoint"):
        checkpoint.load(path)


def test_a_pickle_is_never_unpickled(path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(path.parent / "exploded"),)

    torch.save({"weights": Bomb()}, path)
    with pytest.raises(UserError, match="is no whole checkpoint"):
        checkpoint.load(path)
    assert not (path.parent / "exploded").exists()


def test_another_programs_safetensors_are_refused(path: Path) -> None:
    from safetensors.torch import save_file

    for metadata in (None, {"format": "pt"}, {"convatlas": "{"}, {"convatlas": "[1]"}, {"convatlas": "{}"}):
        save_file({"a": torch.ones(2)}, path, metadata=metadata)
        with pytest.raises(UserError, match=r"is no whole checkpoint \(.+\); use another"):
            checkpoint.load(path)


def test_a_folder_or_nothing_in_its_place_is_refused(path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no checkpoint .*last.safetensors; train first, or give another run"):
        checkpoint.load(path)
    path.mkdir()
    with pytest.raises(UserError, match="is no whole checkpoint"):
        checkpoint.load(path)


def test_another_schema_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "SCHEMA", 99)
        checkpoint.save(path, {}, {})
    with pytest.raises(UserError, match="has schema 99, this convatlas reads 1; use the version that wrote it"):
        checkpoint.load(path)


# the log


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    path.write_bytes(b'{"kind": "step", "step": 1}\n{"kind": "step", "st')
    assert read_log(path) == [{"kind": "step", "step": 1}]
    path.write_bytes(b'{"kind": "step", "step": 1}\n\x00\x00\x00')
    assert read_log(path) == [{"kind": "step", "step": 1}]


def test_training_that_goes_on_writes_after_the_lines_that_are_done(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path, 0, 0)
    for step in (1, 2):
        log.write("step", step=step, epoch=1)
    log.write("epoch", step=2, epoch=1)
    for step in (3, 4):
        log.write("step", step=step, epoch=2)
    log.write("epoch", step=4, epoch=2)
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
