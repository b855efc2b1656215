"""A model's features of a data set and the probe that reads them: what every transfer begins with, and one is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor

from ..catalogue import Shape, find
from ..data.types import Data, Split
from ..evaluation.scores import Scores, scores_of, usual_topk
from ..layers import ConvNet
from ..machine.processes import World
from ..recipe import SGD, Recipe
from ..runs import checkpoint
from ..runs.checkpoint import NORMALIZER
from ..runs.folder import Run, open_run
from ..runs.log import Log, write_csv
from ..train.events import OnEvent, note, quiet
from ..train.execution import Execution
from ..train.job import Job
from ..train.setup import begin
from ..train.state import Position
from ..weights.model import Model
from .classifier import has_bias, options_of, suited, with_probe
from .features import Features, features_of
from .kept_probe import probe_of
from .probe import FOLDS, Probe

PROBE = "probe"  # the name of its recipe
UNEVEN = 3  # times as many images of one class as of another, from which it is said

Bar = Callable[[str], Callable[[Sequence[int]], Iterable[int]]]  # makes a progress bar of what is done


def no_bar(what: str) -> Callable[[Sequence[int]], Iterable[int]]:
    return iter


@dataclass(frozen=True)
class Probed:
    """A model, a data set, the features of its training and its held-out images, and the probe."""

    model: Model
    data: Data  # nothing is chosen on its held-out images
    train: Features
    held_out: Features
    probe: Probe
    seconds: float
    balance: bool = False

    @property
    def split(self) -> Split:
        """The held-out images."""
        return self.data.split()

    @property
    def intercept(self) -> bool:
        """Whether the classifier has a bias."""
        return bool(self.probe.bias.any())

    @cached_property
    def net(self) -> ConvNet:
        """The network whose logits are the probe's."""
        return with_probe(self.model, self.probe)

    @cached_property
    def scores(self) -> Scores:
        """On the held-out images."""
        return self.scored(self.probe(self.held_out.values), self.held_out.labels)

    @cached_property
    def cross_validated(self) -> Scores:
        """On the training images, each by a probe that was fitted without its fold."""
        return self.scored(self.probe.held_out, self.train.labels)

    def scored(self, logits: Tensor, labels: Tensor) -> Scores:
        return scores_of(logits, labels, self.data.classes)


def probed(
    model: Model,
    data: Data,
    *,
    input: Shape | None = None,
    balance: bool = False,
    seed: int = 0,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    bar: Bar = no_bar,
    on_event: OnEvent = quiet,
) -> Probed:
    """The features of the training and the held-out images, and the probe of them; each choice is said as a note.

    The images of test are held out, or those of val if there is no test: the probe learns from, and is chosen on, the
    training images alone. Raises UserError as `suited`, `features_of` and `fit_probe` do.
    """
    began = perf_counter()
    before = len(model.notes)
    model = suited(model, data, input)
    for text in model.notes[before:]:
        on_event(note(text))
    if data.test is None:
        data = replace(data, val=None, test=data.val)
    if text := unevenness(data, balance):
        on_event(note(text))
    intercept = has_bias(model, len(data.classes))
    found = [
        features_of(model, split, device=device, workers=workers, progress=bar(f"features of {split.name}"))
        for split in (data.train, data.split())
    ]
    train, held_out = found
    cached = sum(it.cached for it in found)
    every = len(train.labels) + len(held_out.labels)
    on_event(
        note(
            f"features: {train.values.shape[1]:,} numbers of each image, what the classifier of {model.network} reads; "
            f"{cached:,} of {every:,} images from the cache"
        )
    )
    for it in found:
        if it.note:
            on_event(note(it.note))
    progress = bar("cross-validating the probe")
    probe = probe_of(
        train.values,
        train.labels,
        data.classes,
        seed=seed,
        balance=balance,
        intercept=intercept,
        progress=progress,
    )
    on_event(
        note(
            f"probe: logistic regression, strength C={probe.strength:g}: of {len(probe.losses)} the lowest loss in "
            f"{FOLDS}-fold cross-validation on the training images"
        )
    )
    return Probed(model, data, train, held_out, probe, perf_counter() - began, balance)


def unevenness(data: Data, balance: bool) -> str:
    """Says that some classes have many more training images than others; empty if none have."""
    counts = torch.bincount(data.train.labels.cpu(), minlength=len(data.classes))
    most, fewest = int(counts.argmax()), int(counts.argmin())
    if counts[most] < UNEVEN * counts[fewest]:
        return ""
    what = f"the classes are uneven: {counts[most]:,} training images of {data.classes[most]}, {counts[fewest]:,} of "
    how = "each class weighs the same" if balance else "--balance gives each class the same weight"
    return f"{what}{data.classes[fewest]}; {how}"


def probe_recipe(found: Probed) -> Recipe:
    """What the run of a probe was trained by: no steps of an optimizer, but scikit-learn's solver."""
    images = len(found.data.train)
    return Recipe(
        name=PROBE,
        source=f"logistic regression on features (scikit-learn), C={found.probe.strength:g}",
        ladder="own",
        epochs=1,
        batch=max(2, images // 2),
        optimizer=SGD(0.0),
        net=tuple(options_of(found.model, len(found.data.classes)).items()),
        departures=("the classifier is fitted to the features of all training images at once, and all else is kept",),
    )


def write_run(found: Probed, out: Path, *, seed: int = 0, on_event: OnEvent = quiet) -> Run:
    """The run folder of the probe, as `fit` leaves one but for the curves, which would be single points.

    A folder in which this was stopped before is finished. Raises UserError as `begin` does.
    """
    execution = Execution(precision="float32", micro_batch=1, workers=0, graph=False, compile=False)
    job = Job(
        variant=find(found.model.network),
        data=found.data,
        recipe=probe_recipe(found),
        input=None,
        seed=seed,
        device=torch.device("cpu"),
        execution=execution,
        world=World(),
        on_event=on_event,
        normalizer=found.model.normalizer,
    )
    with ExitStack() as held:
        run = begin(job, out, (out / "run.json").exists(), None, held)
        log = Log(out / "log.jsonl", 0, 0)
        fitted = found.scored(found.probe(found.train.values), found.train.labels)
        top = usual_topk(len(found.data.classes))
        line = {
            "lr": 0.0,
            "train": {"loss": fitted.loss, "top1": fitted.top1},
            found.split.name: {"loss": found.scores.loss, **{f"top{k}": found.scores.top(k) for k in top}},
            "images_per_s": len(found.data.train) / found.seconds,
        }
        log.write("epoch", step=job.steps, epoch=1, **line)
        tensors = found.net.state_dict()
        tensors |= {f"{NORMALIZER}{name}": t for name, t in run.normalizer.tensors.items()}
        at = asdict(Position(epoch=1))
        checkpoint.save(out / checkpoint.LAST, tensors, {**run.record.identity, "state": at})
        write_csv(out / "log.csv", run.epochs())
    return open_run(out)
