"""The networks for torch.hub, without installing convatlas: torch.hub.load(REPOSITORY, "resnet50", classes=10).

An entry is a network, initialised as in its paper or, with `weights`, as published. `load` is convatlas.load, which
also gives the preprocessing and the classes.
"""

from collections.abc import Callable as _Callable
from typing import Any as _Any

from convatlas import ConvNet as _ConvNet
from convatlas import UserError as _UserError
from convatlas import build as _build
from convatlas import load
from convatlas.tables import index as _index

dependencies = ["torch", "numpy", "PIL", "safetensors", "psutil"]


def _entry(name: str, about: str) -> _Callable[..., _ConvNet]:
    def entry(weights: str | None = None, **options: _Any) -> _ConvNet:
        if weights is None:
            return _build(name, **options)
        if wrong := set(options) - {"classes", "channels"}:
            raise _UserError(f"{name} with weights has no option {min(wrong)!r}", "its options are classes, channels")
        model = load(weights, **options)
        if model.network != name:
            raise _UserError(f"{weights} has weights of {model.network}, not of {name}", f"load {model.network}")
        assert isinstance(model.net, _ConvNet)
        return model.net

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = (
        f"{about}\n\nImages (N, channels, H, W) in, logits (N, classes) out. `weights` are published weights, "
        "NAME@SOURCE, or another MODEL of convatlas; `classes` and `channels` adapt them. Without weights, the options "
        "are those of convatlas.build. Raises UserError for an unknown option, and for weights of another network."
    )
    return entry


for _name, _record in _index().items():
    globals()[_name] = _entry(_name, f"{_name}, from {_record['paper']['title']} ({_record['paper']['authors']})")
