"""Distributed training under torchrun: joining the process group, and the few values that ranks exchange.

Gradients go through torch's DistributedDataParallel; everything here is a few numbers per step.
"""

from __future__ import annotations

import gc
import itertools
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import UserError

T = TypeVar("T")
GROUPS = itertools.count()  # joined by this process
TIMEOUT = timedelta(minutes=10)  # of a collective operation: how long to wait for a rank


@dataclass(frozen=True)
class World:
    """The `size` processes that train together, seen from process `rank`; only rank 0 writes files."""

    rank: int = 0
    size: int = 1
    local: int = 0  # this process's rank on its own machine, and so the index of its GPU
    failures: int = 0  # how often torchrun has restarted after a process of this machine failed

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, indices: Tensor) -> Tensor:
        """This rank's share of a batch: a contiguous part, as long as the other ranks' or one image shorter."""
        return indices.tensor_split(self.size)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, on every rank."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def most(self, value: int) -> int:
        """The maximum over ranks, on every rank."""
        if self.size == 1:
            return int(value)
        values = torch.tensor(value)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)

    def first(self, value: int) -> int:
        """The value of rank 0, on every rank."""
        if self.size == 1:
            return int(value)
        values = torch.tensor(value)
        dist.broadcast(values, 0)
        return int(values)

    def gather(self, values: Tensor) -> list[Tensor]:
        """Every rank's tensor (all of one shape and dtype), on every rank."""
        if self.size == 1:
            return [values]
        everyone = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(everyone, values)
        return everyone

    def collect(self, thing: T) -> list[T]:
        """Every rank's object, of any picklable type, on every rank."""
        if self.size == 1:
            return [thing]
        everyone: list[Any] = [None] * self.size
        dist.all_gather_object(everyone, thing)
        return everyone

    def together(self, action: Callable[..., T], *arguments: Any) -> T:
        """Runs `action` on every rank; where it fails on one, the others raise a UserError without a message."""
        if self.size == 1:
            return action(*arguments)
        results: list[T] = []
        failed: Exception | None = None
        try:
            results.append(action(*arguments))
        except Exception as error:
            failed = error
        if self.most(failed is not None):
            raise failed or UserError("")
        return results[0]

    def lead(self, action: Callable[[], None]) -> None:
        """Rank 0 runs `action` while the others wait; if it fails, the others raise a UserError without a message."""
        self.together(lambda: action() if self.leads else None)

    def in_turn(self, action: Callable[[], T]) -> T:
        """Runs `action` on rank 0 first, then on the others; returns what it returns on this rank, or fails on all."""
        results: list[T] = []
        self.lead(lambda: results.append(action()))
        return self.together(lambda: results[0] if self.leads else action())

    def own(self, device: torch.device) -> torch.device:
        """This process's device, of the chosen type."""
        if self.size == 1 or device.type != "cuda":
            return device
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)


@contextmanager
def join_world() -> Iterator[World]:
    """Joins the process group that torchrun's environment describes, for the length of the block; else a world of one.

    Raises UserError if the other processes do not join in time.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # RANK and WORLD_SIZE alone may come from another launcher
        yield World()
        return
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        if os.environ.get("GROUP_WORLD_SIZE") == "1":  # one machine
            # torchrun keeps its store across restarts, and a program may train twice: without a prefix, ranks would
            # find the addresses of processes, or of groups, that are gone
            store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
            attempt = f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}, group {next(GROUPS)}"
            store = dist.PrefixStore(attempt, store)
            dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=rank, world_size=size)
        else:
            dist.init_process_group(backend, timeout=TIMEOUT)
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise UserError(
            f"rank {rank} cannot reach the other {size - 1} processes ({error})",
            "check that torchrun is running on every node",
        ) from error
    try:
        yield World(rank, size, local, int(os.environ["TORCHELASTIC_RESTART_COUNT"]))
    except BaseException as error:
        # DistributedDataParallel must be freed before the process group is: freeing it later would wait, holding the
        # GIL, for threads that may need the GIL. The traceback still refers to frames that hold the network.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        raise
    finally:
        dist.destroy_process_group()
