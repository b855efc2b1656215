"""Model: a network with its weights, preprocessing and classes; `load` makes one.

MODEL, on the command line and as the argument of `load`, is a run folder, a weights file of any library (`read_weights`
says which), or published weights by name: NETWORK@SOURCE, NETWORK alone where one source has it at hand, or
NETWORK@hf:OWNER/REPOSITORY.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..catalogue import find
from ..checked import accepts
from ..data.names import class_names, unnamed
from ..data.normalise import Normalizer
from ..errors import UserError
from ..layers import ConvNet
from ..preprocess import Preprocess
from ..runs.checkpoint import load_tensors
from ..runs.folder import Run, open_run
from ..runs.record import rebuild
from .adapt import read_channels, with_channels
from .cache import file_of
from .fetch import Progress
from .files import read_weights
from .hub import fetch_from_hub, on_hub, published_at
from .identify import rows_of
from .match import set_eps
from .published import Published, find_published, preset, recognised
from .types import Weights

BACKGROUND = "imagenet_background"  # the 1,001 classes of TensorFlow's networks


@dataclass(frozen=True)
class Model:
    net: nn.Module  # in eval mode
    normalizer: Normalizer
    classes: tuple[str, ...]
    network: str  # its name in the catalogue
    source: str  # the file that the weights come from
    notes: tuple[str, ...] = ()  # what was done to weights of another library or shape
    options: Mapping[str, Any] = field(default_factory=dict)  # with which the network is built
    eps: Mapping[str, float] = field(default_factory=dict)  # of batch norms, by layer, that belong to the weights
    published: Published | None = None  # what is published of the weights
    trained: bool = True  # false for a network whose weights are fresh, or partly so

    @property
    def preprocess(self) -> Preprocess:
        """How an image is turned into the network's input."""
        return self.normalizer.preprocess


def locate(model: str | Path | Run, which: str | None = None, progress: Progress | None = None) -> Path:
    """The weights file of a MODEL: a run's best checkpoint, or the last if it has no best; a file is returned as is.

    Published weights are fetched, unless they are there. Raises UserError for a name or path that is none of these, and
    for `which` ("best" or "last") given with anything but a run.
    """
    if isinstance(model, Run):
        return model.checkpoint(which)
    path = Path(model)
    if path.is_dir():
        return open_run(path).checkpoint(which)
    if which is not None:
        raise UserError(f"{path} is not a run, and has one set of weights", "leave out --which")
    if hub := on_hub(model):
        return fetch_from_hub(hub[1])
    row = named(model)
    return file_of(row, progress) if row else path


def named(model: str | Path) -> Published | None:
    """The published weights that a MODEL names; None for a path. Raises UserError for what is neither."""
    if Path(model).exists():
        return None
    if hub := on_hub(model):
        return published_at(hub[1])
    text = str(model)
    if "/" in text.partition("@")[0] or Path(text.partition("@")[0]).suffix:
        raise UserError(f"there is no model {text}", "give a run folder, a weights file, or NETWORK@SOURCE")
    try:
        return find_published(text)
    except UserError as error:
        raise UserError(f"there is no model {text}: {error.what}", error.remedy) from error


def load(
    model: Model | Run | str | Path,
    which: str | None = None,
    device: str | torch.device = "cpu",
    *,
    network: str | None = None,
    preprocess: Preprocess | str | None = None,
    classes: int | None = None,
    channels: int | None = None,
    progress: Progress | None = None,
) -> Model:
    """The Model of a run folder, a weights file or published weights, on the device; a Model is returned as is.

    A file that says neither its network nor its preprocessing is recognised by its digest or by its layers, where only
    one row of the atlas fits; otherwise `network` and `preprocess` (a Preprocess, or a name that weights.toml has) must
    say it. `classes` gives the network a new classifier, freshly initialised, for that many classes; `channels` sums or
    repeats the first convolution's for images of 1 or 3 channels. `progress` hears of a download. Raises UserError for
    what cannot be found, read, recognised or matched.
    """
    if not isinstance(model, Model):
        model = _loaded(model, which, network, preprocess, progress)
    model = adapted(model, classes, channels)
    model.net.to(device).eval()
    return model


