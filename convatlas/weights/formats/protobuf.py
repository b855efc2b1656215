"""Protocol buffers, field by field: what Caffe, TensorFlow and ONNX write.

A nested message, a text and a packed array are views of the bytes that were read: nothing is copied, and nothing
is allocated for what a message merely claims. https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

MOST_FIELDS = 1 << 20  # of one message; the largest networks have some thousands
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Value = int | memoryview


def walk(message: memoryview) -> Iterator[tuple[int, int, Value]]:
    """(number, wire type, value) of each field: an int for a varint, else a view. ValueError for a malformed one."""
    at, end, count = 0, len(message), 0
    while at < end:
        key, at = varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = varint(message, at)
            yield number, wire, value
        else:
            size = 8
            if wire == BYTES:
                size, at = varint(message, at)
            elif wire == FIXED32:
                size = 4
            elif wire != FIXED64:
                raise ValueError(f"field {number} has no known type")
            if size > end - at:
                raise ValueError(f"field {number} is cut short")
            yield number, wire, message[at : at + size]
            at += size
        count += 1
        if number == 0 or count > MOST_FIELDS:
            raise ValueError("a message has too many fields" if number else "a field has no number")


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """An unsigned integer, and the place after it."""
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            break
    raise ValueError("an integer is cut short")


class Message:
    """A message's fields by number; the last value counts where one is expected, as the format says."""

    def __init__(self, content: memoryview):
        self.fields: dict[int, list[Value]] = {}
        for number, _, value in walk(content):
            self.fields.setdefault(number, []).append(value)

    def integer(self, number: int, default: int = 0) -> int:
        """A signed one."""
        value = self.fields.get(number, [default])[-1]
        if isinstance(value, memoryview):
            raise ValueError(f"field {number} is not an integer")
        return value - (1 << 64) if value >> 63 else value

    def real(self, number: int, default: float) -> float:
        value = self.fields.get(number, [None])[-1]
        if value is None:
            return default
        if not isinstance(value, memoryview) or len(value) != 4:
            raise ValueError(f"field {number} is not a number")
        return float(np.frombuffer(value, "<f4")[0])

    def text(self, number: int) -> str:
        return bytes(self.views(number)[-1]).decode(errors="replace") if number in self.fields else ""

    def texts(self, number: int) -> list[str]:
        return [bytes(view).decode(errors="replace") for view in self.views(number)]

    def views(self, number: int) -> list[memoryview]:
        found = self.fields.get(number, [])
        views = [value for value in found if isinstance(value, memoryview)]
        if len(views) < len(found):
            raise ValueError(f"field {number} is an integer")
        return views

    def messages(self, number: int) -> list[Message]:
        return [Message(view) for view in self.views(number)]

    def message(self, number: int) -> Message:
        """Empty if it is not there."""
        return Message(self.views(number)[-1]) if number in self.fields else Message(memoryview(b""))

    def array(self, number: int, dtype: str) -> np.ndarray:
        """Repeated numbers of fixed size, packed or not."""
        views = self.views(number)
        return np.frombuffer(views[0] if len(views) == 1 else b"".join(views), dtype)

    def ints(self, number: int) -> list[int]:
        """Repeated signed varints, packed or not."""
        found: list[int] = []
        for value in self.fields.get(number, []):
            at = 0
            while isinstance(value, memoryview) and at < len(value):
                one, at = varint(value, at)
                found.append(one)
            if not isinstance(value, memoryview):
                found.append(value)
        return [value - (1 << 64) if value >> 63 else value for value in found]
