"""Which way of running a step a trial chooses, and what it leaves in run.json."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convatlas.data.types import Data
from convatlas.runs.folder import Run, open_run
from convatlas.train import setup, trial
from convatlas.train.events import Event
from convatlas.train.execution import Execution
from convatlas.train.graph import step_of
from convatlas.train.job import Job
from tests.train.captures import graphed
from tests.train.short_runs import DROPPED, WRN, assert_equal_runs, same, train, weights

RECIPE = replace(DROPPED, epochs=3)  # of 5 steps
EAGER, GRAPH, COMPILED, BOTH = (False, False), (False, True), (True, False), (True, True)


def undecided(patch: pytest.MonkeyPatch, long: int = 0, **decided: Any) -> None:
    """Runs of at least `long` steps leave to a trial what is not in `decided`, as on a GPU."""
    usual, open_ = setup.decide, {"graph": None, "compile": None} | decided
    patch.setattr(setup, "decide", lambda *args: replace(usual(*args), **open_))
    patch.setattr(trial, "LONG", long)


def rates(patch: pytest.MonkeyPatch, found: dict[tuple[bool, bool], Any]) -> list[tuple[bool, bool]]:
    """Each way (compile, graph) is as fast as `found` says, or fails as it says; returns the ways tried."""
    tried: list[tuple[bool, bool]] = []

    def images_per_s(job: Job, run: Run) -> float | None:
        tried.append((bool(job.execution.compile), bool(job.execution.graph)))
        if isinstance(found[tried[-1]], Exception):
            raise found[tried[-1]]
        return found[tried[-1]]

    patch.setattr(trial, "images_per_s", images_per_s)
    return tried


def settled(run: Run) -> tuple[bool, bool]:
    return run.record.execution["compile"], run.record.execution["graph"]


def test_the_fastest_way_is_taken_and_recorded(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    undecided(monkeypatch)
    tried = rates(monkeypatch, {EAGER: 2000.0, GRAPH: 1000.0})
    run = train(tmp_path, data, RECIPE, WRN, on_event=events.append)
    assert tried == [EAGER, GRAPH]  # 15 steps are over before anything is compiled
    assert settled(run) == EAGER
    assert open_run(tmp_path).record.trial == {"steps": 60, "images_per_s": {"eager": 2000.0, "a CUDA graph": 1000.0}}
    note = "images/s in a trial of 60 steps: eager 2,000, a CUDA graph 1,000; this run is eager"
    assert note in [event["text"] for event in events if event["kind"] == "note"]


def test_a_long_run_tries_to_compile(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    undecided(monkeypatch)
    found = {EAGER: 0.1, GRAPH: None, COMPILED: RuntimeError("no compiler\nand more"), BOTH: RuntimeError()}
    tried = rates(monkeypatch, found)  # 15 steps of 16 images take 40 minutes
    events: list[Event] = []
    run = train(tmp_path, data, RECIPE, WRN, on_event=events.append)
    assert tried == [EAGER, GRAPH, COMPILED, BOTH]
    assert settled(run) == EAGER
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert "trial failed: compiled (no compiler)" in notes
    assert "trial failed: compiled, as a CUDA graph (RuntimeError)" in notes


def test_what_is_asked_for_is_not_tried(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    undecided(monkeypatch, graph=False)
    tried = rates(monkeypatch, {EAGER: 0.1, COMPILED: 0.05})
    assert settled(train(tmp_path / "a", data, RECIPE, WRN)) == EAGER
    assert tried == [EAGER, COMPILED]
    undecided(monkeypatch, graph=False, compile=False)
    train(tmp_path / "b", data, RECIPE, WRN)
    assert len(tried) == 2
    undecided(monkeypatch, long=16)
    assert settled(train(tmp_path / "c", data, RECIPE, WRN)) == EAGER  # too short
    assert len(tried) == 2


def test_a_trial_changes_no_bit_and_a_resumed_run_has_none(
    tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real steps; on a CPU a graph is captured by a fake."""
    plain = train(tmp_path / "plain", data, RECIPE, WRN)
    made = graphed(monkeypatch)
    monkeypatch.setattr(trial, "step_of", lambda *args: trial_step_of(made, *args))
    undecided(monkeypatch)
    monkeypatch.setattr(trial, "STEPS", 4)
    run = train(tmp_path / "tried", data, RECIPE, WRN)
    assert same(weights(plain), weights(run))
    assert run.record.trial
    assert list(run.record.trial["images_per_s"]) == ["eager", "a CUDA graph"]
    assert all(rate > 0 for rate in run.record.trial["images_per_s"].values())
    monkeypatch.setattr(trial, "measured", lambda *args: pytest.fail("a second trial"))
    assert_equal_runs(run, train(tmp_path / "tried", data, RECIPE, WRN, resume=True))


def trial_step_of(made: list[Any], state: Any, *more: Any) -> Any:
    found = step_of(state, *more)
    if made:
        made[-1].state = state
    return found


def test_a_run_killed_in_its_trial_tries_again(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(job: Job, run: Run) -> float:
        raise KeyboardInterrupt

    undecided(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(trial, "images_per_s", killed)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, data, RECIPE, WRN)
    assert open_run(tmp_path).record.execution["graph"] is None
    tried = rates(monkeypatch, {EAGER: 2000.0, GRAPH: 1000.0})
    run = train(tmp_path, data, RECIPE, WRN, resume=True)
    assert tried == [EAGER, GRAPH]
    assert settled(run) == EAGER
    assert Execution.from_json(run.record.execution).compile is False
