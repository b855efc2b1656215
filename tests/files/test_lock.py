"""One process at a time in a run folder."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files.lock import locked
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
