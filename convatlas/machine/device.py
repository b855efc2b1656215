"""The device to run on, what a run records about the machine, and how glibc keeps memory."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import PIL
import torch

from ..errors import UserError, first_line
from ..version import VERSION
from .facts import processor


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one, else the CPU. Raises UserError for a device that is not available."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()  # fails on the meta device too, which holds no values
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"device {name!r} is not available ({first_line(error)})", "give auto or cpu") from error
    return device


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What affects a run's speed and the last bits of its results; nothing that identifies the machine or its user."""
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


@contextmanager
def algorithms(deterministic: bool) -> Iterator[None]:
    """Within the block torch uses deterministic algorithms only, if asked to; cuDNN may not choose them by timing.

    Raises RuntimeError (torch's own) at an operation that has none.
    """
    if not deterministic:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = benchmark


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory: pages returned to the system have to be zeroed again at every step."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
