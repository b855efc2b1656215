"""Output options shared by verbs, and parsing of image sizes."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

from ..errors import UserError, one_line
from ..files.atomic import write_text
from ..files.plain import utf8
from ..limits import whole_number
from ..report.tables import Report, json_text, size

MOST = 1_000_000  # channels, rows or columns of an image

__all__ = ["add_formats", "command", "parse_input", "print_json", "print_report", "say", "size", "write_file"]


def add_formats(parser: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """Adds the output formats; returns their mutually exclusive group, so that a verb can add its own."""
    group = parser.add_argument_group("output")
    group.add_argument("--wide", action="store_true", help="every column and every digit, however wide the terminal")
    form = group.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--csv", action="store_true", help="print the table as CSV")
    form.add_argument("--md", action="store_true", help="print Markdown")
    return form


def print_report(report: Report, args: argparse.Namespace) -> None:
    """Prints the report in the requested format (`add_formats`), by default as text that fits the terminal."""
    if args.json:
        print(report.json())
    elif args.csv:
        print(report.csv())
    elif args.md:
        print(report.markdown())
    else:
        print(report.text(None if args.wide else terminal_width()))


def terminal_width() -> int | None:
    """Characters per line: COLUMNS if set, else the terminal's; None if the output is a file or a pipe."""
    given = os.environ.get("COLUMNS", "")
    if columns := whole_number(given):
        return columns
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else 0
        return columns or None  # a terminal that does not know its width says 0
    except OSError:
        return None


def parse_input(text: str) -> tuple[int, int, int]:
    """ "3x224x224" -> (3, 224, 224)."""
    sizes = [whole_number(part) or 0 for part in text.lower().replace("×", "x").split("x")]
    if len(sizes) != 3 or not all(0 < n <= MOST for n in sizes):
        raise UserError(
            f"input {text[:40]!r} is not an image size",
            f"write channels x height x width, such as 3x224x224, each at most {MOST:,}",
        )
    c, h, w = sizes
    if w in (1, 3) and min(c, h) > 16:
        raise UserError(f"input {text!r} has {c} channels", f"did you mean {w}x{c}x{h}?")
    return c, h, w


def say(*lines: object, file: TextIO | None = None) -> None:
    """Prints each as one line, whatever the names in it hold."""
    for line in lines:
        print(one_line(str(line)), file=file, flush=True)


def command(words: Iterable[str]) -> str:
    """A command line for the shell; what is not printable in it is as bash and zsh read it, $'\\x1b'."""
    return " ".join(shlex.quote(word) if word.isprintable() else f"$'{''.join(map(spelt, word))}'" for word in words)


def spelt(c: str) -> str:
    if c in "\\'":
        return f"\\{c}"
    return c if c.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(c))


def print_json(record: dict[str, Any]) -> None:
    print(json_text(record))


def write_file(path: Path, text: str) -> Path:
    """Writes a file, whole or not at all, and returns its path. Raises UserError if it cannot be written."""
    if path.is_file() or not path.exists():
        write_text(path.resolve(), text)
        return path
    try:  # a pipe, or a terminal
        path.write_bytes(utf8(text))
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror})", "name a file in a folder that exists"
        ) from error
    return path
