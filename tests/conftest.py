"""Fixtures shared by all tests."""

import ctypes
import gc
import os
import platform
import signal
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from convatlas.train import fit

MUCH = 3 << 30  # bytes of a test process

gc.freeze()  # what is imported by now stays
gc.set_threshold(50_000, 20, 100)  # there are many objects to go through
torch.set_num_threads(1)  # the tests run side by side, one process a core
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it: what is printed would have another width than without
signal.signal(signal.SIGINT, signal.default_int_handler)  # here and in child processes, even in a background job
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and SIGHUP under nohup
fit.keep_freed_memory = lambda: None  # type: ignore[assignment]  # a test process also builds hundreds of networks


@pytest.fixture(autouse=True)
def memory_returned() -> Iterator[None]:
    """What tests have freed goes back to the system, once it is much: side by side, processes share the memory, and a
    collection of so many objects takes a second."""
    yield
    if psutil.Process().memory_info().rss > MUCH:
        gc.collect()
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)


def folder_from(variable: str) -> Path:
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set: what it should name is not on this machine")
    return Path(os.environ[variable])


@pytest.fixture(scope="session")
def real_data() -> Path:
    """cifar-10-batches-py, cifar-10-batches-bin, mnist, hymenoptera and imagenet1000, in the formats users have."""
    return folder_from("CONVATLAS_DATA")


@pytest.fixture(scope="session")
def real_packs() -> Path:
    """Published weights and reference graphs."""
    return folder_from("CONVATLAS_PACKS")


@pytest.fixture(scope="session")
def ledger() -> dict[str, Any]:
    """The published facts, their decimals with the digits that they are printed with."""
    return tomllib.loads(folder_from("CONVATLAS_LEDGER").read_text(encoding="utf-8"), parse_float=Decimal)
