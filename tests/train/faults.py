"""Small trainings in processes of their own, to be killed: what tests/test_faults.py does to them is told there.

The processes are forked from one that has torch imported (multiprocessing's forkserver), so each costs a fraction of a
second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convatlas.errors import UserError
from convatlas.evaluation import views
from convatlas.recipe import EMA, SGD, Cosine, Recipe, RMSProp
from convatlas.runs import checkpoint
from convatlas.runs.folder import open_run
from convatlas.train import feed, passes
from convatlas.train import fit as module
from convatlas.train.divergence import Diverged
from convatlas.train.events import Event
from convatlas.train.execution import Execution
from convatlas.train.fit import Stopped, fit
from convatlas.train.loss import loss_of
from tests.trained import digits

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.train.faults_warm"])

MOMENTUM = Recipe(
    name="sgd",
    source="a test",
    epochs=3,
    batch=16,
    optimizer=SGD(0.1, nesterov=True, weight_decay=1e-3),
    schedule=Cosine(),
    augment=("pad_crop:1", "flip"),
    net=(("depth", 10), ("width", 1)),
)  # of a network with batch norm and dropout
RMSPROP = replace(MOMENTUM, name="rmsprop", optimizer=RMSProp(0.01, weight_decay=1e-3), ema=EMA(0.9))
NETWORK = "wrn16_4_dropout"


@dataclass(frozen=True)
class Cell:
    """One way to train."""

    optimizer: str  # "sgd" or "rmsprop", which keeps averaged weights
    world: int
    workers: int
    mixup: bool
    saves: str  # "each step" or "each epoch"

    @property
    def recipe(self) -> Recipe:
        recipe = {"sgd": MOMENTUM, "rmsprop": RMSPROP}[self.optimizer]
        return replace(recipe, augment=(*recipe.augment, "mixup:0.4")) if self.mixup else recipe

    @property
    def execution(self) -> Execution:
        every = 0.0 if self.saves == "each step" else 1e9
        return Execution(precision="float32", micro_batch=16, workers=self.workers, save_every_s=every)

    def __str__(self) -> str:
        mixup = "mixup" if self.mixup else "plain"
        return f"{self.optimizer}, {self.world} ranks, {self.workers} workers, {mixup}, saved {self.saves}"


@dataclass(frozen=True)
class Blow:
    """A signal that a training sends itself: at the n-th time that it comes to a place, and once more if `twice`."""

    where: str  # "load", "forward", "backward" (within a step), "step" (after it), "test", "save" (between the writing
    # and the renaming) or "log"; "pixels": see `poison`; "unreadable", "unjudged", "folder": see `spoil`
    n: int
    signum: signal.Signals = signal.SIGKILL
    twice: bool = False


def train(
    cell: Cell,
    out: Path,
    rank: int,
    port: int,
    resume: bool,
    failures: int,
    blow: Blow | None,
    describe_culprits: Path | None,
) -> None:
    """In a process of its own: trains, or goes on; its exit status is the command line's."""
    torch.set_num_threads(1)
    if cell.world > 1:
        os.environ.update(TORCHELASTIC_RUN_ID="test", TORCHELASTIC_RESTART_COUNT=str(failures))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(cell.world))
    on_event = struck(blow, describe_culprits) if blow and rank == 0 else lambda event: None
    if blow and blow.where == "pixels" and rank == cell.world - 1:
        poison(blow.n)
    if blow and (blow.where, rank) in (("unreadable", cell.world - 1), ("unjudged", 0), ("folder", 0)):
        spoil(blow, out)
    status = 0
    try:
        fit(
            NETWORK,
            digits(72, 32),
            cell.recipe,
            out=out,
            device="cpu",
            input=(1, 8, 8),
            execution=cell.execution,
            resume=resume,
            on_event=on_event,
        )
    except Stopped as stop:
        status = 128 + stop.signum
    except Diverged:
        status = 1
    except UserError:
        status = 2
    except KeyboardInterrupt:
        status = 130
    except BaseException as error:  # of a rank whose partner was killed
        print(repr(error), file=sys.stderr)
        status = 3
    os._exit(status)


