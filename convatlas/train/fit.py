"""Training: one flat, visible loop from a network, data and a recipe to a run folder.

Read `fit` from top to bottom; what it calls stands below it in the order of use, or in the file that it comes from.
"""

from __future__ import annotations

import json
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import plots
from ..catalogue import Shape, Variant, find
from ..data import preprocess_for
from ..data.augment import Colours, augment, mix, order, view_of
from ..dataset import Data, normalise
from ..errors import UserError
from ..evaluate import evaluate_split, usual_topk
from ..layers import on_meta
from ..recipe import Recipe
from . import checkpoint, optimizers
from .average import Average
from .finite import bad_gradient, blamed, not_finite, told
from .lock import locked
from .log import Log
from .loss import loss_of
from .machine import choose_device, describe_machine, keep_freed_memory, precision
from .progress import Say, quiet
from .run import SCHEMA, Run, build, open_run
from .schedule import rate
from .signals import Signals
from .state import Meter, State
from .warm_start import plan_start, start_from

LOG_EVERY = 48  # steps between lines of the log within an epoch
ABOUT = ("network", "build", "preprocess", "classes")  # of run.json, what a checkpoint tells too
DRAW_EVERY_S = 60.0  # between drawings of the curves while training goes on
SAVE_EVERY_S = 600.0  # between checkpoints within an epoch


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
    input: Shape | None = None,
    init: Run | None = None,
    resume: bool = False,
    save_every_s: float = SAVE_EVERY_S,
    say: Say = quiet,
) -> Run:
    """Trains the network on data.train by the recipe, judging it on data.test after each epoch; the run is in `out`.

    `input` is C x H x W: by default the data's channels and the network's own size, to which images are brought.
    `seed` decides the weights, the order of the images, their augmentation and the dropout; torch is seeded with it.
    `init` is a run to begin with the weights of, as far as names, shapes and `recipe.init` allow (see warm_start.py).
    `resume` goes on where the run in `out` stopped: on a CPU, with as many threads, to the very weights of an
    uninterrupted run. `save_every_s` is the time between checkpoints within an epoch, which a kill may cost; at an
    epoch's end there is one always. `say` is told what happens (see progress.py).

    Raises UserError for what does not fit together, Diverged when a loss, a gradient or a weight is not finite, and
    Stopped, once all is saved, on SIGINT and SIGTERM (in the main thread, which alone gets them).
    """
    place = choose_device(device)
    steps = steps_in_epoch(len(data.train), recipe.batch)
    record = describe(network, data, recipe, input, seed, place)
    if init and resume:
        raise UserError("a run that goes on has its weights; give --init to a new one, and leave it out with --resume")
    if init:
        with on_meta():
            record["init"] = plan_start(init, try_build(record), recipe)
    folder = prepare(Path(out), record, resume)
    with locked(folder):
        checkpoint.clean(folder)
        run = open_or_start(folder, record, resume, say)
        return train(run, data, recipe, steps, seed, place, resume, save_every_s, say)


