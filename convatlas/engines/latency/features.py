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
        if work.kind not in ("norm", "copy"):  # int8 engines have several steps for each, counted apart
            sums["launches"] += LAUNCH
        moved = batch * VALUE * (work.reads + work.writes)
        if moved > CACHE:
            sums["bytes beyond the cache"] += moved / BYTES
        for name, amount in _own(work, batch).items():
            sums[name] += amount
    return dict(sums)


def _own(work: Work, batch: int) -> Features:
    """The features of a kind."""
    moved, weights = batch * VALUE * (work.reads + work.writes) / BYTES, VALUE * work.weights / BYTES
    if work.kind == "fc":  # for one image as fast as its weights come, for more as 1x1 convolutions
        return {"fc weights": weights, "1x1 macs": (batch - 1) * work.macs / MACS}
    if work.kind in ("pool", "average"):
        return {f"{work.kind} taps": batch * work.writes * prod(work.kernel) / TAPS, "bytes": moved}
    if work.kind == "copy":
        return {"copy bytes": moved, "joined": LAUNCH * work.parts}
    if work.kind == "norm":
        return {"norm bytes": moved, "norms": LAUNCH}
    if work.kind in ("mean", "curve", "power"):
        return {f"{work.kind} bytes": moved}
    if work.kind != "conv":
        return {"bytes": moved}
    return _of_conv(work, batch) | {"conv weights": weights}


def _of_conv(work: Work, batch: int) -> Features:
    """Of a convolution, all but its weights."""
    kind, moved, macs = conv_kind(work), batch * VALUE * (work.reads + work.writes) / BYTES, batch * work.macs / MACS
    sums = {f"{kind} macs": macs, "depthwise bytes" if kind == "depthwise" else "conv bytes": moved}
    taps = batch * work.macs / work.cout / TAPS
    if kind == "grouped":  # its groups are gathered one by one
        sums["grouped taps"] = taps
    if work.kernel != (1, 1):  # what a tap reads is found for each position and group, however few channels it has
        groups = work.groups if kind == "grouped" else 1
        found = batch * work.height * work.width * prod(work.kernel) * groups / TAPS
        sums["pieces" if kind in ("3x3", "large") else f"{kind} pieces"] = found
    if work.cout * work.groups % LANES:  # the fastest loops do whole blocks
        if kind == "depthwise":
            sums["uneven depthwise macs"] = macs
        elif kind in ("3x3", "large"):
            sums["uneven taps"] = taps
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
