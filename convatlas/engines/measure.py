"""measure(): what networks cost on engines, side by side: accuracy, size, memory, computation, time and energy.

Each session is first opened in a process of its own, for its memory, its loading and its first calls; then all are
timed together, batch size by batch size (timing.py has the method).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import torch
from torch import Tensor

from ..data.types import Data
from ..errors import UserError, first_line, one_line, out_of_memory, unknown
from ..machine import facts
from ..machine.energy import joules_a_call, meter
from . import timing
from .alone import OUT_OF_MEMORY, Alone, alone
from .job import Job, finished, images
from .results import Accuracy, Record, Seconds, Versus
from .sessions import ENGINES, PRECISIONS
from .subject import Asked, Subject, accuracy, size_on_disk

ENERGY_S = 1.0  # of calls, where the machine counts its energy
SPARE = 0.5  # of a core: a machine that is idle still does something

Tell = Callable[[float, str], None]  # the share that is done, and what is being done


@dataclass
class Case:
    """A job, and what is known of it before it is timed."""

    job: Job
    subject: Subject
    batches: Sequence[int]  # sizes that it is measured at
    alone: Alone
    accuracy: Accuracy
    file: Path | None = None  # an engine's own, from which a session opens
    failed: dict[int, str] = field(default_factory=dict)  # why there are no times, by batch size

    def bytes_at(self, batch: int) -> int:
        """What the session takes."""
        return self.alone.peak_bytes[batch] - (self.alone.base_bytes or 0)


class Guarded:
    """A call that may run out of memory: it then says so, and does nothing any more."""

    def __init__(self, call: timing.Call):
        self.call, self.failed = call, ""

    def __call__(self) -> None:
        if self.failed:
            return
        try:
            self.call()
        except Exception as error:
            if not out_of_memory(error):
                raise
            self.failed = f"{OUT_OF_MEMORY}: {one_line(first_line(error))[:200]}"


def measure(
    jobs: Sequence[Job],
    batches: Sequence[int] = (1,),
    *,
    seconds: float = 2.0,
    data: Data | None = None,
    data_name: str = "",
    calibrate: Data | None = None,
    keep: Callable[[Sequence[Record]], None] = lambda records: None,
    tell: Tell = lambda done, what: None,
) -> list[Record]:
    """A record of each job at each batch size, which `keep` hears of as soon as a batch size is done.

    All jobs have the same threads and device. `seconds` are spent on the rounds of each record, and more where that is
    too little for the least number of rounds. What runs out of memory, or cannot be opened, is a record that says why.
    Accuracy is measured on `data`, else it is the published one of weights in fp32. int8 takes its ranges from the
    training images of `calibrate`. Raises UserError for a model that
    is none, and for more threads than this process has cores.
    """
    jobs, asked = list(dict.fromkeys(jobs)), Asked(tuple(sorted(set(batches))), seconds, data, data_name, calibrate)
    checked(jobs, asked.batches)
    with computing_on(jobs[0].threads):
        return list(measured(jobs, asked, keep, tell))


@contextmanager
def computing_on(threads: int) -> Iterator[None]:
    """Torch computes on so many threads within the block: setting it at each call would be timed with it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measured(
    jobs: Sequence[Job], asked: Asked, keep: Callable[[Sequence[Record]], None], tell: Tell
) -> Iterator[Record]:
    steps = len(jobs) * (1 + len(asked.batches))
    subjects = {job.model: Subject(job, asked) for job in {job.model: job for job in jobs}.values()}
    cases: list[Case] = []
    for i, job in enumerate(jobs):
        tell(i / steps, f"{job.what}, in a process of its own")
        chosen = resolved(job, subjects[job.model])
        cases += [opened(one, subjects[job.model], at) for one, at in chosen if one == job or one not in jobs]
    for i, batch in enumerate(asked.batches):

        def told(done: float, i: int = i, batch: int = batch) -> None:
            tell((len(jobs) * (1 + i + done)) / steps, f"batch {batch}")

        made = list(at_batch([case for case in cases if batch in case.batches], batch, asked.seconds, told))
        keep(made)
        yield from made


def checked(jobs: Sequence[Job], batches: Sequence[int]) -> None:
    if not jobs or not batches or batches[0] < 1:
        raise UserError("there is nothing to measure", "give a model, and batch sizes of at least 1")
    for job in jobs:
        if job.engine not in (*ENGINES, "auto"):
            raise unknown("engine", job.engine, (*ENGINES, "auto"))
        if job.precision not in PRECISIONS:
            raise unknown("precision", job.precision, PRECISIONS)
    (threads,), (device,) = {job.threads for job in jobs}, {job.device for job in jobs}
    if device == "cpu" and threads > facts.cores():
        raise UserError(f"{threads} threads are more than the {facts.cores()} cores of this process", "give fewer")


def resolved(job: Job, subject: Subject) -> Iterator[tuple[Job, list[int]]]:
    """The job and its batch sizes; of `auto`, each engine that is chosen, and at which batch sizes it is.

    An engine that is asked for by name as well is measured as that.
    """
    batches = list(subject.asked.batches)
    if job.engine != "auto":
        yield job, batches
        return
    at: dict[str, list[int]] = {}
    for batch in batches:
        at.setdefault(chosen(job, subject, batch), []).append(batch)
    for engine, sizes in at.items():
        yield replace(job, engine=engine), sizes


