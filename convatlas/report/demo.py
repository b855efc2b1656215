"""The demo's results, and what to try next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..evaluation.predictions import Prediction
from ..evaluation.scores import Scores
from . import scores as of_scores
from .tables import Report, Table, label

NEXT = """\
Done in {seconds:.0f} s. In {out}:
  curves.png       loss and accuracy by epoch
  predictions.png  held-out digits and the predicted classes
  confusion.png    which digits are confused with which
  images/          those digits as image files
  run.json, log.jsonl, *.safetensors: what was trained, how it went, and the weights
Then try:
  convatlas evaluate {out} --data digits --which last
  convatlas predict {out} {out}/images --which last
  convatlas show lenet5"""


def report(out: Path, scores: Scores, shown: Sequence[tuple[int, Prediction]], seconds: float) -> Report:
    """The scores of the run in `out`, and the predictions for some image files (by index)."""
    of_all = of_scores.report(
        scores, (1, 5), heading=f"\n{scores.hits(1)} of the {scores.n} held-out digits are classified correctly."
    )
    return Report(
        of_all.table,
        before=of_all.before,
        after=(
            *of_all.after,
            "\nPredictions for the image files (the worst mistakes, and others evenly spaced):",
            predictions(out, scores, shown),
            "\n" + NEXT.format(seconds=seconds, out=out),
        ),
        record={
            "run": str(out),
            "checkpoint": "last",
            "scores": scores.to_json(),
            "predictions": [prediction.to_json() for _, prediction in shown],
        },
        data=of_all.data,
    )


def predictions(out: Path, scores: Scores, shown: Sequence[tuple[int, Prediction]]) -> Table:
    """One line per file: its classes, the most likely first, and whether the first is right."""
    rows = []
    for i, prediction in shown:
        ranked = (f"{name} ({probability:.1%})" for name, probability in prediction.ranked)
        verdict = "right" if scores.ranks[i] == 0 else "wrong"
        rows.append((str(Path(prediction.file).relative_to(out)), *ranked, verdict))
    others = (label("or", f"or_{k}") for k in range(2, len(rows[0]) - 1))
    return Table("predictions", (label("file"), label("predicted"), *others, label("", "verdict")), rows)
