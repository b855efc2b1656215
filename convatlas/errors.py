"""The one exception that means 'you can fix this': the command line prints it as one line and exits with status 2."""

import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 2000  # characters of a line
OF_PATHS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES, errno.EPERM)
OF_MACHINES = (errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.EACCES)
SHORT = ("out of memory", "allocate memory", "bad_alloc")  # how Pillow, CUDA, torch and C++ say it


class UserError(ValueError):
    """Something the user asked for cannot be done: `what` names the offender and the rule, `remedy` says what to do.

    Printed as one sentence: "what; remedy".
    """

    def __init__(self, what: str, remedy: str = ""):
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if self.remedy else self.what


class Unreadable(UserError):
    """The machine fails to read a file, which may be intact: a disk, a network, too many open files."""


def unread(file: object, error: OSError) -> UserError:
    """The error for a file that the system does not give: Unreadable, unless its path is at fault."""
    kind = UserError if error.errno in OF_PATHS else Unreadable
    remedy = "" if kind is UserError else "it may be intact: run the command again once it can be read"
    return kind(f"{file} cannot be read ({error.strerror or error})", remedy)


def one_line(text: str) -> str:
    """The text as one line: what a terminal would not print, such as a line feed in a file's name, as Python writes it
    ("\\n"); of a very long text, both ends."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    return visible(text)


def visible(text: str) -> str:
    """The text with what a terminal would not print, or would obey, as Python writes it."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def first_line(error: Exception) -> str:
    """Of its message; its class if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def out_of_memory(error: BaseException) -> bool:
    """Whether it says so."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in SHORT)


def pass_on(file: object, error: BaseException) -> None:
    """Raises what is no fault of a file's content: MemoryError, or the UserError for what the system says of the file.

    For readers that take every other error for damage. (EINVAL comes from offsets in damaged files.)
    """
    if out_of_memory(error):
        raise MemoryError from error
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        raise unread(file, error) from error
    for number in OF_MACHINES:  # torch and h5py say it in words
        if os.strerror(number) in str(error):
            raise unread(file, OSError(number, os.strerror(number))) from error


def did_you_mean(name: str, legal: Iterable[str]) -> str:
    """The question, with up to three close matches; empty without any."""
    near = get_close_matches(name, list(legal), n=3, cutoff=0.6)
    return f"did you mean {', '.join(near)}?" if near else ""


def unknown(kind: str, name: str, legal: Iterable[str]) -> UserError:
    """The error for a name that is not one of `legal`: suggests close matches, else all names (or the first 20)."""
    legal = list(legal)
    if meant := did_you_mean(name, legal):
        return UserError(f"no {kind} named {name!r}", meant)
    shown = ", ".join(legal[:20]) + (f" ... ({len(legal)} in all)" if len(legal) > 20 else "")
    return UserError(f"no {kind} named {name!r}", f"choose from {shown}" if legal else "there are none")
