"""What was measured of a network on an engine: one record a batch size, one line of a results file each.

Results files are JSON lines, so that files of several machines and days can be put one behind the other. A record says
by itself what was measured, how, and on which machine. docs/reports.md has the keys.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from ..checked import Checked, Count, Natural, NonNegative, Positive, Range
from ..errors import UserError, first_line, unread
from ..files.atomic import unwritable
from ..files.plain import from_json, utf8
from ..files.regular import read_bytes
from .timing import Clock

Span = Annotated[float, Range(1e-9, 1e7)]  # seconds, or a ratio of two

SCHEMA = 1
LARGEST = 1 << 28  # bytes of a results file


@dataclass(frozen=True)
class Accuracy(Checked):
    """In percent. A published one has the `source` of the weights and its `protocol`; a measured one its data and n."""

    EXAMPLE = "an accuracy"
    PREFIX = "accuracy."
    kind: Literal["published", "measured", "untrained", "unknown"]
    top1: NonNegative | None = None
    top5: NonNegative | None = None
    n: Count | None = None  # images
    low: NonNegative | None = None  # the 95% interval of top1
    high: NonNegative | None = None
    source: str = ""  # who published the weights and the figure, or the data that it was measured on
    protocol: str = ""


@dataclass(frozen=True)
class Seconds(Checked):
    """Of one call on the whole batch, over n rounds. Quantiles for which the rounds are too few are None."""

    EXAMPLE = "times"
    PREFIX = "seconds."
    clock: Clock
    n: Count | None = None
    warm_up: Natural | None = None
    p10: Span | None = None
    p50: Span | None = None
    p90: Span | None = None
    p95: Span | None = None
    p99: Span | None = None
    mean: Span | None = None  # alone, of results that give nothing else

    def __post_init__(self) -> None:
        super().__post_init__()
        known = [q for q in (self.p10, self.p50, self.p90, self.p95, self.p99) if q is not None]
        if known != sorted(known):
            raise UserError("the quantiles of the seconds are not in their order")

    @property
    def spread(self) -> tuple[float, ...]:
        """p10, p50 and p90; empty where they are not known."""
        known = [q for q in (self.p10, self.p50, self.p90) if q is not None]
        return tuple(known) if len(known) == 3 else ()


@dataclass(frozen=True)
class Versus(Checked):
    """How many times as long a call took as the first session's of the same batch, by rounds: median, p10 and p90."""

    EXAMPLE = "a ratio"
    PREFIX = "ratio."
    to: str
    median: Span
    low: Span
    high: Span
    n: Count


class Key(NamedTuple):
    """What a record is about; two with the same key, on machines alike, can be compared."""

    model: str
    engine: str
    precision: str
    threads: int | None
    device: str
    batch: int
    input: tuple[int, ...]

    def __str__(self) -> str:
        threads = "" if self.threads is None else f", {self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.model} on {self.engine} in {self.precision}, batch {self.batch}{threads}"


