"""Records of what was never measured, for tests."""

from __future__ import annotations

from typing import Any

from convatlas.engines.results import Accuracy, Record, Seconds

MACHINE = {
    "processor": "Some Processor",
    "architecture": "x86_64",
    "flags": ["avx2"],
    "cores": 2,
    "memory_bytes": 8 << 30,
    "system": "Linux 6.1",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
}


def record(p50: float = 0.1, spread: float = 0.05, **changed: Any) -> Record:
    """LeNet-5 on torch; its p10 and p90 are `spread` below and above the median."""
    seconds = Seconds("processor", 20, 2, p50 * (1 - spread), p50, p50 * (1 + spread), p50 * (1 + 2 * spread))
    values = dict(
        model="lenet5",
        network="lenet5",
        engine="torch",
        precision="fp32",
        threads=1,
        device="cpu",
        batch=1,
        input=(1, 32, 32),
        accuracy=Accuracy("untrained"),
        seconds=seconds,
        params=60000,
        macs=300_000,
        multiplied_activations=8000,
        load=(0.1, 0.2),
        date="2026-01-01T00:00:00Z",
        machine=MACHINE,
    )
    return Record(**{**values, **changed})
