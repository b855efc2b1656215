"""Transfer: a trained network and labelled images in, a run folder with a classifier of them out."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..catalogue import Shape
from ..data.types import Data
from ..errors import UserError, unknown
from ..evaluation.scores import Scores, paired
from ..runs.folder import Run
from ..train.events import OnEvent, quiet
from ..train.setup import no_run_in
from ..weights.model import Model, load
from .intervals import Interval, paired_interval
from .probed import Bar, Probed, no_bar, probed, write_run
from .suspects import Suspect, suspects, write_suspects

MODES = ("features",)


@dataclass(frozen=True)
class Transferred:
    """What a transfer came to. `scores` are of the held-out images, which have chosen nothing."""

    run: Run
    mode: str
    probed: Probed
    scores: Scores
    suspects: list[Suspect]
    seconds: float

    @property
    def beside_probe(self) -> tuple[float, Interval]:
        """How much more accurate the run is than the probe on the held-out images, with its 95% interval."""
        both = paired(self.probed.scores, self.scores)
        return paired_interval(both.first, both.second, self.scores.n)

    def to_json(self) -> dict[str, Any]:
        """As plain data; accuracies are shares."""
        found = self.probed
        difference, (low, high) = self.beside_probe
        return {
            "run": str(self.run.folder),
            "network": self.run.network,
            "weights": found.model.source,
            "mode": self.mode,
            "data": found.data.name,
            "classes": list(found.data.classes),
            "train_images": len(found.data.train),
            "features": found.train.values.shape[1],
            "strength": found.probe.strength,
            "cross_validated_losses": {f"{strength:g}": loss for strength, loss in found.probe.losses.items()},
            "cross_validated": scored(found.cross_validated),
            "split": found.split.name,
            "probe": scored(found.scores),
            "scores": scored(self.scores),
            "beside_probe": {"difference": difference, "low": low, "high": high},
            "suspects": [asdict(it) for it in self.suspects],
            "seconds": self.seconds,
        }


def scored(scores: Scores) -> dict[str, Any]:
    low, high = scores.interval()
    return {"images": scores.n, "top1": scores.top1, "low": low, "high": high, "loss": scores.loss}


def transfer(
    model: Model | Run | str | Path,
    data: Data,
    *,
    out: str | Path,
    mode: str = "features",
    balance: bool = False,
    input: Shape | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    resume: bool = False,
    bar: Bar = no_bar,
    on_event: OnEvent = quiet,
) -> Transferred:
    """Makes a classifier of the data's classes from a trained model (see `load`), in the run folder `out`.

    `mode` "features" keeps the network and fits logistic regression to what its classifier reads (see probe.py). The
    images of test, or of val where there is no test, are only judged on. With `balance` each class has the same weight.
    `resume` goes on in `out`, if it was stopped there. `bar` makes a progress bar of what is done; `on_event` hears
    what is chosen, and of training.

    Raises UserError for an unknown mode, a folder that has a run already, a network that cannot be transferred, and a
    class with fewer than two training images.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("a transfer runs in one process", "start it without torchrun")
    began, folder = time.perf_counter(), Path(out)
    if not resume:
        no_run_in(folder)
    found = probed(
        load(model),
        data,
        input=input,
        balance=balance,
        seed=seed,
        device=device,
        workers=workers,
        bar=bar,
        on_event=on_event,
    )
    suspected = suspects(found.probe.held_out, found.data.train)
    run, scores = write_run(found, folder, seed=seed, on_event=on_event), found.scores
    write_suspects(folder, suspected)
    return Transferred(run, mode, found, scores, suspected, time.perf_counter() - began)
