"""The demonstration: LeNet-5 learns real handwritten digits, and is tried on digits that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import torch
from PIL import Image

from .catalogue import find
from .data.sources import load_data
from .data.types import Data, MemorySplit
from .errors import UserError
from .evaluation.predictions import Prediction, predict
from .evaluation.scores import Scores
from .evaluation.scoring import evaluate_split
from .recipes import find_recipe
from .report import charts
from .runs.folder import Run
from .train.fit import fit
from .train.progress import OnEvent, quiet
from .weights.model import load

NETWORK, RECIPE = "lenet5", "digits"
SHOWN = 18  # images in the picture
MISTAKES = 6  # of them at most so many that the network gets wrong, where there are any


@dataclass(frozen=True)
class Demo:
    """What the demonstration made; `indices` says which held-out digits the files and the predictions are of."""

    run: Run
    scores: Scores
    indices: tuple[int, ...]
    predictions: tuple[Prediction, ...]


def demo(
    out: Path | None = None,
    seed: int = 0,
    *,
    device: str | torch.device = "cpu",
    on_event: OnEvent = quiet,
    tell: Callable[[str], None] = lambda text: None,
) -> Demo:
    """Trains, evaluates and predicts; everything is left in the folder `out` (default: `fresh_folder()`).

    The weights of the last epoch are scored, not those of the best: the best would be chosen by the very images that
    it is scored on. `say` is told of each training step (see `fit`), `tell` in plain sentences what is done.
    Raises UserError when `out` is there and is not empty.
    """
    out = fresh_folder() if out is None else out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already, and not empty", "give the demonstration a new folder with --out")
    data, variant = load_data("digits"), find(NETWORK)
    assert data.test is not None
    tell(
        f"Training {variant.name} on {len(data.train):,} handwritten digits of 8x8 pixels (scikit-learn's); "
        f"{len(data.test)} others are held out."
    )
    run = fit(variant, data, find_recipe(RECIPE), out=out, seed=seed, device=str(device), on_event=on_event)

    tell(f"Evaluating the last epoch's weights on the {len(data.test)} digits that were held out.")
    net = run.load("last", device)
    scores = evaluate_split(net, data.test, run.normalizer, device=device)

    indices = chosen(scores)
    tell(f"Writing {len(indices)} of them as PNG files, and predicting the files.")
    files = write_images(data, indices, out / "images")
    predictions = predict(load(run, "last"), files, top=3, device=device)
    for i, prediction in zip(indices, predictions, strict=True):
        assert prediction.ranked[0][0] == scores.classes[scores.predicted[i]], "a file is taken for what its pixels are"

    charts.confusion(scores.confusion, scores.classes, out / "confusion.png")
    picture(data, scores, indices, predictions, out / "predictions.png")
    return Demo(run, scores, indices, tuple(predictions))


def fresh_folder(parent: Path = Path("runs")) -> Path:
    """runs/demo, or the first of runs/demo-2, runs/demo-3 ... that is not there."""
    return next(at for n in count(1) if not (at := parent / ("demo" if n == 1 else f"demo-{n}")).exists())


def chosen(scores: Scores) -> tuple[int, ...]:
    """SHOWN images: the worst mistakes (the highest losses, at most MISTAKES), the others evenly spaced; in order."""
    wrong = (scores.ranks > 0).nonzero()[:, 0]
    worst = wrong[scores.losses[wrong].argsort(descending=True)][:MISTAKES].tolist()
    right = (scores.ranks == 0).nonzero()[:, 0]
    spaced = torch.linspace(0, len(right) - 1, min(SHOWN - len(worst), len(right))).round().long()
    return tuple(sorted({*worst, *right[spaced].tolist()}))


def write_images(data: Data, indices: tuple[int, ...], folder: Path) -> list[Path]:
    """The held-out digits at `indices` as grey PNG files of their own 8x8 pixels, named by index and class."""
    assert isinstance(data.test, MemorySplit)
    folder.mkdir()
    files = []
    for i in indices:
        files.append(folder / f"{i:03}-is-{data.classes[data.test.labels[i]]}.png")
        Image.fromarray(data.test.images[i, 0].numpy()).save(files[-1])
    return files


def picture(data: Data, scores: Scores, indices: tuple[int, ...], predictions: list[Prediction], path: Path) -> None:
    """The images, each under what it was taken for, and whether that is right."""
    assert isinstance(data.test, MemorySplit)
    titles = []
    for i, prediction in zip(indices, predictions, strict=True):
        name, probability = prediction.ranked[0]
        is_right = scores.ranks[i] == 0
        truth = "right" if is_right else f"WRONG: is a {scores.classes[scores.labels[i]]}"
        titles.append(f"{name} ({probability:.0%})\n{truth}")
    charts.predictions([data.test.images[i] for i in indices], titles, path)
