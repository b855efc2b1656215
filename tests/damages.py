"""What happens to files on disks: the ways in which a test damages one."""

from __future__ import annotations

from collections.abc import Callable

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda b: b[: len(b) // 2],
    "emptied": lambda b: b"",
    "a bit flipped": lambda b: b[:-9] + bytes([b[-9] ^ 16]) + b[-8:],
    "zeroed": lambda b: bytes(len(b)),
    "zeroed at the end": lambda b: b[:-100] + bytes(100),
    "written on": lambda b: b + b"more",
}
