"""What survives of a run: resuming to the last bit after signals, kills and damage, and what is not resumed."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import resource
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.files.atomic import Unwritable
from convatlas.recipe import SGD
from convatlas.runs import checkpoint
from convatlas.runs.folder import Run, open_run
from convatlas.train import fit as module
from convatlas.train.events import Event
from convatlas.train.execution import Execution
from convatlas.train.fit import Stopped
from tests.train.short_runs import (
    CHAIN,
    DROPPED,
    TINY,
    WRN,
    assert_equal_runs,
    at_step,
    interrupting,
    same,
    some,
    train,
    weights,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Iterator[Run]:
    """An uninterrupted run, with batch norm, dropout and augmentation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOG_EVERY", 2)
        yield train(tmp_path_factory.mktemp("whole") / "run", data, DROPPED, WRN)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_EVERY", 2)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("stops", [[(1, 1)], [(1, 3)], [(2, 2)], [(1, 5)], [(1, 2), (1, 4), (2, 1), (2, 4)]])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, data: Data, whole: Run, stops: list[tuple[int, int]]
) -> None:
    for i, (epoch, step) in enumerate(stops):
        with pytest.raises(Stopped, match=f"stopped by SIGINT after step {step} of epoch {epoch}; saved in ") as stop:
            train(tmp_path, data, DROPPED, WRN, resume=i > 0, on_event=interrupting(at_step(epoch, step)))
        assert stop.value.run.folder == tmp_path
        assert stop.value.signum == signal.SIGINT
        state = checkpoint.load(tmp_path / "last.safetensors")[1]["state"]
        assert (state["epoch"], state["step"]) == (epoch - 1, step)
        torch.manual_seed(99)  # another process has other random numbers
    events: list[Event] = []
    assert_equal_runs(train(tmp_path, data, DROPPED, WRN, resume=True, on_event=events.append), whole)
    assert (events[0]["epoch"], events[0]["step"]) == (stops[-1][0] - 1, stops[-1][1])
    steps = [event["step"] for event in events if event["kind"] == "step"]
    assert steps[:1] == ([stops[-1][1] + 1] if stops[-1][1] < 5 else [1])


@pytest.mark.usefixtures("often")
def test_sigterm_in_the_test_after_an_epoch(
    tmp_path: Path, data: Data, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = module.evaluate_split

    def interrupted(*args: Any, **more: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*args, **more)

    monkeypatch.setattr(module, "evaluate_split", interrupted)
    with pytest.raises(Stopped, match="stopped by SIGTERM in the evaluation of epoch 1") as stop:
        train(tmp_path, data, DROPPED, WRN)
    assert stop.value.signum == signal.SIGTERM
    assert open_run(tmp_path).epochs() == []
    monkeypatch.setattr(module, "evaluate_split", evaluate)
    assert_equal_runs(train(tmp_path, data, DROPPED, WRN, resume=True), whole)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("when", ["before any checkpoint", "within an epoch", "before the checkpoint of an epoch"])
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, data: Data, whole: Run, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def on_event(event: Event) -> None:
        if when == "before any checkpoint" and at_step(1, 4)(event):
            raise Killed
        if when == "within an epoch" and at_step(2, 3)(event):
            raise Killed
        if when == "before the checkpoint of an epoch" and event["kind"] == "epoch" and event["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, data, DROPPED, WRN, on_event=on_event)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"kind": "step", "st')  # a line that was being written
    assert all(line["kind"] in ("step", "epoch") for line in open_run(tmp_path).log())
    assert_equal_runs(train(tmp_path, data, DROPPED, WRN, resume=True), whole)


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, data: Data) -> None:
    before = weights(train(tmp_path, data))
    lines = open_run(tmp_path).log()
    run = train(tmp_path, data, resume=True)
    assert same(weights(run), before)
    assert run.log() == lines


def test_signals_are_given_back(tmp_path: Path, data: Data) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped):
        train(tmp_path, data, on_event=interrupting(at_step(1, 1)))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_changes_nothing(tmp_path: Path, data: Data) -> None:
    def on_event(event: Event) -> None:
        if event["kind"] == "step":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match="stopped by SIGINT after step 1 of epoch 1"):
        train(tmp_path, data, on_event=on_event)


