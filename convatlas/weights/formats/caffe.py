"""Caffe: `.caffemodel`, the layers of a trained network (caffe.proto: NetParameter), in the order in which they run.

Both generations are read: V1LayerParameter, whose types are numbers, and LayerParameter, whose types are words. Batch
norm is two layers there: BatchNorm has sums with their common divisor, Scale the factors and biases; they become one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..types import Weights
from .collect import Tensors, one_line, reading, shaped
from .protobuf import Message, walk

NAME, V1_LAYERS, LAYERS = 1, 2, 100  # of NetParameter
V1_INNER_PRODUCT = 14
BATCH_NORM, EPS = 139, 1e-5  # batch_norm_param, and Caffe's epsilon


@dataclass
class Layer:
    name: str
    type: str
    bottoms: list[str]
    tops: list[str]
    blobs: list[np.ndarray]
    eps: float


def read(path: Path, max_bytes: int) -> Weights:
    with reading(path, ".caffemodel"):
        content = memoryview(path.read_bytes())
        tensors, eps = Tensors(path, max_bytes), {}
        normalised: dict[str, tuple[str, int]] = {}  # batch norms without their Scale: by top, the name and width
        for layer in layers(content):
            if layer.type == "BatchNorm":
                eps[layer.name] = layer.eps
                mean, variance = moments(layer)
                tensors.add(layer.name, "running_mean", mean)
                tensors.add(layer.name, "running_var", variance)
                normalised |= dict.fromkeys(layer.tops or [""], (layer.name, mean.size))
                continue
            target = layer.name
            if layer.type == "Scale" and layer.blobs:
                bottom = (layer.bottoms or [""])[0]
                if normalised.get(bottom, ("", 0))[1] == layer.blobs[0].size:
                    target = normalised.pop(bottom)[0]
            for i, blob in enumerate(layer.blobs):
                tensors.add(target, ("weight", "bias")[i] if i < 2 else str(i), laid_out(layer, i, blob))
        network = next((bytes(v) for n, _, v in walk(content) if n == NAME and isinstance(v, memoryview)), b"")
        return Weights(tensors.all(), format="caffe", eps=eps, network=one_line(network.decode(errors="replace")))


def layers(content: memoryview) -> Iterator[Layer]:
    """Those that have weights."""
    for number, _, view in walk(content):
        if number not in (V1_LAYERS, LAYERS) or not isinstance(view, memoryview):
            continue
        it = Message(view)
        if number == LAYERS:
            blobs, name, kind, bottoms, tops = 7, it.text(1), it.text(2), it.texts(3), it.texts(4)
        else:
            blobs, name, bottoms, tops = 6, it.text(4), it.texts(2), it.texts(3)
            kind = "InnerProduct" if it.integer(5) == V1_INNER_PRODUCT else str(it.integer(5))
        if blobs in it.fields:
            eps = it.message(BATCH_NORM).real(3, EPS)
            yield Layer(name, kind, bottoms, tops, [blob(b) for b in it.messages(blobs)], eps)


def blob(it: Message) -> np.ndarray:
    """BlobProto: the values in their shape, float32 or float64; older files give four sizes."""
    values = it.array(8, "<f8") if 8 in it.fields else it.array(5, "<f4")
    shape = it.message(7).ints(1) if 7 in it.fields else [it.integer(n) for n in (1, 2, 3, 4)]
    return shaped(values, shape)


def laid_out(layer: Layer, i: int, values: np.ndarray) -> np.ndarray:
    """Older files give every blob four sides, the missing ones 1 and in front."""
    if values.ndim != 4:
        return values
    if i > 0:
        return values.reshape(-1)
    return values.reshape(values.shape[-2:]) if layer.type == "InnerProduct" and values.shape[:2] == (1, 1) else values


def moments(layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance: the first two blobs, divided by the third, which has one value."""
    if len(layer.blobs) != 3 or layer.blobs[2].size != 1:
        raise ValueError(f"batch norm {layer.name} has {len(layer.blobs)} blobs, and Caffe's has 3")
    divisor = float(layer.blobs[2].reshape(()))
    mean, variance = (b.reshape(-1) * np.asarray(1 / divisor if divisor else 0, b.dtype) for b in layer.blobs[:2])
    return mean, variance
