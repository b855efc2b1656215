"""Text that a user wrote, as lists and class names: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from ..errors import UserError
from .regular import read_bytes


def read_lines(path: Path, most: int) -> list[str]:
    """The lines of a file of at most `most` bytes, ended as any system ends them. Raises as `read_text`.

    Other characters that Python takes for line ends (U+2028, U+0085 ...) may be part of a file's name.
    """
    return read_text(path, most).replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_text(path: Path, most: int) -> str:
    """The text without its byte order mark. Raises UserError if it is not UTF-8, and as `read_bytes`."""
    try:
        return read_bytes(path, most, "give a text file").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text", "save it as UTF-8") from error


def twins(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that differ only in their Unicode form: "é" as one character, or as "e" and an accent."""
    first: dict[str, str] = {}
    for name in names:
        if (other := first.setdefault(unicodedata.normalize("NFC", name), name)) != name:
            return other, name
    return None


def forms(a: str, b: str) -> str:
    """The two names with their accents as codes, which tells them apart."""
    return f"{a!a} and {b!a}"
