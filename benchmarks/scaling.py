"""Estimated images/s of training on 1 to 256 GPUs, from the time of a step on one and the size of the gradients.

    python benchmarks/scaling.py

Prints the table of docs/scaling.md, which says what it assumes and what of it is measured. Nothing here is a
measurement but MEASURED, on one GPU.
"""

from __future__ import annotations

from typing import NamedTuple

from convatlas.report.tables import Table, label, number
from convatlas.tables import entry

GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
IN_ONE_MACHINE = 8
GRADIENT_BYTES = 4  # float32, also where the passes are in bfloat16
BUCKET_BYTES = 25 << 20  # DistributedDataParallel exchanges the gradients in buckets of at most this size
BACKWARD = 2 / 3  # share of a step on one GPU: two products for each one of the forward pass


class Measured(NamedTuple):
    """On one H200 with torch 2.11; `fit` at 7e448d9."""

    network: str
    program: str
    batch: int
    images_per_s: float


class Link(NamedTuple):
    """What a ring goes over: bandwidth in bytes/s in each direction, and the time of one hop."""

    bandwidth: float
    hop_s: float


MEASURED = (
    Measured("resnet20", "fit", 128, 10_814),
    Measured("resnet20", "CUDA graph, bfloat16", 128, 51_898),
    Measured("resnet50", "fit, compiled", 256, 4_827),
    Measured("resnet50", "timm, compiled", 256, 6_461),
)
NVLINK = Link(450e9, 5e-6)
NETWORKS = {"400 Gb/s": Link(50e9, 10e-6), "100 Gb/s": Link(12.5e9, 10e-6)}


def all_reduce_s(size: float, gpus: int, link: Link) -> float:
    """Of `size` bytes by a ring: 2 (n - 1) hops, each of them with an n-th of the bytes."""
    return 2 * (gpus - 1) / gpus * size / link.bandwidth + 2 * (gpus - 1) * link.hop_s


def images_per_s(measured: Measured, gpus: int, network: Link) -> float:
    """With the batch of one GPU on each. All buckets but the last are exchanged during the backward pass, which is
    waited for if it is shorter; the last is complete, and its exchange begins, when the backward pass ends."""
    link = NVLINK if gpus <= IN_ONE_MACHINE else network
    step = measured.batch / measured.images_per_s
    size = GRADIENT_BYTES * entry(measured.network)["totals"]["params"]
    early, last = divmod(size, BUCKET_BYTES)
    during = early * all_reduce_s(BUCKET_BYTES, gpus, link)
    after = all_reduce_s(last, gpus, link)
    return gpus * measured.batch / (step * (1 - BACKWARD) + max(step * BACKWARD, during) + after)


def table() -> Table:
    rows = []
    for measured in MEASURED:
        for gpus in GPUS:
            cells = []
            for link in NETWORKS.values():
                speed = images_per_s(measured, gpus, link)
                cells += [int(float(f"{speed:.3g}")), f"{speed / gpus / measured.images_per_s:.0%}"]
            if gpus == 1:
                cells = [measured.images_per_s, "", measured.images_per_s, ""]
            rows.append((measured.network, measured.program, gpus, gpus * measured.batch, *cells))
    columns = [label("network"), label("program"), number("GPUs"), number("global batch")]
    for name in NETWORKS:
        columns += [number(f"images/s, {name}"), number("of linear", f"of linear, {name}")]
    return Table("scaling", tuple(columns), rows)


if __name__ == "__main__":
    print(table().markdown())
