"""What happens to files on disks: the ways in which a test damages one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from convatlas.errors import UserError

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda b: b[: len(b) // 2],
    "emptied": lambda b: b"",
    "a bit flipped": lambda b: b[:-9] + bytes([b[-9] ^ 16]) + b[-8:],
    "zeroed": lambda b: bytes(len(b)),
    "zeroed at the end": lambda b: b[:-100] + bytes(100),
    "written on": lambda b: b + b"more",
}

edits = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "drop", "insert"]), st.floats(0, 1), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)


def mangled(content: bytes, changes: list[tuple[str, float, int]]) -> bytes:
    whole = bytearray(content)
    for what, where, value in changes:
        at = int(where * max(len(whole) - 1, 0))
        if what == "set" and whole:
            whole[at] = value
        elif what == "cut" and value < 64:
            del whole[at:]
        elif what == "drop":
            del whole[at : at + value]
        elif what == "insert":
            whole[at:at] = bytes([value]) * (1 + value % 9)
    return bytes(whole)


def read_or_refused(read: Callable[[], Any]) -> Any:
    """What `read` gives; None where it refuses in one line."""
    message = None
    try:
        return read()
    except UserError as error:
        message = str(error)
    assert message
    assert "\n" not in message
    return None
