"""Fetching ahead: worker threads read and decode the next batches while the caller works on this one.

Threads, not processes: decoding and resizing let go of Python's lock, and nothing has to be sent (see
benchmarks/folder_input.py).
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from weakref import WeakSet

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..preprocess import Preprocess
from .streamed import READING, StreamedSplit, room
from .types import MemorySplit, Split, Windows

T = TypeVar("T")
AHEAD = 2  # batches that are fetched ahead
PART = 16  # images that a worker fetches at a time
LEAVE_S = 2.0  # for the workers to end in
TIMEOUT_S = 25.0  # for a worker that is waited for; PART files that take so long are on a disk that hangs


class Stuck(UserError):
    """A worker does not come back with an image."""


def usual_workers(split: Split) -> int:
    """None for a set in memory; else as many threads as there are cores for this one of torchrun's processes."""
    if isinstance(split, MemorySplit):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def fetched(
    split: Split,
    batches: Iterable[Tensor],
    preprocess: Preprocess,
    view: Windows | None = None,
    *,
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Tensor]:
    """`split.fetch` of each of `batches` (indices), in their order, the next ones fetched by `workers` threads.

    The images are the same with any number of workers (by default `usual_workers`); with 0 the caller fetches them
    itself. Raises what a worker raised, and Stuck, with the name of the file, when one takes longer than `timeout_s`.
    """
    workers = usual_workers(split) if workers is None else workers
    if not workers or not isinstance(split, StreamedSplit):
        jobs = ([(indices, preprocess, view)] for indices in batches)
        for (images,) in in_order(split.fetch, jobs, workers, timeout_s):
            yield images
        return

    def fill(batch: np.ndarray, start: int, indices: Tensor) -> np.ndarray:
        split.fill(batch[start : start + len(indices)], indices, preprocess, view)
        return batch

    def parts(indices: Tensor) -> list[tuple[np.ndarray, int, Tensor]]:
        batch = room(len(indices), preprocess)
        return [(batch, PART * i, part) for i, part in enumerate(indices.split(PART))]

    for batch, *_ in in_order(fill, map(parts, batches), workers, timeout_s):
        yield torch.from_numpy(batch).permute(0, 3, 1, 2)


def in_order(
    call: Callable[..., T], jobs: Iterable[list[tuple[Any, ...]]], workers: int, timeout_s: float = TIMEOUT_S
) -> Iterator[list[T]]:
    """For each list of `jobs` (arguments of `call`) the list of results, in order, the next AHEAD lists worked at by
    `workers` threads meanwhile; with 0 the caller does it itself."""
    if workers < 0:
        raise UserError(f"workers={workers} is below 0", "give 0 or more")
    if workers == 0:
        for some in jobs:
            yield [call(*arguments) for arguments in some]
        return
    pool = Workers(workers)
    waiting: deque[list[Job]] = deque()
    try:
        for some in jobs:
            waiting.append([pool.submit(call, *arguments) for arguments in some])
            if len(waiting) > AHEAD:
                yield [result(job, timeout_s) for job in waiting.popleft()]
        while waiting:
            yield [result(job, timeout_s) for job in waiting.popleft()]
    finally:
        pool.close()


class Job(Future[Any]):
    """A call for a worker, with the thread that works at it."""

    def __init__(self, call: Callable[..., Any], arguments: tuple[Any, ...]):
        super().__init__()
        self.call, self.arguments, self.thread = call, arguments, 0

    def run(self) -> None:
        if not self.set_running_or_notify_cancel():
            return
        self.thread = threading.get_ident()
        try:
            self.set_result(self.call(*self.arguments))
        except BaseException as error:
            self.set_exception(error)


class Workers:
    """Threads that work through jobs. They do not keep the program from ending, as an executor's that hang would."""

    def __init__(self, count: int):
        self.jobs: SimpleQueue[Job | None] = SimpleQueue()
        self.threads = [
            threading.Thread(target=self.work, name=f"convatlas-worker-{i}", daemon=True) for i in range(count)
        ]
        for thread in self.threads:
            thread.start()
        WORKING.add(self)

    def work(self) -> None:
        while (job := self.jobs.get()) is not None:
            job.run()

    def submit(self, call: Callable[..., Any], *arguments: Any) -> Job:
        job = Job(call, arguments)
        self.jobs.put(job)
        return job

    def close(self) -> None:
        """Jobs that nobody has begun are dropped; the threads end after the one that they are at.

        They are waited for, unless they hang: a thread that comes out of torch's code when Python has ended aborts.
        """
        with suppress(Empty):
            while (job := self.jobs.get_nowait()) is not None:  # a worker may take the last one meanwhile
                job.cancel()
        for _ in self.threads:
            self.jobs.put(None)
        deadline = time.monotonic() + LEAVE_S
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))


WORKING: WeakSet[Workers] = WeakSet()  # the threads of a pool that has not ended keep it alive


@atexit.register
def close_all() -> None:
    """Of a loop over batches that was left, and whose generator nobody has closed."""
    for workers in list(WORKING):
        workers.close()


def result(job: Job, timeout_s: float) -> Any:
    try:
        return job.result(timeout_s)
    except TimeoutError as error:
        if job.done():  # it is the worker's own
            raise
        raise Stuck(
            f"{READING.get(job.thread, 'an image')} has not been read after {timeout_s:g} s",
            "see whether its disk or network answers, then continue with --resume",
        ) from error
