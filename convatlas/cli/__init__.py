"""The command line: one file per verb (HELP, add, run). Verbs parse, call the library and print."""

from __future__ import annotations

import argparse
import errno
import os
import select
import signal
import sys
import tempfile
import textwrap
import threading
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from shutil import get_terminal_size

from ..errors import OF_PATHS, UserError, one_line, out_of_memory
from ..version import VERSION
from .parser import Parser, given

GROUPS = {
    "Find": ("list", "show", "choose", "chart", "draw", "diff", "claims", "recipes"),
    "Count": ("layer", "memory", "reconcile", "measure", "calibrate"),
    "Learn": ("data", "train", "transfer", "lr", "evaluate", "predict", "weights"),
    "Ship": ("export",),
    "Care": ("doctor", "demo"),
}
DOCS = Path(__file__).parents[1] / "docs"  # inside the package, so that installations include them
INTERNAL = 70  # EX_SOFTWARE of sysexits.h
VERBS = tuple(verb for verbs in GROUPS.values() for verb in verbs)


def parser() -> Parser:
    """The parser of all verbs. A verb's module has HELP, one line; `add`, for its arguments and example; and `run`."""
    modules = {verb: import_module(f".{verb}", __package__) for verb in VERBS}
    top = Parser(
        prog="convatlas",
        usage="convatlas VERB ...",
        description="\n".join(described({verb: module.HELP for verb, module in modules.items()})),
        epilog=f"`convatlas VERB --help` explains a verb, with an example. Documentation, including api.md and\n"
        f"lectures.md: {DOCS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"convatlas {VERSION}")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB", prog="convatlas", help=argparse.SUPPRESS)
    for verb, module in modules.items():
        added = verbs.add_parser(verb, description=f"{module.HELP[0].upper()}{module.HELP[1:]}.")
        module.add(added)
        added.set_defaults(run=module.run)
    return top


def described(helps: Mapping[str, str]) -> Iterator[str]:
    """What convatlas is, and its verbs in groups, each with its help line."""
    yield "An atlas of convolutional networks, each exact to its paper."
    width = get_terminal_size().columns - 2
    for group, verbs in GROUPS.items():
        yield f"\n{group}:"
        for verb in verbs:
            yield textwrap.fill(f"  {verb:<11}{helps[verb]}", width, subsequent_indent=" " * 13)


def process() -> str:
    """Which torchrun process this is, for messages; empty for the first or only one."""
    rank = os.environ.get("RANK", "0") if "TORCHELASTIC_RUN_ID" in os.environ else "0"
    return "" if rank == "0" else f" (process {rank})"


ENDING = (signal.SIGTERM, signal.SIGHUP)  # killed; terminal closed


class Terminated(KeyboardInterrupt):
    """One of ENDING arrived, outside of training (which handles them itself)."""

    def __init__(self, number: int):
        super().__init__(number)
        self.signum = signal.Signals(number)


@contextmanager
def terminable() -> Iterator[None]:
    """Makes signals end the verb as Ctrl-C does, so that nothing is left half-written. Not under torchrun, where
    processes wait for each other in code that Python signal handlers cannot interrupt."""
    alone = threading.current_thread() is threading.main_thread() and "TORCHELASTIC_RUN_ID" not in os.environ
    ours = [number for number in ENDING if alone and signal.getsignal(number) == signal.SIG_DFL]

    def terminate(number: int, _: object) -> None:
        raise Terminated(number)

    for number in ours:
        signal.signal(number, terminate)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit status: 0 done, 2 an error that the user can fix (one line says how), 130 Ctrl-C,
    143 SIGTERM, 129 SIGHUP; 70 an error of ours (one line says where its traceback is)."""
    warnings.filterwarnings("ignore", module="PIL")  # we report broken images ourselves
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names of files need not be text, nor the terminal UTF-8
            stream.reconfigure(errors="backslashreplace")
    try:
        with terminable():
            top = parser()
            if "_ARGCOMPLETE" in os.environ:  # the shell asks for completions
                import argcomplete

                from .completion import complete

                complete(top)
                argcomplete.autocomplete(top)
            args = top.parse_args(given(sys.argv[1:] if argv is None else argv))
            status = args.run(args) or 0
            if sys.stdout is not None:
                sys.stdout.flush()
            return status
    except UserError as error:
        if str(error):  # if empty, another process prints it
            print(f"convatlas{process()}: {one_line(str(error))}", file=sys.stderr)
        return 2
    except Terminated as stop:
        with suppress(OSError):  # the terminal may be closed
            print(f"convatlas: stopped by {stop.signum.name}", file=sys.stderr)
        return 128 + stop.signum
    except KeyboardInterrupt:
        print("convatlas: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EIO) and output_lost():
            sys.stdout = None  # the reader (head, less) has quit, or the terminal is closed
            return 0
        if error.filename is None and not unprinted():
            return unforeseen(error)
        what = "standard output" if error.filename is None else one_line(repr(error.filename))
        print(f"convatlas: {what}: {error.strerror}; {remedy(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        return unforeseen(error)


def output_lost() -> bool:
    """Whether standard output or error is a pipe that nobody reads, or a terminal that is closed."""
    lost = select.poll()
    for stream in (1, 2):
        lost.register(stream, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in lost.poll(0))


def unprinted() -> bool:
    """Whether nothing more can be printed: the disk under the output is full, or fails."""
    try:
        print(flush=True)
        return False
    except OSError:
        sys.stdout = None
        return True


def remedy(error: OSError) -> str:
    return "give another path" if error.errno in OF_PATHS else "run the command again once that is mended"


def unforeseen(error: Exception) -> int:
    """Says in one line that there is no memory left, or that an error is ours."""
    if not out_of_memory(error):
        return internal(error)
    print("convatlas: out of memory; free some, or give a smaller --batch or image size", file=sys.stderr)
    return 2


def internal(error: Exception) -> int:
    """Says in one line what happened that nobody foresaw, and keeps the traceback."""
    text = f"convatlas {VERSION}\n{sys.argv}\n{''.join(traceback.format_exception(error))}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="convatlas-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
        report = f"please report it with {file.name}"
    except OSError as failure:
        report = f"please report it (its traceback cannot be written: {failure.strerror})"
    first = one_line((str(error).splitlines() or [""])[0][:200])
    about = f"{type(error).__name__}: {first}" if first else type(error).__name__
    print(f"convatlas: internal error ({about}); {report}", file=sys.stderr)
    return INTERNAL
