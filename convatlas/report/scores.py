"""A network's scores on a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from ..evaluation.scores import MATRIX_CLASSES, Scores, paired
from ..tables.published import Published
from .tables import Column, Report, Table, label, number, prose

SHORT = 3  # longest class names that fit above the columns of a confusion matrix


def report(
    scores: Scores,
    top: Sequence[int],
    *,
    heading: str = "",
    record: dict[str, Any] | None = None,
    published: Sequence[Published] = (),
) -> Report:
    """The accuracies with their 95% intervals, the loss, the confusion matrix if there are few classes, and the most
    frequent mistakes. `record` has the JSON keys that say what was evaluated, `published` is what sources print."""
    calibration = f"expected calibration error {scores.ece:.2%}"
    after: list[str | Table] = [
        f"Mean loss (cross-entropy) {scores.loss:.4f}, {calibration}.",
        *printed_beside(published),
    ]
    if len(scores.classes) <= MATRIX_CLASSES:
        after += ["\nConfusion matrix: rows are the correct classes, columns the predicted ones.", confusion(scores)]
    if mistakes := scores.confused():
        columns = (label("class"), label("predicted"), number("images"))
        after += ["\nThe most frequent mistakes:", Table("confused", columns, mistakes)]
    return Report(
        accuracies(scores, top),
        before=tuple(line for line in (heading, scores.note and f"{scores.note[0].upper()}{scores.note[1:]}.") if line),
        after=tuple(after),
        record={**(record or {}), **scores.to_json(top), "published": [figures(it) for it in published]},
        data=accuracies(scores, top, exact=True),
    )


def printed_beside(published: Sequence[Published]) -> list[str]:
    """A line for each published figure."""
    return [
        f"Published: top-1 {it.top1}%" + (f", top-5 {it.top5}%" if it.top5 is not None else "") + f" ({it.where})."
        for it in published
    ]


def figures(it: Published) -> dict[str, Any]:
    """Shares of 1, as the scores."""
    top5 = None if it.top5 is None else float(it.top5) / 100
    return {"top1": float(it.top1) / 100, "top5": top5, "where": it.where}


def several(
    found: Mapping[str, Scores], top: Sequence[int], *, heading: str = "", record: dict[str, Any] | None = None
) -> Report:
    """Models on the same images, one row each, and what each of two has right that the other has not."""
    columns = (
        prose("model"),
        *(number(f"top-{k}", short=None) for k in top),
        number("95% interval", short=None),
        number("ECE", short=None),
    )
    rows = [
        (
            name,
            *(f"{s.top(k):.2%}" for k in top),
            "{:.2%} to {:.2%}".format(*s.interval()),
            f"{s.ece:.2%}",
        )
        for name, s in found.items()
    ]
    pairs = [(a, b, *paired(found[a], found[b])) for a, b in combinations(found, 2)]
    names = (prose("model", "first"), prose("other", "second"), number("only first"), number("only other"))
    table = Table("paired", (*names, number("p", short=None)), [(a, b, n, m, f"{p:.3g}") for a, b, n, m, p in pairs])
    return Report(
        Table("models", columns, rows),
        before=(heading,),
        after=("\nImages that only one of two has right, and McNemar's exact test of it:", table),
        record={
            **(record or {}),
            "models": [{"model": name, **s.to_json(top)} for name, s in found.items()],
            "paired": [dict(zip(("first", "second", "only_first", "only_second", "p"), pair)) for pair in pairs],
        },
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
