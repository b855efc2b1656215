"""An error within an epoch costs no step: what was done before it is saved, and the resumed run never shows it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.data.sources import load_data
from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.files.lock import Gone
from convatlas.recipe import EMA
from convatlas.runs import checkpoint
from convatlas.runs.folder import Run, open_run
from convatlas.runs.log import Log
from convatlas.train import feed, optimizers, passes
from convatlas.train import fit as module
from convatlas.train.events import Event
from convatlas.train.execution import Execution
from tests.train.faults import Blow, Cell, finish, result, start, wait
from tests.train.short_runs import CHAIN, DROPPED, WRN, assert_equal_runs, at_step, train

RECIPE = replace(DROPPED, ema=EMA(0.9), augment=(*DROPPED.augment, "mixup:0.4"))


class Failure(Exception):
    """What nobody foresaw."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_EVERY", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOG_EVERY", 2)
        yield train(tmp_path_factory.mktemp("whole") / "run", data, RECIPE, WRN)


def failing_at(n: int, error: BaseException, call: Callable[..., Any], after: bool = False) -> Callable[..., Any]:
    left = [n]

    def stand_in(*args: Any, **more: Any) -> Any:
        left[0] -= 1
        result = call(*args, **more) if after or left[0] else None
        if left[0] == 0:
            raise error
        return result

    return stand_in


ERRORS = [
    UserError("x.jpg is a broken image", "remove it"),
    OSError(errno.EIO, os.strerror(errno.EIO)),
    MemoryError(),
    RuntimeError("out of memory"),
    Failure(),
]
PLACES: dict[str, tuple[tuple[Any, str], bool, int, tuple[int, int] | None]] = {
    # what fails; after its work; at which time; what is saved: epochs and steps, 5 an epoch
    "augmentation": ((feed, "augment"), False, 4, (0, 3)),
    "the forward pass": ((passes, "loss_of"), True, 3, (0, 2)),
    "the forward pass of a later epoch": ((passes, "loss_of"), True, 8, (1, 2)),
    "the first step": ((passes, "loss_of"), True, 1, None),
    "the first step of an epoch": ((passes, "loss_of"), False, 6, (1, 0)),
    "the evaluation": ((module, "evaluate_split"), False, 1, (0, 5)),
    "the update": ((optimizers, "fill_gradients"), True, 4, None),
    "a line of the log": ((Log, "write"), False, 2, None),
    "the line of an epoch": ((Log, "write"), False, 6, (1, 0)),
    "the saving of the best": ((module.TrainState, "save_best"), False, 2, (1, 0)),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_run_that_failed_and_was_resumed_equals_one_that_did_not(
    tmp_path: Path, data: Data, whole: Run, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, after, n, saved = PLACES[place]
    error = ERRORS[[*PLACES].index(place) % len(ERRORS)]
    events: list[Event] = []
    with monkeypatch.context() as patch:
        patch.setattr(*where, failing_at(n, error, getattr(*where), after))
        with pytest.raises(type(error)) as raised:
            train(tmp_path, data, RECIPE, WRN, on_event=events.append)
    assert raised.value is error
    if saved is None:
        assert not (tmp_path / "last.safetensors").exists()
    else:
        state = checkpoint.load(tmp_path / "last.safetensors")[1]["state"]
        assert (state["epoch"], state["step"]) == saved
    told = f"saved after step {saved[1] if saved else 0} of epoch {saved[0] + 1 if saved else 1}; --resume continues"
    assert any(event["kind"] == "note" and told in event["text"] for event in events) == bool(saved and saved[1])
    torch.manual_seed(99)  # another process has other random numbers
    assert_equal_runs(train(tmp_path, data, RECIPE, WRN, resume=True), whole)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("pictures")
    for i in range(48):
        path = at / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (12, 12, 3), np.uint8)).save(path)
    return at


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("harm", ["vanishes", "is broken"])
def test_a_file_that_breaks_in_mid_epoch_costs_nothing(tmp_path: Path, pictures: Path, workers: int, harm: str) -> None:
    here = Path(shutil.copytree(pictures, tmp_path / "pictures"))
    recipe = replace(CHAIN, batch=4)
    execution = Execution(workers=workers)

    def trained(name: str, **more: Any) -> Run:
        return train(tmp_path / name, load_data(str(here)), recipe, input=(3, 8, 8), execution=execution, **more)

    whole, kept = trained("whole"), {file: file.read_bytes() for file in here.rglob("*.png")}

    def hit(event: Event) -> None:
        if at_step(1, 2)(event):
            for file, content in kept.items():
                file.unlink() if harm == "vanishes" else file.write_bytes(content[:-90] + bytes(90))

    changed = "|has changed since it was found" if workers and harm == "is broken" else ""  # since a worker read it
    with pytest.raises(UserError, match=rf"\.png (cannot be read|is a broken image{changed})"):
        trained("run", on_event=hit)
    step = checkpoint.load(tmp_path / "run" / "last.safetensors")[1]["state"]["step"]
    assert 2 <= step <= 5  # batches that were read ahead are still trained on
    for file, content in kept.items():
        file.write_bytes(content)
    assert_equal_runs(trained("run", resume=True), whole)


