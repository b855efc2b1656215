"""Plan: what a training run would take, in steps, memory, disk and time, from a short measurement; nothing is kept."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from ..accounting.memory.predict import memory
from ..catalogue import Shape, Variant
from ..data.types import Data
from ..evaluation.scoring import evaluate_split
from ..recipe import Recipe
from ..runs.folder import Run, open_run
from .events import Event, OnEvent, quiet
from .execution import Execution
from .fit import fit
from .job import steps_in_epoch

WARM_UP = 2  # steps that are not measured
FEWEST = 3  # steps measured, at least
MEASURE_S = 10.0  # of steps, and as long again of evaluation
CHECKPOINTS = 2  # full ones on disk: the last and the one before


class Enough(Exception):
    """Ends the measurement from inside `fit`."""


@dataclass(frozen=True)
class Plan:
    """Times are predicted from `measured` steps on this machine; memory and disk by counting."""

    network: str
    data: str
    recipe: str
    device: str
    execution: dict[str, Any]
    epochs: int
    steps: int  # in an epoch
    batch: int
    train_images: int
    held_out_images: int
    memory_bytes: int | None  # of tensors at the peak of a step, without workspaces; None with activation checkpointing
    checkpoint_bytes: int
    measured: int  # steps
    step_s: float  # median
    step_s_spread: tuple[float, float]  # quartiles
    evaluation_images_per_s: float

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps

    @property
    def epoch_s(self) -> float:
        return self.steps * self.step_s + self.held_out_images / self.evaluation_images_per_s

    @property
    def total_s(self) -> float:
        return self.epochs * self.epoch_s

    @property
    def disk_bytes(self) -> int:
        return CHECKPOINTS * self.checkpoint_bytes

    def to_json(self) -> dict[str, Any]:
        derived = ("total_steps", "epoch_s", "total_s", "disk_bytes")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


def plan_training(
    network: str | Variant,
    data: Data,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "auto",
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    input: Shape | None = None,
    on_event: OnEvent = quiet,
) -> Plan:
    """Trains in a temporary folder for about MEASURE_S, evaluates for about as long, and predicts the whole.

    The arguments and the errors are those of `fit`.
    """
    seen: list[tuple[str, float]] = []

    def watch(event: Event) -> None:
        seen.append((event["kind"], time.perf_counter()))
        if event["kind"] == "step":
            on_event(event)
            measured = step_durations(seen)
            if len(measured) >= FEWEST and len(seen) > WARM_UP + FEWEST and sum(measured) > MEASURE_S:
                raise Enough

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        with suppress(Enough):
            fit(
                network,
                data,
                recipe,
                out=out,
                seed=seed,
                device=device,
                execution=execution,
                input=input,
                on_event=watch,
            )
        run = open_run(out)
        rate = evaluation_rate(run, data)
    durations = step_durations(seen)
    settled = Execution.from_json(run.record.execution)
    net = run.record.build()
    need = memory(
        net,
        optimizer=run.recipe.optimizer.kind.removesuffix("w"),
        amp=settled.precision == "bfloat16",
        auxiliary=bool(run.recipe.aux_weight) and net.has_aux,
    )
    weights = need.parameters + need.buffers
    averages = weights * (bool(run.recipe.ema) + bool(run.recipe.lookahead))
    peak = need.training.of(settled.micro_batch) + averages
    return Plan(
        network=run.network,
        data=data.name,
        recipe=run.recipe.name,
        device=run.record.machine["device"],
        execution=settled.to_json(),
        epochs=run.recipe.epochs,
        steps=steps_in_epoch(len(data.train), run.recipe.batch),
        batch=run.recipe.batch,
        train_images=len(data.train),
        held_out_images=len(data.held_out),
        memory_bytes=None if settled.segments else peak,
        checkpoint_bytes=weights + averages + need.optimizer_state,
        measured=len(durations),
        step_s=median(durations),
        step_s_spread=spread(durations),
        evaluation_images_per_s=rate,
    )


def step_durations(seen: list[tuple[str, float]]) -> list[float]:
    """From the kinds of events and when they came: the time of each step but the first WARM_UP, if there are more.

    An epoch's first step is timed from the end of the evaluation before it.
    """
    durations = [now - before for (_, before), (kind, now) in pairwise(seen) if kind == "step"]
    return durations[WARM_UP:] or durations


def spread(durations: list[float]) -> tuple[float, float]:
    """The quartiles."""
    if len(durations) < 2:
        return durations[0], durations[0]
    low, _, high = quantiles(durations, n=4, method="inclusive")
    return low, high


def evaluation_rate(run: Run, data: Data) -> float:
    """Images per second in the evaluation of held-out images, measured on as many as take about MEASURE_S."""
    device = torch.device(run.record.machine["device"])
    net, split, batch = run.record.build(), data.held_out, max(run.recipe.batch, 64)
    seen, started = 0, time.perf_counter()
    while seen < len(split) and (seen == 0 or time.perf_counter() - started < MEASURE_S):
        part = split.part(torch.arange(seen, min(seen + batch, len(split))), split.name, {})
        workers = run.record.execution["workers"]
        evaluate_split(net, part, run.normalizer, batch=batch, device=device, workers=workers)
        seen += len(part)
    return seen / (time.perf_counter() - started)
