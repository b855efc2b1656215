"""The classes predicted for image files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..errors import one_line
from ..evaluation.predictions import Prediction
from .tables import SCHEMA, Report, Table, as_json, label, number


def lines(predictions: Iterable[Prediction]) -> Iterator[str]:
    """Each file, with its classes below it, the most likely first."""
    for prediction in predictions:
        if prediction.error is None:
            yield one_line(prediction.file)
            yield from (f"  {probability:7.2%}  {one_line(name)}" for name, probability in prediction.ranked)


def json_lines(predictions: Iterable[Prediction]) -> Iterator[str]:
    """One JSON record, one prediction per line, as soon as each is available."""
    yield f'{{"schema": {SCHEMA}, "predictions": ['
    before = ""
    for prediction in predictions:
        if before:
            yield before + ","
        before = as_json(prediction.to_json())
    yield before + "]}"


def report(predictions: Iterable[Prediction]) -> Report:
    """One line per file and class, the most likely first."""
    columns = (label("file"), number("rank"), label("class"), number("probability", show="{:.2%}".format, short=None))
    rows = [
        (prediction.file, rank, name, probability)
        for prediction in predictions
        for rank, (name, probability) in enumerate(prediction.ranked, 1)
    ]
    return Report(Table("predictions", columns, rows))
