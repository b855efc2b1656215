"""The demo: trains LeNet-5 on real handwritten digits and tests it on held-out ones."""

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
from .evaluation.scoring import evaluate
from .recipes import find_recipe
from .report import charts
from .runs.folder import Run
from .train.events import OnEvent, quiet
from .train.fit import fit
from .weights.model import load

NETWORK, RECIPE = "lenet5", "digits"
SHOWN = 18  # images in the picture
MISTAKES = 6  # at most so many of them are misclassified


@dataclass(frozen=True)
class Demo:
    """The run, its scores, and the predictions for the held-out digits at `indices`, made from image files."""

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
    """Trains, evaluates and predicts, and writes everything to the folder `out` (default: `fresh_folder()`).

    The weights of the last epoch are evaluated: the digits have no validation split to choose an epoch by. `on_event`
    gets each training step (see `fit`), `tell` plain sentences. Raises UserError when `out` exists and is not empty.
    """
    out = fresh_folder() if out is None else out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists and is not empty", "give a new folder with --out")
    data, variant = load_data("digits"), find(NETWORK)
    assert data.test is not None
    tell(
        f"Training {variant.name} on {len(data.train):,} handwritten digits of 8x8 pixels (scikit-learn's); "
        f"{len(data.test)} more are held out."
    )
    run = fit(variant, data, find_recipe(RECIPE), out=out, seed=seed, device=str(device), on_event=on_event)

    tell(f"Evaluating the last epoch's weights on the {len(data.test)} held-out digits.")
    model = load(run, "last", device)
    scores = evaluate(model, data, device=device)

    indices = chosen(scores)
    tell(f"Writing {len(indices)} of them as PNG files, and predicting from the files.")
    files = write_images(data, indices, out / "images")
    predictions = predict(model, files, top=3, device=device)
    for i, prediction in zip(indices, predictions, strict=True):
        assert prediction.ranked[0][0] == scores.classes[scores.predicted[i]], (
            "a file and its pixels get the same prediction"
        )

    charts.confusion(scores.confusion, scores.classes, out / "confusion.png")
    picture(data, scores, indices, predictions, out / "predictions.png")
    return Demo(run, scores, indices, tuple(predictions))


def fresh_folder(parent: Path = Path("runs")) -> Path:
    """runs/demo, or the first of runs/demo-2, runs/demo-3 ... that does not exist."""
    return next(at for n in count(1) if not (at := parent / ("demo" if n == 1 else f"demo-{n}")).exists())


def chosen(scores: Scores) -> tuple[int, ...]:
    """SHOWN images, in order: the worst mistakes (highest loss, at most MISTAKES), and others evenly spaced."""
    wrong = (scores.ranks > 0).nonzero()[:, 0]
    worst = wrong[scores.losses[wrong].argsort(descending=True)][:MISTAKES].tolist()
    right = (scores.ranks == 0).nonzero()[:, 0]
    spaced = torch.linspace(0, len(right) - 1, min(SHOWN - len(worst), len(right))).round().long()
    return tuple(sorted({*worst, *right[spaced].tolist()}))


def write_images(data: Data, indices: tuple[int, ...], folder: Path) -> list[Path]:
    """Writes the held-out digits at `indices` as greyscale 8x8 PNG files, named by index and class."""
    assert isinstance(data.test, MemorySplit)
    folder.mkdir()
    files = []
    for i in indices:
        files.append(folder / f"{i:03}-is-{data.classes[data.test.labels[i]]}.png")
        Image.fromarray(data.test.images[i, 0].numpy()).save(files[-1])
    return files


def picture(data: Data, scores: Scores, indices: tuple[int, ...], predictions: list[Prediction], path: Path) -> None:
    """Draws the images, each with its predicted class and whether that is right."""
    assert isinstance(data.test, MemorySplit)
    titles = []
    for i, prediction in zip(indices, predictions, strict=True):
        name, probability = prediction.ranked[0]
        is_right = scores.ranks[i] == 0
        truth = "right" if is_right else f"WRONG: is a {scores.classes[scores.labels[i]]}"
        titles.append(f"{name} ({probability:.0%})\n{truth}")
    charts.predictions([data.test.images[i] for i in indices], titles, path)
