"""Transfer: a trained network and labelled images in, a run folder with a classifier of them out."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..catalogue import Shape
from ..data.types import Data
from ..errors import UserError, unknown
from ..evaluation.scores import Scores, paired
from ..evaluation.scoring import evaluate_split
from ..recipe import Recipe, with_batch, with_epochs, with_settings
from ..runs.folder import Run, open_run
from ..runs.record import FILE
from ..train.events import OnEvent, note, quiet
from ..train.setup import no_run_in
from ..weights.model import Model, load
from .augmentation import Augmentation, losses
from .embeddings import Nearest, nearest_of
from .intervals import Interval, paired_interval
from .probe import FOLDS
from .probed import PROBE, Bar, Probed, no_bar, probed, write_run
from .recipes import choices, recipe_of
from .suspects import Suspect, suspects, write_suspects
from .tune import REPEATS, Comparison, compare, seconds_to_compare, tune

MODES = ("auto", "features", "head", "finetune", "gradual")
BUDGET_S = 120.0  # of the comparison by which auto decides


@dataclass(frozen=True)
class Transferred:
    """What a transfer came to. `scores` are of the held-out images, which have chosen nothing."""

    run: Run
    mode: str
    probed: Probed
    scores: Scores
    suspects: list[Suspect]
    nearest: Nearest  # neighbours, without any fitting
    seconds: float
    comparison: Comparison | None = None  # by which auto decided

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
            "nearest": self.nearest.to_json(),
            "probe": scored(found.scores),
            "scores": scored(self.scores),
            "beside_probe": {"difference": difference, "low": low, "high": high},
            "comparison": self.comparison and compared(self.comparison),
            "suspects": [asdict(it) for it in self.suspects],
            "seconds": self.seconds,
        }


def scored(scores: Scores) -> dict[str, Any]:
    low, high = scores.interval()
    return {"images": scores.n, "top1": scores.top1, "low": low, "high": high, "loss": scores.loss}


def compared(comparison: Comparison) -> dict[str, Any]:
    low, high = comparison.interval
    each = list(comparison.differences)
    return {"difference": comparison.difference, "low": low, "high": high, "folds": each, "pays": comparison.pays}


def transfer(
    model: Model | Run | str | Path,
    data: Data,
    *,
    out: str | Path,
    mode: str = "auto",
    changes: Sequence[str] = (),
    epochs: int | None = None,
    batch: int | None = None,
    balance: bool = False,
    budget_s: float = BUDGET_S,
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
    others train on from that probe (see recipes.py): "head" the classifier alone, "finetune" all of the network,
    "gradual" one part after another. "auto" is finetune where that is better in repeated cross-validation on the
    training images, paired, and features otherwise, also where the comparison would take longer than `budget_s`.
    `changes` (as --set takes them), `epochs` and `batch` change the recipe of training.

    The images of test, or of val where there is no test, are only judged on. With `balance` each class has the same
    weight. `resume` goes on in `out`, if it was stopped there. `bar` makes a progress bar of what is done; `on_event`
    hears what is chosen, and of training.

    Raises UserError for an unknown mode or setting, a folder that has a run already, a network that cannot be
    transferred, and a class with fewer than two training images; Diverged and Stopped as `fit` does.
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
    begun = open_run(folder).recipe.name if resume and (folder / FILE).exists() else None
    asked = changes, epochs, batch
    how: dict[str, Any] = {"seed": seed, "device": str(device), "workers": workers, "on_event": on_event}
    if mode == "auto" and begun is not None:
        mode = "features" if begun == PROBE else "finetune"
    elif mode == "auto" and not worth_comparing(found, changed(recipe_of("finetune", found), *asked), budget_s, how):
        mode = "features"
    comparison = recipe = None
    if mode != "features":
        ops = suitable(found, changes, bar, how) if mode != "head" else ()  # a head learns from what the probe did
        recipe = changed(recipe_of("finetune" if mode == "auto" else mode, found, ops), *asked)
    if mode == "auto" and recipe:
        comparison = compared_with_probe(found, recipe, bar, how)
        mode = "finetune" if comparison.pays else "features"
    if mode == "features" or not recipe:
        run, scores = write_run(found, folder, seed=seed, on_event=on_event), found.scores
    else:
        for line in choices(recipe, len(data.train)):
            on_event(note(line))
        run = tune(found, recipe, folder, resume=begun is not None, **how)
        scores = judged(run, found, device, workers, bar)
    write_suspects(folder, suspected)
    near = nearest_of(found)
    return Transferred(run, mode, found, scores, suspected, near, time.perf_counter() - began, comparison)


def changed(recipe: Recipe, changes: Sequence[str], epochs: int | None, batch: int | None) -> Recipe:
    recipe = with_epochs(recipe, epochs) if epochs is not None else recipe
    recipe = with_batch(recipe, batch) if batch is not None else recipe
    return with_settings(recipe, changes)


def worth_comparing(found: Probed, recipe: Recipe, budget_s: float, how: dict[str, Any]) -> bool:
    """Whether tuning has anything to gain on the probe, and is compared with it in time; says why not."""
    on_event = how["on_event"]
    if found.cross_validated.top1 == 1:
        on_event(note("the probe has every training image right in cross-validation: there is nothing to gain"))
        return False
    seconds = seconds_to_compare(found, recipe, **how)
    if seconds > budget_s:
        what = f"comparing {recipe.name} with the probe by {REPEATS} x {FOLDS}-fold cross-validation would take about"
        on_event(note(f"{what} {seconds / 60:.0f} minutes, over --budget: stays with the probe"))
    return seconds <= budget_s


def suitable(found: Probed, changes: Sequence[str], bar: Bar, how: dict[str, Any]) -> Augmentation:
    """The augmentation that suits the images, unless the user sets it; says by what it is chosen."""
    if any(change.partition("=")[0].strip() == "augment" for change in changes):
        return ()
    each = {name: how[name] for name in ("seed", "device", "workers")}
    tried = losses(found, bar=bar, **each)
    listed = ", ".join(f"{','.join(ops) or 'none'} {loss:.4f}" for ops, loss in tried.items())
    how["on_event"](note(f"augmentation: cross-validated loss of a probe that has copies to learn from: {listed}"))
    return min(tried, key=lambda ops: tried[ops])


def compared_with_probe(found: Probed, recipe: Recipe, bar: Bar, how: dict[str, Any]) -> Comparison:
    """Tuning and the probe in cross-validation; says what came."""
    comparison = compare(found, recipe, bar=bar, **how)
    low, high = (100 * bound for bound in comparison.interval)
    what = f"{recipe.name} beside the probe, cross-validated: {100 * comparison.difference:+.2f} points"
    then = "trains on" if comparison.pays else "stays with the probe"
    how["on_event"](note(f"{what} ({low:+.2f} to {high:+.2f}): {then}"))
    return comparison


def judged(run: Run, found: Probed, device: str | torch.device, workers: int | None, bar: Bar) -> Scores:
    """The scores of the run on the held-out images."""
    progress = bar("evaluating")
    return evaluate_split(run.load(), found.split, run.normalizer, device=device, workers=workers, progress=progress)
