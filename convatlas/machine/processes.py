"""Many processes, one training: what torchrun started, and the little that the ranks must tell one another.

The gradients go through torch's DistributedDataParallel; everything here is a few numbers a step.
"""

from __future__ import annotations

import gc
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
TIMEOUT = timedelta(minutes=10)  # without a word from a rank


@dataclass(frozen=True)
class World:
    """The processes that train together: `size` of them, of which this is `rank`; the first one alone writes."""

    rank: int = 0
    size: int = 1
    local: int = 0  # this process's number on its own machine, and so its GPU's
    failures: int = 0  # of processes of this machine: torchrun restarts after each; other machines count their own

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def share(self, indices: Tensor) -> Tensor:
        """This rank's part of a batch: a run of it, as long as the others' or one image shorter."""
        return indices.tensor_split(self.size)[self.rank]

    def sum(self, values: Tensor) -> Tensor:
        """The sum of what each rank has, on every rank."""
        if self.size > 1:
            values = values.clone()
            dist.all_reduce(values)
        return values

    def most(self, value: int) -> int:
        """The largest of what the ranks have."""
        if self.size == 1:
            return int(value)
        values = torch.tensor(value)
        dist.all_reduce(values, dist.ReduceOp.MAX)
        return int(values)

    def first(self, value: int) -> int:
        """What the first rank has."""
        if self.size == 1:
            return int(value)
        values = torch.tensor(value)
        dist.broadcast(values, 0)
        return int(values)

    def gather(self, values: Tensor) -> list[Tensor]:
        """What each rank has (of one shape and dtype), on every rank."""
        if self.size == 1:
            return [values]
        everyone = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(everyone, values)
        return everyone

    def collect(self, thing: T) -> list[T]:
        """What each rank has, of any kind, on every rank."""
        if self.size == 1:
            return [thing]
        everyone: list[Any] = [None] * self.size
        dist.all_gather_object(everyone, thing)
        return everyone

    def lead(self, action: Callable[[], None]) -> None:
        """The first rank acts while the others wait; where it fails, the others raise a UserError without words."""
        failed: Exception | None = None
        if self.leads:
            try:
                action()
            except Exception as error:
                failed = error
        if self.most(failed is not None):
            raise failed or UserError("")

    def in_turn(self, action: Callable[[], T]) -> T:
        """What `action` returns, done by the first rank before the others do it."""
        results: list[T] = []
        self.lead(lambda: results.append(action()))
        return results[0] if self.leads else action()

    def own(self, device: torch.device) -> torch.device:
        """This process's own device of the kind that was chosen."""
        if self.size == 1 or device.type != "cuda":
            return device
        torch.cuda.set_device(self.local)
        return torch.device("cuda", self.local)


@contextmanager
def join_world() -> Iterator[World]:
    """The world that torchrun's environment tells of, joined for as long as the block lasts; else this process alone.

    Raises UserError when the other processes do not come.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # RANK and WORLD_SIZE alone may be another program's
        yield World()
        return
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        if os.environ.get("GROUP_WORLD_SIZE") == "1":  # one machine
            # torchrun keeps its store when it restarts: without a prefix, ranks find the addresses of the dead
            store, _, _ = next(dist.rendezvous("env://", timeout=TIMEOUT))
            store = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
            dist.init_process_group(backend, timeout=TIMEOUT, store=store, rank=rank, world_size=size)
        else:
            dist.init_process_group(backend, timeout=TIMEOUT)
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise UserError(
            f"rank {rank} does not find the {size - 1} others ({error})", "see that torchrun starts all nodes"
        ) from error
    try:
        yield World(rank, size, local, int(os.environ["TORCHELASTIC_RESTART_COUNT"]))
    except BaseException as error:
        # DistributedDataParallel must go before the group does: the last to hold it waits, with Python's lock, for
        # threads that may want that lock. What stopped training still holds the frames that hold the network.
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        raise
    finally:
        dist.destroy_process_group()