def train(
    run: Run,
    data: Data,
    recipe: Recipe,
    steps: int,
    seed: int,
    place: torch.device,
    resume: bool,
    save_every_s: float,
    say: Say,
) -> Run:
    """The loop."""
    preprocess, labels = run.preprocess, data.train.labels.to(place)
    colours = Colours.from_json(run.record["colours"])

    keep_freed_memory()
    torch.manual_seed(seed)
    net = build(run.record).to(device=place, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if "init" in run.record and not (run.folder / "last.safetensors").exists():
        say(note(start_from(net, run.record["init"])))
    optimizer = optimizers.make_optimizer(net, recipe)
    average = Average(net, recipe.ema) if recipe.ema else None
    judged = average.net if average else net
    autocast = torch.autocast(place.type, torch.bfloat16, enabled=precision(place) == "bfloat16")
    state = restore(run, net, optimizer, average, place, say) if resume else State()
    log = Log(run.folder / "log.jsonl", state.epoch, state.epoch * steps + state.step)
    say(start_event(run, net, data, recipe, steps, state))
    drawn = saved = time.monotonic()

    with Signals() as signals:
        for epoch in range(state.epoch, recipe.epochs):
            net.train()
            shuffled = order(len(data.train), seed=seed, epoch=epoch)
            view = view_of(recipe.augment, preprocess.input[1:], seed=seed, epoch=epoch)
            meter = Meter(state)
            for step in range(state.step, steps):
                indices = shuffled[step * recipe.batch : (step + 1) * recipe.batch]
                images = data.train.fetch(indices, preprocess, view).to(place)
                images = augment(images, indices, ops=recipe.augment, seed=seed, epoch=epoch, colours=colours)
                x, y = normalise(images, preprocess), labels[indices]
                x, target = mix(x, y, indices, ops=recipe.augment, classes=len(data.classes), seed=seed, epoch=epoch)
                lr = rate(recipe, (epoch * steps + step) / steps, state.plateau.drops, steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                if hasattr(net, "set_progress"):  # of a drop-path that grows
                    net.set_progress((epoch * steps + step) / (recipe.epochs * steps))
                optimizer.zero_grad(set_to_none=True)  # before the forward pass: then both are not kept at once
                with autocast:
                    loss, logits = loss_of(net, x, target, recipe)
                meter.add(loss, logits, y)
                loss.backward()
                if bad := meter.read() or bad_gradient(net):  # before the update
                    which = blamed(data.train, indices, x, logits)
                    log.write("diverged", step=epoch * steps + step + 1, epoch=epoch + 1, what=bad, **which)
                    raise diverged(bad, run, epoch, step + 1, lr, which)
                if recipe.clip:
                    optimizers.clip_(optimizer, recipe.clip)
                optimizer.step()
                if average:
                    average.update(epoch * steps + step + 1)
                state.step = step + 1
                say(step_event(state, recipe, steps))
                if (step + 1) % LOG_EVERY == 0:
                    log.write("step", step=epoch * steps + step + 1, epoch=epoch + 1, lr=lr, **state.take_lately())
                if signals.caught:
                    if name := not_finite(net):
                        raise diverged(f"{name} is not finite", run, epoch, step + 1, lr)
                    at = f"after step {step + 1} of epoch {epoch + 1}"
                    raise stopped(run, everything(net, optimizer, average), state, signals.caught, at, say)
                if time.monotonic() - saved > save_every_s:
                    if name := not_finite(net):
                        raise diverged(f"{name} is not finite", run, epoch, step + 1, lr)
                    save(run, "last", everything(net, optimizer, average), state)
                    saved = time.monotonic()

            meter.tick()
            lr = rate(recipe, epoch + (steps - 1) / steps, state.plateau.drops, steps)
            if name := not_finite(net):
                raise diverged(f"{name} is not finite", run, epoch, steps, lr)
            try:
                with signals.at_once():
                    scores = evaluate_split(judged, data.test, preprocess, batch=max(recipe.batch, 64), device=place)
            except KeyboardInterrupt:
                caught = signals.caught or signal.SIGINT
                at = f"in the test after epoch {epoch + 1}"
                raise stopped(run, everything(net, optimizer, average), state, caught, at, say) from None
            result = {
                "lr": lr,
                "train": state.sums.means(),
                "test": {"loss": scores.loss, **{f"top{k}": scores.top(k) for k in usual_topk(len(data.classes))}},
                "images_per_s": state.sums.images / state.seconds,
            }
            log.write("epoch", step=(epoch + 1) * steps, epoch=epoch + 1, **result)
            say({"kind": "epoch", "epoch": epoch + 1, "epochs": recipe.epochs, **result})
            if scores.top1 > state.best_top1:
                state.best_top1, state.best_epoch = scores.top1, epoch + 1
                save(run, "best", weights_of(net, average), state)
            state.end_epoch(scores.top1, recipe)
            save(run, "last", everything(net, optimizer, average), state)
            saved = time.monotonic()
            if saved - drawn > DRAW_EVERY_S:
                draw(run, say)
                drawn = saved

    draw(run, say)
    say({"kind": "end", "folder": str(run.folder), "best_top1": state.best_top1, "best_epoch": state.best_epoch})
    return run


def steps_in_epoch(images: int, batch: int) -> int:
    """Steps of `batch` images, the last one smaller; a last one of one image is left out (batch norm needs two)."""
    steps = images // batch + (images % batch > 1)
    if steps == 0:
        raise UserError(f"{images} training images make no batch; give at least 2")
    return steps


def describe(
    network: str | Variant, data: Data, recipe: Recipe, input: Shape | None, seed: int, device: torch.device
) -> dict[str, Any]:
    """run.json: all that decides the run, and where it is made."""
    variant = find(network) if isinstance(network, str) else network
    for name, _ in recipe.net:
        if name in ("classes", "channels", "input"):
            raise UserError(f"net.{name} is not the recipe's to set; it follows from the data, and from --input")
    assert variant.input is not None, "the catalogue gives every variant its input"
    stock = find(variant.name).args
    own = {name: value for name, value in variant.args.items() if name not in stock or stock[name] != value}
    shape = input or (len(data.mean), *variant.input[1:])
    preprocess = preprocess_for(data, shape)
    view_of(recipe.augment, shape[1:], seed=seed, epoch=0)  # refuses a view that does not fit
    record = {
        "schema": SCHEMA,
        "network": variant.name,
        "build": {**own, "input": shape, "classes": len(data.classes), **dict(recipe.net)},
        "recipe": recipe.to_json(),
        "data": data.provenance,
        "preprocess": preprocess.to_json(),
        "colours": asdict(Colours.of(data.train, preprocess, recipe.augment)),
        "classes": data.classes,
        "seed": seed,
        "machine": describe_machine(device),
    }
    try:
        return json.loads(json.dumps(record))
    except TypeError as error:
        raise UserError(
            f"{variant.name} has an option that run.json cannot hold ({error}); give plain values"
        ) from error


def prepare(out: Path, record: dict[str, Any], resume: bool) -> Path:
    """The folder that the run is, or will be, in. What cannot be built leaves none behind."""
    if resume:
        return open_run(out).folder
    no_run_in(out)
    try_build(record)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {out} cannot be made ({error.strerror}); give another --out") from error
    return out


def no_run_in(out: Path) -> None:
    if (out / "run.json").exists():
        raise UserError(f"{out} already holds a run; give --resume to go on with it, or another --out")


def open_or_start(out: Path, record: dict[str, Any], resume: bool, say: Say) -> Run:
    """The run in `out`: a new one, or with `resume` the one that is there, unless (UserError) it is another one."""
    if not resume:
        no_run_in(out)
        checkpoint.write_text(out / "run.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
        return Run(out, record)
    run = open_run(out)
    if found := differences({**run.record, "machine": None, "init": None}, {**record, "machine": None, "init": None}):
        raise UserError(
            f"the run in {out} is another one: {'; '.join(found)}; resume it as it was begun, or give another --out"
        )
    for change in differences(run.record.get("machine"), record["machine"], "machine"):
        say(note(f"resumed on other terms, so the last bits may differ: {change}"))
    return run


def try_build(record: dict[str, Any]) -> nn.Module:
    try:
        return build(record)
    except UserError:
        raise
    except Exception as error:  # a constructor trusts its options, which here may be a user's
        if not record["recipe"]["net"]:
            raise
        options = ", ".join(f"net.{name}={value!r}" for name, value in record["recipe"]["net"])
        raise UserError(
            f"{record['network']} cannot be built with {options} ({error}); see `convatlas show {record['network']}`"
        ) from error


def differences(was: Any, now: Any, name: str = "") -> list[str]:
    """Where two records differ, as "NAME is A there and B here"; where the data lie does not matter."""
    if isinstance(was, dict) and isinstance(now, dict):
        names = [k for k in {**was, **now} if not (name.startswith("data.") and k == "path")]
        return [d for k in names for d in differences(was.get(k), now.get(k), f"{name}.{k}".lstrip("."))]
    return [] if was == now else [f"{name} is {shortened(was)} there and {shortened(now)} here"]


def shortened(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


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


def note(text: str) -> dict[str, Any]:
    return {"kind": "note", "text": text}


def step_event(state: State, recipe: Recipe, steps: int) -> dict[str, Any]:
    at = {"epoch": state.epoch + 1, "epochs": recipe.epochs, "step": state.step, "steps": steps}
    return {"kind": "step", **at, **state.sums.means(), "images_per_s": state.sums.images / state.seconds}


def diverged(what: str, run: Run, epoch: int, step: int, lr: float, which: dict[str, Any] | None = None) -> Diverged:
    last = run.folder / "last.safetensors"
    kept = f"{last} is from before" if last.exists() else "nothing was saved before"
    where = told(which) if which else ""
    way = "mend or remove them" if which and which["why"] == "pixels" else "try a smaller rate: --set lr=..."
    return Diverged(f"{what} at step {step} of epoch {epoch + 1} (lr {lr:.4g}){where}; {kept}; {way}")


def stopped(run: Run, tensors: dict[str, Tensor], state: State, signum: signal.Signals, at: str, say: Say) -> Stopped:
    save(run, "last", tensors, state)
    draw(run, say)
    return Stopped(run, signum, at)


def draw(run: Run, say: Say) -> None:
    """The curves; a picture that cannot be drawn stops nothing."""
    try:
        plots.curves(run.epochs(), run.folder / "curves.png")
    except OSError as error:
        say(note(f"{run.folder / 'curves.png'} was not drawn ({error.strerror or error})"))


def weights_of(net: nn.Module, average: Average | None) -> dict[str, Tensor]:
    """The network's tensors by name, and their averages if there are any."""
    return {**net.state_dict(), **(average.tensors() if average else {})}


def everything(net: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None) -> dict[str, Tensor]:
    """The weights, what the optimizer remembers of each parameter, and the state of torch's random numbers."""
    tensors = weights_of(net, average) | optimizers.memory(net, optimizer)
    tensors["random/cpu"] = torch.get_rng_state()
    device = next(net.parameters()).device
    if device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def save(run: Run, name: str, tensors: dict[str, Tensor], state: State) -> None:
    """One checkpoint: the tensors, where training stands, and what the weights are for."""
    about = {k: run.record[k] for k in ABOUT}
    keep = run.folder / checkpoint.PREVIOUS if name == "last" else None
    checkpoint.save(run.folder / f"{name}.safetensors", tensors, {**about, "state": asdict(state)}, keep)


def restore(
    run: Run,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    device: torch.device,
    say: Say,
) -> State:
    """Puts the last checkpoint back where its tensors came from; without one, training starts anew."""
    found = checkpoint.newest(run.folder)
    if found is None:
        if run.log():
            say(note(f"{run.folder} has no checkpoint; training starts anew, from the first step"))
        return State()
    for text in found.notes:
        say(note(text))
    tensors, about = found.tensors, found.state
    if any(about.get(k) != run.record[k] for k in ABOUT):
        raise UserError(f"{found.path} is of another run; put its own back, or train again in another --out")
    net.load_state_dict({name: t for name, t in tensors.items() if "/" not in name})
    optimizers.remember(net, optimizer, tensors)
    if average:
        average.restore(tensors)
    torch.set_rng_state(tensors["random/cpu"])
    if device.type == "cuda" and "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"], device)
    state = State.from_json(about["state"])
    if state.best_epoch:
        try:
            checkpoint.load(run.folder / checkpoint.BEST)
        except UserError as error:
            say(note(f"{error.args[0].partition(';')[0]}; the best of the epochs to come takes its place"))
            state.best_top1, state.best_epoch = -1.0, 0
    return state
