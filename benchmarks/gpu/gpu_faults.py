"""Entries 4: faults on a GPU, each injected for real, and equal bits of equal runs.

ResNet-20 on synthetic images; "ends in the same weights" compares every tensor of the last checkpoint bit by bit, with
deterministic algorithms. As a script it is the child process that is killed: gpu_faults.py FOLDER DEVICE DRY_RUN.
"""

from __future__ import annotations

import ast
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from session import ROOT, Session, Skipped, few_threads, synthetic
from torch import Tensor

from convatlas import Diverged
from convatlas.data.normalise import Normalizer
from convatlas.data.types import Data, MemorySplit
from convatlas.recipe import Recipe
from convatlas.recipes import find_recipe
from convatlas.runs.folder import Run
from convatlas.train.execution import Execution
from convatlas.train.fit import Stopped, fit

IMAGES, BATCH, EPOCHS = 20_000, 128, 6
DRY_RUN_EPOCHS = 2
POISONED = 7  # the image that becomes NaN
Event = dict[str, Any]


def task(dry_run: bool) -> tuple[Data, Recipe]:
    images, batch, epochs = (48, 8, DRY_RUN_EPOCHS) if dry_run else (IMAGES, BATCH, EPOCHS)
    return synthetic(images, 32, 10), replace(find_recipe("resnet_cifar"), epochs=epochs, batch=batch)


def train(out: Path, device: str, dry_run: bool, graph: bool = False, **more: Any) -> Run:
    data, recipe = task(dry_run)
    execution = Execution(deterministic=True, save_every_s=0.5, graph=graph)
    return fit("resnet20", data, recipe, out=out, device=device, execution=execution, **more)


def same_bits(a: Run, b: Run) -> bool:
    ours, theirs = a.weights("last"), b.weights("last")
    return ours.keys() == theirs.keys() and all(bits(t) == bits(theirs[name]) for name, t in ours.items())


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().view(-1).view(torch.uint8).cpu().numpy().tobytes()


def counted(cases: list[bool], what: str, **more: Any) -> dict[str, Any]:
    held = sum(cases)
    figures = {"cases": len(cases), "passed": held, "failed": len(cases) - held}
    return {"unit": "cases", "n": len(cases), "figures": figures, "headline": f"{held} of {len(cases)} {what}", **more}


