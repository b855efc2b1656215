"""Training on from a probe, by the usual loop, and whether that pays: by cross-validation on the training images."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ..catalogue import find
from ..data.types import Data
from ..recipe import Recipe
from ..runs import checkpoint
from ..runs.checkpoint import NORMALIZER
from ..runs.folder import Run
from ..train.events import Event, OnEvent, quiet
from ..train.execution import Execution
from ..train.fit import fit
from ..train.setup import make_folder
from .classifier import with_probe
from .intervals import Interval, repeated_interval
from .probe import FOLDS, Probe, fitted, folds
from .probed import Bar, Probed, no_bar

START = "start.safetensors"  # in the run folder: the network with the probe as its classifier
REPEATS = 2
TIMED = 3  # steps, of which the first is not measured


@dataclass(frozen=True)
class Comparison:
    """Tuning beside the probe, on training images that neither has seen."""

    differences: tuple[float, ...]  # of the accuracies, one for each fold of each repetition
    difference: float
    interval: Interval

    @property
    def pays(self) -> bool:
        return self.interval[0] > 0


def tune(
    found: Probed,
    recipe: Recipe,
    out: Path,
    *,
    data: Data | None = None,
    probe: Probe | None = None,
    seed: int = 0,
    device: str = "cpu",
    workers: int | None = None,
    resume: bool = False,
    on_event: OnEvent = quiet,
) -> Run:
    """Trains the network on from the probe, into the run folder `out`; a run that was stopped is resumed.

    `data` and `probe` take the place of those that were found. Raises as `fit` does.
    """
    data, probe = data or found.data, probe or found.probe
    if not resume:
        make_folder(out)
        write_start(found, probe, recipe, out / START)
    return fit(
        find(found.model.network),
        data,
        recipe,
        out=out,
        seed=seed,
        device=device,
        execution=Execution(workers=workers, graph=False, compile=False),
        normalizer=found.model.normalizer,
        init=None if resume else out / START,
        resume=resume,
        on_event=on_event,
    )


def write_start(found: Probed, probe: Probe, recipe: Recipe, file: Path) -> None:
    """The network with the probe as its classifier, as a weights file."""
    normalizer = found.model.normalizer
    shape = normalizer.preprocess.input
    about: dict[str, Any] = {
        "network": found.model.network,
        "options": {**dict(recipe.net), "input": list(shape), "classes": len(found.data.classes)},
        "preprocess": normalizer.preprocess.to_json(),
        "classes": list(found.data.classes),
    }
    measured = {f"{NORMALIZER}{name}": tensor for name, tensor in normalizer.tensors.items()}
    checkpoint.save(file, with_probe(found.model, probe).state_dict() | measured, about)


def compare(
    found: Probed,
    recipe: Recipe,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    device: str = "cpu",
    workers: int | None = None,
    bar: Bar = no_bar,
    on_event: OnEvent = quiet,
) -> Comparison:
    """Tuning and the probe in FOLDS-fold cross-validation on the training images, `repeats` times, paired by fold.

    The probe has the strength that was chosen on all training images, which favours it a little.
    """
    parts = list(parted(found, repeats, seed))
    progress = bar(f"comparing {recipe.name} with the probe")
    differences = []
    for i, (inside, left_out) in zip(progress(range(len(parts))), parts):
        differences.append(difference(found, recipe, inside, left_out, seed + i, device, workers))
    return Comparison(tuple(differences), *repeated_interval(differences, FOLDS))


class Enough(Exception):
    """Steps that were to be timed are done."""


def seconds_to_compare(
    found: Probed,
    recipe: Recipe,
    *,
    repeats: int = REPEATS,
    seed: int = 0,
    device: str = "cpu",
    workers: int | None = None,
    on_event: OnEvent = quiet,
) -> float:
    """What `compare` would take, by a few steps; 0 where it has no more than those."""
    parts = list(parted(found, repeats, seed))
    times: list[float] = []

    def watch(event: Event) -> None:
        if event["kind"] == "step":
            times.append(time.perf_counter())
            if len(times) == TIMED:
                raise Enough

    try:
        difference(found, recipe, *parts[0], seed, device, workers, watch)
    except Enough:
        steps = len(parts) * recipe.epochs * -(-len(parts[0][0]) // recipe.batch)
        return steps * (times[-1] - times[0]) / (TIMED - 1)
    return 0.0


def parted(found: Probed, repeats: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The images to train on, and those that are left out, of each fold of each repetition."""
    for repeat in range(repeats):
        fold = folds(found.train.labels, seed + 1 + repeat)
        for k in fold.unique().tolist():
            yield (fold != k).nonzero()[:, 0], (fold == k).nonzero()[:, 0]


def difference(
    found: Probed,
    recipe: Recipe,
    inside: Tensor,
    left_out: Tensor,
    seed: int,
    device: str,
    workers: int | None,
    on_event: OnEvent = quiet,
) -> float:
    """How much more accurate tuning on some images is than the probe of them, on the images that are left out."""
    values, labels = found.train.values, found.train.labels
    x, y = values[inside], labels[inside]
    ((weight, bias),) = fitted(x, y, (found.probe.strength,), balance=found.balance, intercept=found.intercept)
    probe = replace(found.probe, weight=weight, bias=bias)
    by_probe = found.scored(probe(values[left_out]), labels[left_out]).top1
    split = found.data.train
    data = replace(
        found.data,
        train=split.part(inside, "train", split.provenance),
        val=None,
        test=split.part(left_out, "test", split.provenance),
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        run = tune(
            found, recipe, out, data=data, probe=probe, seed=seed, device=device, workers=workers, on_event=on_event
        )
        return float(run.epochs()[-1]["test"]["top1"]) - by_probe
