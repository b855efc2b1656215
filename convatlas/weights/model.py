"""Model: a network with its weights, preprocessing and classes; `load` makes one.

The command line's MODEL and the argument of `load` are a run folder, or a checkpoint that a run wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data.normalise import Normalizer
from ..errors import UserError
from ..layers import ConvNet
from ..preprocess import Preprocess
from ..runs.checkpoint import load_tensors
from ..runs.folder import Run, open_run
from ..runs.record import rebuild
from .files import read_weights


@dataclass(frozen=True)
class Model:
    net: nn.Module  # in eval mode
    normalizer: Normalizer
    classes: tuple[str, ...]
    network: str  # its name in the catalogue
    source: str  # the file that the weights come from

    @property
    def preprocess(self) -> Preprocess:
        """How an image is turned into the network's input."""
        return self.normalizer.preprocess


def locate(model: str | Path | Run, which: str | None = None) -> Path:
    """The weights file of a MODEL: a run's best checkpoint, or the last if it has no best; a file is returned as is.

    Raises UserError for a path that is neither, and for `which` ("best" or "last") given with a file.
    """
    if isinstance(model, Run):
        return model.checkpoint(which)
    path = Path(model)
    if path.is_dir():
        return open_run(path).checkpoint(which)
    if not path.exists():
        raise UserError(f"there is no model {path}", "give a run folder, or a checkpoint from one")
    if which is not None:
        raise UserError(f"{path} is a file, which has one set of weights", "leave out --which")
    return path


def load(model: Model | Run | str | Path, which: str | None = None, device: str | torch.device = "cpu") -> Model:
    """The Model in a run folder or checkpoint file, on the device; a Model is returned as is.

    Raises UserError for a path that is neither, for damaged files, and for weights without their network, preprocessing
    and classes: load those into a network with `convatlas.weights.load_weights`.
    """
    if isinstance(model, Model):
        return model
    file = locate(model, which)
    if isinstance(model, Run) or Path(model).is_dir():
        run = model if isinstance(model, Run) else open_run(model)
        return Model(run.load(which, device), run.normalizer, run.classes, run.network, str(file))
    weights = read_weights(file)
    net, preprocess, classes = from_header(weights.about, file)
    load_tensors(net, weights.tensors, str(file))
    normalizer = Normalizer(preprocess, weights.measured)
    return Model(net.to(device).eval(), normalizer, classes, net.variant, str(file))


def describe(model: str | Path) -> ConvNet:
    """The network of a MODEL, freshly initialised: counting needs no weights. Raises UserError as `load` does."""
    file = locate(model)
    return open_run(model).record.build() if Path(model).is_dir() else from_header(read_weights(file).about, file)[0]


def from_header(about: Mapping[str, Any], file: Path) -> tuple[ConvNet, Preprocess, tuple[str, ...]]:
    """What a checkpoint's header says: the network, freshly initialised, its preprocessing and its classes."""
    try:
        network, options, classes = str(about["network"]), dict(about["options"]), tuple(about["classes"])
        preprocess = Preprocess.from_json(about["preprocess"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} does not say which network, preprocessing and classes its weights belong to",
            "load it into a network with convatlas.weights.load_weights, or give a run folder",
        ) from error
    return rebuild(network, options, file), preprocess, classes
