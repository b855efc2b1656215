"""Plain data from a pickle, without executing it, and no more of it than the pickle holds.

A pickle is a program: its GLOBAL and REDUCE instructions may call anything, and its memo may repeat anything. This
interprets the instructions that build plain data. Of what a pickle names, only the reader's own `calls` exist: nothing
is imported, and nothing that the file names is called. What is repeated or made by calls is counted, and bounded by
the size of the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_INSTRUCTIONS = 1_000_000  # CIFAR-100's pickles have a third of that
LARGEST_KEY = 1 << 32  # Python looks up larger numbers that are chosen to collide one after the other
SPARE = 1 << 24  # bytes that may be repeated or made beside the file's own
EACH = 16  # bytes of a value beside its text

Calls = Mapping[str, Callable[..., Any] | None]  # "module name": what stands for it; None if it is only named


class Refused(Exception):
    """The pickle does something that plain data does not; the message says what."""


@dataclass(frozen=True)
class Named:
    """Something that the pickle names: one of the reader's calls."""

    path: str


class Made:
    """What a call has made, and BUILD completes."""

    def build(self, state: Any) -> None:
        raise Refused(f"builds a {type(self).__name__.lower()} in an unusual way")


class Budget:
    """How many bytes may still be repeated or made."""

    def __init__(self, size: int):
        self.left = 2 * size + SPARE

    def spend(self, n: int) -> None:
        self.left -= n
        if self.left < 0:
            raise Refused("repeats what it holds until it is larger than the file")

    def repeat(self, value: Any) -> None:
        """Spends what a value holds, with all that is in it."""
        values = [value]
        while values:
            match values.pop():
                case str() | bytes() as text:
                    self.spend(EACH + len(text))
                case list() | tuple() as items:
                    self.spend(EACH * (1 + len(items)))
                    values += items
                case dict() as items:
                    self.spend(EACH * (1 + 2 * len(items)))
                    values += [*items, *items.values()]
                case other:
                    self.spend(EACH + getattr(other, "nbytes", 0))


def run(
    content: Any,
    size: int,
    calls: Calls,
    keys: tuple[type, ...] = (str, bytes),
    stored: Callable[[Any], Any] | None = None,
) -> Any:
    """What the pickle leaves at the top of its stack.

    `content` is bytes, or has `read` and `readline`; `size` is that of the file; `keys` are the types of a dict's keys;
    `stored` gives what a persistent id stands for.

    Raises Refused for what is no plain data, and for more than the file holds; ValueError, LookupError, TypeError,
    AttributeError or OverflowError for a damaged pickle.
    """
    stack: list[Any] = []
    marks: list[int] = []  # where in the stack each open MARK is
    memo: dict[int, Any] = {}
    frozen: set[int] = set()  # the lists and dicts that the memo has repeated: they must not grow any more
    budget = Budget(size)

    def since_mark() -> list[Any]:
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    def growing(kind: type) -> Any:
        if id(stack[-1]) in frozen:
            raise Refused("changes what it has repeated")
        return plain(stack[-1], kind)

    arg: Any
    for count, (op, arg, _) in enumerate(pickletools.genops(content)):
        if count > MOST_INSTRUCTIONS:
            raise Refused(f"has more than {MOST_INSTRUCTIONS:,} instructions")
        match op.name:
            case "BINPUT" | "LONG_BINPUT" | "PUT" | "MEMOIZE":
                memo[slot(arg, count) if arg is not None else len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                value = memo[arg]
                budget.repeat(value)
                if isinstance(value, list | dict):
                    frozen.add(id(value))
                stack.append(value)
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT":
                stack.append(arg)
            case "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(arg)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(arg.encode("latin-1"))
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(bytes(arg))
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(op.name == "NEWTRUE")
            case "MARK":
                marks.append(len(stack))
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE":
                stack.append({"LIST": list, "DICT": dict, "UPLE": tuple}[op.name[-4:]]())
            case "LIST":
                stack.append(since_mark())
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                marks.append(len(stack) - int(op.name[-1]))
                stack.append(tuple(since_mark()))
            case "DICT":
                stack.append(pairs(since_mark(), keys))
            case "APPEND" | "APPENDS":
                items = since_mark() if op.name == "APPENDS" else [stack.pop()]
                growing(list).extend(items)
            case "SETITEM" | "SETITEMS":
                if op.name == "SETITEM":
                    marks.append(len(stack) - 2)
                items = since_mark()
                growing(dict).update(pairs(items, keys))
            case "GLOBAL":
                stack.append(named(arg, calls))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(named(f"{module} {name}", calls))
            case "REDUCE":
                arguments, function = plain(stack.pop(), tuple), plain(stack.pop(), Named)
                made = called(function.path, arguments, calls)
                budget.repeat(made)
                stack.append(made)
            case "BUILD":
                state = stack.pop()
                if isinstance(stack[-1], Made):
                    stack[-1].build(state)
                    budget.repeat(stack[-1])
                elif not (isinstance(stack[-1], dict) and isinstance(state, dict)):  # attributes of a dict are left out
                    raise Refused(f"builds a {kind_of(stack[-1])} in an unusual way")
            case "BINPERSID" if stored is not None:
                stack.append(stored(stack.pop()))
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case _:
                raise Refused(f"uses the instruction {op.name}")
    raise ValueError("it has no end")


def slot(n: int, count: int) -> int:
    """A place in the memo, of which there are no more than instructions so far."""
    if not 0 <= n <= count:
        raise Refused("has memo slots that it does not need")
    return n


def named(path: str, calls: Calls) -> Named:
    if path not in calls:
        raise Refused(f"calls {path[:80].replace(' ', '.')!r}")
    return Named(path)


def called(path: str, arguments: tuple[Any, ...], calls: Calls) -> Any:
    function = calls[path]
    if function is None:
        raise Refused(f"calls {path.replace(' ', '.')!r}")
    try:
        return function(*arguments)
    except TypeError as error:
        raise Refused(f"calls {path.replace(' ', '.')!r} with unusual arguments") from error


def plain(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise Refused(f"has a {kind_of(value)} where a {kind.__name__.lower()} belongs")
    return value


def kind_of(value: Any) -> str:
    return type(value).__name__.lower()


def pairs(items: list[Any], keys: tuple[type, ...]) -> dict[Any, Any]:
    for key in items[::2]:
        if not isinstance(key, keys) or (isinstance(key, int) and abs(key) >= LARGEST_KEY):
            raise Refused(f"has a {kind_of(key)} as a key")
    return dict(zip(items[::2], items[1::2], strict=True))


def encode(content: Any, codec: Any) -> bytes:
    if not isinstance(content, str) or codec != "latin1":
        raise Refused("encodes text in an unusual way")
    return content.encode("latin-1")


def no_bytes() -> bytes:
    return b""


BYTES: Calls = {"_codecs encode": encode, "__builtin__ bytes": no_bytes}  # in protocols 0 to 2
