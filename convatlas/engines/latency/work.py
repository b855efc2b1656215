"""What an engine is left with of a network's rows: convolutions and the like with what follows fused into them.

The rows of a module, of a shipped table and of an ONNX file's graph give the same work, so that whatever learns from
one can predict another. No torch.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NamedTuple

from ...accounting.rows import Row

NORMS = {"BatchNorm1d", "BatchNorm2d", "BatchNormalization"}
CLIPPED = {"ReLU", "ReLU6", "relu", "Relu", "Clip", "hardtanh", "LeakyRelu", "PReLU", "PRelu"}  # fused (PReLU: mostly)
CURVED = {"SiLU", "GELU", "Tanh", "Squash", "Sigmoid", "Gelu", "Swish", "HardSwish", "Hardswish", "HardSigmoid"}
MEANS = {"AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"}
POOLS = {"MaxPool2d", "MaxPoolSame", "Pool", "PoolTimm", "MaxPool"}
AVERAGES = {"AvgPool2d", "Subsample", "AveragePool"}
ADDITIONS = {"add", "Add", "Sum"}
PRODUCTS = {"mul", "Mul", "div", "Div"}
JOINS = {"cat", "Concat"}
COPIES = JOINS | {"constant_pad_nd", "PaddedShortcut", "PooledShortcut", "Pad"}
FUSING = {"conv", "fc", "norm", "add"}  # a clip that follows costs nothing
POOL_SIDE = 3  # of a pool whose row does not say


class Work(NamedTuple):
    """One operation of an engine. Values are for one image."""

    kind: str  # conv, fc, pool, average, mean, add, mul, copy, norm, clip, curve, power
    reads: int  # values
    writes: int
    weights: int = 0
    macs: int = 0
    cin: int = 0  # in each group
    cout: int = 0  # in each group
    groups: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    height: int = 1  # of the output
    width: int = 1
    parts: int = 1  # tensors that are joined


def works(rows: Iterable[Row], input: tuple[int, ...], batch: int = 1) -> list[Work]:
    """The operations that are left once each batch norm is folded into the convolution before it, and each ReLU, too.

    `input` is the image's C x H x W; `batch` the number of images that the rows were counted on.
    """
    found: list[Work] = []
    last, shape = "", input  # the kind of what made the tensor that comes next, and its size
    joined, parts = input, 1  # the last concatenation
    for row in rows:
        if not row.activations or not (kind := _kind(row, last, shape)):
            continue
        if kind == "lrn":
            found += _lrn(row.shape)
            last = "mul"
        elif kind != "fused":
            work = _work(kind, row, shape, batch)
            if row.op in JOINS:
                joined, parts = row.shape, _parts(row.shape, shape, joined, parts)
                work = work._replace(parts=parts)
            found.append(work)
            last = kind
        elif row.op in CLIPPED:  # a norm that comes next stays one
            last = "clip"
        shape = row.shape
    return found


def _kind(row: Row, last: str, shape: tuple[int, ...]) -> str:
    """The kind of work of a row; "fused" where what comes before does it on the way, "" for nothing."""
    same = row.shape == shape
    if row.macs:
        return "conv" if row.kernel else "fc"
    if row.op in NORMS:
        return "fused" if same and last in ("conv", "fc") else "norm"
    if row.op in CLIPPED:
        return "fused" if same and last in FUSING else "clip"
    if row.op in PRODUCTS:  # x * sigmoid(x) in two steps is one activation
        return "fused" if same and last == "curve" else "mul"
    if row.op in JOINS and same:  # of one tensor
        return ""
    for kind, ops in KINDS.items():
        if row.op in ops:
            return kind
    return ""


def _parts(made: tuple[int, ...], newest: tuple[int, ...], joined: tuple[int, ...], parts: int) -> int:
    """Of how many tensors a concatenation is made: of the last one's and one more where their channels say so, as in a
    DenseNet. Elsewhere two stand for the few that rows do not tell."""
    one_more = (joined[0] + newest[0], *joined[1:])
    return parts + 1 if made == one_more else 2


KINDS = {
    "curve": CURVED,
    "mean": MEANS,
    "pool": POOLS,
    "average": AVERAGES,
    "add": ADDITIONS,
    "copy": COPIES,
    "power": {"Pow"},
    "lrn": {"LRN"},
}


def _lrn(shape: tuple[int, ...]) -> list[Work]:
    """Local response normalisation in the steps of an exported graph: squares, padded by two channels on either side,
    added up, scaled and raised to a power, by which the values are divided."""
    cout, height, width = shape
    n, padded = prod(shape), (cout + 4) * height * width
    multiplied = Work("mul", n, n, cout=cout, height=height, width=width)
    added = Work("add", 2 * n, n, cout=cout, height=height, width=width)
    copied = Work("copy", padded, padded, cout=cout + 4, height=height, width=width)
    raised = Work("power", n, n, cout=cout, height=height, width=width)
    return [*[multiplied] * 4, *[added] * 5, copied, raised]


def _work(kind: str, row: Row, shape: tuple[int, ...], batch: int) -> Work:
    writes, (cout, height, width) = prod(row.shape), (*row.shape, 1, 1)[:3]
    if kind == "conv":
        kernel, stride, groups = (row.kernel[0], row.kernel[-1]), row.stride[0], row.groups
        taps = row.macs // (batch * writes)  # of one output: cin x kernel
        cin = taps // prod(kernel)
        reads, macs = cin * groups * height * width * prod(row.stride), row.macs // batch
        return Work(kind, reads, writes, cout * taps, macs, cin, cout // groups, groups, kernel, stride, height, width)
    if kind == "fc":
        inputs = row.macs // (batch * writes)
        return Work(kind, inputs, writes, inputs * writes, row.macs // batch, inputs, writes)
    if kind in ("pool", "average"):
        kernel = (row.kernel[0], row.kernel[-1]) if row.kernel else (POOL_SIDE, POOL_SIDE)
        stride = row.stride[0] if row.stride else max(1, round((prod(shape) / max(1, writes)) ** 0.5))
        return Work(kind, writes * stride**2, writes, kernel=kernel, stride=stride, height=height, width=width)
    if kind == "mean":
        return Work(kind, prod(shape), writes)
    return Work(kind, writes * (2 if kind == "add" else 1), writes, cout=cout, height=height, width=width)
