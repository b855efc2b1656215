"""Plain data and numpy arrays from a pickle, which files/pickled.py interprets: the calls that build arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UserError, first_line
from ...files.pickled import BYTES, Made, Named, Refused, run


@dataclass(eq=False)
class DType(Made):
    code: str
    order: str = "="

    def build(self, state: Any) -> None:
        """Its byte order."""
        match state:
            case (int(), bytes() | str() as order, *_):
                self.order = text(order)
            case _:
                super().build(state)


@dataclass(eq=False)
class Array(Made):
    values: np.ndarray | None = None  # None until it is built

    @property
    def nbytes(self) -> int:
        return 0 if self.values is None else self.values.nbytes

    def build(self, state: Any) -> None:
        match state:
            case (int(), tuple() as shape, DType() as dtype, bool() | int() as fortran, bytes() as raw):
                self.values = as_array(raw, dtype, shape, "F" if fortran else "C")
            case _:
                super().build(state)


def reconstruct(kind: Any, *_: Any) -> Array:
    if kind != Named("numpy ndarray"):
        raise Refused("has an array of another class")
    return Array()


def dtype(code: Any, *_: Any) -> DType:
    return DType(text(code))


def frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    match raw, dtype, shape, order:
        case bytes(), DType(), tuple(), str():
            return Array(as_array(raw, dtype, shape, order))
    raise Refused("has an array of unusual parts")


CALLS = {  # those in a pickled array (numpy 2, and before)
    "numpy._core.multiarray _reconstruct": reconstruct,
    "numpy.core.multiarray _reconstruct": reconstruct,
    "numpy._core.numeric _frombuffer": frombuffer,
    "numpy.core.numeric _frombuffer": frombuffer,
    "numpy ndarray": None,
    "numpy dtype": dtype,
    **BYTES,
}


def read_pickle(content: bytes, name: str) -> dict[str, Any]:
    """The dict in a pickle: numbers, text, bytes (Python 2's strings), lists, tuples and integer arrays.

    Keys are returned as text. Raises UserError, with the file's `name`, for a pickle that holds or calls anything else,
    repeats what it holds until it is larger than the file, or is truncated.
    """
    try:
        record = run(content, len(content), CALLS)
    except Refused as error:
        raise UserError(
            f"{name} {error}, which plain data does not", "it was not executed: download it again"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{name} is damaged or not a pickle ({first_line(error)})", "download it again") from error
    if not isinstance(record, dict):
        raise UserError(f"{name} does not hold a dict", "download it again")
    values = (v.values if isinstance(v, Array) else v for v in record.values())
    return dict(zip((k.decode("latin-1") if isinstance(k, bytes) else k for k in record), values))


def text(value: Any) -> str:
    if not isinstance(value, str | bytes):
        raise Refused(f"has a {type(value).__name__} where text belongs")
    return value.decode("latin-1") if isinstance(value, bytes) else value


def as_array(raw: bytes, dtype: DType, shape: tuple[int, ...], order: str) -> np.ndarray:
    if not re.fullmatch(r"[iu][1248]", dtype.code) or dtype.order not in "|=<>":
        raise Refused(f"has an array of type {dtype.code[:20]!r}, not of integers")
    values = np.frombuffer(raw, (">" if dtype.order == ">" else "<") + dtype.code)
    return values.astype(dtype.code).reshape(shape, order="F" if order == "F" else "C")
