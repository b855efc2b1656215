"""A network's scores on a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..evaluation.scores import MATRIX_CLASSES, Scores
from .tables import Column, Report, Table, label, number

SHORT = 3  # longest class names that fit above the columns of a confusion matrix


def report(scores: Scores, top: Sequence[int], *, heading: str = "", record: dict[str, Any] | None = None) -> Report:
    """The accuracies with their 95% intervals, the loss, the confusion matrix if there are few classes, and the most
    frequent mistakes. `record` has the JSON keys that say what was evaluated."""
    after: list[str | Table] = [f"Mean loss (cross-entropy) {scores.loss:.4f}."]
    if len(scores.classes) <= MATRIX_CLASSES:
        after += ["\nConfusion matrix: rows are the correct classes, columns the predicted ones.", confusion(scores)]
    if mistakes := scores.confused():
        columns = (label("class"), label("predicted"), number("images"))
        after += ["\nThe most frequent mistakes:", Table("confused", columns, mistakes)]
    return Report(
        accuracies(scores, top),
        before=tuple(line for line in (heading, scores.note and f"{scores.note[0].upper()}{scores.note[1:]}.") if line),
        after=tuple(after),
        record={**(record or {}), **scores.to_json(top)},
        data=accuracies(scores, top, exact=True),
    )


def accuracies(scores: Scores, top: Sequence[int], *, exact: bool = False) -> Table:
    """One row per k; `exact`, for programs: accuracies in [0, 1], the interval in two columns."""
    exact_rows = [(f"top-{k}", scores.hits(k), scores.n, scores.top(k), *scores.interval(k)) for k in top]
    if exact:
        names = ("metric", "right", "of", "accuracy", "low", "high")
        return Table("accuracies", tuple(map(label, names)), exact_rows)
    columns = (
        label("", "metric"),
        number("right", short=None),
        number("of", short=None),
        number("accuracy", short=None),
        number("95% interval", short=None),
    )
    rows = [(*name, f"{share:.2%}", f"{low:.2%} to {high:.2%}") for *name, share, low, high in exact_rows]
    return Table("accuracies", columns, rows)


def confusion(scores: Scores) -> Table:
    """One row per correct class; columns are headed by the predicted classes' names if all are short, else numbered."""
    short = all(len(name) <= SHORT for name in scores.classes)
    heads = scores.classes if short else [str(i) for i in range(len(scores.classes))]
    names = scores.classes if short else [f"{i} {name}" for i, name in enumerate(scores.classes)]
    counted = (Column(head, right=True, drop=i, show=lambda n: str(n or ".")) for i, head in enumerate(heads, 1))
    shares = ("no images" if share is None else f"{share:.2%}" for share in scores.per_class)
    rows = zip(names, scores.confusion.tolist(), shares, strict=True)
    columns = (label("", "class"), *counted, number("right", short=None))
    return Table("confusion", columns, [(name, *counts, share) for name, counts, share in rows])
