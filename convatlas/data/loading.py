"""Prefetching: worker threads read and decode the next batches while the caller works on the current one.

Threads, not processes: decoding and resizing release the GIL, and no tensors have to cross process boundaries (see
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
from .types import Crops, MemorySplit, Split

T = TypeVar("T")
AHEAD = 2  # batches prefetched
PART = 16  # images fetched per job
LEAVE_S = 2.0  # grace period for the workers to exit
MOST_WORKERS = 1024  # threads
TIMEOUT_S = 25.0  # per job; PART files that take this long are on a disk that hangs


class Stuck(UserError):
    """A worker has timed out reading an image."""


def usual_workers(split: Split, crops: bool = False) -> int:
    """One thread per core available to this process (of torchrun's, if any); 0 with nothing to decode or crop."""
    if isinstance(split, MemorySplit) and not crops:
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def fetched(
    split: Split,
    batches: Iterable[Tensor],
    preprocess: Preprocess,
    crops: Crops | None = None,
    *,
    workers: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Iterator[Tensor]:
    """`split.fetch` of each of `batches` (indices), in order, with the next ones prefetched by `workers` threads.

    The images do not depend on the number of workers (default `usual_workers`); with 0 the caller fetches them itself.
    Re-raises a worker's exception, and raises Stuck, naming the file, when a job takes longer than `timeout_s`.
    """
    workers = usual_workers(split, crops is not None) if workers is None else workers
    if not workers or not isinstance(split, StreamedSplit):
        size = PART if workers else len(split)
        jobs = ([(part, preprocess, crops) for part in indices.split(size)] for indices in batches)
        for images in in_order(split.fetch, jobs, workers, timeout_s):
            yield images[0] if len(images) == 1 else torch.cat(images)
        return

    def fill(batch: np.ndarray, start: int, indices: Tensor) -> np.ndarray:
        split.fill(batch[start : start + len(indices)], indices, preprocess, crops)
        return batch

    def parts(indices: Tensor) -> list[tuple[np.ndarray, int, Tensor]]:
        batch = room(len(indices), preprocess)
        return [(batch, PART * i, part) for i, part in enumerate(indices.split(PART))]

    for batch, *_ in in_order(fill, map(parts, batches), workers, timeout_s):
        yield torch.from_numpy(batch).permute(0, 3, 1, 2)


def in_order(
    call: Callable[..., T], jobs: Iterable[list[tuple[Any, ...]]], workers: int, timeout_s: float = TIMEOUT_S
) -> Iterator[list[T]]:
    """For each list of `jobs` (arguments of `call`), the list of results, in order, while `workers` threads run the
    next AHEAD lists; with 0 the caller runs them itself."""
    if not 0 <= workers <= MOST_WORKERS:
        raise UserError(f"workers={workers} is out of range", f"give at least 0 and at most {MOST_WORKERS}")
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
    """A call to be run by a worker, and the thread that runs it."""

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
    """Daemon threads that run jobs: unlike an executor's, they do not keep the program alive when they hang."""

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
        """Cancels the jobs that have not started; each thread exits after its current one.

        Waits for the threads unless they hang: one that returns from torch code after Python has shut down would abort.
        """
        with suppress(Empty):
            while (job := self.jobs.get_nowait()) is not None:  # a worker may take the last one in the meantime
                job.cancel()
        for _ in self.threads:
            self.jobs.put(None)
        deadline = time.monotonic() + LEAVE_S
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))


WORKING: WeakSet[Workers] = WeakSet()  # the threads of a running pool keep it alive


@atexit.register
def close_all() -> None:
    """Closes pools that are still open at exit because a loop over batches was left early."""
    for workers in list(WORKING):
        workers.close()


def result(job: Job, timeout_s: float) -> Any:
    try:
        return job.result(timeout_s)
    except TimeoutError as error:
        if job.done():  # the worker itself raised it
            raise
        raise Stuck(
            f"{READING.get(job.thread, 'an image')} was not read within {timeout_s:g} s",
            "check its disk or network, then run the command again (training: with --resume)",
        ) from error
