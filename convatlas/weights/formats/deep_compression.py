"""Deep Compression's `.net`, as its authors released SqueezeNet 1.0 (songhan/SqueezeNet-Deep-Compression).

How many weights of each layer are not zero (uint32, in running order); then layer by layer a codebook of 256 values,
the biases, each such weight's number in the codebook (a byte), and how many zeros come before it (four bits, the low
ones first; a run of more than 15 is broken by a weight whose value is zero). Shapes are not in it: they are the
network's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ... import tables
from ...files.regular import attentive
from ..types import Weights
from .collect import Tensors, reading

NETWORK = "squeezenet1_0_caffe"
CODES = 256


def read(path: Path, max_bytes: int) -> Weights:
    with reading(path, f"Deep Compression file of {NETWORK}"), attentive(path) as file:
        content, tensors = file.read(), Tensors(path, max_bytes)
        layers = [row for row in tables.load(NETWORK).rows if row.weights]
        counts = np.frombuffer(content, "<u4", len(layers)).astype(int).tolist()
        at = 4 * len(layers)

        def take(dtype: str, count: int) -> np.ndarray:
            nonlocal at
            values = np.frombuffer(content, dtype, count, at)
            at += values.nbytes
            return values

        for row, count in zip(layers, counts, strict=True):
            codebook, biases = take("<f4", CODES), take("<f4", row.biases)
            codes, zeros = take("u1", count), take("u1", (count + 1) // 2)
            places = np.cumsum(np.stack([zeros & 15, zeros >> 4], 1).reshape(-1)[:count].astype(int) + 1) - 1
            weights = np.zeros(row.weights, "f4")
            weights[places] = codebook[codes]
            tensors.add(row.path, "weight", weights.reshape(row.biases, -1, *row.kernel))
            tensors.add(row.path, "bias", biases)
        if at != len(content):
            raise ValueError(f"it has {len(content):,} bytes, and its counts make {at:,}")
        return Weights(tensors.all(), format="deep_compression", network=NETWORK)
