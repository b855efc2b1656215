"""Energy, where the machine counts it: RAPL's counters of whole processors, NVML's of GPUs. A machine that does not
tell has no meter; nothing is guessed."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
NVML = ("libnvidia-ml.so.1", "nvml.dll")

Meter = Callable[[], float]  # joules since some start; never falls


def meter(device: str = "cpu", powercap: Path = POWERCAP) -> Meter | None:
    """The joules of all processors of this machine, or of the GPU `device`; None where they are not told."""
    return nvml(device) if device.startswith("cuda") else rapl(powercap)


def rapl(powercap: Path) -> Meter | None:
    """All packages' counters. Most systems let only root read them."""
    try:
        zones = [Zone(folder) for folder in sorted(powercap.glob("intel-rapl:*")) if is_package(folder)]
        for zone in zones:
            zone.joules()
    except (OSError, ValueError):
        return None
    return (lambda: sum(zone.joules() for zone in zones)) if zones else None


def is_package(folder: Path) -> bool:
    """A whole processor: neither a part of one nor the machine around it."""
    return (folder / "name").read_text(encoding="ascii").startswith("package")


class Zone:
    """One package's counter, in microjoules, which starts again at its range."""

    def __init__(self, folder: Path):
        self.folder, self.last, self.turns = folder, 0, 0

    def joules(self) -> float:
        now = self.read("energy_uj")
        if now < self.last:
            self.turns += self.read("max_energy_range_uj")
        self.last = now
        return (self.turns + now) / 1e6

    def read(self, name: str) -> int:
        return int((self.folder / name).read_text(encoding="ascii"))


def nvml(device: str, names: Sequence[str] = NVML) -> Meter | None:
    """The GPU's own counter, by its UUID: a process may number GPUs in another way than NVML does."""
    import torch

    library: Any = None
    for name in names:
        with suppress(OSError):
            library = ctypes.CDLL(name)
            break
    if library is None or library.nvmlInit_v2() != 0:
        return None
    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    handle = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)) != 0:
        return None

    def joules() -> float:
        millijoules = ctypes.c_ulonglong()
        if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)) != 0:
            raise OSError("NVML no longer tells the energy")
        return millijoules.value / 1e3

    try:
        joules()
    except OSError:
        return None
    return joules


def joules_a_call(call: Callable[[], object], read: Meter, seconds: float, now: Callable[[], float]) -> float | None:
    """The joules of a call, run again and again for `seconds`; all that the machine does meanwhile is in it.

    None where the counter did not move, or is no longer told.
    """
    try:
        start, end, calls = read(), now() + seconds, 0
        while now() < end or calls == 0:
            call()
            calls += 1
        used = read() - start
    except OSError:
        return None
    return used / calls if used > 0 else None