def test_a_loop_that_always_resumes_can_start(tmp_path: Path, data: Data) -> None:
    events: list[Event] = []
    first = train(tmp_path / "run", data, resume=True, on_event=events.append)
    note = f"{tmp_path / 'run'} has no run to resume; training starts from the first step"
    assert [event["text"] for event in events if event["kind"] == "note"] == [note]
    assert same(weights(first), weights(train(tmp_path / "once", data)))
    assert same(weights(train(tmp_path / "run", data, resume=True)), weights(first))


def test_a_folder_of_something_else_is_not_resumed(tmp_path: Path, data: Data) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UserError, match=r"is not a run folder: it has no run.json"):
        train(tmp_path, data, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"network": "chain_n1_m2_k1", "recipe": replace(CHAIN, net=())},
            f'network was "{TINY}", is now "chain_n1_m2',
        ),
        (
            {"recipe": replace(CHAIN, optimizer=SGD(0.5))},
            r"different settings: lr was 0\.02, is now 0\.5; resume it",
        ),
        ({"recipe": replace(CHAIN, epochs=3)}, r"epochs was 2, is now 3"),
        ({"recipe": replace(CHAIN, net=(("widths", (8,)),))}, r"options\.widths was \[4\], is now \[8\]"),
        ({"seed": 7}, "seed was 0, is now 7"),
        ({"input": (1, 16, 16)}, r"options\.input was \[1, 8, 8\], is now \[1, 16, 16\]"),
        ({"data": some(72, 31)}, r"data\.val\.images was 32, is now 31; data\.val\.sha256_of_labels was "),
        (
            {"data": some(flip=True)},
            r"has different settings: data\.train\.sha256_of_labels was \"[0-9a-f]+\.\.\., is now",
        ),
    ],
)
def test_another_run_is_not_resumed(tmp_path: Path, data: Data, change: dict[str, Any], message: str) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, data, on_event=interrupting(at_step(1, 1)))
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(UserError, match=message):
        train(**{"out": tmp_path, "data": data, **change}, resume=True)
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_other_terms_are_noted_not_refused(tmp_path: Path, data: Data) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, data, on_event=interrupting(at_step(1, 1)))
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    record["machine"]["threads"] = 64
    record["data"]["train"]["path"] = "/elsewhere"
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    events: list[Event] = []
    assert len(train(tmp_path, data, resume=True, on_event=events.append).epochs()) == 2
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert notes == ["resumed with changes, so the last bits may differ: machine.threads was 64, is now 1"]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("damage", ["truncated", "deleted"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, data: Data, whole: Run, damage: str) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, data, DROPPED, WRN, on_event=interrupting(at_step(2, 2)))
    last = tmp_path / "last.safetensors"
    if damage == "deleted":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:1000])
    events: list[Event] = []
    run = train(tmp_path, data, DROPPED, WRN, resume=True, on_event=events.append)
    assert re.match(r".*last.safetensors.*; resuming from .*previous.safetensors", events[0]["text"])
    assert (events[1]["kind"], events[1]["epoch"], events[1]["step"]) == ("start", 1, 0)
    assert_equal_runs(run, whole)


@pytest.mark.usefixtures("often")
def test_with_every_checkpoint_damaged_it_is_not_resumed(tmp_path: Path, data: Data) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, data, on_event=interrupting(at_step(1, 2)))
    last = tmp_path / "last.safetensors"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(
        UserError, match=r"no checkpoint in .* is intact: .*last.safetensors is not an intact checkpoint"
    ):
        train(tmp_path, data, resume=True)
    last.unlink()
    events: list[Event] = []
    assert len(train(tmp_path, data, resume=True, on_event=events.append).epochs()) == 2
    text = f"{tmp_path} has no checkpoint; training starts from the first step"
    assert events[0] == {"kind": "note", "text": text}


