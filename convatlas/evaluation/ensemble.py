"""Several networks on the same images: what each answers is kept in the cache, and averaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.digests import digests
from ..data.types import Data, Split
from ..errors import UserError
from ..files.atomic import replacing
from ..layers import eval_mode
from ..protocols import Protocol, find_protocol
from ..weights.cache import cache
from ..weights.fetch import digest_of
from ..weights.model import Model
from .classes import aligned
from .scores import Scores, scores_of
from .views import averaged, checked_answers, images_at_once

PART = 128  # images whose answers are one file: what a kill costs at most
Progress = Callable[[Sequence[int]], Iterable[int]]


def kept_answers(
    model: Model,
    split: Split,
    protocol: Protocol,
    *,
    batch: int = 256,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: Progress = iter,
) -> Tensor:
    """float32 logits (N, classes) of a model on all images of a split, by a protocol; read from the cache where it has
    them, for the same weights, preprocessing and images. Raises UserError as `evaluate_split` does."""
    folder = place(model, split, protocol)
    found = []
    with eval_mode(model.net):
        for start in progress(range(0, len(split), PART)):
            end = min(start + PART, len(split))
            file = folder / f"{start:08d}.npy"
            part = read_part(file, (end - start, len(split.classes)))
            if part is None:
                batches = torch.arange(start, end).split(images_at_once(batch, protocol))
                answers = checked_answers(model.net, split, batches, model.normalizer, protocol, device, workers)
                part = torch.cat(list(answers))
                folder.mkdir(parents=True, exist_ok=True)
                with replacing(file) as new, new.open("wb") as out:
                    np.save(out, part.numpy())
            found.append(part)
    return torch.cat(found)


def place(model: Model, split: Split, protocol: Protocol) -> Path:
    """The folder of the answers: everything that they depend on is in its name."""
    about = {
        "weights": digest_of(Path(model.source)),
        "network": model.network,
        "engine": [type(model.net).__name__, getattr(model.net, "precision", "fp32")],
        "file": str(getattr(model.net, "file", "")),  # an engine's own, in int8 of some images
        "options": repr(sorted(model.options.items())),
        "preprocess": model.preprocess.to_json(),
        "protocol": repr(protocol),
        "images": digests(split),
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return cache("answers") / key[:32]


def read_part(file: Path, shape: tuple[int, int]) -> Tensor | None:
    """A file of the cache; None if there is none, or if it is damaged."""
    try:
        values = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return torch.from_numpy(values) if values.dtype == np.float32 and values.shape == shape else None


def together(answers: Sequence[Tensor]) -> Tensor:
    """The logarithm (N, classes) of the models' averaged probabilities, as AlexNet's and GoogLeNet's authors."""
    return averaged(torch.stack(list(answers)), torch.full((len(answers), 1, 1), 1 / len(answers)))


def evaluate_several(
    models: Mapping[str, Model],
    data: Data,
    *,
    split: str | None = None,
    protocol: str = "center",
    batch: int = 256,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    progress: Callable[[str], Progress] = lambda name: iter,
) -> tuple[dict[str, Scores], Scores]:
    """The scores of each of several models on one split of a data set, and those of their ensemble.

    Raises UserError for models with other classes than the first has, and as `evaluate` does.
    """
    images, views = data.split(split), find_protocol(protocol)
    labels, classes, note = images.labels, images.classes, ""
    found: dict[str, Tensor] = {}
    for name, model in models.items():
        images, note = aligned(data.split(split), model.classes)
        if found and images.classes != classes:
            raise UserError(f"{name} has other classes than {next(iter(models))}", "give models for the same classes")
        classes, labels = images.classes, images.labels
        found[name] = kept_answers(
            model, images, views, batch=batch, device=device, workers=workers, progress=progress(name)
        )
    scores = {name: scores_of(logits, labels, classes, note) for name, logits in found.items()}
    return scores, scores_of(together(list(found.values())), labels, classes, note)
