"""Trial: the fastest way to run a step on this GPU, found before a long run by a few steps of each."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from itertools import count, islice, product

import torch

from ..errors import UserError, first_line
from ..runs.folder import Run
from .events import note
from .execution import Execution
from .feed import Batch, Feed
from .graph import DISTRIBUTED_WARM_UP, GraphedStep, step_of
from .job import Job
from .meter import Meter
from .state import Position
from .train_state import TrainState

STEPS = 60  # of each way
WARM_UP = DISTRIBUTED_WARM_UP + 1  # steps before them, in which work is compiled and captured
LONG = 100 * STEPS  # steps in a run that is worth a trial
WORTH_COMPILING_S = 1800.0  # what is left of a run, without it, that is worth a minute of compilation


def tried(job: Job, run: Run) -> tuple[Job, Run]:
    """The job and its run with `graph` and `compile` decided, and recorded in run.json with what the trial measured."""
    execution = job.execution
    if execution.graph is not None and execution.compile is not None:
        return job, run
    found = measured(job, run) if job.total_steps >= LONG else {}
    usual = replace(execution, compile=bool(execution.compile), graph=bool(execution.graph))
    best = max(found, key=lambda way: found[way], default=usual)
    record = replace(run.record, execution=best.to_json())
    if found:
        images_per_s = {name_of(way): rate for way, rate in found.items()}
        record = replace(record, trial={"steps": STEPS, "images_per_s": images_per_s})
        rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in images_per_s.items())
        job.on_event(note(f"images/s in a trial of {STEPS} steps: {rates}; this run is {name_of(best)}"))
    record.write(run.folder)
    return replace(job, execution=best), Run(run.folder, record)


def measured(job: Job, run: Run) -> dict[Execution, float]:
    """Images per second of each way that may pay, as far as nothing else is asked for; the usual way first."""
    compiled, graphed = (
        [False, True] if asked is None else [asked] for asked in (job.execution.compile, job.execution.graph)
    )
    found: dict[Execution, float] = {}
    for compile, graph in product(compiled, graphed):
        way = replace(job.execution, compile=compile, graph=graph)
        if found and compile and job.total_steps * job.recipe.batch / max(found.values()) < WORTH_COMPILING_S:
            continue
        try:
            rate = images_per_s(replace(job, execution=way), run)
        except (RuntimeError, UserError) as error:  # of the compiler, or for want of memory
            if not found:
                raise
            job.on_event(note(f"trial failed: {name_of(way)} ({first_line(error)})"))
            rate = None
        if rate:
            found[way] = rate
        gc.collect()
        torch.cuda.empty_cache()
    return found


def images_per_s(job: Job, run: Run) -> float | None:
    """Over STEPS steps that change no weight, of a network of their own; None if they cannot be captured as a graph."""
    torch.manual_seed(job.seed)
    state, feed = TrainState(job, run), Feed(job, run)
    step, _ = step_of(state, feed, Meter(Position(), job.world, state.bad, state.stages), nullcontext)
    state.begin_epoch(0)
    started = 0.0
    for i, batch in enumerate(islice(whole_batches(job, feed), WARM_UP + STEPS)):
        if i == WARM_UP:
            started = now(job.device)
        state.begin_step(0.0, 0.0)
        step(*batch)
        state.end_step(1)
        state.random.clear()
    if isinstance(step, GraphedStep) and step.graphed.given_up:
        return None
    return STEPS * min(job.recipe.batch, len(job.data.train)) / (now(job.device) - started)


def whole_batches(job: Job, feed: Feed) -> Iterator[Batch]:
    """Without end."""
    whole = min(job.recipe.batch, len(job.data.train))
    return (batch for epoch in count() for batch in feed.epoch(epoch) if batch.size == whole)


def now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def name_of(way: Execution) -> str:
    return {
        (False, False): "eager",
        (False, True): "a CUDA graph",
        (True, False): "compiled",
        (True, True): "compiled, as a CUDA graph",
    }[bool(way.compile), bool(way.graph)]
