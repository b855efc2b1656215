"""Training: one flat, visible loop from a network, data and a recipe to a run folder.

Read `fit` from top to bottom; the functions that it calls follow in the order of use, or are imported.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..catalogue import Shape, Variant, find
from ..data.normalise import Normalizer
from ..data.types import Data
from ..errors import UserError, first_line
from ..evaluation.scores import Scores, usual_topk
from ..evaluation.scoring import evaluate_split
from ..files.lock import check_held
from ..machine.device import algorithms, choose_device, keep_freed_memory
from ..machine.processes import join_world
from ..machine.signals import Signals
from ..recipe import Recipe
from ..runs.curves import draw_curves
from ..runs.folder import Run, open_run
from ..runs.log import Log, write_csv
from ..weights.model import locate
from .events import OnEvent, note, quiet
from .execution import Execution
from .feed import Feed
from .graph import step_of
from .job import Job
from .meter import Meter
from .schedule import rate
from .setup import begin, has_run_to_resume, sized
from .state import Position
from .train_state import TrainState
from .trial import tried
from .watch import Watch

LOG_EVERY = 48  # steps between lines of the log within an epoch; a shorter epoch logs its last step
DRAW_EVERY_S = 60.0  # between redrawings of the curves during training
SAVE = 1  # exchanged between the processes: save; SAVE plus a signal's number: save and stop


class Stopped(KeyboardInterrupt):
    """Training was stopped by signal `signum` and saved in `run`; `fit(..., resume=True)` continues it."""

    def __init__(self, run: Run, signum: signal.Signals, at: str):
        super().__init__(f"stopped by {signum.name} {at}; saved in {run.folder}")
        self.run, self.signum = run, signum


def fit(
    network: str | Variant,
    data: Data,
    recipe: Recipe,
    *,
    out: Path | str,
    seed: int = 0,
    device: str = "auto",
    execution: Execution = Execution(),  # noqa: B008 (frozen)
    input: Shape | None = None,
    normalizer: Normalizer | None = None,
    init: Run | str | Path | None = None,
    resume: bool = False,
    on_event: OnEvent = quiet,
) -> Run:
    """Trains the network on data.train as the recipe says; writes the run to the folder `out`.

    After each epoch the network is evaluated on the held-out images: val, which also selects the best epoch, or test
    if there is no val.

    `input` is C x H x W: by default the data's channels and the network's own size; images are resized to it. The size
    to which a catalogue recipe resizes images before cropping scales with it (`sized` in setup.py).
    `normalizer` is how images are prepared: by default as suits the data and the recipe; given, its input is `input`.
    `seed` determines the weights, the order of the images, their augmentation and dropout; torch is seeded with it.
    `init` is a run, a run folder or a weights file to start from, as far as names, shapes and `recipe.init` allow (see
    warm_start.py).
    `resume` continues the run in `out`, if there is one, from where it stopped. On a CPU, with the same number of
    threads, the weights end up identical, bit for bit, to those of an uninterrupted run.
    `on_event` is called with every event (see events.py).
    `execution` is how this machine carries out the recipe (see execution.py); a resumed run keeps its own, except for
    fields that are given here. Under torchrun, every process makes the same call and takes its share of each batch.

    Raises UserError for arguments that do not fit together, Diverged when a loss, a gradient or a weight is not finite,
    and Stopped, once everything is saved, on SIGINT, SIGTERM and SIGHUP (only the main thread receives them).
    """
    with join_world() as world, ExitStack() as held:
        variant = find(network) if isinstance(network, str) else network
        job = Job(
            variant=variant,
            data=data,
            recipe=sized(recipe, variant, input),
            input=input,
            seed=seed,
            device=world.own(choose_device(device)),
            execution=execution,
            world=world,
            on_event=on_event if world.leads else quiet,
            normalizer=normalizer,
        )
        restarted = world.most(world.failures) > 0  # torchrun restarted, after a failure of any process
        found = bool(world.first(has_run_to_resume(Path(out), resume, restarted)))
        if resume and not found:
            job.on_event(note(f"{out} has no run to resume; training starts from the first step"))
        resume = found
        start = locate(init) if init else None
        run = world.in_turn(lambda: begin(job, Path(out), resume, start, held) if world.leads else open_run(out))
        settled = Execution.from_json(run.record.execution).overridden_by(execution)
        with algorithms(settled.deterministic):
            return train(*tried(replace(job, execution=settled), run), resume)


def train(job: Job, run: Run, resume: bool) -> Run:
    """The training loop."""
    recipe, world, steps, on_event = job.recipe, job.world, job.steps, job.on_event
    keep_freed_memory()
    torch.manual_seed(job.seed)
    state = TrainState(job, run)  # the network, its optimizer, the averages of its weights
    feed = Feed(job, run)
    if not world.leads:
        torch.manual_seed(job.seed + world.rank)  # the same weights on every rank, but different dropout
    at = state.restore() if resume else Position()
    done, board = at.epoch * steps + at.step, job.execution.tensorboard
    log = Log(run.folder / "log.jsonl", at.epoch, done, writes=world.leads, tensorboard=board)
    meter = Meter(at, world, state.bad, state.stages)
    on_event(start_event(job, run, state.net, at))
    drawn = saved = time.monotonic()

    with Signals() as signals:
        # within a pass on a single CPU process; elsewhere between steps, since ranks must stop at the same step
        at_once = signals.at_once if world.size == 1 and job.device.type == "cpu" else nullcontext
        step, passes = step_of(state, feed, meter, at_once)
        watch = Watch(state, feed, passes, meter, log)
        try:
            for epoch in range(at.epoch, recipe.epochs):
                state.begin_epoch(epoch)
                meter.start()
                for batch in feed.epoch(epoch, at.step, at_once):
                    with state.changing():
                        done = epoch * steps + at.step
                        at.lr = rate(recipe, done / steps, at.plateau.drops, steps, at.warm)
                        state.begin_step(at.lr, done / job.total_steps)
                        outcome = step(*batch)
                        meter.add(outcome.sums)
                        state.end_step(done + 1)
                        at.step += 1
                        line_due = at.step % min(LOG_EVERY, steps) == 0
                        if at.step % job.execution.read_every and not line_due and at.step < steps:
                            continue  # without waiting for the device

                        watch.read(at, outcome)
                        if line_due:
                            line = {"lr": at.lr, **at.take_since_log(recipe)}
                            world.lead(partial(log.write, "step", step=done + 1, epoch=epoch + 1, **line))
                        save_due = world.leads and time.monotonic() - saved > job.execution.save_every_s
                        if call := world.most(SAVE + signals.caught if signals.caught else SAVE * save_due):
                            watch.check_weights(at)
                            if call > SAVE:
                                raise stopped(state, at, call - SAVE, f"after step {at.step}")
                            state.save_last(at)
                            saved = time.monotonic()

                meter.add_time()
                watch.check_weights(at)
                with at_once():
                    scores = evaluate_held_out(state)
                with state.changing():
                    line = epoch_line(job, at, scores)
                    world.lead(partial(log.write, "epoch", step=(epoch + 1) * steps, epoch=epoch + 1, **line))
                    on_event({"kind": "epoch", "epoch": epoch + 1, "epochs": recipe.epochs, **line})
                    if job.data.val and scores.top1 > at.best_top1:
                        at.best_top1, at.best_epoch = scores.top1, epoch + 1
                        state.save_best(at)
                    at.end_epoch(scores.top1, recipe)
                    state.save_last(at)
                    saved = time.monotonic()
                    if world.leads and saved - drawn > DRAW_EVERY_S:
                        draw(run, on_event)
                        drawn = saved
        except Stopped:
            raise
        except KeyboardInterrupt:
            state.abandon_step()
            watch.read(at)
            where = f"in step {at.step + 1}" if at.step < steps else "in the evaluation"
            raise stopped(state, at, signals.caught or signal.SIGINT, where) from None
        except Exception:
            rescue(state, watch, at)
            raise

        if world.leads:
            check_held(run.folder)
            draw(run, on_event)
    on_event({"kind": "end", "folder": str(run.folder), "best_top1": at.best_top1, "best_epoch": at.best_epoch})
    return run


def stopped(state: TrainState, at: Position, signum: int, where: str) -> Stopped:
    """Saves and draws everything, on a signal."""
    state.save_last(at)
    if state.job.world.leads:
        draw(state.run, state.job.on_event)
    return Stopped(state.run, signal.Signals(signum), f"{where} of epoch {at.epoch + 1}")


def rescue(state: TrainState, watch: Watch, at: Position) -> None:
    """Saves the steps before an error, if they can be continued from as if it had not been: of one process, those
    before the step that failed; of several, those before a batch or an evaluation that failed, of which all know."""
    job = state.job
    undone = state.in_step and job.world.size == 1 and not job.execution.graph
    if not (state.whole or undone) or (at.epoch, at.step) == state.saved:
        return
    with suppress(Exception):  # the error itself is the one to report
        state.abandon_step()
        watch.read(at)
        watch.check_weights(at)
        state.save_last(at)
        job.on_event(note(f"saved after step {at.step} of epoch {at.epoch + 1}; --resume continues from there"))


def evaluate_held_out(state: TrainState) -> Scores:
    job = state.job
    return evaluate_split(
        state.judged,
        job.data.held_out,
        state.run.normalizer,
        batch=max(job.recipe.batch, 64),
        device=job.device,
        workers=job.execution.workers,
        world=job.world,
    )


def epoch_line(job: Job, at: Position, scores: Scores) -> dict[str, Any]:
    """The log's line about an epoch."""
    return {
        "lr": at.lr,
        "train": at.sums.means(),
        job.data.held_out.name: {
            "loss": scores.loss,
            **{f"top{k}": scores.top(k) for k in usual_topk(len(job.data.classes))},
        },
        "gradient": at.sums.norms(),
        "images_per_s": at.sums.images / at.seconds,
    }


def start_event(job: Job, run: Run, net: nn.Module, at: Position) -> dict[str, Any]:
    return {
        "kind": "start",
        "network": run.network,
        "parameters": sum(p.numel() for p in net.parameters()),
        "data": job.data.name,
        "train": len(job.data.train),
        "held_out": {job.data.held_out.name: len(job.data.held_out)},
        "recipe": job.recipe.name,
        "epochs": job.recipe.epochs,
        "steps": job.steps,
        "device": run.record.machine.get("device"),
        "folder": str(run.folder),
        "epoch": at.epoch,
        "step": at.step,
    }


def draw(run: Run, on_event: OnEvent) -> None:
    """Draws the curves and writes the table of epochs; any failure is reported, and training continues."""
    try:
        draw_curves(run, run.folder / "curves.png")
        write_csv(run.folder / "log.csv", run.epochs())
    except UserError as error:
        on_event(note(f"{error.what}; everything else is saved"))
    except Exception as error:
        on_event(note(f"the curves in {run.folder} were not drawn ({first_line(error)}); everything else is saved"))
