"""Argument checks that run before torch is imported, so that mistakes are reported at once."""

from __future__ import annotations

import re
from pathlib import Path

from ..data.kinds import located
from ..errors import UserError
from ..files.figure import FORMATS
from ..tables import entry

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")


def data_source(text: str) -> str:
    """Returns the source as given. Raises UserError for an unknown kind and for a path that does not exist."""
    located(text)
    return text


def network_and_data(network: str, data: str) -> None:
    """Raises UserError for a network or source that does not exist, and if the two are swapped."""
    if not is_network(network) and is_source(network) and is_network(data):
        raise UserError(
            f"network and data look swapped: {data} is a network, {network} is not",
            f"give `{data} --data {network}`",
        )
    entry(network)
    data_source(data)


def is_network(name: str) -> bool:
    try:
        entry(name)
    except UserError:
        return False
    return True


def is_source(text: str) -> bool:
    try:
        located(text)
    except UserError:
        return False
    return True


def device(name: str) -> str:
    """Returns the device as given; torch checks later whether this machine has it. Raises UserError for other names."""
    if not re.fullmatch(rf"({'|'.join(DEVICES)})(:\d+)?", name):
        raise UserError(f"no device named {name!r}", "give auto (a GPU if there is one), cpu, cuda or cuda:1")
    return name


def path_or_source(text: str) -> str:
    """Returns a path, a source such as cifar10:DIR, or NETWORK@SOURCE, as given. Raises UserError for anything else."""
    if not Path(text).exists() and not is_source(text) and "@" not in text:
        raise UserError(f"there is no {text}", "give a run folder, a weights file, NETWORK@SOURCE, or data")
    return text


def picture(option: str, path: str | Path) -> Path:
    """Returns the path of a picture to draw. Raises UserError for other formats and for a missing folder."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{option} {path} is not a picture file", f"give a name that ends in {', '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} for {path.name}", "create it first")
    return path


def at_least_one(option: str, n: int) -> int:
    """Returns the count as given. Raises UserError if it is below 1."""
    if n < 1:
        raise UserError(f"{option} {n} is too small", "give at least 1")
    return n
