"""Training: one flat, visible loop from a network, data and a recipe to a run folder.

Read `fit` from top to bottom; the functions that it calls follow in the order of use, or are imported.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..catalogue import Shape, Variant, find
from ..data.augment import Colours, augment, crops_of, mix, order
from ..data.loading import fetched
from ..data.normalise import normalise
from ..data.types import Data
from ..errors import UserError
from ..evaluation.scores import usual_topk
from ..evaluation.scoring import evaluate_split
from ..files.atomic import clean
from ..files.lock import locked
from ..layers import on_meta
from ..machine.device import choose_device, keep_freed_memory
from ..machine.processes import World, join_world
from ..machine.signals import Signals
from ..recipe import MIXES, Recipe, operation
from ..runs.curves import draw_curves
from ..runs.folder import Run, open_run
from ..runs.log import Log, write_csv
from ..weights.model import locate
from . import optimizers
from .divergence import bad_gradient, culprits, describe_culprits, gradient_norms, not_finite
from .events import OnEvent, note, quiet
from .execution import Execution
from .passes import Passes
from .schedule import rate
from .setup import (
    has_run_to_resume,
    measure_images,
    new_record,
    open_or_start,
    prepare,
    report_skipped,
    sized,
    try_build,
)
from .state import Meter, Position
from .train_state import TrainState
from .warm_start import plan_start

LOG_EVERY = 48  # steps between lines of the log within an epoch; a shorter epoch logs its last step
DRAW_EVERY_S = 60.0  # between redrawings of the curves during training
SAVE = 1  # exchanged between the processes: save; SAVE plus a signal's number: save and stop


class Diverged(RuntimeError):
    """A loss, a gradient or a weight is not finite; the message names the step and the last checkpoint."""


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
    init: Run | str | Path | None = None,
    resume: bool = False,
    on_event: OnEvent = quiet,
) -> Run:
    """Trains the network on data.train as the recipe says; writes the run to the folder `out`.

    After each epoch the network is evaluated on the held-out images: val, which also selects the best epoch, or test
    if there is no val.

    `input` is C x H x W: by default the data's channels and the network's own size; images are resized to it. The size
    to which a catalogue recipe resizes images before cropping scales with it (`sized` in setup.py).
    `seed` determines the weights, the order of the images, their augmentation and dropout; torch is seeded with it.
    `init` is a run, a run folder or a weights file to start from, as far as names, shapes and `recipe.init` allow (see
    warm_start.py).
    `resume` continues the run in `out` from where it stopped. On a CPU, with the same number of threads, the weights
    end up identical, bit for bit, to those of an uninterrupted run.
    `on_event` is called with every event (see events.py).
    `execution` is how this machine carries out the recipe (see execution.py); a resumed run keeps its own, except for
    fields that are given here. Under torchrun, every process makes the same call and takes its share of each batch.

    Raises UserError for arguments that do not fit together, Diverged when a loss, a gradient or a weight is not finite,
    and Stopped, once everything is saved, on SIGINT, SIGTERM and SIGHUP (only the main thread receives them).
    """
    with join_world() as world, ExitStack() as held:
        on_event = on_event if world.leads else quiet
        placed_on = world.own(choose_device(device))
        steps = steps_in_epoch(len(data.train), recipe.batch, world.size)
        variant = find(network) if isinstance(network, str) else network
        recipe = sized(recipe, variant, input)
        record = new_record(variant, data, recipe, input, seed, placed_on, world.size)
        restarted = world.most(world.failures) > 0  # torchrun restarted, after a failure of any process
        resume = bool(world.first(has_run_to_resume(Path(out), resume, restarted)))

        if init and resume:
            raise UserError("--init cannot be combined with --resume: a resumed run has its own weights", "give one")
        if init:
            with on_meta():
                record = replace(record, init=plan_start(locate(init), try_build(record), recipe))

        if steps == 1:
            text = f"an epoch is a single step: {len(data.train)} training images in batches of {recipe.batch}"
            on_event(note(f"{text}; give a smaller --batch for more steps"))

        def begin() -> None:
            folder = prepare(Path(out), record, resume)
            held.enter_context(locked(folder))
            clean(folder)
            open_or_start(folder, record, execution, data.train, recipe, placed_on, world, resume, on_event)
            report_skipped(folder, data, on_event)
            measure_images(open_run(folder), data.train, on_event)

        world.lead(begin)
        run = open_run(out)
        settled = Execution.from_json(run.record.execution).overridden_by(execution)
        return train(run, data, recipe, settled, steps, seed, placed_on, world, resume, on_event)


def train(
    run: Run,
    data: Data,
    recipe: Recipe,
    execution: Execution,
    steps: int,
    seed: int,
    device: torch.device,
    world: World,
    resume: bool,
    on_event: OnEvent,
) -> Run:
    """The training loop."""
    normalizer, labels = run.normalizer, data.train.labels.to(device)
    colours = Colours.from_json(run.record.colours)
    mixed = any(operation(op)[0] in MIXES for op in recipe.augment)

    keep_freed_memory()
    torch.manual_seed(seed)
    train_state = TrainState(run, data.train, recipe, execution, device, world, on_event)
    net, optimizer = train_state.net, train_state.optimizer
    parameters = dict(net.named_parameters())
    passes = Passes(net, recipe, execution, device, world, on_event)
    if not world.leads:
        torch.manual_seed(seed + world.rank)  # the same weights on every rank, but different dropout
    state = train_state.restore(on_event) if resume else Position()
    begun = state.epoch * steps + state.step
    log = Log(run.folder / "log.jsonl", state.epoch, begun, writes=world.leads, tensorboard=execution.tensorboard)
    on_event(start_event(run, net, data, recipe, steps, state))
    drawn = saved = time.monotonic()

    with Signals() as signals:
        at_once = signals.at_once if world.size == 1 else nullcontext  # ranks must stop at the same step
        for epoch in range(state.epoch, recipe.epochs):
            net.train()
            shuffled = order(len(data.train), seed=seed, epoch=epoch)
            crops = crops_of(recipe.augment, run.preprocess.input[1:], seed=seed, epoch=epoch)
            meter = Meter(state, world)
            batches = shuffled.split(recipe.batch)[state.step : steps]
            own = batches if mixed else [world.share(batch) for batch in batches]  # mixing needs the whole batch
            loaded = fetched(data.train, own, run.preprocess, crops, workers=execution.workers)
            for step, (batch, indices) in enumerate(zip(batches, own), state.step):
                state.lr = rate(recipe, (epoch * steps + step) / steps, state.plateau.drops, steps, state.warm)
                for group in optimizer.param_groups:
                    group["lr"] = state.lr * group["rate"]
                net.set_progress((epoch * steps + step) / (recipe.epochs * steps))
                optimizer.zero_grad(set_to_none=True)  # frees the gradients before the activations are allocated
                undo = train_state.snapshot()
                try:
                    with at_once():
                        images = next(loaded).to(device)
                        images = augment(images, indices, ops=recipe.augment, seed=seed, epoch=epoch, colours=colours)
                        x, y = normalise(images, normalizer), labels[indices]
                        x, target = mix(
                            x, y, indices, ops=recipe.augment, classes=len(data.classes), seed=seed, epoch=epoch
                        )
                        if mixed:
                            indices, x, y, target = map(world.share, (indices, x, y, target))
                        loss, logits = passes(x, target, len(batch))  # forward and backward
                except KeyboardInterrupt:
                    undo()
                    caught = signals.caught or signal.SIGINT
                    raise stopped(
                        train_state, state, caught, f"in step {step + 1} of epoch {epoch + 1}", on_event
                    ) from None
                meter.add(loss, logits, y)
                if bad := meter.read() or bad_gradient(parameters):  # before the update
                    which = culprits(data.train, world, indices, x, logits)
                    log.write("diverged", step=epoch * steps + step + 1, epoch=epoch + 1, what=bad, **which)
                    raise diverged(bad, run, epoch, step + 1, state.lr, which)
                if recipe.optimizer.clip:
                    optimizers.clip_(optimizer, recipe.optimizer.clip)
                optimizer.step()
                train_state.follow(epoch * steps + step + 1, recipe.epochs * steps)
                state.step = step + 1
                on_event(step_event(state, recipe, steps) | {"batch_loss": meter.last})
                if (step + 1) % min(LOG_EVERY, steps) == 0:
                    more = {"lr": state.lr, **state.take_since_log(recipe), "gradient": gradient_norms(net)}
                    log.write("step", step=epoch * steps + step + 1, epoch=epoch + 1, **more)
                due = world.leads and time.monotonic() - saved > execution.save_every_s
                if call := world.most(SAVE + signals.caught if signals.caught else SAVE * due):
                    if name := not_finite(net):
                        raise diverged(f"{name} is not finite", run, epoch, step + 1, state.lr)
                    if call > SAVE:
                        raise stopped(
                            train_state, state, call - SAVE, f"after step {step + 1} of epoch {epoch + 1}", on_event
                        )
                    train_state.save_last(state)
                    saved = time.monotonic()

            meter.add_time()
            if name := not_finite(net):
                raise diverged(f"{name} is not finite", run, epoch, steps, state.lr)
            try:
                with at_once():
                    scores = evaluate_split(
                        train_state.judged,
                        data.held_out,
                        normalizer,
                        batch=max(recipe.batch, 64),
                        device=device,
                        workers=execution.workers,
                        world=world,
                    )
            except KeyboardInterrupt:
                caught = signals.caught or signal.SIGINT
                raise stopped(train_state, state, caught, f"in the evaluation of epoch {epoch + 1}", on_event) from None
            judged = {"loss": scores.loss, **{f"top{k}": scores.top(k) for k in usual_topk(len(data.classes))}}
            result = {
                "lr": state.lr,
                "train": state.sums.means(),
                data.held_out.name: judged,
                "images_per_s": state.sums.images / state.seconds,
            }
            log.write("epoch", step=(epoch + 1) * steps, epoch=epoch + 1, **result)
            on_event({"kind": "epoch", "epoch": epoch + 1, "epochs": recipe.epochs, **result})
            if data.val and scores.top1 > state.best_top1:
                state.best_top1, state.best_epoch = scores.top1, epoch + 1
                train_state.save_best(state)
            state.end_epoch(scores.top1, recipe)
            train_state.save_last(state)
            saved = time.monotonic()
            if world.leads and saved - drawn > DRAW_EVERY_S:
                draw(run, on_event)
                drawn = saved

        if world.leads:
            draw(run, on_event)
    on_event({"kind": "end", "folder": str(run.folder), "best_top1": state.best_top1, "best_epoch": state.best_epoch})
    return run


def steps_in_epoch(images: int, batch: int, processes: int = 1) -> int:
    """Steps of `batch` images, with a smaller last one unless a process would get one image (batch norm needs two).

    Raises UserError if the batch, or the whole training set, has fewer than two images for each process.
    """
    steps = images // batch + (images % batch >= 2 * processes)
    if batch < 2 * processes and processes > 1:
        raise UserError(
            f"a batch of {batch} leaves {processes} processes with fewer than 2 images each", "give a larger batch"
        )
    if steps == 0:
        raise UserError(f"{images} training images are too few for a batch", f"give at least {2 * processes}")
    return steps


def start_event(run: Run, net: nn.Module, data: Data, recipe: Recipe, steps: int, state: Position) -> dict[str, Any]:
    return {
        "kind": "start",
        "network": run.network,
        "parameters": sum(p.numel() for p in net.parameters()),
        "data": data.name,
        "train": len(data.train),
        "held_out": {data.held_out.name: len(data.held_out)},
        "recipe": recipe.name,
        "epochs": recipe.epochs,
        "steps": steps,
        "device": run.record.machine["device"],
        "folder": str(run.folder),
        "epoch": state.epoch,
        "step": state.step,
    }


def step_event(state: Position, recipe: Recipe, steps: int) -> dict[str, Any]:
    at = {"epoch": state.epoch + 1, "epochs": recipe.epochs, "step": state.step, "steps": steps}
    return {"kind": "step", **at, **state.sums.means(), "images_per_s": state.sums.images / state.seconds}


def diverged(what: str, run: Run, epoch: int, step: int, lr: float, which: dict[str, Any] | None = None) -> Diverged:
    last = run.folder / "last.safetensors"
    kept = f"{last} is from an earlier step" if last.exists() else "no checkpoint was saved before"
    where = describe_culprits(which) if which else ""
    remedy = "fix or remove them" if which and which["why"] == "pixels" else "try a smaller learning rate: --set lr=..."
    return Diverged(f"{what} at step {step} of epoch {epoch + 1} (lr {lr:.4g}){where}; {kept}; {remedy}")


def stopped(train_state: TrainState, state: Position, signum: int, at: str, on_event: OnEvent) -> Stopped:
    train_state.save_last(state)
    if train_state.world.leads:
        draw(train_state.run, on_event)
    return Stopped(train_state.run, signal.Signals(signum), at)


def draw(run: Run, on_event: OnEvent) -> None:
    """Draws the curves and writes the table of epochs; a failure is reported, and training continues."""
    try:
        draw_curves(run, run.folder / "curves.png")
        write_csv(run.folder / "log.csv", run.epochs())
    except UserError as error:
        on_event(note(f"{error.what}; everything else is saved"))
