"""A session in a process of its own: how long it takes to load, its first calls, and the memory that it needs.

In one process the memory of one network hides that of the next; and a process that the system kills for its memory
leaves the others alone. `python -m convatlas.engines.alone` reads a job from standard input and writes JSON lines.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import platform
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError, first_line, one_line, out_of_memory

if TYPE_CHECKING:
    from .job import Job

OUT_OF_MEMORY = "out of memory"
STATUS = Path("/proc/self/status")
REFS = Path("/proc/self/clear_refs")


@dataclass
class Alone:
    """What a process of its own told, by batch size; `failed` has why there is nothing for one."""

    base_bytes: int | None = None
    load_s: dict[int, float] = field(default_factory=dict)
    first_s: dict[int, float] = field(default_factory=dict)
    peak_bytes: dict[int, int] = field(default_factory=dict)
    allocated_bytes: dict[int, int] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)


def alone(job: Job, input: Sequence[int], file: Path | None, batches: Sequence[int]) -> Alone:
    """Opens a job (see `Job`) at these batch sizes, ascending, in a process of its own; an engine's from its `file`."""
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    asked = {"job": asdict(job), "input": input, "file": file and str(file), "batches": sorted(batches)}
    child = subprocess.Popen(
        [sys.executable, "-m", __name__],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = child.communicate(json.dumps(asked))
    finally:
        child.kill()
        child.wait()
    return told(out, err, child.returncode, batches)


def told(out: str, err: str, status: int, batches: Sequence[int]) -> Alone:
    """What the process wrote before it ended; batch sizes that it did not come to have failed as it did."""
    found = Alone()
    why = ended(status, err)
    for line in out.splitlines():
        with suppress(ValueError):  # half a line of a process that was killed
            event = json.loads(line)
            if event.get("failed"):
                why = event["failed"]
            elif "batch" in event:
                batch = event.pop("batch")
                for name, value in event.items():
                    getattr(found, name)[batch] = value
            else:
                found.base_bytes = event["base_bytes"]
    found.failed = {batch: why for batch in batches if batch not in found.first_s}
    return found


def ended(status: int, err: str) -> str:
    """Why a process ended that did not say it."""
    if status == -signal.SIGKILL:
        return f"{OUT_OF_MEMORY}: the system killed the process"
    if status < 0:
        return f"the process ended by {signal.Signals(-status).name}"
    last = (err.strip().splitlines() or ["without a word"])[-1]
    return one_line(f"the process ended with status {status}: {last}"[:300])


def main() -> None:
    asked = json.load(sys.stdin)
    with suppress(OSError):  # if memory runs out, it is this process that ends
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    try:
        for event in events(**asked):
            print(json.dumps(event), flush=True)
    except UserError as error:
        print(json.dumps({"failed": str(error)}), flush=True)
    except Exception as error:
        if not out_of_memory(error):
            raise
        print(json.dumps({"failed": f"{OUT_OF_MEMORY}: {one_line(first_line(error))[:200]}"}), flush=True)


def events(
    job: dict[str, Any], input: Sequence[int], file: str | None, batches: Sequence[int]
) -> Iterator[dict[str, Any]]:
    from .job import Job

    asked = Job(**job)
    warm_up(asked)
    yield {"base_bytes": peak_bytes()}
    for batch in batches:
        yield at_batch(asked, input, file, batch)


def at_batch(job: Job, input: Sequence[int], file: str | None, batch: int) -> dict[str, Any]:
    """What a new session takes."""
    from .job import finished, images
    from .timing import processor_time, wall_time

    timer = processor_time if job.threads == 1 and job.device == "cpu" else wall_time
    nets: list[Any] = []
    load_s = timer(lambda: nets.append(opened(job, file, batch)))
    forget()
    x = images(input, batch, job.device)
    first_s = timer(finished(lambda: nets[0](x), job.device))
    event = {"batch": batch, "load_s": load_s, "first_s": first_s, "peak_bytes": peak_bytes()}
    if job.device != "cpu":
        import torch

        event["allocated_bytes"] = torch.cuda.max_memory_allocated(job.device)
    return event


def opened(job: Job, file: str | None, batch: int) -> Any:
    return job.reopen(Path(file), batch) if file else job.open(job.load(), batch).net


def warm_up(job: Job) -> None:
    """What libraries take when they are first used is not the network's."""
    from ..layers import shape_after
    from .job import images, untrained

    with suppress(ImportError):
        importlib.import_module(job.engine)
    small = untrained("lenet5")
    small.net(images(small.preprocess.input, 1))
    if job.trained:  # torch's meta device, which matching weights to layers needs
        shape_after(small.net, small.preprocess.input)


def forget() -> None:
    """Gives back what loading took, and lets the peak start anew, where Linux can: it is that of the calls."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        REFS.write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """The most memory that this process has had. (Linux's getrusage also counts the process that started this one.)"""
    with suppress(OSError, StopIteration):
        lines = STATUS.read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
