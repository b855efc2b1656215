"""What a transfer came to: each way beside the probe, and the labels that look wrong."""

from __future__ import annotations

from ..evaluation.scores import Scores, wilson
from ..tuning.intervals import Interval
from ..tuning.transfer import Transferred
from .tables import Report, Table, label, number

SHOWN = 5  # suspects


def report(found: Transferred, then: str) -> Report:
    """The accuracies with their intervals, suspected labels, and the command that comes next, `then`."""
    probe, split = found.probed, found.probed.split.name
    rows: list[tuple[object, ...]] = [
        ("probe, cross-validated", *accuracy(probe.cross_validated), ""),
        ("probe", *accuracy(probe.scores), ""),
    ]
    near = found.nearest
    low, high = wilson(near.hits, near.n)
    share = f"{near.hits / near.n:.2%}"
    rows.append((f"{near.neighbours} nearest images", near.hits, near.n, share, f"{low:.2%} to {high:.2%}", ""))
    if found.comparison:
        of = found.comparison
        rows.append(("finetune, cross-validated", "", "", "", "", points(of.difference, of.interval)))
    if found.mode != "features":
        rows.append((found.mode, *accuracy(found.scores), points(*found.beside_probe)))
    columns = (
        label("way"),
        number("right", short=None),
        number("of", short=None),
        number("top-1", short=None),
        number("95% interval", short=None),
        number("beside the probe", short=None),
    )
    notes = [
        "Cross-validated: on the training images, each by a probe fitted without its fifth. "
        f"Others: {split} images, on which nothing was chosen.",
        *suspected(found),
        f"{found.run.folder}: run.json, last.safetensors, suspects.csv; {found.seconds:.0f} s; next: {then}",
    ]
    return Report(Table("ways", columns, rows), after=tuple(notes), record=found.to_json())


def accuracy(scores: Scores) -> tuple[int, int, str, str]:
    low, high = scores.interval()
    return scores.hits(1), scores.n, f"{scores.top1:.2%}", f"{low:.2%} to {high:.2%}"


def points(difference: float, interval: Interval) -> str:
    low, high = interval
    return f"{100 * difference:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"


def suspected(found: Transferred) -> list[str]:
    """The first of the training images whose labels look wrong."""
    if not found.suspects:
        return []
    n = len(found.suspects)
    images = "training image is" if n == 1 else "training images are"
    lines = [f"{n:,} {images} of another class to a probe fitted without their fifth; the labels may be wrong:"]
    lines += [f"  {it.image}: {it.label}, perhaps {it.predicted} (loss {it.loss:.2f})" for it in found.suspects[:SHOWN]]
    return [*lines, *([f"  and {n - SHOWN:,} more: suspects.csv"] if n > SHOWN else [])]