def _loaded(
    model: Run | str | Path,
    which: str | None,
    network: str | None,
    preprocess: Preprocess | str | None,
    progress: Progress | None,
) -> Model:
    if isinstance(model, Run) or Path(model).is_dir():
        run = model if isinstance(model, Run) else open_run(model)
        file = run.checkpoint(which)
        options = dict(run.record.options)
        return Model(run.load(which), run.normalizer, run.classes, run.network, str(file), options=options)
    file, row = locate(model, which, progress), named(model)
    if hub := on_hub(model):
        network = network or hub[0]
    weights = read_weights(file)
    if not weights.about:
        return of_others(weights, file, row or recognised(file), network, preprocess)
    net, own_preprocess, classes = from_header(weights.about, file)
    load_tensors(net, weights.tensors, str(file))
    eps = dict(weights.about.get("eps", {}))
    set_eps(net, eps)
    normalizer, options = Normalizer(own_preprocess, weights.measured), dict(weights.about["options"])
    return Model(net, normalizer, classes, net.variant, str(file), options=options, eps=eps)


def of_others(
    weights: Weights, file: Path, row: Published | None, network: str | None, preprocess: Preprocess | str | None
) -> Model:
    """The Model of a file that convatlas has not written, with what is published of it, or what the user says."""
    names = [find(network).name] if network else [row.network] if row else None
    found = rows_of(weights, str(file), names)
    if len(found) > 1:
        fitting = [it.variant.name for it in found]
        raise UserError(
            f"{file} fits {', '.join(fitting[:-1])} and {fitting[-1]}, whose tensors have the same shapes",
            "say which with --network",
        )
    (fitted,) = found
    if isinstance(preprocess, str):
        preprocess = preset(preprocess, fitted.variant.name)
    if preprocess is None:
        if row is None or row.network != fitted.variant.name:
            raise UserError(
                f"{file} has weights of {fitted.variant.name}, but does not say how its images were prepared",
                "say it with --preprocess: imagenet, half (pixels / 127.5 - 1), caffe ...",
            )
        preprocess = row.preprocess
    net = fitted.build()
    outputs = {**fitted.variant.options, **fitted.options}["classes"]
    known = class_names(row.classes) if row else weights.classes
    notes = (f"{file.name}: {fitted.variant.name}, matched {fitted.fit.how}", *fitted.fit.notes)
    if not known and outputs == len(class_names(BACKGROUND)):
        known = class_names(BACKGROUND)
        notes = (*notes, f"{outputs} outputs: taken as TensorFlow's, a background and ImageNet's classes")
    classes = known if len(known) == outputs else unnamed(outputs)
    return Model(
        net,
        Normalizer(preprocess),
        classes,
        fitted.variant.name,
        str(file),
        notes,
        options=fitted.options,
        eps=fitted.fit.eps,
        published=row,
    )


def adapted(model: Model, classes: int | None, channels: int | None) -> Model:
    """The model with a new classifier of `classes` outputs, and a first convolution that reads `channels`."""
    if channels == model.preprocess.input[0]:
        channels = None
    if classes is None and channels is None:
        return model
    net, notes = model.net, model.notes
    if not isinstance(net, ConvNet):
        raise UserError(f"{model.network} is not a ConvNet, and cannot be adapted", "give a network of the catalogue")
    if channels is not None:
        normalizer = Normalizer(with_channels(model.preprocess, channels))
        options = {**model.options, "channels": channels}
        notes = (*notes, read_channels(net, channels))
        model = replace(model, normalizer=normalizer, notes=notes, options=options)
    if classes is not None:
        net.reset_head(classes)
        note = f"new classifier for {classes} classes, freshly initialised: train it before use"
        options = {**model.options, "classes": classes}
        model = replace(model, classes=unnamed(classes), notes=(*model.notes, note), options=options, trained=False)
    return model


def describe(model: str | Path) -> ConvNet:
    """The network of a MODEL, freshly initialised: counting needs no weights. Raises UserError as `load` does."""
    if Path(model).is_dir():
        return open_run(model).record.build()
    if hub := on_hub(model):
        return find(hub[0]).build()
    if row := named(model):
        return find(row.network).build()
    weights = read_weights(model)
    if weights.about:
        return from_header(weights.about, Path(model))[0]
    return rows_of(weights, str(model))[0].build()


def from_header(about: Mapping[str, Any], file: Path) -> tuple[ConvNet, Preprocess, tuple[str, ...]]:
    """What a checkpoint's header says: the network, freshly initialised, its preprocessing and its classes."""
    try:
        network, options, classes = str(about["network"]), dict(**about["options"]), tuple(about["classes"])
        if not accepts(classes, tuple[str, ...]):
            raise TypeError("classes are names")
        preprocess = Preprocess.from_json(about["preprocess"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} does not say which network, preprocessing and classes its weights belong to",
            "load it into a network with convatlas.weights.load_weights, or give a run folder",
        ) from error
    return rebuild(network, options, preprocess, file), preprocess, classes
