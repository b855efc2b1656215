"""What was measured, as points: results files of `convatlas measure` and of timm."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ...engines.results import Record, newest
from ...engines.results_files import read
from ...errors import UserError
from ...tables import index
from ...tables.search import matches
from ..measure import machine
from .frame import Asked

FILES = "results files"
MAKE = "make one: convatlas measure resnet18 vgg16 --batch 1,2,4,8 --out results.jsonl"
PANELS = 3  # machines or engines for which a slide has room
SHOWN = 14  # networks
NAMED = 5  # that are left out, by name


Setting = tuple[str, ...]  # a machine, an engine with its precision, threads


class Timed(NamedTuple):
    """A record that has a time."""

    record: Record
    file: str

    @property
    def name(self) -> str:
        """The model, with the side of its images where that is not the network's own."""
        return self.record.model if self.own_size else f"{self.record.model} at {max(self.record.input[1:])}"

    @property
    def own_size(self) -> bool:
        entry = index().get(self.record.network)
        return entry is None or tuple(entry["input"][1:]) == self.record.input[1:]

    @property
    def setting(self) -> Setting:
        """The machine and how it computed: what has a panel of its own."""
        threads = self.record.threads
        how = () if threads is None else (f"{threads} thread{'s' * (threads > 1)}",)
        return machine(self.record), f"{self.record.engine} {self.record.precision}", *how

    @property
    def source(self) -> str:
        who = f"published by {self.record.source}" if self.record.source else f"measured {self.record.date[:10]}"
        return f"{self.file}: {who} on {', '.join(self.setting)}, batch {self.record.batch}"

    @property
    def image_s(self) -> float:
        assert self.record.image_s is not None
        return self.record.image_s

    @property
    def ends_ms(self) -> tuple[float | None, float | None]:
        """p10 and p90 of the milliseconds an image, where they are known."""
        spread = self.record.seconds.spread if self.record.seconds else ()
        return (spread[0] / self.record.batch * 1e3, spread[2] / self.record.batch * 1e3) if spread else (None, None)


def timed(asked: Asked, chart: str) -> list[Timed]:
    """The newest records with a time that the files have of networks of the atlas, or of those that are asked for.

    Raises UserError for a file of something else, and where nothing is left or no slide has room for it.
    """
    kept: list[Timed] = []
    for file in asked.files:
        kept += [Timed(record, file.name) for record in records_of(file, chart)]
    fresh = set(map(id, newest([it.record for it in kept])))
    kept = [it for it in kept if id(it.record) in fresh and it.record.step_s is not None]
    found = [it for it in kept if wanted(it.record, asked.networks)]
    if not found:
        which = f"of {asked.networks!r}" if asked.networks else "of a network of the atlas"
        raise UserError(f"there is no time {which} in {', '.join(map(str, asked.files))}", MAKE)
    settings = list(dict.fromkeys(it.setting for it in found))
    if len(settings) > PANELS:
        raise UserError(
            f"the files have {len(settings)} machines, engines or precisions, and a slide has room for {PANELS}",
            "give files of fewer: each line says by itself what was measured where",
        )
    return found


def records_of(file: Path, chart: str) -> list[Record]:
    """Raises UserError for a file of something else, with what the chart needs."""
    try:
        return read(file)[0]
    except UserError as error:
        if file.exists():
            raise UserError(f"chart {chart} is drawn from {FILES}: {error.what}", MAKE) from error
        raise


def wanted(record: Record, pattern: str | None) -> bool:
    if record.source and not record.network:
        return False  # of what others publish, what is in the atlas
    names = [name for name in (record.model, record.network) if name]
    return pattern is None or any(matches(part.strip(), names) for part in pattern.split(","))


def by_setting(found: Sequence[Timed]) -> dict[str, list[Timed]]:
    """The panels: each machine and way to compute, in the order of the files, by what tells it from the others."""
    panels: dict[Setting, list[Timed]] = {}
    for it in found:
        panels.setdefault(it.setting, []).append(it)
    same = common(panels)
    return {", ".join(part for part in setting if part not in same): some for setting, some in panels.items()}


def common(settings: Iterable[Setting]) -> list[str]:
    """What all settings have."""
    first, *others = settings
    return [part for part in first if all(part in other for other in others)]


def at_one_batch(found: Sequence[Timed]) -> tuple[list[Timed], str]:
    """Those timed at one batch size, that of the most, the smallest of several, and a sentence that says which.

    Machines that have none in common have one each.
    """
    settings = by_setting(found)
    shared = set.intersection(*({it.record.batch for it in some} for some in settings.values()))
    if shared:
        sizes = dict.fromkeys(settings, most_common(it.record.batch for it in found if it.record.batch in shared))
    else:
        sizes = {setting: most_common(it.record.batch for it in some) for setting, some in settings.items()}
    at = [it for setting, some in settings.items() for it in some if it.record.batch == sizes[setting]]
    told = (
        str(most_common(sizes.values()))
        if shared
        else "; ".join(f"{size} ({setting})" for setting, size in sizes.items())
    )
    others = sorted({it.name for it in found} - {it.name for it in at})
    names = ", ".join(others) if len(others) <= NAMED else f"{len(others)} networks"
    return at, f"Batch {told}.{f' Not timed at this size: {names}.' if others else ''}"


def most_common(sizes: Iterable[int]) -> int:
    counts = Counter(sizes)
    return min(counts, key=lambda size: (-counts[size], size))


def few(found: Sequence[Timed], chart: str, most: int = SHOWN) -> None:
    """Raises UserError for more networks than can be read on a slide."""
    names = {it.name for it in found}
    if len(names) > most:
        raise UserError(
            f"chart {chart} has room for {most} networks, and the files have {len(names)}",
            "choose some: --networks 'resnet*,vgg*'",
        )


def having(found: Sequence[Timed], value: Callable[[Record], float | None], what: str, remedy: str) -> list[Timed]:
    """Those that say it. Raises UserError where none does."""
    kept = [it for it in found if value(it.record)]
    if not kept:
        files = ", ".join(dict.fromkeys(it.file for it in found))
        raise UserError(f"no result in {files} says {what}", remedy)
    return kept


def conditions(found: Sequence[Timed], *, bars: bool = True) -> str:
    """What a reader must know of the times: on which machine, as far as panels do not say it, and what a bar is."""
    where = ", ".join(common(dict.fromkeys(it.setting for it in found)))
    bars = bars and any(it.record.seconds and it.record.seconds.spread for it in found)
    kinds = {True: "means, as published", False: f"medians{', with bars from p10 to p90' * bars}"}
    told = "; ".join(kinds[published] for published in sorted({bool(it.record.source) for it in found}))
    return f"{told[0].upper()}{told[1:]}{f', on {where}' * bool(where)}."
