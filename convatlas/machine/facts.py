"""What this machine is, for records of what was measured on it; nothing that identifies it or its user. No torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from psutil import virtual_memory

from ..version import VERSION

PROC = Path("/proc")
LIBRARIES = ("torch", "numpy", "onnxruntime", "openvino")  # whose versions change speeds
ARITHMETIC = re.compile("sse4|avx|fma|f16c|amx|neon|asimd|sve|sme(?!p)|bf16|i8mm")  # flags that start so
SAME = ("processor", "architecture", "flags", "cores", "gpu")  # what makes two machines alike, for their speeds


@cache
def processor(proc: Path = PROC) -> str:
    """The processor's model name on Linux, elsewhere its architecture."""
    return cpuinfo(proc).get("model name") or platform.machine()


@cache
def flags(proc: Path = PROC) -> tuple[str, ...]:
    """The processor's instructions for arithmetic on vectors and matrices, sorted; empty where they are not told."""
    info = cpuinfo(proc)
    told = (info.get("flags") or info.get("Features") or "").split()
    return tuple(sorted({flag for flag in told if ARITHMETIC.match(flag)}))


def cpuinfo(proc: Path = PROC) -> dict[str, str]:
    """What Linux says of the first processor."""
    try:
        text = (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    first = text.strip().split("\n\n")[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> float | None:
    """How many processes ran or waited for a core, on average over the last minute; None where the system tells not."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def versions() -> dict[str, str]:
    """Of Python, convatlas and the libraries that compute, of those that are installed."""
    found = {"python": platform.python_version(), "convatlas": VERSION}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine(device: str = "cpu") -> dict[str, Any]:
    """This machine, as a record of JSON's values; with its GPU where `device` is one."""
    gpu = {}
    if device.startswith("cuda"):
        import torch

        gpu = {"gpu": torch.cuda.get_device_name(device)}
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "flags": list(flags()),
        "cores": cores(),
        "memory_bytes": virtual_memory().total,
        **gpu,
        "system": " ".join([platform.system(), *re.findall(r"^\d+(?:\.\d+)*", platform.release())]),
        "versions": versions(),
    }


def alike(one: Mapping[str, Any], other: Mapping[str, Any], keys: Iterable[str] = SAME) -> bool:
    """Whether two machines may be expected to be equally fast: whatever their versions of software are."""
    return all(one.get(key) == other.get(key) for key in keys)
