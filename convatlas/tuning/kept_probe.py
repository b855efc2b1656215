"""Probes kept by what they were fitted to, so that the same images need no fit again.

The cache is the folder probes/ of CONVATLAS_CACHE, beside that of the features.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import UserError
from ..runs import checkpoint
from ..weights.cache import cache
from . import probe as rules
from .probe import Probe, Progress, fit_probe


def probe_of(
    features: Tensor, labels: Tensor, classes: Sequence[str], *, progress: Progress = iter, **how: Any
) -> Probe:
    """As `fit_probe`; the same probe as before, where the same was asked before."""
    file = cache().with_name("probes") / f"{key_of(features, labels, len(classes), how)}.safetensors"
    if found := remembered(file):
        return found
    made = fit_probe(features, labels, classes, progress=progress, **how)
    keep(made, file)
    return made


def key_of(features: Tensor, labels: Tensor, classes: int, how: dict[str, Any]) -> str:
    """A digest of all that a probe depends on."""
    constants = [rules.FOLDS, rules.STRENGTHS, rules.PAST_BEST, rules.FLOOR, rules.ITERATIONS]
    about = [classes, sorted(how.items()), constants, version("scikit-learn")]
    return checkpoint.digest(repr(about), {"features": features, "labels": labels})


def remembered(file: Path) -> Probe | None:
    """The probe of a file; None if there is none, or none that can be read."""
    try:
        tensors, about = checkpoint.load(file)
    except UserError:
        return None
    return Probe(**tensors, strength=about["strength"], losses=dict(about["losses"]))


def keep(probe: Probe, file: Path) -> None:
    """Writes the probe to the file, where that can be written."""
    tensors = {name: getattr(probe, name) for name in ("weight", "bias", "held_out")}
    with suppress(OSError, UserError):
        file.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.save(file, tensors, {"strength": probe.strength, "losses": list(probe.losses.items())})
