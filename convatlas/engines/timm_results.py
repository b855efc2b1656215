"""Results as timm publishes them (results/benchmark-infer-*.csv): its columns, read and written.

A file's name says what its lines do not: benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv is float32, torch
2.4.0, on the processor i9_10940x, compiled. Times are means of a run on as many threads as timm's torch had, which no
file says; counts are in millions and 10^9, with two decimals.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..errors import UserError
from ..files.text import read_text
from ..limits import real_number, whole_number
from .results import Accuracy, Damage, Record, Seconds

LARGEST = 1 << 26
NEEDED = ("model", "step_time", "batch_size", "img_size")
NAME = re.compile(
    r"benchmark-infer-(?P<precision>\w+)-(?:nchw|nhwc)-pt(?P<torch>\d+)-(?P<kind>cpu|cu\d+)-(?P<rest>[\w-]+)"
)


def header(record: Record) -> dict[str, Any]:
    """A record under timm's headers: infer_step_time is in milliseconds a batch."""
    return {
        "model": record.model,
        "infer_img_size": record.input[-1],
        "infer_samples_per_sec": rounded(record.images_per_s, 2),
        "infer_step_time": rounded(record.step_s, 3, 1e3),
        "infer_batch_size": record.batch,
        "param_count": rounded(record.params, 2, 1e-6),
        "infer_gmacs": rounded(record.macs, 2, 1e-9),
        "infer_macts": rounded(record.multiplied_activations, 2, 1e-6),
    }


def rounded(value: float | None, digits: int, factor: float = 1) -> float | None:
    return None if value is None else round(value * factor, digits)


def is_timms(path: Path) -> bool:
    """Whether a file starts with a header that has timm's columns."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            first = file.readline(4096)
    except (OSError, UnicodeDecodeError):
        return False
    return first.startswith("model,") and set(NEEDED) <= {plain(name) for name in first.strip().split(",")}


def plain(name: str) -> str:
    return name.strip().removeprefix("infer_")


def read(path: Path) -> tuple[list[Record], list[Damage]]:
    """The records of a file, and the lines that are none. Raises UserError for a name that does not say how."""
    how = NAME.match(path.name)
    if how is None:
        raise UserError(
            f"{path.name} does not say on which machine it was measured",
            "keep the name that timm gives it: benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv",
        )
    about = described(how)
    records, damages = [], []
    lines = csv.reader(read_text(path, LARGEST).splitlines())
    names = [plain(name) for name in next(lines)]
    for number, cells in enumerate(lines, 2):
        try:
            if cells:
                records.append(record(dict(zip(names, cells, strict=True)), about))
        except ValueError as error:
            damages.append(Damage(str(path), number, error.what if isinstance(error, UserError) else str(error)))
    if not records:
        raise UserError(f"there are no results in {path}", "give a file that timm published")
    return records, damages


def described(how: re.Match[str]) -> dict[str, Any]:
    """What a file's name says."""
    name, compiled = re.subn(r"-dynamo$", "", how["rest"])
    digits, gpu = how["torch"], how["kind"] != "cpu"
    torch = f"{digits[0]}.{digits[1:]}" if digits[0] == "1" else ".".join(digits)  # pt113 is 1.13, pt240 2.4.0
    return {
        "engine": "torch.compile" if compiled else "torch",
        "precision": how["precision"],
        "device": "cuda" if gpu else "cpu",
        "machine": {"gpu" if gpu else "processor": name, "versions": {"torch": torch}},
    }


def record(cells: Mapping[str, str], about: Mapping[str, Any]) -> Record:
    """One line. Raises ValueError for one without numbers where they should be."""
    step, batch, side = real_number(cells["step_time"]), whole_number(cells["batch_size"]), cells["img_size"]
    if not batch or not whole_number(side):
        raise ValueError("its batch or image size is not a whole number")
    clock: Literal["cuda", "wall"] = "cuda" if about["device"] == "cuda" else "wall"
    return Record(
        model=cells["model"],
        network=ours().get(cells["model"], ""),
        threads=None,
        batch=batch,
        input=(3, int(side), int(side)),
        accuracy=Accuracy("unknown"),
        seconds=Seconds(clock, mean=step / 1e3),
        params=millions(cells.get("param_count"), 6),
        macs=millions(cells.get("gmacs"), 9),
        multiplied_activations=millions(cells.get("macts"), 6),
        source="timm",
        **about,
    )


def millions(cell: str | None, power: int) -> int | None:
    return round(real_number(cell) * 10**power) if cell else None


@cache
def ours() -> dict[str, str]:
    """The atlas's networks, by timm's names."""
    from ..weights.published import published  # imports torch

    return {row.called: row.network for row in published().values() if row.source == "timm"}
