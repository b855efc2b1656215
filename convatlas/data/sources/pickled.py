"""Plain data and numpy arrays from a pickle, without executing it.

A pickle is a program: its GLOBAL and REDUCE instructions may call anything. This interprets the instructions that build
plain data, recognises by name the few calls that serialise numpy arrays, and builds those arrays itself. Any other
call is rejected: nothing is imported, and nothing that the file names is called.
"""

from __future__ import annotations

import pickletools
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UserError

CALLS = {  # the calls in a pickled array (numpy 2, and before), and what stands for each
    "numpy._core.multiarray _reconstruct": "array",
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.numeric _frombuffer": "frombuffer",
    "numpy.core.numeric _frombuffer": "frombuffer",
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",  # Python 3's bytes in protocols 0 to 2; empty bytes:
    "__builtin__ bytes": "bytes",
}


class Refused(Exception):
    """The pickle does something that plain data does not; the message says what."""


@dataclass(eq=False)
class Call:
    kind: str  # one of CALLS' values


@dataclass(eq=False)
class DType:
    code: str
    order: str = "="


@dataclass(eq=False)
class Array:
    values: np.ndarray | None = None  # None until it is built


def read_pickle(content: bytes, name: str) -> dict[str, Any]:
    """The dict in a pickle: numbers, text, bytes (Python 2's strings), lists, tuples and integer arrays.

    Keys are returned as text. Raises UserError, with the file's `name`, for a pickle that holds or calls anything else
    or is truncated.
    """
    try:
        record = run(content)
    except Refused as error:
        raise UserError(
            f"{name} {error}, which plain data does not", "it was not executed: download it again"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{name} is damaged or not a pickle ({error})", "download it again") from error
    if not isinstance(record, dict):
        raise UserError(f"{name} does not hold a dict", "download it again")
    values = (v.values if isinstance(v, Array) else v for v in record.values())
    return dict(zip((k.decode("latin-1") if isinstance(k, bytes) else k for k in record), values))


def run(content: bytes) -> Any:
    """What the pickle leaves at the top of its stack."""
    stack: list[Any] = []
    marks: list[int] = []  # where in the stack each open MARK is
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        at = marks.pop()
        items = stack[at:]
        del stack[at:]
        return items

    arg: Any
    for op, arg, _ in pickletools.genops(content):
        match op.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return stack.pop()
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(op.name == "NEWTRUE")
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4" | "FLOAT" | "BINFLOAT":
                stack.append(arg)
            case "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(arg)
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(arg.encode("latin-1"))
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(bytes(arg))
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
                stack.append(pairs(since_mark()))
            case "APPEND" | "APPENDS":
                items = since_mark() if op.name == "APPENDS" else [stack.pop()]
                plain(stack[-1], list).extend(items)
            case "SETITEM" | "SETITEMS":
                if op.name == "SETITEM":
                    marks.append(len(stack) - 2)
                items = since_mark()
                plain(stack[-1], dict).update(pairs(items))
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "GLOBAL":
                stack.append(call(arg))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(call(f"{module} {name}"))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(reduced(plain(function, Call).kind, plain(arguments, tuple)))
            case "BUILD":
                state = plain(stack.pop(), tuple)
                build(stack[-1], state)
            case _:
                raise Refused(f"uses the instruction {op.name}")
    raise ValueError("it has no end")


def call(path: str) -> Call:
    if path not in CALLS:
        raise Refused(f"calls {path.replace(' ', '.')!r}")
    return Call(CALLS[path])


def plain(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise Refused(f"has a {type(value).__name__.lower()} where a {kind.__name__.lower()} belongs")
    return value


def pairs(items: list[Any]) -> dict[str | bytes | int, Any]:
    keys = items[::2]
    if not all(isinstance(k, str | bytes | int) for k in keys):
        raise Refused("has a key that is neither text nor a number")
    return dict(zip(keys, items[1::2], strict=True))


def reduced(kind: str, arguments: tuple[Any, ...]) -> Any:
    """The result of a call in CALLS."""
    match kind, arguments:
        case "array", (Call("ndarray"), _, _):
            return Array()
        case "dtype", (bytes() | str() as code, *_):
            return DType(code.decode() if isinstance(code, bytes) else code)
        case "encode", (str() as text, "latin1"):
            return text.encode("latin-1")
        case "bytes", ():
            return b""
        case "frombuffer", (bytes() as raw, DType() as dtype, tuple() as shape, str() as order):
            return Array(as_array(raw, dtype, shape, order))
    raise Refused(f"calls {kind} with unusual arguments")


def build(made: Any, state: tuple[Any, ...]) -> None:
    """Completes the result of a call: a dtype's byte order, an array's values."""
    match made, state:
        case DType(), (int(), bytes() | str() as order, *_):
            made.order = order.decode() if isinstance(order, bytes) else order
        case Array(), (int(), tuple() as shape, DType() as dtype, bool() | int() as fortran, bytes() as raw):
            made.values = as_array(raw, dtype, shape, "F" if fortran else "C")
        case _:
            raise Refused(f"builds a {type(made).__name__.lower()} in an unusual way")


def as_array(raw: bytes, dtype: DType, shape: tuple[int, ...], order: str) -> np.ndarray:
    if not re.fullmatch(r"[iu][1248]", dtype.code) or dtype.order not in "|=<>":
        raise Refused(f"has an array of type {dtype.code!r}, not of integers")
    values = np.frombuffer(raw, (">" if dtype.order == ">" else "<") + dtype.code)
    return values.astype(dtype.code).reshape(shape, order="F" if order == "F" else "C")