def test_a_damaged_best_gives_way_to_the_best_to_come(tmp_path: Path, data: Data) -> None:
    recipe = replace(CHAIN, epochs=3)
    with pytest.raises(Stopped):
        train(tmp_path, data, recipe, on_event=interrupting(at_step(2, 2)))
    (tmp_path / "best.safetensors").write_bytes(b"")
    events: list[Event] = []
    run = train(tmp_path, data, recipe, resume=True, on_event=events.append)
    assert re.match(
        r".*best.safetensors is not an .*; the best of the remaining epochs will replace it", events[0]["text"]
    )
    tops = [line["val"]["top1"] for line in run.epochs()[1:]]
    about = checkpoint.load(tmp_path / "best.safetensors")[1]
    assert about["state"]["best_top1"] == max(tops)


def test_a_second_process_is_kept_out_and_readers_are_not(tmp_path: Path, data: Data) -> None:
    tops: list[int] = []

    def on_event(event: Event) -> None:
        if event["kind"] == "epoch" and event["epoch"] == 2:
            for resume in (False, True):
                with pytest.raises(UserError, match=r"is training in .*; wait for it|already contains a run"):
                    train(tmp_path, data, resume=resume)
            tops.append(len(open_run(tmp_path).epochs()))
            open_run(tmp_path).load("best")

    run = train(tmp_path, data, on_event=on_event)
    assert tops == [2]
    assert len(run.epochs()) == 2


def test_what_the_file_system_cannot_do_is_said_at_the_start(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    for module_, call in ((fcntl, "lockf"), (fcntl, "fcntl"), (os, "link")):
        monkeypatch.setattr(module_, call, refuse)
    events: list[Event] = []
    run = train(tmp_path / "run", data, on_event=events.append)
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert [text.partition(" (")[0].removeprefix(f"the file system of {run.folder} ") for text in notes] == [
        "has no locks",
        "has no hard links",
    ]
    assert not list(run.folder.glob(".*"))


@pytest.mark.parametrize("room", [200, 4000])  # bytes a file: not enough for run.json; for a checkpoint
def test_a_full_disk_stops_it_in_one_line(tmp_path: Path, data: Data, room: int) -> None:
    with pytest.raises(Stopped):
        train(tmp_path / "a", data, on_event=interrupting(at_step(1, 2)))
    old = (tmp_path / "a" / "last.safetensors").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        if room == 200:
            with pytest.raises(
                Unwritable, match=r"run.json cannot be written \(File too large\); any previous version"
            ):
                train(tmp_path / "b", data)
        else:
            with pytest.raises(Unwritable, match=r"safetensors cannot be written \(File too large\)"):
                train(tmp_path / "a", data, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    if room == 200:
        assert list((tmp_path / "b").iterdir()) == []
        train(tmp_path / "b", data)
        return
    assert (tmp_path / "a" / "last.safetensors").read_bytes() == old
    assert not list((tmp_path / "a").glob(".*"))
    assert same(weights(train(tmp_path / "a", data, resume=True)), weights(train(tmp_path / "b", data)))


def test_another_networks_checkpoint_is_not_resumed(tmp_path: Path, data: Data) -> None:
    train(tmp_path / "a", data)
    train(tmp_path / "b", data, replace(CHAIN, net=(("widths", (8,)),)))
    (tmp_path / "a/last.safetensors").write_bytes((tmp_path / "b/last.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"last.safetensors belongs to another run; "):
        train(tmp_path / "a", data, resume=True)


@pytest.mark.usefixtures("often")
def test_checkpoints_within_an_epoch_lose_nothing(tmp_path: Path, data: Data, whole: Run) -> None:
    class Killed(Exception):
        pass

    def on_event(event: Event) -> None:
        if at_step(2, 4)(event):
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, data, DROPPED, WRN, execution=Execution(save_every_s=0.0), on_event=on_event)
    events: list[Event] = []
    assert_equal_runs(
        train(tmp_path, data, DROPPED, WRN, execution=Execution(save_every_s=0.0), resume=True, on_event=events.append),
        whole,
    )
    assert (events[0]["epoch"], events[0]["step"]) == (1, 3)
