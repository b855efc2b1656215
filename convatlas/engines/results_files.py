"""Results files of any kind: those of `convatlas measure`, and timm's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from . import results, timm_results
from .results import Damage, Record


def read(file: Path) -> tuple[list[Record], list[Damage]]:
    """The records of a file, and the lines that are none. Raises UserError for a file of something else."""
    return timm_results.read(file) if timm_results.is_timms(file) else results.read(file)


def read_all(files: Iterable[Path]) -> tuple[list[Record], list[Damage]]:
    """The newest records of files, and the lines that are none."""
    records, damages = [], []
    for file in files:
        some, bad = read(file)
        records += some
        damages += bad
    return results.newest(records), damages