def chosen(job: Job, subject: Subject, batch: int) -> str:
    """The engine that `auto` chooses; "auto" where none can open the job."""
    try:
        session = job.open(subject.model, batch, calibrated(job, subject))
    except UserError:
        return "auto"
    return str(getattr(session.net, "engine", job.engine))


def calibrated(job: Job, subject: Subject) -> Tensor | None:
    return subject.calibration if job.precision == "int8" else None


def opened(job: Job, subject: Subject, batches: Sequence[int]) -> Case:
    """The job, opened in a process of its own, and its accuracy; or why it cannot be opened."""
    try:
        session = job.open(subject.model, batches[0], calibrated(job, subject))
    except UserError as error:
        failed = dict.fromkeys(batches, str(error))
        return Case(job, subject, batches, Alone(), Accuracy("unknown"), failed=failed)
    file = getattr(session.net, "file", None)
    told = alone(job, subject.model.preprocess.input, file, batches)
    found = accuracy(job, session, subject.asked.data, subject.asked.data_name)
    return Case(job, subject, batches, told, found, file, dict(told.failed))


def at_batch(cases: Sequence[Case], batch: int, seconds: float, tell: Callable[[float], None]) -> Iterator[Record]:
    """The records of all cases at a batch size, those that run timed in interleaved rounds."""
    threads, device = cases[0].job.threads, cases[0].job.device
    before = facts.load()
    leave_out(cases, batch)
    calls = {case.job: guarded(case, batch) for case in cases if batch not in case.failed}
    start, budget, clock = time.monotonic(), seconds * len(calls), timing.clock_for(threads, device)

    def told(_: int) -> None:
        tell(min(1.0, (time.monotonic() - start) / budget))

    times = timing.rounds(list(calls.values()), budget, timing.TIMERS[clock], tell=told) if calls else []
    found = {job: one for (job, call), one in zip(calls.items(), times, strict=True) if not call.failed}
    joules = {job: energy(calls[job], device) for job in found}
    loads = tuple(n for n in (before, facts.load()) if n is not None)
    first = next(iter(found), None)
    for case in cases:
        job = case.job
        record = replace(
            described(case, batch),
            busy=clock == "wall" and before is not None and before + threads > facts.cores() + SPARE,
            load=loads,
            date=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            machine=facts.machine(device),
        )
        if job not in found or first is None:
            yield replace(record, failed=case.failed.get(batch) or calls[job].failed)
            continue
        used = joules[job]
        yield replace(
            record,
            seconds=summary(found[job], clock),
            ratio=versus(first.what, found[job], found[first]) if job != first else None,
            image_joules=used / batch if used else None,
        )


def leave_out(cases: Sequence[Case], batch: int) -> None:
    """Those that this machine has no memory for beside the others fail at this batch size, the largest first."""
    free = psutil.virtual_memory().available + psutil.Process().memory_info().rss
    fitting = sorted((case for case in cases if batch not in case.failed), key=lambda case: case.bytes_at(batch))
    while fitting and sum(case.bytes_at(batch) for case in fitting) > free:
        fitting.pop().failed[batch] = f"{OUT_OF_MEMORY} beside the others: measure it alone"


def guarded(case: Case, batch: int) -> Guarded:
    job, model = case.job, case.subject.model
    net = job.reopen(case.file, batch) if case.file else job.open(model, batch).net
    x = images(model.preprocess.input, batch, job.device)
    return Guarded(lambda: net(x))


def energy(call: Guarded, device: str) -> float | None:
    read = None if call.failed else meter(device)
    return joules_a_call(finished(call, device), read, ENERGY_S, time.monotonic) if read else None


def summary(times: timing.Times, clock: timing.Clock) -> Seconds:
    rare = times.quantile(0.95), times.quantile(0.99)
    return Seconds(clock, times.n, timing.WARM_UP, times.low, times.median, times.high, *rare)


def versus(to: str, one: timing.Times, other: timing.Times) -> Versus:
    found = timing.ratio(one, other)
    return Versus(to, found.median, found.low, found.high, found.n)


def described(case: Case, batch: int) -> Record:
    """The record of what is known without timing."""
    job, subject, told = case.job, case.subject, case.alone
    counted = subject.account
    predicted = subject.memory if job.precision == "fp32" else None
    return Record(
        model=job.model,
        network=subject.model.network,
        engine=job.engine,
        precision=job.precision,
        threads=job.threads,
        device=job.device,
        batch=batch,
        input=subject.model.preprocess.input,
        accuracy=case.accuracy,
        load_s=told.load_s.get(batch),
        first_s=told.first_s.get(batch),
        disk_bytes=size_on_disk(case.file) if case.file else subject.disk_bytes(),
        params=counted.totals.params,
        macs=counted.totals.macs,
        multiplied_activations=sum(row.activations for row in counted.rows if row.macs),
        estimated_bytes=predicted.inference.of(batch) if predicted else None,
        base_bytes=told.base_bytes,
        peak_bytes=told.peak_bytes.get(batch),
        allocated_bytes=told.allocated_bytes.get(batch),
    )
