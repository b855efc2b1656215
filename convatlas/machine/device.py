"""The machine that trains: which device, what a run notes about it, and how memory is kept."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path
from typing import Any

import numpy
import PIL
import torch

from ..errors import UserError
from ..version import VERSION


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one, else the CPU. Raises UserError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()  # a meta device holds nothing
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"there is no device {name!r} here ({str(error).splitlines()[0]})", "give auto or cpu"
        ) from error
    return device


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What decides the last bits of a run and its speed; nothing that names the machine or its user."""
    cuda = device.type == "cuda"
    return {
        "device": device.type,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "cores": os.cpu_count(),
        **({"gpu": torch.cuda.get_device_name(device)} if cuda else {}),
        "system": platform.system(),
        "versions": {
            "python": platform.python_version(),
            "convatlas": VERSION,
            "torch": str(torch.__version__),
            "numpy": numpy.__version__,
            "pillow": PIL.__version__,
        },
    }


def processor() -> str:
    """The processor's name as Linux tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def keep_freed_memory() -> None:
    """Tells glibc to keep what is freed: handed back to the system, it would have to be zeroed again in every step."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
