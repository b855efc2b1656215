"""TensorFlow's checkpoints: `.index` with `.data-00000-of-0000N` beside it, and the single files of before 2016.

The index is a table of names with each tensor's type, shape, place and checksum (tensorflow/core/protobuf/
tensor_bundle.proto); older files are tables with the values in them (core/util/saved_tensor_slice.proto). Names are
those of tf-slim, Keras and tensorpack. Averages of weights are taken where there are any; steps and what optimizers
keep are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..types import Weights
from .collect import Tensors, from_hwim, from_hwio, natural, reading, shaped
from .protobuf import Message
from .sstable import entries, verify

TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 9: "<i8", 10: "?", 14: "bfloat16", 19: "<f2"}
FLOATS = (1, 2, 14, 19)
VALUES = {1: (5, "<f4"), 2: (6, "<f8")}  # of a TensorProto, by type, where it does not have them as bytes
AVERAGE = "/ExponentialMovingAverage"
OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"  # the end of names that TensorFlow 2 writes
OPTIMIZER = re.compile(r"(^|/)(optimizer|\.OPTIMIZER_SLOT)/")
ROLES = {
    "depthwise_weights": "weight",
    "depthwise_kernel": "weight",
    "pointwise_weights": "weight",
    "pointwise_kernel": "weight",
    "weights": "weight",
    "kernel": "weight",
    "biases": "bias",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "W": "weight",  # tensorpack's
    "b": "bias",
    "mean/EMA": "running_mean",
    "variance/EMA": "running_var",
}


def read(path: Path, max_bytes: int) -> Weights:
    with reading(path, "TensorFlow checkpoint"):
        if shard := re.fullmatch(r"(.*)\.data-\d{5}-of-\d{5}", path.name):
            path = path.with_name(f"{shard[1]}.index")
            if not path.is_file():
                raise UserError(f"{path} is not there", "put it beside the checkpoint's data")
        content = memoryview(path.read_bytes())
        header = Message(next(entries(content))[1])  # it says how many files there are, or else what tensors
        is_old = isinstance(header.fields.get(1, [0])[0], memoryview)
        tensors = Tensors(path, max_bytes)
        for layer, role, array in laid_out(old_values(content) if is_old else values(path, content)):
            tensors.add(layer, role, array)
        return Weights(tensors.all(), format="tensorflow", channels_last=True)


def values(path: Path, table: memoryview) -> Iterator[tuple[str, np.ndarray]]:
    """Names and values of numbers, the steps of training left out; each is verified."""
    files: dict[int, np.ndarray] = {}
    shards = 0
    for key, value in entries(table):
        it = Message(value)
        if not key:
            shards = it.integer(1)
            if it.integer(2):
                raise UserError(f"{path} was written on a machine of the other byte order", "give another file")
            continue
        name, kind = key.decode(errors="replace"), it.integer(1)
        if kind not in FLOATS:
            continue
        if 7 in it.fields:
            raise UserError(f"{path} has {name[:80]!r} in parts", "give a checkpoint whose variables are whole")
        shard = it.integer(3)
        if shard not in files:
            data = path.with_name(f"{path.name.removesuffix('.index')}.data-{shard:05}-of-{shards:05}")
            if not data.is_file():
                raise UserError(f"{data} is not there", "put it beside the checkpoint's index")
            files[shard] = np.memmap(data, np.uint8, "r") if data.stat().st_size else np.zeros(0, np.uint8)
        offset, size = it.integer(4), it.integer(5)
        if offset < 0 or size < 0 or offset + size > files[shard].size:
            raise ValueError(f"{name[:80]!r} is cut short")
        held = files[shard][offset : offset + size]
        verify(held, int.from_bytes(it.views(6)[-1], "little"))
        yield name, typed(held, kind, shape(it.message(2)))


def old_values(table: memoryview) -> Iterator[tuple[str, np.ndarray]]:
    """The same of a file that has the values in its table."""
    known: dict[str, tuple[int, list[int]]] = {}
    for key, value in entries(table):
        it = Message(value)
        if not key:
            for tensor in it.message(1).messages(1):
                known[tensor.text(1)] = tensor.integer(3), shape(tensor.message(2))
            continue
        slice_ = it.message(2)
        name = slice_.text(1)
        kind, sides = known.get(name, (0, []))
        if kind not in VALUES:
            continue
        tensor = slice_.message(3)
        if any(extent.fields for extent in slice_.message(2).messages(1)):
            raise ValueError(f"{name[:80]!r} is in parts")
        yield name, shaped(tensor.array(*VALUES[kind]), sides)


def shape(it: Message) -> list[int]:
    return [dimension.integer(1) for dimension in it.messages(2)]


def typed(held: np.ndarray, kind: int, sides: list[int]) -> np.ndarray:
    """Bytes as numbers; a bfloat16 is the upper half of a float32."""
    if TYPES[kind] == "bfloat16":
        return shaped((held.view("<u2").astype("<u4") << 16).view("<f4"), sides)
    return shaped(held.view(TYPES[kind]), sides)


def laid_out(found: Iterable[tuple[str, np.ndarray]]) -> Iterator[tuple[str, str, np.ndarray]]:
    """(layer, role, values) as torch has them, block2 before block10; averages in place of what they are of."""
    held = {name.removesuffix(":0").removesuffix(OBJECT): array for name, array in found if not OPTIMIZER.search(name)}
    averages = {name for name in held if name.endswith(AVERAGE)}
    kept: dict[str, np.ndarray] = {}
    for name, values in held.items():
        of = name.rpartition("/")[0]
        if name in averages:
            kept[of] = values
        elif of not in held and f"{name}{AVERAGE}" not in averages and values.ndim:
            kept[name] = values
    for name in sorted(kept, key=natural):
        values = kept[name]
        known = variable(name)
        layer, role = name[: -len(known)].rstrip("/"), ROLES.get(known, known)
        separable = any(f"{layer}/pointwise_{end}" in kept for end in ("weights", "kernel"))
        if separable and f"{layer}/{known}" in kept:
            layer += "/depthwise" if known.startswith("depthwise") else "/pointwise"
        if role == "weight" and values.ndim > 1:
            values = from_hwim(values) if known.startswith("depthwise") and values.ndim == 4 else from_hwio(values)
        yield layer, role, values


def variable(name: str) -> str:
    """The end of a name that says what it is in its layer."""
    return next((end for end in ROLES if name == end or name.endswith(f"/{end}")), name.rpartition("/")[2])
