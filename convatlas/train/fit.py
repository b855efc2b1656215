"""Training: one flat, visible loop from a network, data and a recipe to a run folder.

Read `fit` from top to bottom; what it calls stands below it in the order of use, or in the file that it comes from.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import plots
from ..catalogue import Shape, Variant, find
from ..data.augment import Colours, augment, mix, order, view_of
from ..data.loading import fetched
from ..dataset import Data
from ..errors import UserError
from ..evaluate import evaluate_split, usual_topk
from ..files import clean
from ..layers import on_meta
from ..lock import locked
from ..recipe import MIXES, Recipe, operation
from ..whitening import normalise
from . import optimizers
from .distributed import World, world
from .engine import Engine
from .finite import bad_gradient, blamed, gradient_norms, not_finite, told
from .log import Log, write_csv
from .machine import choose_device, keep_freed_memory
from .passes import Passes
from .progress import Say, note, quiet
from .run import Run, open_run
from .schedule import rate
from .signals import Signals
from .start import describe, goes_on, measure, open_or_start, prepare, sized, tell_skipped, try_build
from .state import Meter, State
from .trainee import Trainee
from .warm_start import plan_start

LOG_EVERY = 48  # steps between lines of the log within an epoch; of a shorter one its last step has a line
DRAW_EVERY_S = 60.0  # between drawings of the curves while training goes on
SAVE = 1  # said among the processes; larger by a signal's number: to save and stop


class Diverged(RuntimeError):
    """A loss or a weight is not finite any more; the message names the step, and what is kept."""


class Stopped(KeyboardInterrupt):
    """Training was stopped by a signal (`signum`) and saved in `run`; `fit(..., resume=True)` goes on."""

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
    engine: Engine = Engine(),  # noqa: B008 (frozen)
    input: Shape | None = None,
    init: Run | None = None,
    resume: bool = False,
    say: Say = quiet,
) -> Run:
    """Trains the network on data.train by the recipe, judging it on data.test after each epoch; the run is in `out`.

    `input` is C x H x W: by default the data's channels and the network's own size, to which images are brought. To
    what a recipe of the catalogue scales images before it crops them is scaled with it (`sized` in start.py).
    `seed` decides the weights, the order of the images, their augmentation and the dropout; torch is seeded with it.
    `init` is a run to begin with the weights of, as far as names, shapes and `recipe.init` allow (see warm_start.py).
    `resume` goes on where the run in `out` stopped: on a CPU, with as many threads, to the very weights of an
    uninterrupted run. `say` is told what happens (see progress.py).

    `engine` says how this machine does it (see engine.py); a resumed run keeps the engine that it was begun with, but
    for what is given otherwise. Under torchrun each process calls this alike, and takes its share of every batch.

    Raises UserError for what does not fit together, Diverged when a loss, a gradient or a weight is not finite, and
    Stopped, once all is saved, on SIGINT, SIGTERM and SIGHUP (in the main thread, which alone gets them).
    """
    with world() as ranks, ExitStack() as held:
        say = say if ranks.leads else quiet
        place = ranks.own(choose_device(device))
        steps = steps_in_epoch(len(data.train), recipe.batch, ranks.size)
        variant = find(network) if isinstance(network, str) else network
        recipe = sized(recipe, variant, input)
        record = describe(variant, data, recipe, input, seed, place, ranks.size)
        restarted = ranks.most(ranks.failures) > 0  # torchrun began anew, after a failure of any process
        resume = bool(ranks.first(goes_on(Path(out), resume, restarted)))

        if init and resume:
            raise UserError("a run that goes on has its weights; leave out --init, which is for a new one, or --resume")
        if init:
            with on_meta():
                record["init"] = plan_start(init, try_build(record), recipe)

        def begin() -> None:
            folder = prepare(Path(out), record, resume)
            held.enter_context(locked(folder))
            clean(folder)
            open_or_start(folder, record, engine, data.train, recipe, place, ranks, resume, say)
            tell_skipped(folder, data, say)
            measure(open_run(folder), data.train, say)

        ranks.lead(begin)
        run = open_run(out)
        settled = Engine.from_json(run.record["engine"]).but(engine)
        return train(run, data, recipe, settled, steps, seed, place, ranks, resume, say)


def train(
    run: Run,
    data: Data,
    recipe: Recipe,
    engine: Engine,
    steps: int,
    seed: int,
    place: torch.device,
    ranks: World,
    resume: bool,
    say: Say,
) -> Run:
    """The loop."""
    preprocess, labels = run.preprocess, data.train.labels.to(place)
    colours = Colours.from_json(run.record["colours"])
    mixed = any(operation(op)[0] in MIXES for op in recipe.augment)

    keep_freed_memory()
    torch.manual_seed(seed)
    trainee = Trainee(run, data.train, recipe, engine, place, ranks, say)
    net, optimizer = trainee.net, trainee.optimizer
    parameters = dict(net.named_parameters())
    passes = Passes(net, recipe, engine, place, ranks, say)
    if not ranks.leads:
        torch.manual_seed(seed + ranks.rank)  # the same weights, but dropout of its own
    state = trainee.restore(say) if resume else State()
    begun = state.epoch * steps + state.step
    log = Log(run.folder / "log.jsonl", state.epoch, begun, writes=ranks.leads, tensorboard=engine.tensorboard)
    say(start_event(run, net, data, recipe, steps, state))
    drawn = saved = time.monotonic()

    with Signals() as signals:
        at_once = signals.at_once if ranks.size == 1 else nullcontext  # of several, each waits for the others
        for epoch in range(state.epoch, recipe.epochs):
            net.train()
            shuffled = order(len(data.train), seed=seed, epoch=epoch)
            view = view_of(recipe.augment, preprocess.input[1:], seed=seed, epoch=epoch)
            meter = Meter(state, ranks)
            batches = shuffled.split(recipe.batch)[state.step : steps]
            own = batches if mixed else [ranks.share(batch) for batch in batches]  # mixed with any of the whole batch
            loaded = fetched(data.train, own, preprocess, view, workers=engine.workers)
            for step, (batch, indices) in enumerate(zip(batches, own), state.step):
                state.lr = rate(recipe, (epoch * steps + step) / steps, state.plateau.drops, steps, state.warm)
                for group in optimizer.param_groups:
                    group["lr"] = state.lr * group["rate"]
                if hasattr(net, "set_progress"):  # what changes with time: a drop-path that grows, a layer that rests
                    net.set_progress((epoch * steps + step) / (recipe.epochs * steps))  # type: ignore[operator]
                optimizer.zero_grad(set_to_none=True)  # before the forward pass: then both are not kept at once
                undo = trainee.undoing()
                try:
                    with at_once():
                        images = next(loaded).to(place)
                        images = augment(images, indices, ops=recipe.augment, seed=seed, epoch=epoch, colours=colours)
                        x, y = normalise(images, preprocess), labels[indices]
                        x, target = mix(
                            x, y, indices, ops=recipe.augment, classes=len(data.classes), seed=seed, epoch=epoch
                        )
                        if mixed:
                            indices, x, y, target = map(ranks.share, (indices, x, y, target))
                        loss, logits = passes(x, target, len(batch))  # forward and backward
                except KeyboardInterrupt:
                    undo()
                    caught = signals.caught or signal.SIGINT
                    raise stopped(trainee, state, caught, f"in step {step + 1} of epoch {epoch + 1}", say) from None
                meter.add(loss, logits, y)
                if bad := meter.read() or bad_gradient(parameters):  # before the update
                    which = blamed(data.train, ranks, indices, x, logits)
                    log.write("diverged", step=epoch * steps + step + 1, epoch=epoch + 1, what=bad, **which)
                    raise diverged(bad, run, epoch, step + 1, state.lr, which)
                if recipe.clip:
                    optimizers.clip_(optimizer, recipe.clip)
                optimizer.step()
                trainee.follow(epoch * steps + step + 1, recipe.epochs * steps)
                state.step = step + 1
                say(step_event(state, recipe, steps) | {"batch_loss": meter.last})
                if (step + 1) % min(LOG_EVERY, steps) == 0:
                    more = {"lr": state.lr, **state.take_lately(recipe), "gradient": gradient_norms(net)}
                    log.write("step", step=epoch * steps + step + 1, epoch=epoch + 1, **more)
                due = ranks.leads and time.monotonic() - saved > engine.save_every_s
                if call := ranks.most(SAVE + signals.caught if signals.caught else SAVE * due):
                    if name := not_finite(net):
                        raise diverged(f"{name} is not finite", run, epoch, step + 1, state.lr)
                    if call > SAVE:
                        raise stopped(trainee, state, call - SAVE, f"after step {step + 1} of epoch {epoch + 1}", say)
                    trainee.save_last(state)
                    saved = time.monotonic()

            meter.tick()
            if name := not_finite(net):
                raise diverged(f"{name} is not finite", run, epoch, steps, state.lr)
            try:
                with at_once():
                    scores = evaluate_split(
                        trainee.judged,
                        data.test,
                        preprocess,
                        batch=max(recipe.batch, 64),
                        device=place,
                        workers=engine.workers,
                        ranks=ranks,
                    )
            except KeyboardInterrupt:
                caught = signals.caught or signal.SIGINT
                raise stopped(trainee, state, caught, f"in the test after epoch {epoch + 1}", say) from None
            result = {
                "lr": state.lr,
                "train": state.sums.means(),
                "test": {"loss": scores.loss, **{f"top{k}": scores.top(k) for k in usual_topk(len(data.classes))}},
                "images_per_s": state.sums.images / state.seconds,
            }
            log.write("epoch", step=(epoch + 1) * steps, epoch=epoch + 1, **result)
            say({"kind": "epoch", "epoch": epoch + 1, "epochs": recipe.epochs, **result})
            if scores.top1 > state.best_top1:
                state.best_top1, state.best_epoch = scores.top1, epoch + 1
                trainee.save_best(state)
            state.end_epoch(scores.top1, recipe)
            trainee.save_last(state)
            saved = time.monotonic()
            if ranks.leads and saved - drawn > DRAW_EVERY_S:
                draw(run, say)
                drawn = saved

        if ranks.leads:
            draw(run, say)
    say({"kind": "end", "folder": str(run.folder), "best_top1": state.best_top1, "best_epoch": state.best_epoch})
    return run


def steps_in_epoch(images: int, batch: int, processes: int = 1) -> int:
    """Steps of `batch` images, the last one smaller; left out where it gives a process but one (batch norm needs two).

    Raises UserError for a batch, or a set, of which a process gets fewer than two images.
    """
    steps = images // batch + (images % batch >= 2 * processes)
    if batch < 2 * processes and processes > 1:
        raise UserError(f"a batch of {batch} gives {processes} processes fewer than 2 images each; give a larger batch")
    if steps == 0:
        raise UserError(f"{images} training images make no batch; give at least {2 * processes}")
    return steps


def start_event(run: Run, net: nn.Module, data: Data, recipe: Recipe, steps: int, state: State) -> dict[str, Any]:
    return {
        "kind": "start",
        "network": run.network,
        "parameters": sum(p.numel() for p in net.parameters()),
        "data": data.name,
        "train": len(data.train),
        "test": len(data.test),
        "recipe": recipe.name,
        "epochs": recipe.epochs,
        "steps": steps,
        "device": run.record["machine"]["device"],
        "folder": str(run.folder),
        "epoch": state.epoch,
        "step": state.step,
    }


def step_event(state: State, recipe: Recipe, steps: int) -> dict[str, Any]:
    at = {"epoch": state.epoch + 1, "epochs": recipe.epochs, "step": state.step, "steps": steps}
    return {"kind": "step", **at, **state.sums.means(), "images_per_s": state.sums.images / state.seconds}


def diverged(what: str, run: Run, epoch: int, step: int, lr: float, which: dict[str, Any] | None = None) -> Diverged:
    last = run.folder / "last.safetensors"
    kept = f"{last} is from before" if last.exists() else "nothing was saved before"
    where = told(which) if which else ""
    way = "mend or remove them" if which and which["why"] == "pixels" else "try a smaller rate: --set lr=..."
    return Diverged(f"{what} at step {step} of epoch {epoch + 1} (lr {lr:.4g}){where}; {kept}; {way}")


def stopped(trainee: Trainee, state: State, signum: int, at: str, say: Say) -> Stopped:
    trainee.save_last(state)
    if trainee.world.leads:
        draw(trainee.run, say)
    return Stopped(trainee.run, signal.Signals(signum), at)


def draw(run: Run, say: Say) -> None:
    """The curves, and the table of the epochs; what cannot be drawn stops nothing."""
    try:
        plots.curves(run.epochs(), run.folder / "curves.png")
        write_csv(run.folder / "log.csv", run.epochs())
    except UserError as error:
        say(note(f"{str(error).partition(';')[0]}; all else is saved"))