def equal_bits(session: Session) -> dict[str, Any]:
    """Three runs of the same seed, and on a GPU two more that replay a CUDA graph; and what it costs in images/s."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    cases = []
    with TemporaryDirectory() as folder:
        data, recipe = task(session.dry_run)
        runs = [train(Path(folder) / str(i), str(session.device), session.dry_run) for i in range(3)]
        graphed = [
            train(Path(folder) / f"graph{i}", str(session.device), session.dry_run, graph=True)
            for i in range(2 if session.on_gpu else 0)
        ]
        cases = [same_bits(runs[0], run) for run in (*runs[1:], *graphed)]
        rates[True] = [line["images_per_s"] for run in runs for line in run.epochs()[1:]]
        for i in range(3):
            run = fit("resnet20", data, recipe, out=Path(folder) / f"free{i}", device=str(session.device))
            rates[False] += [line["images_per_s"] for line in run.epochs()[1:]]
    more = {"images_per_s": {"deterministic": rates[True], "default": rates[False]}}
    return counted(cases, "repeated runs end in the same bits", **more)


def sigterm(session: Session) -> dict[str, Any]:
    """SIGTERM at a random moment after the first step: saved, resumed, and the same bits at the end."""
    return interrupted(session, "runs stopped by SIGTERM and resumed end in the same bits", subprocess.Popen.terminate)


def kill(session: Session) -> dict[str, Any]:
    """SIGKILL at a random moment after the first step: resumed, and the same bits at the end."""
    return interrupted(session, "killed and resumed runs end in the same bits", subprocess.Popen.kill)


def interrupted(session: Session, what: str, stop: Callable[[subprocess.Popen[str]], None]) -> dict[str, Any]:
    draw, cases, moments, statuses = random.Random(0), [], [], []
    times: list[float] = []

    def on_event(event: Event) -> None:
        if event["kind"] == "step":
            times.append(time.monotonic())

    with TemporaryDirectory() as folder:
        whole = train(Path(folder) / "whole", str(session.device), session.dry_run, on_event=on_event)
        for i in range(1 if session.dry_run else 5):
            out = Path(folder) / str(i)
            moments.append(draw.uniform(0, 0.8) * (times[-1] - times[0]))
            statuses.append(stopped(out, stop, moments[-1], session))
            resumed = train(out, str(session.device), session.dry_run, resume=(out / "run.json").exists())
            cases.append(same_bits(whole, resumed))
    # a status of 0 is a run that had ended before
    return counted(cases, what, seconds_after_the_first_step=moments, exit_statuses=statuses)


def stopped(out: Path, stop: Callable[[subprocess.Popen[str]], None], after_s: float, session: Session) -> int:
    """The exit status of a child process that trains in `out` and is stopped so long after its first steps."""
    command = [sys.executable, __file__, str(out), str(session.device), str(int(session.dry_run))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert "step" in child.stdout.readline(), "the child process trains"
        time.sleep(after_s)
        stop(child)
        child.stdout.read()
    return child.returncode


def nan_image(session: Session) -> dict[str, Any]:
    """One training image becomes NaN where it is normalised, by its content, on the device; with CUDA graphs, too."""
    data, recipe = task(session.dry_run)
    assert isinstance(data.train, MemorySplit)
    data.train.images[POISONED] = 255
    cases, messages = [], []
    for graph in (False, True) if session.on_gpu else (False,):
        said, more = "", dict(device=str(session.device), execution=Execution(graph=graph))
        with TemporaryDirectory() as folder, poisoned():
            try:
                fit("resnet20", data, replace(recipe, augment=()), out=Path(folder), **more)
            except Diverged as error:
                said = str(error).replace(folder, "RUN")
        cases.append(re.search(rf"training images? \{{?{POISONED}\b", said) is not None)
        messages.append(said)
    return counted(cases, "NaN images are found and named", messages=messages)


class poisoned:
    """Within it, an image that is all white becomes NaN when training normalises it."""

    def __enter__(self) -> None:
        self.changed = []
        for name, module in list(sys.modules.items()):
            if name.startswith("convatlas.train.") and hasattr(module, "normalise"):
                self.changed.append((module, module.normalise))
                module.normalise = self.spoilt(module.normalise)
        assert self.changed, "training normalises images"

    def spoilt(self, normalise: Callable[[Tensor, Normalizer], Tensor]) -> Callable[[Tensor, Normalizer], Tensor]:
        def with_nan(images: Tensor, normalizer: Normalizer) -> Tensor:
            white = (images == 255).flatten(1).all(1)[:, None, None, None]
            return torch.where(white, torch.nan, normalise(images, normalizer))

        return with_nan

    def __exit__(self, *error: object) -> None:
        for module, normalise in self.changed:
            module.normalise = normalise


def out_of_memory(session: Session) -> dict[str, Any]:
    """A batch for which the GPU has no memory is trained on in parts.

    All but 3 GiB of the memory is held by another tensor, so that the batch need not be enormous.
    """
    if not session.on_gpu:
        raise Skipped("this is not a GPU: its memory cannot run out for real")
    data, recipe = task(dry_run=False)
    recipe = replace(recipe, batch=2048, epochs=1)
    notes: list[str] = []

    def on_event(event: Event) -> None:
        if event["kind"] == "note":
            notes.append(event["text"])

    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(session.device)
    held = torch.empty(max(0, free - (3 << 30)), dtype=torch.uint8, device=session.device)
    try:
        with TemporaryDirectory() as folder:
            network = "wrn16_8"  # about 12 MB an image
            run = fit(network, data, recipe, out=Path(folder), device=str(session.device), on_event=on_event)
            trained = len(run.epochs()) == recipe.epochs
    finally:
        del held
        torch.cuda.empty_cache()
    parts = [note for note in notes if "out of memory" in note]
    return counted([trained and bool(parts)], "batches that do not fit are trained on in parts", notes=parts)


def tests_for_a_gpu(session: Session) -> dict[str, Any]:
    """The tests that are skipped on a machine without a GPU."""
    if not session.on_gpu:
        raise Skipped("this is not a GPU")
    if find_spec("pytest") is None:
        raise Skipped("pytest is not installed")
    names = sorted(names_of_gpu_tests())
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", *names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    outcome = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED)\b(.*)$", done.stdout, re.MULTILINE)
    if not outcome:
        raise RuntimeError(f"pytest did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    counts = {kind.lower(): sum(k == kind for k, _ in outcome) for kind in ("PASSED", "FAILED", "ERROR", "SKIPPED")}
    passed = f"{counts['passed']} of {len(names)} tests that need a GPU pass"
    failed = [line.strip() for kind, line in outcome if kind in ("FAILED", "ERROR")]
    return {"unit": "tests", "n": len(names), "figures": counts, "failed": failed, "tests": names, "headline": passed}


def names_of_gpu_tests() -> list[str]:
    """Those with a `skipif` on torch.cuda.is_available(), as pytest names them."""
    found = []
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                marks = " ".join(map(ast.unparse, node.decorator_list))
                if "skipif" in marks and "cuda.is_available()" in marks:
                    found.append(f"{file.relative_to(ROOT)}::{node.name}")
    return found


def child() -> None:
    out, device, dry_run = sys.argv[1], sys.argv[2], bool(int(sys.argv[3]))
    few_threads(dry_run)

    def on_event(event: Event) -> None:
        if event["kind"] == "step" and event["epoch"] == 1:
            print("step", flush=True)

    try:
        train(Path(out), device, dry_run, on_event=on_event)
    except Stopped as stop:
        os._exit(128 + signal.Signals(stop.signum))


if __name__ == "__main__":
    child()