def test_a_run_json_that_is_deleted_is_said_and_written_again(tmp_path: Path, data: Data) -> None:
    events: list[Event] = []

    def on_event(event: Event) -> None:
        events.append(event)
        if at_step(2, 2)(event):
            (tmp_path / "run.json").unlink()

    record = train(tmp_path, data, on_event=on_event).record
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert notes == [f"{tmp_path}/run.json was deleted during training; it is written again"]
    assert open_run(tmp_path).record.to_json() == record.to_json()


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("when", [at_step(1, 2), lambda event: event["kind"] == "epoch"], ids=["step", "epoch"])
def test_a_folder_that_is_deleted_is_said_and_not_made_again(
    tmp_path: Path, data: Data, when: Callable[[Event], bool], replaced: bool
) -> None:
    out = tmp_path / "run"

    def on_event(event: Event) -> None:
        if when(event):
            shutil.rmtree(out)
            if replaced:
                out.mkdir()

    with pytest.raises(Gone, match=r"run was deleted or replaced meanwhile, with all that was in it; begin again"):
        train(out, data, on_event=on_event)
    assert [*tmp_path.rglob("*")] == [out] * replaced


@pytest.mark.parametrize(
    "left", [[], [".lock"], [".run.json.0a1b2c3d.new"], ["run.json"], ["run.json", ".lock"]], ids=str
)
def test_a_loop_that_always_resumes_can_start_from_whatever_a_kill_left(
    tmp_path: Path, data: Data, left: list[str]
) -> None:
    train(tmp_path / "whole", data)
    (tmp_path / "run").mkdir()
    for name in left:
        content = (tmp_path / "whole" / "run.json").read_text() if name == "run.json" else "{"
        (tmp_path / "run" / name).write_text(content)
    assert_equal_runs(train(tmp_path / "run", data, resume=True), open_run(tmp_path / "whole"))
    assert not list((tmp_path / "run").glob(".*"))


TWO = [Cell("sgd", 2, 2, True, "each epoch"), Cell("rmsprop", 2, 0, False, "each epoch")]


@pytest.mark.parametrize(
    ("cell", "blow", "saved"),
    [(TWO[0], Blow("unreadable", 8), (1, 2)), (TWO[1], Blow("unjudged", 2), (1, 5))],
    ids=str,
)
def test_a_file_that_one_of_two_processes_cannot_read(
    tmp_path: Path, cell: Cell, blow: Blow, saved: tuple[int, int]
) -> None:
    """Both stop before the step, or in the evaluation, and what both have done is saved."""
    finish(cell, tmp_path / "whole")
    assert wait(start(cell, tmp_path / "run", blow)) == [2, 2]
    state = checkpoint.load(tmp_path / "run" / "last.safetensors")[1]["state"]
    assert (state["epoch"], state["step"]) == saved
    finish(cell, tmp_path / "run")
    assert result(tmp_path / "run") == result(tmp_path / "whole")


def test_a_folder_that_is_deleted_ends_both_processes(tmp_path: Path) -> None:
    assert wait(start(TWO[1], tmp_path / "run", Blow("folder", 3))) == [2, 2]
    assert not (tmp_path / "run").exists()
