"""The tensors in a file of torch.save, without executing it: its pickles are interpreted by files/pickled.py.

Both layouts are read: a zip archive of a pickle and of each storage, and (before torch 1.6) pickles and storages in one
file. A storage is read once, and tensors are views of it, so that nothing is larger than the file.
"""

from __future__ import annotations

import math
import mmap
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch import Tensor

from ..files.pickled import BYTES, Named, Refused, run

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older layout
FOREIGN = "is of a machine with another order of bytes"
DTYPES = {
    f"torch {name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
        "ComplexFloat": torch.complex64,
        "ComplexDouble": torch.complex128,
    }.items()
}
NEWER = {  # types without a storage class of their own
    f"torch {name}": getattr(torch, name)
    for name in ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")
}
OTHERS = {  # what makes other than plain tensors
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without values, of the meta device",
    "_rebuild_wrapper_subclass": "a tensor of a class of its own",
    "_rebuild_device_tensor_from_numpy": "a tensor as a numpy array",
}
UNTYPED = "torch.storage UntypedStorage"


@dataclass(frozen=True)
class Storage:
    key: str
    dtype: torch.dtype | None  # None: each tensor names its own
    values: int  # bytes, if there is no dtype

    @property
    def bytes(self) -> int:
        return self.values * (self.dtype.itemsize if self.dtype else 1)


@dataclass(frozen=True)
class View:
    """A tensor in the pickle: a part of a storage."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def view(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any = False, hooks: Any = None, lazy: Any = None
) -> View:
    """For _rebuild_tensor and _rebuild_tensor_v2."""
    return view_of(storage, storage.dtype if isinstance(storage, Storage) else None, offset, shape, strides, lazy)


def view_3(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, lazy: Any = None
) -> View:
    dtype = NEWER.get(dtype.path) if isinstance(dtype, Named) else None
    return view_of(storage, dtype, offset, shape, strides, lazy)


def view_of(storage: Any, dtype: Any, offset: Any, shape: Any, strides: Any, lazy: Any) -> View:
    if not isinstance(storage, Storage) or dtype is None or lazy:  # lazy: yet to be conjugated or negated
        raise Refused("has a tensor of unusual parts")
    if not (isinstance(shape, tuple) and isinstance(strides, tuple) and len(shape) == len(strides) <= 64):
        raise Refused("has a tensor without a shape")
    if any(type(n) is not int or not 0 <= n < 1 << 62 for n in (offset, *shape, *strides)):
        raise Refused("has a tensor at an impossible place")
    return View(storage, dtype, offset, shape, strides)


def parameter(data: Any, *_: Any) -> Any:
    return data


def with_attributes(function: Any, _: Any, arguments: Any, *attributes: Any) -> Any:
    """For _rebuild_from_type_v2: a tensor with attributes, which are left out."""
    made = CALLS.get(function.path) if isinstance(function, Named) else None
    if made is None or not isinstance(arguments, tuple):
        raise Refused("has a tensor of unusual parts")
    return made(*arguments)


def ordered(items: Any = ()) -> dict[Any, Any]:
    """An OrderedDict: Python 2 gives its items, as lists."""
    if not isinstance(items, list | tuple) or not all(isinstance(i, list) and len(i) == 2 for i in items):
        raise Refused("has a dict of unusual parts")
    if not all(isinstance(key, str | bytes) for key, _ in items):
        raise Refused("has a dict whose keys are not text")
    return dict(items)


def kept(*arguments: Any) -> tuple[Any, ...]:
    """For what is beside the tensors: devices, sizes, sets, counters."""
    return arguments


def other(what: str) -> Callable[..., Any]:
    def refuse(*_: Any) -> Any:
        raise Refused(f"has {what}")

    return refuse


CALLS: dict[str, Callable[..., Any] | None] = {
    "torch._utils _rebuild_tensor": view,
    "torch._utils _rebuild_tensor_v2": view,
    "torch._utils _rebuild_tensor_v3": view_3,
    "torch._utils _rebuild_parameter": parameter,
    "torch._utils _rebuild_parameter_with_state": parameter,
    "torch._tensor _rebuild_from_type_v2": with_attributes,
    "torch.nn.parameter Parameter": parameter,
    "torch Tensor": None,
    "collections OrderedDict": ordered,
    "collections defaultdict": lambda *_: {},
    "collections Counter": kept,
    "__builtin__ set": kept,
    "builtins set": kept,
    **{f"{module} {name}": None for module in ("__builtin__", "builtins") for name in ("dict", "list", "int", "float")},
    "torch Size": kept,
    "torch device": kept,
    "torch.serialization _get_layout": kept,
    UNTYPED: None,
    **BYTES,
    **dict.fromkeys(DTYPES),
    **{f"torch {name}": None for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16")},
    **{f"torch {name}": None for name in ("int8", "uint8", "bool", "complex64", "complex128")},
    **dict.fromkeys(NEWER),
    **{f"torch._utils {name}": other(what) for name, what in OTHERS.items()},
    **{f"torch {name}Storage": None for name in ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")},
}
KEYS = (str, bytes, int)


class File:
    """What a file's pickle holds, and the tensors of its views."""

    def __init__(self, held: Any, sizes: Mapping[str, int], content: Callable[[str], bytearray]):
        self.held, self.sizes, self.content = held, sizes, content  # bytes of each storage that is there, by its key
        self.storages: dict[str, bytearray] = {}

    def tensor(self, view: View) -> Tensor:
        """Raises Refused for a tensor that is larger than its storage, or leads out of it."""
        key, size = view.storage.key, self.sizes.get(view.storage.key)
        if size != view.storage.bytes:
            raise Refused(f"should have {view.storage.bytes:,} bytes, of which {size or 0:,} are there")
        if not view.bytes:
            return torch.empty(view.shape, dtype=view.dtype)
        last = view.offset + sum((n - 1) * stride for n, stride in zip(view.shape, view.strides))
        reach = max(view.bytes, (last + 1) * view.dtype.itemsize)
        if reach > size:
            raise Refused(f"reaches over {reach:,} bytes, more than the {size:,} that are stored of it")
        if key not in self.storages:
            self.storages[key] = self.content(key)
        return torch.frombuffer(self.storages[key], dtype=view.dtype).as_strided(view.shape, view.strides, view.offset)


