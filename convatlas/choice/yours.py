"""How accurate finalists are on the user's own images: a probe of each one's features, cross-validated.

All are judged alike: the same training images, the same folds, the same strengths of the same logistic regression. The
images of val and test are not looked at. ImageNet's order need not be theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..weights.cache import at_hand
from ..weights.published import published
from .certificate import Value

if TYPE_CHECKING:
    from ..data.types import Data
    from ..evaluation.scores import Scores

CROSS_VALIDATED = "cross-validated"

Tell = Callable[[float, str], None]
Judge = Callable[[Mapping[str, str], Tell], "Yours"]  # MODELs by the name of their figure


@dataclass(frozen=True)
class Rank:
    """A finalist's accuracy in percent, and how many points it is behind the first, with 95% intervals."""

    name: str
    top1: float
    low: float
    high: float
    behind: float = 0.0
    behind_low: float = 0.0
    behind_high: float = 0.0

    @property
    def surely_behind(self) -> bool:
        return self.behind_low > 0


@dataclass(frozen=True)
class Yours:
    """The finalists with weights, the most accurate first; and why others could not be judged."""

    data: str
    images: int
    classes: int
    ranks: tuple[Rank, ...] = ()
    unusable: Mapping[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, Value]:
        return {it.name: Value(it.top1, it.low, it.high, CROSS_VALIDATED) for it in self.ranks}

    def to_json(self) -> dict[str, Any]:
        return {
            "data": self.data,
            "images": self.images,
            "classes": self.classes,
            "ranking": [vars(it) for it in self.ranks],
            "unusable": [{"name": name, "why": why} for name, why in self.unusable.items()],
        }


def is_at_hand(weights: str) -> bool:
    """Whether a MODEL can be loaded without fetching anything: a run, a file, or published weights that are here."""
    if not weights:
        return False
    row = published().get(weights)
    return at_hand(row) is not None if row else Path(weights).exists()


def judged_on(data: Data, source: str, *, seed: int = 0) -> Judge:
    """Judges MODELs on the training images of a data set. Raises UserError as `fit_probe` does."""

    def judge(models: Mapping[str, str], tell: Tell) -> Yours:
        scores: dict[str, Scores] = {}
        unusable = {}
        for i, (name, weights) in enumerate(models.items()):
            tell(i / len(models), f"{name} on your images")
            try:
                scores[name] = cross_validated(weights, data, seed)
            except Unusable as error:
                unusable[name] = str(error)
        return Yours(source, len(data.train), len(data.classes), ranking(scores), unusable)

    return judge


class Unusable(Exception):
    """Weights that are here and cannot be used for this, and why."""


def cross_validated(weights: str, data: Data, seed: int) -> Scores:
    """Of each training image by a probe that was fitted without its fold. Raises Unusable."""
    from ..evaluation.scores import scores_of
    from ..tuning.classifier import has_bias, suited
    from ..tuning.features import features_of
    from ..tuning.probe import fit_probe
    from ..weights.model import load

    try:
        model = suited(load(weights), data)
        intercept = has_bias(model, len(data.classes))
    except UserError as error:
        raise Unusable(error.what) from error
    features = features_of(model, data.train)
    probe = fit_probe(features.values, features.labels, data.classes, seed=seed, intercept=intercept)
    return scores_of(probe.held_out, features.labels, data.classes)


def ranking(scores: Mapping[str, Scores]) -> tuple[Rank, ...]:
    from ..evaluation.scores import paired
    from ..tuning.intervals import paired_interval

    order = sorted(scores, key=lambda name: (-scores[name].top1, name))
    ranks = []
    for name in order:
        of = scores[name]
        low, high = of.interval()
        both = paired(of, scores[order[0]])
        behind, (least, most) = (
            paired_interval(both.first, both.second, of.n) if name != order[0] else (0.0, (0.0, 0.0))
        )
        ranks.append(Rank(name, *(100 * n for n in (of.top1, low, high, behind, least, most))))
    return tuple(ranks)


def finalists(models: Mapping[str, str]) -> dict[str, str]:
    """Of figures and their MODELs, those whose weights are at hand."""
    return {name: weights for name, weights in models.items() if is_at_hand(weights)}