@dataclass(frozen=True)
class Record(Checked):
    """One model on one engine at one batch size. Bytes, seconds, counts; of what is not known, None."""

    model: str  # as it was given
    network: str  # its name in the catalogue; empty for one that is not there
    engine: str
    precision: str
    threads: Count | None
    device: str  # cpu, cuda ...
    batch: Count
    input: tuple[Count, ...]  # C x H x W
    accuracy: Accuracy
    seconds: Seconds | None = None
    failed: str = ""  # why there are no seconds
    ratio: Versus | None = None
    load_s: Span | None = None  # from files to a session, in a process of its own
    first_s: Span | None = None  # the first call at this batch size there
    disk_bytes: Count | None = None
    params: Natural | None = None
    macs: Natural | None = None  # an image
    multiplied_activations: Natural | None = None  # values an image, of convolutions and matrix products
    estimated_bytes: Natural | None = None  # the peak that accounting predicts, of tensors in float32
    base_bytes: Natural | None = None  # of a process of its own, before it loads the model
    peak_bytes: Natural | None = None  # of the same process, after this batch size
    allocated_bytes: Natural | None = None  # the peak of a GPU's allocator
    image_joules: Positive | None = None
    busy: bool = False  # wall time on a machine without a free core for each thread
    load: tuple[NonNegative, ...] = ()  # the machine's, before and after
    source: str = ""  # who published it; empty for what was measured here
    date: str = ""
    machine: dict = field(default_factory=dict)

    @property
    def key(self) -> Key:
        return Key(self.model, self.engine, self.precision, self.threads, self.device, self.batch, self.input)

    @property
    def step_s(self) -> float | None:
        """The median seconds of a call, or the mean where that is all that is known."""
        return (self.seconds.p50 or self.seconds.mean) if self.seconds else None

    @property
    def image_s(self) -> float | None:
        return self.step_s / self.batch if self.step_s else None

    @property
    def images_per_s(self) -> float | None:
        return self.batch / self.step_s if self.step_s else None

    def to_json(self) -> dict[str, Any]:
        derived = {"image_s": self.image_s, "images_per_s": self.images_per_s}
        return {"schema": SCHEMA, "kind": "measure", **asdict(self), **derived}

    @classmethod
    def from_json(cls, line: Any) -> Self:
        """Raises UserError or ValueError for a line that is not a whole record with values that can be."""
        if not isinstance(line, dict) or line.get("kind") != "measure":
            raise ValueError("it is no record of `convatlas measure`")
        if line.get("schema") != SCHEMA:
            raise ValueError(f"it has schema {str(line.get('schema'))[:20]}, this convatlas reads {SCHEMA}")
        values = {key: value for key, value in line.items() if key not in ("schema", "kind", "image_s", "images_per_s")}
        for name, kind in (("accuracy", Accuracy), ("seconds", Seconds), ("ratio", Versus)):
            if isinstance(values.get(name), dict):
                values[name] = kind.from_values(name, values[name])
        if not isinstance(values.get("machine"), dict):
            raise ValueError("it does not say on which machine")
        found = cls.from_values("record", values)
        if found.step_s is None and not found.failed:
            raise ValueError("it has no time, and does not say why")
        return found


class Damage(NamedTuple):
    """A line that is not a record, and why."""

    file: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}, is left out: {self.why}"


def append(path: Path, records: Iterable[Record]) -> None:
    """Adds the records to a results file by whole lines, and returns once they are on the disk.

    A line that a killed process left unfinished stays one of its own. Raises UserError for a file of something else,
    and Unwritable.
    """
    text = "".join(json.dumps(record.to_json(), ensure_ascii=False, allow_nan=False) + "\n" for record in records)
    try:
        with open(path, "ab+") as file:
            file.seek(0)
            start = file.readline(LARGEST)
            if start.strip() and b'"kind": "measure"' not in start:
                raise UserError(f"{path} is not a results file", "give --out another name")
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                text = text if file.read(1) == b"\n" or not text else f"\n{text}"
            file.write(utf8(text))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from error


def read(path: Path) -> tuple[list[Record], list[Damage]]:
    """The records of a results file in its order, and the lines that are none. Raises UserError if it has none."""
    try:
        lines = read_bytes(path, LARGEST, "give a results file").split(b"\n")
    except OSError as error:
        raise unread(path, error) from error
    records, damages = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            records.append(Record.from_json(from_json(line)))
        except (ValueError, UserError) as error:
            why = error.what if isinstance(error, UserError) else first_line(error)
            damages.append(Damage(str(path), number, why))
    if not records:
        why = f": line {damages[0].line}: {damages[0].why}" if damages else ", which is empty"
        raise UserError(f"there are no results in {path}{why}", "give a file that `convatlas measure --out` wrote")
    return records, damages


def newest(records: Sequence[Record]) -> list[Record]:
    """Of records of the same key and the same machine with the same versions, the last; in the order of the first."""
    found: dict[str, Record] = {}
    for record in records:
        same = json.dumps([record.key, record.source, record.machine], sort_keys=True)
        if same not in found or record.date >= found[same].date:
            found[same] = record
    return list(found.values())