class Storages(dict[str, Storage]):
    """The storages that a pickle names, by their keys."""

    def __call__(self, named: Any) -> Storage:
        """What a persistent id stands for."""
        match named:
            case ("storage" | b"storage", Named(path), str() | bytes() as key, str() | bytes(), int() as n, *rest):
                dtype = DTYPES.get(path)
                if dtype is None and path != UNTYPED:
                    raise Refused("has a quantised tensor" if path.startswith("torch Q") else "has an unusual storage")
                key = key if isinstance(key, str) else key.decode("latin-1")
                storage = Storage(key, dtype, n)
                if rest not in ([], [None]) or self.setdefault(key, storage) != storage:
                    raise Refused("has storages that share their values")
                return storage
        raise Refused("has something other than a storage outside its pickle")


def read(file: IO[bytes]) -> File:
    """Raises Refused, and whatever damaged files make zipfile, mmap and the interpreter raise."""
    return read_zip(file) if zipfile.is_zipfile(file) else read_older(file)


def read_zip(file: IO[bytes]) -> File:
    archive, size = zipfile.ZipFile(file), file.seek(0, os.SEEK_END)
    parts = archive.infolist()
    names = [part.filename for part in parts]
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or len(set(names)) < len(names):
        raise Refused("has compressed or duplicate parts, which torch.save does not write")
    if sum(part.file_size for part in parts) > size:
        raise Refused("unpacks to more than it has")
    top = names[0].partition("/")[0] if names else ""
    if f"{top}/constants.pkl" in names:
        raise Refused("is a TorchScript archive, which is a program")
    if f"{top}/data.pkl" not in names:
        raise Refused("is an archive of something else")
    if f"{top}/byteorder" in names and archive.read(f"{top}/byteorder") != b"little":
        raise Refused(FOREIGN)
    content = archive.read(f"{top}/data.pkl")
    held = run(content, len(content), CALLS, KEYS, Storages())
    prefix = f"{top}/data/"
    sizes = {part.filename.removeprefix(prefix): part.file_size for part in parts}
    return File(held, sizes, lambda key: bytearray(archive.read(prefix + key)))


def read_older(file: IO[bytes]) -> File:
    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    size, named = len(content), Storages()
    if run(content, size, {}) != MAGIC:
        raise Refused("was not written by torch.save")
    run(content, size, {})  # the protocol
    machine = run(content, size, {})
    if not isinstance(machine, dict) or machine.get("little_endian") is False:
        raise Refused(FOREIGN)
    held = run(content, size, CALLS, KEYS, named)
    keys = run(content, size, {})
    places: dict[str, slice] = {}
    at = content.tell()
    for key in keys:  # a count of values, and the values
        if int.from_bytes(content[at : at + 8], "little") != named[key].values:
            raise Refused("is damaged between its storages")
        places[key] = slice(at + 8, at + 8 + named[key].bytes)
        at = places[key].stop
    sizes = {key: min(place.stop, size) - place.start for key, place in places.items()}
    return File(held, sizes, lambda key: bytearray(memoryview(content)[places[key]]))
