"""What the time of a network is predicted from: sums over its operations, of multiply-adds by kind, bytes and launches.

Each is roughly a time in seconds on a processor of 50 G multiply-adds and 10 GB a second, so that what is learnt of
them is of the order of 1.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import prod

from ...accounting.rows import Row
from .work import Work, works

MACS, BYTES, TAPS = 50e9, 10e9, 5e9  # a second
LAUNCH, CALL = 1e-6, 1e-4  # seconds
VALUE = 4  # bytes
LANES = 16  # channels are computed in blocks of so many
CACHE = 2 << 20  # bytes: what an operation with more reads and writes does not find in a core's own cache
FEW = 100  # positions: fewer do not fill the loops over them

Features = dict[str, float]


def features(rows: Iterable[Row], input: tuple[int, ...], *, counted: int = 1, batch: int = 1) -> Features:
    """The features of a network at a batch, from rows that were counted on `counted` images of C x H x W."""
    sums: Features = defaultdict(float)
    sums["call"] = CALL
    for work in works(rows, input, counted):
        sums["launches"] += LAUNCH
        moved = batch * VALUE * (work.reads + work.writes)
        if moved > CACHE:
            sums["bytes beyond the cache"] += moved / BYTES
        for name, amount in _own(work, batch).items():
            sums[name] += amount
    return dict(sums)


def _own(work: Work, batch: int) -> Features:
    """The features of a kind."""
    moved, macs = batch * VALUE * (work.reads + work.writes) / BYTES, batch * work.macs / MACS
    weights = VALUE * work.weights / BYTES
    if work.kind == "fc":  # for one image as fast as its weights come, for more as 1x1 convolutions
        return {"fc weights": weights, "1x1 macs": (batch - 1) * work.macs / MACS}
    if work.kind in ("pool", "average"):
        return {f"{work.kind} taps": batch * work.writes * prod(work.kernel) / TAPS, "bytes": moved}
    if work.kind in ("mean", "curve", "power"):
        return {f"{work.kind} bytes": moved}
    if work.kind != "conv":
        return {"bytes": moved}
    kind = conv_kind(work)
    sums = {f"{kind} macs": macs, "conv weights": weights}
    if kind == "grouped":  # its groups are gathered one by one
        sums["grouped taps"] = batch * work.macs / work.cout / TAPS
    if kind != "depthwise":
        sums["conv bytes"] = moved
    if kind in ("1x1", "3x3", "large"):
        blocks = _up(work.cin) * _up(work.cout) / (work.cin * work.cout)
        sums["macs of empty channels"] = macs * (blocks - 1)
        if batch * work.height * work.width < FEW:
            sums["macs at few positions"] = macs
    return sums


def conv_kind(work: Work) -> str:
    if work.groups > 1:
        return "depthwise" if work.cin == 1 else "grouped"
    if work.cin <= 4:
        return "image"
    return {(1, 1): "1x1", (3, 3): "3x3"}.get(work.kernel, "large")


def _up(channels: int) -> int:
    return -(-channels // LANES) * LANES
