"""The argument parser: errors are one line, with suggestions for misspelt names."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import UserError, unknown
from ..limits import real_number, signed_number


def given(args: Sequence[str]) -> Sequence[str]:
    """The arguments. Raises UserError for one that no system could have passed on: with NUL, or half a character."""
    for text in args:
        try:
            if "\0" not in text:
                os.fsencode(text)
                continue
        except UnicodeEncodeError:
            pass
        raise UserError(f"argument {text!r} is not text", "give it without characters that no file's name can have")
    return args


def refusing(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """As argparse takes it, for which the ValueErrors' own messages are then printed."""

    def value(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return value


class Formatter(argparse.HelpFormatter):
    """Wraps each line of a description or epilog separately, so that paragraphs stay apart."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(super(Formatter, self)._fill_text(line, width, indent) for line in text.splitlines())


class Parser(argparse.ArgumentParser):
    """Reports bad arguments as UserError, like all other errors. Options cannot be abbreviated.

    Arguments of type int and float are read as limits.py reads them.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**{"allow_abbrev": False, "formatter_class": Formatter, **kwargs})
        self.register("type", int, refusing(signed_number))
        self.register("type", float, refusing(real_number))

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(message, f"see `{self.prog} --help`")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Checks for misspelt options first: argparse would report the arguments that are missing because of them."""
        if self._subparsers is None:
            for word in args or ():
                if word == "--":
                    break
                name = word.partition("=")[0]
                if name.startswith("--") and name not in self._option_string_actions:
                    legal = [option for option in self._option_string_actions if option.startswith("--")]
                    raise unknown(f"option of `{self.prog}`", name, legal)
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            kind = action.option_strings[-1] if action.option_strings else str(action.metavar or action.dest).lower()
            raise unknown(kind, str(value), map(str, action.choices))
