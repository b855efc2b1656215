"""Latencies measured where estimates leave a choice open, until what is picked is measured and nothing better is open.

What was measured is kept in the cache, for this machine and its versions of the engines: asked again, the choice is the
same.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence

from ..engines.results import Record, append, newest, read
from ..files.cache import cache
from ..machine import facts as machine
from . import costs
from .certificate import Certificate, Value

TOGETHER = 2  # networks that are measured side by side: often the first settles it, and each takes 10 s to export

Measure = Callable[[Sequence[tuple[str, str]]], list[Record]]  # networks, each on an engine
Tell = Callable[[float, str], None]


def verified(
    certified: Callable[[], Certificate],
    values: MutableMapping[str, dict[str, Value | None]],
    engines: MutableMapping[str, str],
    batch: int,
    measure: Measure,
    tell: Tell,
) -> tuple[Certificate, list[Record]]:
    """The certificate when all finalists are measured, and their records; `values` have what was measured.

    A network that cannot be measured has no latency, and so is refused.
    """
    records: list[Record] = []
    certificate = certified()
    while wanted := finalists(certificate, values)[:TOGETHER]:
        tell(0.0, f"measuring {', '.join(wanted)}")
        made = measure([(name, engines[name]) for name in wanted])
        for name, record in zip(wanted, made, strict=True):
            taken = record.step_s
            if taken is None:
                values[name] |= dict.fromkeys(costs.TIMED)
            else:
                values[name] |= costs.timed(Value.exact(taken, "measured"), batch)
            if record.disk_bytes:
                values[name]["size"] = Value.exact(record.disk_bytes, "measured")
        records += made
        certificate = certified()
    return certificate, records


def finalists(certificate: Certificate, values: MutableMapping[str, dict[str, Value | None]]) -> list[str]:
    """The networks to measure next, by preference: what could be picked if it fits, the pick, what may be as fast."""
    pick = certificate.pick
    names = [*certificate.better_undecided, *([pick] if pick else [])]
    if certificate.indices[0] in costs.TIMED and pick:
        names += rivals(certificate, pick)
    networks = dict.fromkeys(certificate.judged[name].candidate.fact.network for name in names)
    return [name for name in networks if (of := values[name].get("latency")) and of.how == "estimated"]


def rivals(certificate: Certificate, pick: str) -> list[str]:
    """What is not refused, and may be as fast as the pick: its estimate's lower end is not above the pick's time."""
    times = {name: it.candidate.values.get("latency") for name, it in certificate.judged.items()}
    own = times[pick]
    open_ = [*certificate.of_status("fits"), *certificate.of_status("undecided")]
    return sorted((name for name in open_ if own and (of := times[name]) and of.low <= own.value), key=certificate.key)


def remembering(measure: Measure, threads: int, batch: int) -> Measure:
    """Measures what is not yet in the cache, and keeps it there."""
    file = cache("choice") / "measured.jsonl"

    def known() -> dict[tuple[str, str], Record]:
        here = machine.machine()
        records = newest(read(file)[0]) if file.is_file() and file.stat().st_size else []
        return {
            (record.model, record.engine): record
            for record in records
            if record.machine == here and (record.threads, record.batch) == (threads, batch)
        }

    def measured(wanted: Sequence[tuple[str, str]]) -> list[Record]:
        there = known()
        if missing := [pair for pair in wanted if pair not in there]:
            made = measure(missing)
            there |= dict(zip(missing, made, strict=True))
            file.parent.mkdir(parents=True, exist_ok=True)
            append(file, [record for record in made if not record.failed])
        return [there[pair] for pair in wanted]

    return measured
