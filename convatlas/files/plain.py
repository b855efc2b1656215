"""Plain data as JSON: read within bounds from files that anybody may have written, and valid whatever it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DEEPEST = 64  # objects and lists within each other; ours have 6
LARGEST = 1 << 26  # bytes of a file
DIGITS = 40  # of a whole number


def read_json(path: Path) -> Any:
    """The value in a file. Raises ValueError as `from_json` does and for a file that is too large, and OSError."""
    if not path.is_file():
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    return from_json(content)


def from_json(text: str | bytes) -> Any:
    """The value, behind a byte order mark or not.

    Raises ValueError for what is not JSON in UTF-8, and for values deeper or longer than any of ours.
    """
    try:
        value = json.loads((text if isinstance(text, str) else text.decode("utf-8")).removeprefix("\ufeff"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    level = [value]
    for _ in range(DEEPEST):
        if any(isinstance(v, int) and abs(v) >= 10**DIGITS for v in level):
            raise ValueError(f"it has a number of more than {DIGITS} digits")
        level = [v for held in level if isinstance(held, dict | list) for v in contents(held)]
        if not level:
            return value
    raise ValueError("it is nested too deep")


def contents(held: dict[str, Any] | list[Any]) -> Any:
    return held.values() if isinstance(held, dict) else held


def utf8(text: str) -> bytes:
    """UTF-8; bytes of a file's name that are not UTF-8 are written as JSON writes them, "\\udcff", in JSON or not."""
    return text.encode("utf-8", "backslashreplace")
