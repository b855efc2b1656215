"""What the system says of a file is neither swallowed nor taken for damage."""

from __future__ import annotations

import errno
import os
import zipfile
from io import FileIO
from pathlib import Path

import pytest
import torch

from convatlas.errors import Unreadable, UserError, pass_on
from convatlas.files import regular
from convatlas.files.archive import unpack
from convatlas.files.regular import Attentive, attentive
from convatlas.weights.files import read_weights


class Failing(FileIO):
    def readinto(self, buffer: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class FailingAtTheEnd(FileIO):
    def readall(self) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


class AttentiveToTheEnd(Attentive, FailingAtTheEnd):
    """Its reads to the end come to FailingAtTheEnd."""


class AttentiveToFailing(Attentive, Failing):
    """Its reads come to Failing."""


@pytest.mark.parametrize("kind", ["weights", "zip"])
@pytest.mark.parametrize("failing", [AttentiveToFailing, AttentiveToTheEnd])
def test_a_failed_read_is_not_taken_for_damage(
    kind: str, failing: type[Attentive], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ("it.pth" if kind == "weights" else "it.zip")
    if kind == "weights":
        torch.save({"w": torch.ones(2)}, path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", "b")
    monkeypatch.setattr(regular, "Attentive", failing)
    with pytest.raises(Unreadable, match=rf"{path.name} cannot be read \(Input/output error\); it may be intact"):
        read_weights(path) if kind == "weights" else unpack(path, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == [path]


def test_an_attentive_file_reads_as_others_do(tmp_path: Path) -> None:
    path = tmp_path / "it"
    path.write_bytes(bytes(range(256)) * 300)
    with attentive(path) as file:
        assert file.read() == path.read_bytes()
        with pytest.raises(OSError, match="Invalid argument"):
            file.seek(-1)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.EMFILE, "Too many open files"), Unreadable),
        (RuntimeError("Error closing file <x>: Input/output error (5)"), Unreadable),  # as torch says it
        (OSError("file read failed: errno = 5, error message = 'Input/output error'"), Unreadable),  # and h5py
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), UserError),
        (MemoryError(), MemoryError),
        (RuntimeError("std::bad_alloc"), MemoryError),
    ],
)
def test_what_the_system_says_is_passed_on(error: Exception, raised: type[Exception]) -> None:
    with pytest.raises(raised) as passed:
        pass_on("it", error)
    assert type(passed.value) is raised


@pytest.mark.parametrize("error", [OSError(errno.EINVAL, "Invalid argument"), OSError("cut short"), ValueError("bad")])
def test_damage_is_not_passed_on(error: Exception) -> None:
    pass_on("it", error)
