"""`convatlas train`: options, progress, exit statuses, and the command that it prints to go on."""

from __future__ import annotations

import argparse
import io
import json
import os
import pty
import re
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import pytest
import torch

from convatlas.cli import main, source
from convatlas.cli.train import resume_command
from convatlas.machine.signals import Signals
from convatlas.report import progress
from convatlas.report.progress import Bar, Lines, duration, line
from convatlas.runs import checkpoint
from convatlas.runs.folder import open_run
from convatlas.train.events import Event, OnEvent

TINY = ["train", "Chain_N1_M1_K0", "--data", "digits", "--recipe", "digits", "--input", "1x8x8"]
FAST = ["--set", "net.widths=[2]", "--set", "batch=512", "--epochs", "2"]  # 3 steps an epoch


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@contextmanager
def interrupted(file: TextIO | None = None) -> Iterator[OnEvent]:
    """In place of `progress`: Ctrl-C after the second step of the second epoch."""

    def on_event(event: Event) -> None:
        if event["kind"] == "step" and (event["epoch"], event["step"]) == (2, 2):
            signal.raise_signal(signal.SIGINT)

    yield on_event


def test_it_trains_and_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *FAST, "--seed", "5", "--set", "lr=0.01"]) == 0
    out, err = capsys.readouterr()
    run = open_run("runs/chain_n1_m1_k0-digits-seed5")
    assert (run.record.seed, run.recipe.epochs, run.recipe.optimizer.lr, run.recipe.name) == (5, 2, 0.01, "digits")
    assert run.recipe.departures[-3:] == (
        "batch 512, not 32",
        "lr 0.01, not 0.002",
        "net.widths 2, not the network's own",
    )
    lines = out.splitlines()
    assert lines[0].startswith("chain_n1_m1_k0 (350 parameters) on digits (1,442 images to train on, 355 test)")
    assert "recipe digits, 2 epochs of 3 steps, on " in lines[0]
    assert re.match(r"epoch 1/2  lr 0\.0\d+  loss \d\.\d{4}  top-1 +\d+\.\d\d%  [\d,]+ images/s  test: loss ", lines[1])
    last = run.epochs()[-1]["test"]
    assert lines[3].startswith(f"after 2 epochs: test top-1 {last['top1']:.2%}, loss {last['loss']:.4f}")
    assert lines[4].endswith(f"next: convatlas evaluate {run.folder} --data digits")
    assert not err


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *FAST, "--json", "--out", "here"]) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    epochs = open_run("here").epochs()
    assert (record["run"], record["network"], record["last"]) == ("here", "chain_n1_m1_k0", epochs[-1])
    assert record["best"] is None, "there is nothing to choose by"
    assert "batch 512, not 32" in record["departures"]
    assert "epoch 2/2" in err


def test_ctrl_c_and_the_printed_command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main([*TINY, *FAST, "--out", "whole"]) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(progress, "progress", interrupted)
        assert main([*TINY, *FAST, "--out", "a run"]) == 130
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert first == "convatlas: stopped by SIGINT after step 2 of epoch 2; saved in a run; to continue:"
    program, *args = shlex.split(second)
    assert program == "convatlas"
    assert not out
    assert main(args) == 0
    assert "epoch 2/2" in capsys.readouterr().out
    a, b = (checkpoint.load(Path(name, "last.safetensors"))[0] for name in ("a run", "whole"))
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_real_ctrl_c_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "convatlas", *TINY, *FAST, "--epochs", "5000", "--out", "run"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    assert child.stdout
    for text in child.stdout:
        if text.startswith("epoch 2/5000"):
            child.send_signal(signal.SIGINT)
            break
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.count("\n") == 2
    assert "stopped by SIGINT" in err
    assert open_run("run").epochs()
    assert checkpoint.load(Path("run/last.safetensors"))[1]["state"]["step"] >= 0


