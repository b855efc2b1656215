"""What was measured, for people; and beside older results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..engines.changes import Change, unlike
from ..engines.results import Accuracy, Damage, Record
from ..engines.timm_results import header
from .tables import Column, Report, Table, label, number, prose, size

Cell = Callable[[Record], Any]

CLOCKS = {"processor": "processor time", "wall": "wall time", "cuda": "the GPU's time", "": "published times"}


def report(records: Sequence[Record], damages: Sequence[Damage] = ()) -> Report:
    """Each network once, then each measurement; for programs, all of every record."""
    several = len({machine(record) for record in records}) > 1
    return Report(
        measurements(records, several),
        before=(*headings(records), networks(records), ""),
        after=tuple(notes(records)),
        record={"records": [record.to_json() for record in records], "damaged": [str(d) for d in damages]},
        data=flat(records),
    )


def headings(records: Sequence[Record]) -> Iterable[str]:
    """A line for each machine and clock: how the figures came about."""
    return dict.fromkeys(map(heading, records))


def heading(record: Record) -> str:
    clock = record.seconds.clock if record.seconds and record.seconds.n else ""
    threads = "" if record.threads is None else f", {record.threads} thread{'s' * (record.threads > 1)}"
    cores = f" ({record.machine['cores']} cores)" if "cores" in record.machine else ""
    given = record.machine.get("versions", {})
    used = [name for name in ("torch", "onnxruntime", "openvino") if name in given and record.engine.startswith(name)]
    software = "".join(f", {name} {given[name]}" for name in used)
    source = f", as {record.source} publishes them" if record.source else ""
    return f"On {machine(record)}{cores}{software}{threads}: {CLOCKS[clock]}{source}."


def machine(record: Record) -> str:
    return str(record.machine.get("gpu") or record.machine.get("processor") or "an unknown machine")


def networks(records: Sequence[Record]) -> Table:
    """What does not depend on the batch."""
    columns = (
        label("model"),
        label("engine"),
        label("in", "precision"),
        number("top-1", "top1", short=None),
        prose("accuracy", least=12, drop=3),
        number("disk MB", "disk_mb", short=None),
        number("parameters", "params", drop=2, brief="params"),
        number("multiply-adds", "macs", drop=1, brief="MACs"),
        number("load s", "load_s", drop=4, short=None),
    )
    rows = {
        (r.model, r.engine, r.precision, machine(r)): (
            *(r.model, r.engine, r.precision, top1(r.accuracy), origin(r.accuracy), mega(r.disk_bytes)),
            *(r.params, r.macs, digits(r.load_s)),
        )
        for r in records
    }
    return filled(Table("networks", columns, list(rows.values())))


def top1(accuracy: Accuracy) -> str:
    if accuracy.top1 is None:
        return "untrained" if accuracy.kind == "untrained" else "?"
    return f"{accuracy.top1:.2f}%"


def origin(accuracy: Accuracy) -> str | None:
    """Where an accuracy comes from, which is never left out: published and measured ones are different things."""
    if accuracy.kind == "published":
        return f"published: {accuracy.source}, {accuracy.protocol}"
    if accuracy.kind == "measured":
        return f"{accuracy.n:,} images of {accuracy.source}: {accuracy.low:.1f} to {accuracy.high:.1f}"
    return None


def measurements(records: Sequence[Record], several: bool) -> Table:
    columns: list[tuple[Column, Cell]] = [
        (label("model"), lambda r: r.model),
        (label("engine"), lambda r: r.engine),
        (label("in", "precision"), lambda r: r.precision),
        *([(label("machine"), machine)] if several else []),
        (number("batch", short=None), lambda r: r.batch),
        (number("ms/image", "image_ms", short=None), lambda r: milli(r.image_s)),
        (number("p10 to p90", "spread", drop=1, short=None), spread),
        (number("p95", "p95_ms", drop=7, short=None), lambda r: milli(rare(r, "p95"))),
        (number("p99", "p99_ms", drop=8, short=None), lambda r: milli(rare(r, "p99"))),
        (number("n", drop=6, short=None), lambda r: r.seconds.n if r.seconds else None),
        (number("images/s", "images_per_s", drop=3, short=None), lambda r: digits(r.images_per_s)),
        (number("times the first", "ratio", drop=4, short=None, brief="x first"), ratio),
        (number("peak MB", "peak_mb", drop=2, short=None), lambda r: mega(r.allocated_bytes or r.peak_bytes)),
        (number("tensors MB", "estimated_mb", drop=9, short=None), lambda r: mega(r.estimated_bytes)),
        (number("first ms", "first_ms", drop=10, short=None), lambda r: milli(r.first_s)),
        (number("mJ/image", "image_mj", drop=5, short=None), lambda r: milli(r.image_joules)),
    ]
    rows = [tuple(cell(record) for _, cell in columns) for record in records]
    return filled(Table("measurements", tuple(column for column, _ in columns), rows))


def filled(table: Table) -> Table:
    """The table without columns that have nothing in them."""
    for i, column in reversed(list(enumerate(table.columns))):
        if all(row[i] is None for row in table.rows):
            table = table.without(column)
    return table


def spread(record: Record) -> str | None:
    seconds = record.seconds
    if seconds is None or not seconds.spread:
        return None
    return f"{milli(seconds.spread[0] / record.batch)} to {milli(seconds.spread[2] / record.batch)}"


def ratio(record: Record) -> str | None:
    found = record.ratio
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})" if found else None


def notes(records: Sequence[Record]) -> Iterable[str]:
    """What the figures mean, and what stands in their way."""
    rounds = [record.seconds.n for record in records if record.seconds and record.seconds.n]
    if rounds:
        shown = f"{min(rounds):,}" if min(rounds) == max(rounds) else f"{min(rounds):,} to {max(rounds):,}"
        yield f"Medians of {shown} interleaved rounds after a warm-up, and the median ratio within rounds; p10 to p90."
    for record in records:
        if record.failed:
            yield f"{record.key}: {record.failed}."
    if any(record.busy for record in records):
        yield "The machine was busy: wall time of several threads is then too long. Measure again when it is idle."


def rare(record: Record, quantile: str) -> float | None:
    """A high quantile, an image."""
    seconds = getattr(record.seconds, quantile, None)
    return seconds / record.batch if seconds else None


def digits(value: float | None) -> str | None:
    """Three digits."""
    if value is None:
        return None
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def milli(value: float | None) -> str | None:
    return digits(value * 1e3) if value else None


def mega(count: int | None) -> str | None:
    return digits(count / 1e6) if count else None


def flat(records: Sequence[Record]) -> Table:
    """A line a record: first under timm's headers, then everything else, exact."""
    rows = [header(record) | rest(record) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return Table("records", tuple(map(label, names)), [tuple(row.get(name) for name in names) for row in rows])


def rest(record: Record) -> dict[str, Any]:
    seconds, found = record.seconds, record.ratio
    return {
        **{name: getattr(record, name) for name in ("network", "engine", "precision", "threads", "device", "source")},
        "input": size(record.input),
        "top1": record.accuracy.top1,
        "top5": record.accuracy.top5,
        "accuracy": record.accuracy.kind,
        "accuracy_n": record.accuracy.n,
        "accuracy_source": record.accuracy.source,
        "protocol": record.accuracy.protocol,
        "clock": seconds and seconds.clock,
        "n": seconds and seconds.n,
        **{f"{q}_s": getattr(seconds, q, None) for q in ("p10", "p50", "p90", "p95", "p99", "mean")},
        **{f"ratio{end}": found and getattr(found, end[1:] or "median") for end in ("", "_low", "_high")},
        **{name: getattr(record, name) for name in AMOUNTS},
        "busy": record.busy,
        "failed": record.failed,
        "machine": machine(record),
        "date": record.date,
    }


AMOUNTS = (
    *("load_s", "first_s", "disk_bytes", "params", "macs", "multiplied_activations"),
    *("estimated_bytes", "base_bytes", "peak_bytes", "allocated_bytes", "image_joules"),
)


def change_report(changes: Sequence[Change], share: float) -> Report:
    """New results beside old ones, the slower ones said."""
    columns = (
        label("model"),
        label("engine"),
        label("in", "precision"),
        number("batch", short=None),
        number("then ms", "then_ms", drop=2, short=None),
        number("now ms", "now_ms", drop=1, short=None),
        number("ratio", short=None),
        number("interval", drop=3, short=None),
        label("verdict"),
    )
    rows = [
        (
            *(c.new.model, c.new.engine, c.new.precision, c.new.batch, milli(c.old.step_s), milli(c.new.step_s)),
            c.ratio and f"{c.ratio:.3f}",
            f"{c.low:.3f} to {c.high:.3f}" if c.low and c.high else None,
            verdict(c, share),
        )
        for c in changes
    ]
    slower = sum(c.slower_than(share) for c in changes)
    differing = dict.fromkeys(text for c in changes if (text := unlike(c.new, c.old)))
    after = [
        f"{slower} of {len(changes)} slower by more than {100 * share:.3g}%, by the median and by all of its interval."
    ]
    after += [f"Not the same: {text}." for text in differing]
    if any(c.new.busy or c.old.busy for c in changes):
        after.append("The machine was busy, then or now: wall time of several threads is then too long.")
    record = {
        "fail_above": share,
        "slower": slower,
        "changes": [
            {
                **{"key": c.new.key._asdict(), "then_s": c.old.step_s, "now_s": c.new.step_s},
                **{"ratio": c.ratio, "low": c.low, "high": c.high, "verdict": verdict(c, share)},
                "unlike": unlike(c.new, c.old),
            }
            for c in changes
        ],
    }
    return Report(Table("changes", columns, rows), after=tuple(after), record=record)


def verdict(change: Change, share: float) -> str:
    if change.slower_than(share):
        return "slower" if change.ratio else "fails"
    if change.ratio is None:
        return "not timed"
    return "faster" if change.high and change.high < 1 else "alike"
