"""HDF5 files, of which only plain arrays of numbers are read: each as long in the file as it is in memory.

What could be larger than what it is made of, or lie elsewhere, is refused: compressed, virtual and external arrays,
those that were never written, links, and anything that is there twice. HDF5's own library believes the lengths in a
damaged file, and may loop on it or take gigabytes: `check` first has it read in a process with limits (this file, run
as a program).
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

Group = Any  # of h5py
DEEPEST = 30
DAMAGE = (ValueError, OSError, RuntimeError, KeyError, TypeError)  # how h5py says it
MEMORY, SECONDS, SPEED = 1 << 30, 5, 20_000_000  # for every file, and bytes read in each more second


def check(path: Path) -> None:
    """Raises ValueError for a file that the library does not get to the end of within limits of time and memory."""
    ended = subprocess.run([sys.executable, "-I", __file__, str(path)], stdin=subprocess.DEVNULL, capture_output=True)
    if ended.returncode:
        raise ValueError("its lengths are wrong: HDF5's library takes too much time or memory to read it")


def walk(path: str) -> None:
    """Reads the whole file within limits; whatever else is wrong with it is found again by who reads it next."""
    import resource

    import h5py

    size = os.path.getsize(path)
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS + size // SPEED,) * 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY + 4 * size,) * 2)
    with suppress(*DAMAGE), h5py.File(path) as file:
        see(file, set(), 0)


def see(group: Group, seen: set[int], depth: int) -> None:
    """Reads a group's attributes, and what is in it."""
    import h5py

    for name in group.attrs:
        with suppress(*DAMAGE):
            group.attrs[name]
    for name in group:
        with suppress(*DAMAGE):
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            it = group[name]
            place = h5py.h5o.get_info(it.id).addr
            if place in seen or depth > DEEPEST:
                continue
            seen.add(place)
            see(it, seen, depth + 1) if isinstance(it, h5py.Group) else values(it)


def names(group: Group, attribute: str) -> list[str]:
    """A list of texts; Keras divides long ones among attributes that it numbers."""
    found: list[Any] = []
    for at in (attribute, *(f"{attribute}{i}" for i in range(len(group.attrs)))):
        if at in group.attrs:
            found += np.atleast_1d(group.attrs[at]).tolist()
    return [name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in found]


def arrays(group: Group, prefix: str = "", seen: set[int] | None = None) -> Iterator[tuple[str, Any]]:
    """Every array in a group and those within, by path."""
    import h5py

    seen = set() if seen is None else seen
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ValueError(f"{name} is a link")
        it = group[name]
        place = h5py.h5o.get_info(it.id).addr
        if place in seen or prefix.count("/") > DEEPEST:
            raise ValueError(f"{name} is there twice")
        seen.add(place)
        if isinstance(it, h5py.Group):
            yield from arrays(it, f"{prefix}{name}/", seen)
        elif isinstance(it, h5py.Dataset):
            yield f"{prefix}{name}", it


def values(array: Any) -> np.ndarray:
    """Of an array of numbers whose bytes lie in the file as they are."""
    size = array.dtype.itemsize * int(np.prod(array.shape or (1,), dtype=object))
    if array.dtype.kind not in "fiub" or array.dtype.hasobject or array.dtype.subdtype:
        raise ValueError(f"{array.name} has {array.dtype} values")
    plain = not array.is_virtual and array.external is None and array.id.get_create_plist().get_nfilters() == 0
    if not plain or array.id.get_storage_size() < size:
        raise ValueError(f"{array.name} is compressed, or not in this file")
    if size > array.file.id.get_filesize():
        raise ValueError(f"{array.name} is larger than its file")
    return np.asarray(array[()])


def variables(group: Group) -> dict[str, np.ndarray]:
    return {path: values(array) for path, array in arrays(group)}


def groups(root: Group) -> Iterator[tuple[str, int, str, list[np.ndarray]]]:
    """Of Keras' numbered variables: the layer's path, how far into the file it reaches, its name if given, the values.

    Space is taken from the end of the file, or from what became free before: how far a layer reaches tells when it
    was written.
    """
    import h5py

    found: dict[str, list[Any]] = {}
    for path, array in arrays(root):
        layer, _, number = path.rpartition("/vars/")
        if number.isdecimal():
            found.setdefault(layer, []).append(array)
    for layer, held in found.items():
        held.sort(key=lambda array: int(os.path.basename(array.name)))
        here = held[0].parent
        places = [h5py.h5o.get_info(it.id).addr for it in (here, here.parent, *held)]
        places += [array.id.get_offset() or 0 for array in held]
        yield layer, max(places), next(iter(names(here, "name")), ""), [values(array) for array in held]


if __name__ == "__main__":
    walk(sys.argv[1])
