"""Profiles: what was learnt of an engine's speed on a machine, kept beside other files of the cache. No torch.

A profile holds for one engine in one version, precision and number of threads, on machines with one kind of processor.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...checked import Checked, Count
from ...errors import UserError, first_line
from ...files.atomic import other_version, write_text
from ...files.cache import cache
from ...files.plain import read_json
from ...machine.facts import cores, flags, processor
from .features import Features

SCHEMA = 2
HOW = "`convatlas calibrate` learns the speed of this machine in a minute"
FLOOR_S = 5e-4  # shorter times are not predicted
FLOOR_NAME = "under 1 ms"


@dataclass(frozen=True)
class Key(Checked):
    """What a profile holds for."""

    engine: str
    precision: str
    threads: Count
    version: str  # of the engine
    processor: str
    flags: tuple[str, ...]  # the processor's instructions for arithmetic
    cores: Count

    def __str__(self) -> str:
        return f"{self.engine} {self.version}, {self.precision}, {counted(self.threads)}"


@dataclass(frozen=True)
class Profile:
    """Seconds a unit of each feature (`features.py`), and the factors from an estimate to its interval's ends."""

    key: Key
    seconds: dict[str, float]
    low: float
    high: float
    chains: int  # that it was learnt from
    seed: int
    reference_s: float  # the time of `chains.reference`, which is always the same, while it was learnt


@dataclass(frozen=True)
class Estimate:
    """The time of a batch, and an interval that holds 9 of 10 times."""

    median_s: float
    low_s: float
    high_s: float
    batch: int
    key: Key

    @property
    def floor(self) -> bool:
        """Whether it is so short that nothing more is said of it."""
        return self.median_s < FLOOR_S

    def within(self, limit_s: float) -> bool | None:
        """Whether the time is within a limit; None, undecided, where the limit lies inside the interval."""
        return True if self.high_s <= limit_s else None if self.low_s <= limit_s else False

    @property
    def short(self) -> str:
        return FLOOR_NAME if self.floor else f"{milliseconds(self.median_s)} ms"

    def __str__(self) -> str:
        span = f" ({milliseconds(self.low_s)} to {milliseconds(self.high_s)})"
        return self.short + ("" if self.floor else span)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def milliseconds(seconds: float) -> str:
    """With two or three digits."""
    ms = 1e3 * seconds
    return f"{ms:.{max(0, 1 - math.floor(math.log10(ms)))}f}" if 0 < ms < 100 else f"{ms:.0f}"


def counted(threads: int) -> str:
    return "1 thread" if threads == 1 else f"{threads} threads"


def estimated(features: Features, profile: Profile, batch: int = 1) -> Estimate:
    """The time of a batch of a network, of its features at that batch."""
    median = sum(profile.seconds.get(name, 0.0) * amount for name, amount in features.items())
    return Estimate(median, median * profile.low, median * profile.high, batch, profile.key)


def key_here(engine: str, precision: str = "fp32", threads: int = 1) -> Key:
    """What a profile that is made now, on this machine, holds for. Raises UserError without the engine."""
    try:
        found = version(engine)
    except PackageNotFoundError as error:
        raise UserError(f"{engine} is not installed", "pip install 'convatlas[deploy]'") from error
    return Key(engine, precision, threads, found, processor(), flags(), cores())


def folder() -> Path:
    return cache("latency")


def file_of(key: Key) -> Path:
    return folder() / f"{key.engine}-{key.precision}-{key.threads}-{sha256(repr(key).encode()).hexdigest()[:12]}.json"


def save(profile: Profile) -> Path:
    file = file_of(profile.key)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps({"schema": SCHEMA} | asdict(profile), indent=1))
    return file


def load(file: Path) -> Profile:
    """Raises UserError for a file that is damaged or that another version wrote."""
    try:
        record = read_json(file)
        if not isinstance(record, dict):
            raise ValueError("it is not a record")
    except ValueError as error:
        raise damaged(file, error) from error
    if (schema := record.pop("schema", None)) != SCHEMA:
        raise other_version(file, schema, (SCHEMA,))
    try:
        seconds = {str(name): float(amount) for name, amount in record["seconds"].items()}
        low, high, reference_s = (float(record[name]) for name in ("low", "high", "reference_s"))
        if not all(0 <= n < math.inf for n in (low, high, reference_s, *seconds.values())):
            raise ValueError("a number is negative or infinite")
        key = Key.from_values("key", record["key"])
        return Profile(key, seconds, low, high, int(record["chains"]), int(record["seed"]), reference_s)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise damaged(file, error) from error


def damaged(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} is damaged ({first_line(error)})", "delete it, and calibrate again")


def saved() -> list[Profile]:
    """All profiles in the cache, of whatever machine and version."""
    return [load(file) for file in sorted(folder().glob("*-*-*-*.json"))]


def is_here(profile: Profile) -> bool:
    """Whether it holds for this machine, with the engine as it is installed."""
    try:
        return profile.key == key_here(profile.key.engine, profile.key.precision, profile.key.threads)
    except UserError:
        return False


def here() -> list[Profile]:
    """The profiles that hold on this machine. Raises UserError where there is none, and says which others there are."""
    found = saved()
    valid = [profile for profile in found if is_here(profile)]
    if valid:
        return valid
    if found:
        raise UserError(f"no profile holds here: {stale(found[0])}", HOW)
    raise UserError("latencies cannot be estimated without a profile of this machine", HOW)


def stale(profile: Profile) -> str:
    """Why a profile does not hold on this machine."""
    own = profile.key
    try:
        now = key_here(own.engine, own.precision, own.threads)
    except UserError as error:
        return error.what
    names = ("version", "processor", "flags", "cores")
    changed = [name for name in names if getattr(own, name) != getattr(now, name)]
    told = [
        "other instructions" if name == "flags" else f"{name} {getattr(own, name)}, now {getattr(now, name)}"
        for name in changed
    ]
    return f"the one of {own} was made with {'; '.join(told)}"
