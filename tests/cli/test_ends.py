"""How the command line ends where nobody foresaw it: one line, a status, and nothing passed off as done."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from convatlas.cli import doctor, main
from convatlas.cli.output import write_file
from convatlas.errors import UserError


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def run(args: object) -> int:
        raise error

    monkeypatch.setattr(doctor, "run", run)


@pytest.mark.parametrize(
    ("error", "about"),
    [
        (RuntimeError("first line\nand more"), "RuntimeError: first line"),
        (AssertionError(), "AssertionError"),
        (OSError(errno.EIO, "Input/output error"), "OSError: [Errno 5] Input/output error"),  # of a disk: not success
    ],
)
def test_an_error_of_ours_is_one_line_and_a_file(
    error: Exception, about: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, error)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert main(["doctor", "runs"]) == 70
    (file,) = tmp_path.iterdir()
    assert capsys.readouterr().err == f"convatlas: internal error ({about}); please report it with {file}\n"
    kept = file.read_text()
    assert "in run\n    raise error" in kept
    assert type(error).__name__ in kept


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 640 bytes"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    ],
)
def test_no_memory_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, error)
    assert main(["doctor", "runs"]) == 2
    out_of_memory = "convatlas: out of memory; free some, or give a smaller --batch or image size\n"
    assert capsys.readouterr().err == out_of_memory


def test_a_failed_disk_is_no_wrong_path(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, OSError(errno.EIO, "Input/output error", "runs/log.jsonl"))
    assert main(["doctor", "runs"]) == 2
    line = "convatlas: 'runs/log.jsonl': Input/output error; run the command again once that is mended\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "args", [["show", "x" * 300], ["evaluate", "x" * 300, "--data", "digits"], ["doctor", "x" * 300]]
)
def test_a_name_that_is_too_long_is_one_line(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.endswith(": File name too long; give another path\n")


def test_a_traceback_that_cannot_be_kept_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, RuntimeError("unforeseen"))
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert main(["doctor", "runs"]) == 70
    report = "please report it (its traceback cannot be written: No such file or directory)"
    assert capsys.readouterr().err == f"convatlas: internal error (RuntimeError: unforeseen); {report}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_under_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "convatlas", "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    line = "convatlas: standard output: No space left on device; run the command again once that is mended\n"
    assert (process.returncode, process.stderr) == (2, line)


def test_a_reader_that_quits_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [sys.executable, "-m", "convatlas", "list"], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (0, "")


TRAIN = ["train", "lenet5", "--data", "digits"]


@pytest.mark.parametrize("args", [
    ["show", "resnet50", "--input", "3x²x224"],
    ["show", "resnet50", "--input", f"3x{'9' * 400}x224"],
    ["show", "resnet50", "--classes", "9" * 30],
    ["show", "resnet50", "--under", f"{'9' * 400}G"],
    ["show", "resnet50", "--under", "1e99999999"],
    ["layer", "conv", "--input", "3x8x8", "--kernel", "²", "--filters", "4"],
    ["layer", "conv", "--input", f"3x8x{'9' * 5000}", "--kernel", "3", "--filters", "4"],
    ["list", "--limit", f"params<={'9' * 5000}"],
    ["list", "--limit", "params<=1e999999999"],
    ["list", "--limit", "params<=٣"],
    [*TRAIN, "--epochs", "9" * 400],
    [*TRAIN, "--epochs", "1_0"],
    [*TRAIN, "--batch", "٣"],
    [*TRAIN, "--seed", "9" * 5000],
    [*TRAIN, "--val", "nan"],
    [*TRAIN, "--val", "1e400"],
    [*TRAIN, "--max-megapixels", "inf"],
    [*TRAIN, "--save-every", f"{'9' * 400}h"],
    [*TRAIN, "--set", f"epochs={'9' * 400}"],
    [*TRAIN, "--set", "lr=1e400"],
    [*TRAIN, "--set", "lr=1_0"],
    [*TRAIN, "--set", "batch=²"],
    [*TRAIN, "--set", f"milestones=1,{'9' * 500}"],
    ["lr", "lenet5", "--data", "digits", "--from", "-inf"],
])  # fmt: skip
def test_what_python_takes_for_a_number_is_not_always_one(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert len(err) < 400


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "a" * 50 + "\udfff\0"])
@pytest.mark.parametrize("args", [["show"], ["doctor"], ["list", "--limit"], [*TRAIN, "--out"], [*TRAIN, "--set"]])
def test_an_argument_that_is_not_text_is_refused(
    args: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*args, text]) == 2
    err = capsys.readouterr().err
    assert err.startswith("convatlas: argument '")
    assert err.endswith(" is not text; give it without characters that no file's name can have\n")


@pytest.mark.parametrize(
    "name", ["a\nb", "a\rb", "\x1b[31mred", "\u202eevil", os.fsdecode(b"caf\xe9"), "long" * 500_000]
)
def test_a_message_is_one_line_whatever_is_named_in_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for args in (
        ["show", name],
        ["train", "lenet5", "--data", name],
        [*TRAIN, "--set", name],
        ["list", "--sort", name],
    ):
        assert main(args) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert err[:-1].isprintable()
        assert len(err) < 2500


def test_a_disk_that_fails_in_training_is_no_success_where_nobody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its error has the number of a lost terminal, and the terminal is lost."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("convatlas.train.fit.fit", fail)
    monkeypatch.setattr("convatlas.cli.output_lost", lambda: True)
    assert main(["train", "lenet5", "--data", "digits", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == "convatlas: Input/output error; continue with --resume once that is mended\n"


def test_what_is_written_to_a_file_is_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, link = tmp_path / "x.html", tmp_path / "link.html"
    link.symlink_to(path)
    write_file(link, "first")
    assert path.read_text() == "first"

    def fail(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match=r"x\.html cannot be written \(No space left on device\); any previous"):
        write_file(path, "second")
    assert path.read_text() == "first"
    assert sorted(tmp_path.iterdir()) == [link, path]