def test_a_terminal_that_goes_away() -> None:
    """The system sends SIGHUP, and nothing can be written there any more: saved, as by Ctrl-C."""
    command = [sys.executable, "-m", "convatlas", *TINY, *FAST, "--epochs", "5000", "--out", "run"]
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        ["setsid", "--ctty", *command], stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    while not Path("run/last.safetensors").exists():
        os.read(ours, 1 << 16)
    os.close(ours)
    assert child.wait(timeout=60) == 129
    assert checkpoint.load(Path("run/last.safetensors"))[1]["state"]["epoch"] >= 1


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert signals.caught is None
            signal.raise_signal(signal.SIGTERM)
            assert signals.caught == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_before_the_first_step(
    number: signal.Signals, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is trained yet: there is one line, and the same command, or --resume, begins."""
    load = source.load

    def struck(args: argparse.Namespace) -> Any:
        signal.raise_signal(number)
        return load(args)

    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(source, "load", struck)
        assert main([*TINY, *FAST, "--out", "run"]) == status
    assert signal.getsignal(signal.SIGTERM) == before
    name = "Ctrl-C" if status == 130 else number.name
    assert capsys.readouterr().err == f"convatlas: stopped by {name}\n"
    assert not Path("run").exists()


@pytest.mark.parametrize("left", [[], [".lock"], [".lock", ".run.json.new"]])
def test_resume_begins_a_run_that_was_killed_before_its_first_file(left: list[str]) -> None:
    assert main([*TINY, *FAST, "--out", "whole"]) == 0
    Path("run").mkdir()
    for name in left:
        Path("run", name).touch()
    assert main([*TINY, *FAST, "--out", "run", "--resume"]) == 0
    a, b = (checkpoint.load(Path(name, "last.safetensors"))[0] for name in ("run", "whole"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_reader_that_goes_away_stops_nothing() -> None:
    command = [sys.executable, "-m", "convatlas", *TINY, *FAST, "--epochs", "4", "--out", "run"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.close()
        assert (child.stderr.read(), child.wait(timeout=60)) == ("", 0)
    assert len(open_run("run").epochs()) == 4


def test_a_log_that_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *FAST, "--out", "run"]) == 0
    Path("run/log.jsonl").unlink()
    assert main([*TINY, *FAST, "--out", "run", "--resume"]) == 2
    assert "run is trained, but its log.jsonl is damaged or missing; `convatlas evaluate run`" in (
        capsys.readouterr().err
    )


def test_the_resume_command_has_every_option_that_decides() -> None:
    parser = argparse.ArgumentParser()
    from convatlas.cli import train as verb

    verb.add(parser)
    given = ["vgg16", "--data", "folder:/my data", "--recipe", "vgg", "--set", "lr=0.1", "--set", "net.dropout=0.3"]
    given += ["--epochs", "3", "--batch", "64", "--input", "3x64x64", "--seed", "7", "--device", "cpu"]
    given += ["--json", "--out", "x"]
    args = parser.parse_args(given)
    again = parser.parse_args(shlex.split(resume_command(args, Path("x")))[2:])
    assert vars(again) == {**vars(args), "resume": True}
    plain = parser.parse_args(["vgg16", "--data", "digits"])
    assert resume_command(plain, Path("runs/it")) == "convatlas train vgg16 --data digits --out runs/it --resume"


def test_a_loss_that_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *FAST, "--set", "lr=1e30", "--set", "schedule=constant", "--out", "run"]) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(r"convatlas: the loss is (nan|inf) at step 2 of epoch 1 \(lr 1e\+30\), .*; no check.*\n", err)
    assert err.rstrip().endswith("try a smaller learning rate: --set lr=...")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "resnet2O", "--data", "digits"], "no network named 'resnet2O'; did you mean "),
        (["train", "resnet20"], "the following arguments are required: --data"),
        (["train", "resnet20", "--data", "digit"], "no data source 'digit', and no folder of that name; did you mean "),
        (
            ["train", "enet_encoder", "--data", "digits"],
            "enet_encoder has no default recipe (its paper trains it for segmentation",
        ),
        ([*TINY, "--recipe", "resnet_cifer"], "no recipe named 'resnet_cifer'; did you mean resnet_cifar"),
        ([*TINY, "--set", "momentun=0.9"], "no setting named 'momentun'; did you mean momentum?"),
        ([*TINY, "--set", "lr=fast"], "lr='fast' is not a number; lr is now 0.002"),
        ([*TINY, "--set", "net.widhts=[4]"], "chain_n1_m1_k0 has no option 'widhts'; its options are "),
        ([*TINY, "--epochs", "0"], "epochs=0 is out of range; give at least 1"),
        ([*TINY, "--epochs", "two"], "argument --epochs: 'two' is not a whole number of at most 15 digits"),
        ([*TINY, "--input", "8"], "input '8' is not an image size; write channels x height x width"),
        ([*TINY, "--device", "gpu"], "no device named 'gpu'; give auto (a GPU if there is one), cpu"),
        (
            ["train", "digits", "--data", "resnet20"],
            "look swapped: resnet20 is a network, digits is not; give `resnet20 --da",
        ),
        ([*TINY, "--precision", "bfloat"], "no --precision named 'bfloat'; did you mean bfloat16"),
        ([*TINY, "--save-every", "10"], "'10' is not a time; write it as in 90s, 30m or 2h"),
    ],
)
def test_refusals_are_one_line(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert not out
    assert list(Path().iterdir()) == []


def test_a_run_folder_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *FAST]) == 0
    assert main([*TINY, *FAST]) == 2
    assert "already contains a run; give --resume to continue it, or another --out" in capsys.readouterr().err
    assert main([*TINY, *FAST, "--set", "lr=0.5", "--resume"]) == 2
    assert "has different settings: lr was 0.002, is now 0.5" in capsys.readouterr().err


def test_a_run_begins_with_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, *FAST, "--out", "a"]) == 0
    assert main([*TINY, *FAST, "--init", "a", "--out", "b"]) == 0
    assert (
        "initialised 4 of 4 tensors from a/last.safetensors (chain_n1_m1_k0): stem.conv1.weight, "
        in capsys.readouterr().out
    )
    assert open_run("b").record.init["file"] == "a/last.safetensors"
    assert main([*TINY, *FAST, "--init", "a", "--out", "b", "--resume"]) == 2
    assert "--init cannot be combined with --resume" in capsys.readouterr().err
    assert main([*TINY, *FAST, "--out", "b", "--resume"]) == 0
    assert main([*TINY, *FAST, "--init", "nowhere", "--out", "c"]) == 2
    assert "there is no model nowhere" in capsys.readouterr().err
    assert not Path("c").exists()


def test_a_full_disk_is_told_with_the_command_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7000, before[1]))  # bytes a file: enough for all but the last checkpoint
    try:
        assert main([*TINY, *FAST, "--out", "run"]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("convatlas: run/last.safetensors cannot be written (File too large); any previous version ")
    assert main(shlex.split(second)[1:]) == 0


def test_help_tells_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "130 stopped by Ctrl-C" in " ".join(capsys.readouterr().out.split())


# progress

STEP: Event = {
    "kind": "step", "epoch": 1, "epochs": 3, "step": 2, "steps": 4, "loss": 1.25, "top1": 0.5, "images_per_s": 1234.5
}  # fmt: skip


def test_plain_lines_come_every_ten_seconds_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    file = io.StringIO()
    on_event = Lines(file)
    for step, seconds in ((1, 101.0), (2, 109.0), (3, 111.0), (4, 112.0)):
        now[0] = seconds
        on_event({**STEP, "step": step})
    # 2 steps in 10 s since the first; 9 of 12 are left
    assert file.getvalue() == "epoch 1/3 step 3/4  loss 1.2500  top-1 50.00%  1,234 images/s  0:45 left\n"
    on_event({"kind": "note", "text": "a note"})
    assert file.getvalue().endswith("\na note\n")


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    file = Terminal()
    with progress.progress(file) as on_event:
        assert isinstance(on_event, Bar)
        for step in (1, 2, 3, 4):
            on_event({**STEP, "step": step})
        task = on_event.bars.tasks[0]
        assert (task.completed, task.total) == (4, 12)
        on_event({"kind": "note", "text": "[a note]"})
    text = file.getvalue()
    assert "[a note]" in text
    assert "epoch 1/3 step 4/4" in text
    assert "loss 1.2500  top-1 50.00%  1,234 images/s" in text


def test_progress_goes_to_the_file_that_it_is_given() -> None:
    with progress.progress(io.StringIO()) as on_event:
        assert isinstance(on_event, Lines)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (123, "2:03"), (3723, "1:02:03"), (360_000, "100:00:00")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("event", [STEP, {"kind": "end", "folder": "x"}])
def test_what_is_not_worth_a_line(event: dict[str, Any]) -> None:
    assert line(event) == ""
