"""The kinds of data sources and where they are: what can be checked of `--data` without opening it or torch."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from ..errors import UserError

SOURCES = (
    "digits",
    "mnist:DIR",
    "cifar10:DIR",
    "cifar100:DIR",
    "svhn:DIR",
    "imagenet:DIR",
    "folder:DIR",
    "list:DIR",
    "shards:DIR",
    "parquet:DIR",
    "pack:DIR",
)
KINDS = [source.partition(":")[0] for source in SOURCES]


def located(source: str) -> tuple[str, Path]:
    """ "cifar10:DIR" -> ("cifar10", DIR), and "DIR" -> ("", DIR), a path that exists; "digits" has none.

    Raises UserError for an unknown kind, and for a path that does not exist.
    """
    kind, _, place = source.partition(":")
    if source == "digits":
        return kind, Path()
    if place and kind in KINDS[1:]:
        at = at_home(place)
        if not at.exists():
            raise UserError(f"there is no data folder {at}")
        return kind, at
    at = at_home(source)
    if not at.exists():
        near = get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {SOURCES[KINDS.index(near[0])]}?" if near else f"give {', '.join(SOURCES)}, or a folder"
        raise UserError(f"no data source {source!r}, and no folder of that name", hint)
    return "", at


def at_home(path: str) -> Path:
    """The path with "~" as the user's own folder. Raises UserError for the folder of a user who does not exist."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"there is no home folder for {path}", "write the folder's whole path") from error