def struck(blow: Blow, describe_culprits: Path | None) -> Callable[[Event], None]:
    """A `say` that strikes at steps; other places are struck by what is put in their functions' place."""
    left = [blow.n]

    def strike(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            if describe_culprits:
                describe_culprits.write_text(str(time.monotonic()))
            for _ in range(1 + blow.twice):
                os.kill(os.getpid(), blow.signum)

    def before(call: Callable[..., Any]) -> Callable[..., Any]:
        def both(*args: Any, **more: Any) -> Any:
            strike()
            return call(*args, **more)

        return both

    def after_forward(*args: Any) -> tuple[Tensor, Tensor]:
        loss, logits = loss_of(*args)
        if blow.where == "forward":
            strike()
        else:
            loss.register_hook(strike)
        return loss, logits

    if blow.where == "load":
        feed.augment = before(feed.augment)
    if blow.where in ("forward", "backward"):
        passes.loss_of = after_forward
    if blow.where == "test":
        module.evaluate_split = before(module.evaluate_split)
    if blow.where == "save":
        checkpoint.os.replace = before(os.replace)
    if blow.where == "log":
        module.Log.write = before(module.Log.write)  # type: ignore[method-assign]
    return lambda event: strike() if blow.where == event["kind"] == "step" else None


def poison(n: int) -> None:
    """The first image of this process's n-th batch gets a pixel that is no number."""
    left, normalise = [n], feed.normalise

    def spoilt(*args: Any) -> Any:
        x = normalise(*args)
        left[0] -= 1
        if left[0] == 0:
            x[0, 0, 2, 2] = torch.nan
        return x

    feed.normalise = spoilt


def spoil(blow: Blow, out: Path) -> None:
    """This process's n-th batch cannot be read: of training images, or of those that judge; or there the run folder is
    deleted."""
    at = views if blow.where == "unjudged" else feed
    left, fetched = [blow.n], at.fetched

    def failing(*args: Any, **more: Any) -> Iterator[Tensor]:
        for images in fetched(*args, **more):
            left[0] -= 1
            if left[0] == 0 and blow.where == "folder":
                shutil.rmtree(out)
            elif left[0] == 0:
                raise UserError("x.jpg is a broken image")
            yield images

    at.fetched = failing


def start(
    cell: Cell, out: Path, blow: Blow | None = None, describe_culprits: Path | None = None, failures: Sequence[int] = ()
) -> list[ForkServerProcess]:
    """The training's processes, begun; with the number of `failures` that torchrun tells each of, no --resume."""
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        port = it.getsockname()[1]
    out.parent.mkdir(parents=True, exist_ok=True)
    resume = not failures and (out / "run.json").exists()
    processes = [
        CONTEXT.Process(target=train, args=(cell, out, rank, port, resume, count, blow, describe_culprits), daemon=True)
        for rank, count in enumerate(failures or [0] * cell.world)
    ]
    for process in processes:
        process.start()
    return processes


def wait(processes: list[ForkServerProcess], seconds: float = 60.0) -> list[int | None]:
    """Their exit statuses, as multiprocessing tells them: -9 is killed.

    When one is killed, the others get a SIGTERM, as from torchrun, which looks every 0.1 s: one that waits for its
    partner to come would do so for minutes.
    """
    ended = connection.wait([process.sentinel for process in processes], seconds)
    if len(ended) < len(processes):
        time.sleep(0.1)
        if any(process.exitcode == -signal.SIGKILL for process in processes):
            for process in processes:
                process.terminate()
    for process in processes:
        process.join(seconds)
        if process.exitcode is None:
            for other in processes:
                other.kill()
            raise AssertionError(f"a process still runs after {seconds} s")
    return [process.exitcode for process in processes]


def finish(cell: Cell, out: Path) -> None:
    assert wait(start(cell, out)) == [0] * cell.world


def result(out: Path) -> tuple[Any, ...]:
    """All of a finished run that must not depend on what happened to it on the way: weights and all, byte for byte."""
    last, state = checkpoint.load(out / checkpoint.LAST)
    best, _ = checkpoint.load(out / checkpoint.BEST)
    log = [{k: v for k, v in line.items() if k != "images_per_s"} for line in open_run(out).log()]
    return (
        {name: (t.dtype, tuple(t.shape), t.numpy().tobytes()) for name, t in last.items()},
        {name: (t.dtype, tuple(t.shape), t.numpy().tobytes()) for name, t in best.items()},
        {**state["state"], "seconds": 0},
        json.dumps(log),
    )
