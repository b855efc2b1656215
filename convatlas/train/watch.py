"""Watch: reads what the steps came to, and stops a training that is not finite, saying where and for which images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..runs import checkpoint
from ..runs.log import Log
from .divergence import Diverged, culprits, describe_culprits, not_finite, what_is_bad
from .feed import Feed
from .job import Job
from .meter import Meter
from .schedule import rate
from .state import Position
from .step import Outcome
from .train_state import TrainState

LOWER = "try a smaller learning rate: --set lr=..."


@dataclass
class Watch:
    """What is needed to run a bad step again."""

    state: TrainState
    feed: Feed
    passes: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
    meter: Meter
    log: Log

    def read(self, at: Position, latest: Outcome | None = None) -> None:
        """Reads the steps since the last reading and reports each as an event; `latest` is the last one's outcome.

        Raises Diverged if the loss or a gradient of one was not finite: it and all later ones have changed no weight.
        """
        losses, bad = self.meter.read()
        if bad is not None:
            raise self.diverged(bad, at, latest)
        self.state.random.clear()
        for step, batch_loss in enumerate(losses, at.step - len(losses) + 1):
            self.state.job.on_event(step_event(self.state.job, at, step) | {"batch_loss": batch_loss})

    def diverged(self, bad: int, at: Position, latest: Outcome | None) -> Diverged:
        """Logs step `bad` since the last reading; runs it again unless it is the latest."""
        state, job = self.state, self.state.job
        steps_back = len(state.random) - bad
        step = at.step - steps_back  # from 0
        done = at.epoch * job.steps + step
        outcome = latest if steps_back == 1 else None
        if outcome is None:
            state.rewind(bad)
            state.net.set_progress(done / job.total_steps)
            state.forget_gradients()
            batch = self.feed.batch(at.epoch, step)
            ready = self.feed.prepared(batch)
            loss, logits = self.passes(ready.x, ready.target, batch.size)
            outcome = Outcome(self.meter.bad, ready.indices, ready.x, loss, logits)
        what = what_is_bad(outcome.loss, state.net)
        which = culprits(job.data.train, job.world, outcome.indices, outcome.x, outcome.logits)
        self.log.write("diverged", step=done + 1, epoch=at.epoch + 1, what=what, **which)
        lr = rate(job.recipe, done / job.steps, at.plateau.drops, job.steps, at.warm)
        remedy = "fix or remove them" if which["why"] == "pixels" else LOWER
        where = f"at step {step + 1} of epoch {at.epoch + 1} (lr {lr:.4g}){describe_culprits(which)}"
        return Diverged(f"{what} {where}; {self.what_is_saved()}; {remedy}")

    def check_weights(self, at: Position) -> None:
        """Raises Diverged if a weight or a buffer is not finite."""
        if name := not_finite(self.state.net):
            where = f"at step {at.step} of epoch {at.epoch + 1} (lr {at.lr:.4g})"
            raise Diverged(f"{name} is not finite {where}; {self.what_is_saved()}; {LOWER}")

    def what_is_saved(self) -> str:
        last = self.state.run.folder / checkpoint.LAST
        return f"{last} is from an earlier step" if last.exists() else "no checkpoint was saved before"


def step_event(job: Job, at: Position, step: int) -> dict[str, Any]:
    where = {"epoch": at.epoch + 1, "epochs": job.recipe.epochs, "step": step, "steps": job.steps}
    return {"kind": "step", **where, **at.sums.means(), "images_per_s": at.sums.images / at.seconds}
