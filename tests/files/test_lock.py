"""One process at a time in a run folder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from convatlas.errors import UserError
from convatlas.files.lock import Gone, check_held, holder, locked
from tests.locking import holding


def test_the_second_process_is_refused_and_the_first_is_named(tmp_path: Path) -> None:
    child = holding(tmp_path)
    with (
        pytest.raises(UserError, match=rf"^process {child.pid} is training in {re.escape(str(tmp_path))}; wait for it"),
        locked(tmp_path),
    ):
        pass
    child.communicate()
    with locked(tmp_path):
        assert [f.name for f in tmp_path.iterdir()] == [".lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("child_lives", [False, True])
def test_a_lock_ends_with_a_kill(tmp_path: Path, child_lives: bool) -> None:
    """Even where a process that the killed one started (a loader's worker) lives on."""
    holder = holding(tmp_path, *["fork"] * child_lives)
    holder.kill()
    holder.wait()
    assert [f.name for f in tmp_path.iterdir()] == [".lock"]
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    assert holder.stdin
    assert holder.stdout
    holder.stdin.close()
    holder.stdout.close()


def test_another_thread_of_the_process_is_refused(tmp_path: Path) -> None:
    refused: list[str] = []

    def again() -> None:
        try:
            with locked(tmp_path):
                pass
        except UserError as error:
            refused.append(str(error))

    with locked(tmp_path):
        thread = threading.Thread(target=again)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert refused[0].startswith(f"process {os.getpid()} is training in ")
    with locked(tmp_path):
        pass


def test_it_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_of_many_processes_at_once_only_one_is_in(tmp_path: Path) -> None:
    """Each notes when it comes in and when it goes; no two are in at the same time, though the file comes and goes."""
    journal = os.open(tmp_path / "journal", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    (tmp_path / "run").mkdir()
    children = []
    for i in range(6):
        child = os.fork()
        if child == 0:
            try:
                done = 0
                while done < 30:
                    try:
                        with locked(tmp_path / "run"):
                            os.write(journal, b"+%d\n" % i)
                            os.write(journal, b"-%d\n" % i)
                            done += 1
                    except UserError:
                        os.sched_yield()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert {os.waitpid(child, 0)[1] for child in children} == {0}
    os.close(journal)
    lines = (tmp_path / "journal").read_text().split()
    assert len(lines) == 6 * 30 * 2
    assert all(a[0] == "+" and b == "-" + a[1:] for a, b in zip(lines[::2], lines[1::2]))


# file systems without locks, or with locks that other machines do not see


@pytest.fixture(params=[errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS], ids=errno.errorcode.get)
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(fcntl, "fcntl", refuse)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_it_is_said_and_a_process_that_runs_is_named(tmp_path: Path) -> None:
    with locked(tmp_path) as doubt:
        assert re.fullmatch(
            rf"the file system of {re.escape(str(tmp_path))} has no locks \(.+\): make sure that no other process is "
            "training in it",
            doubt,
        )
    assert list(tmp_path.iterdir()) == []
    child = holding(tmp_path)  # it has locks, and names itself
    with pytest.raises(UserError, match=rf"^process {child.pid} is training in "), locked(tmp_path):
        pass
    assert holder(tmp_path) == child.pid
    child.kill()
    child.communicate()
    assert holder(tmp_path) == 0
    with locked(tmp_path) as doubt:  # what a killed process left
        assert doubt


def left_behind(folder: Path, host: str) -> int:
    """A lock file of a process that has ended."""
    child = subprocess.Popen(["true"])
    child.wait()
    (folder / ".lock").write_text(json.dumps({"host": host, "process": child.pid, "started": 1e9}))
    return child.pid


def test_a_holder_on_another_machine_is_doubtful(tmp_path: Path) -> None:
    process = left_behind(tmp_path, "elsewhere")
    with locked(tmp_path) as doubt:
        assert doubt == (
            f"{tmp_path}/.lock names process {process} of elsewhere: make sure that no other process is training in it"
        )
    left_behind(tmp_path, platform.node())
    with locked(tmp_path) as doubt:
        assert doubt == ""


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"host": 3}', '{"host": "x", "process": 1e999, "started": 0}', "\x00" * 99]
)
def test_a_lock_file_of_anything(tmp_path: Path, text: str) -> None:
    (tmp_path / ".lock").write_text(text)
    with locked(tmp_path) as doubt:
        assert doubt == ""


def test_a_disk_that_fails_is_not_one_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "lockf", fail)
    with pytest.raises(UserError, match=r"\.lock cannot be written \(Input/output error\)"), locked(tmp_path):
        pass


def test_a_folder_that_is_deleted_or_replaced_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder):
        check_held(folder)
        shutil.rmtree(folder)
        with pytest.raises(Gone, match=r"run was deleted or replaced meanwhile, with all that was in it"):
            check_held(folder)
        folder.mkdir()
        with pytest.raises(Gone):
            check_held(folder)
    assert list(folder.iterdir()) == []
    check_held(folder)
