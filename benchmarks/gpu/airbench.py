"""Entries 2: airbench's recipes on CIFAR-10 beside their own programs, which the user gives.

Each side has a process of its own, so that its first run is truly the first, and they take turns. A program's time is
the one that it prints: initialisation, training and the last test with its views, without loading and the tests after
each epoch; its first time, by this script's clock, is its import and its warm-up run. `fit`'s time is its own
training time, from the log, plus that of the test with six views, by this script's clock; "whole call" is the clock
around `fit`, from the images in memory to the run folder with tests and checkpoints, and that test. Its first time is
the whole call of the first run of the process, which is not among the others. The program draws no seeds; `fit` takes
1, 2, ...
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import runpy
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from schedules import cifar10
from session import Session, Skipped, few_threads, said, summary

from convatlas.data.types import Data, MemorySplit
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate
from convatlas.recipes import find_recipe
from convatlas.train.fit import fit
from convatlas.weights.model import load

SEEDS = 10
VIEWS = "airbench6"  # the protocol of airbench94's last test
Run = Callable[[int], dict[str, float]]  # seed -> seconds and top-1; seed 0 is the first


def ours(network: str, recipe: str, session: Session) -> Run:
    few_threads(session.dry_run)
    data = cifar10(session)

    def run(seed: int) -> dict[str, float]:
        settings = find_recipe(recipe)
        if session.dry_run:
            settings = replace(settings, epochs=2, batch=16)
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            done = fit(network, data, settings, out=Path(folder), seed=seed, device=str(session.device))
            trained = time.perf_counter()
            scores = evaluate(load(done, "last"), data, protocol=VIEWS, batch=2000, device=session.device)
            ended = time.perf_counter()
            training = sum(len(data.train) / line["images_per_s"] for line in done.epochs())
        return {"time": training + ended - trained, "whole call": ended - began, "top1": scores.top1}

    return run


def program(file: Path, session: Session, folder: Path) -> Run:
    """The program's `main(run)`, or `main(run, model)`, in an empty folder, where it is given the images."""
    hand_over(cifar10(session), folder / "cifar10")
    os.chdir(folder)
    sys.argv = [str(file)]  # it reads its source from there
    began = time.perf_counter()
    names = runpy.run_path(str(file), run_name="program")
    main, more = names["main"], []
    if len(inspect.signature(main).parameters) == 2:
        model = names["CifarNet"]().to(device=session.device, memory_format=torch.channels_last)
        model.compile(mode="max-autotune")  # as at the program's end
        more = [model]
    imported = time.perf_counter() - began

    def run(seed: int) -> dict[str, float]:
        began, printed = time.perf_counter(), io.StringIO()
        with contextlib.redirect_stdout(printed):
            top1 = main(seed or "warmup", *more)
        whole = time.perf_counter() - began
        seconds = seconds_printed(printed.getvalue())
        return {"time": seconds, "whole call": whole if seed else imported + whole, "top1": top1}

    return run


def seconds_printed(table: str) -> float:
    """The last column of the line whose epoch is "eval"."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return next(float(row[-1]) for row in rows if "eval" in row)


def hand_over(data: Data, folder: Path) -> None:
    """CIFAR-10 as the program keeps it."""
    folder.mkdir(parents=True)
    for name, split in (("train", data.train), ("test", data.test)):
        assert isinstance(split, MemorySplit)
        images = split.images.permute(0, 2, 3, 1).contiguous()
        record = {"images": images, "labels": split.labels, "classes": list(split.classes)}
        torch.save(record, folder / f"{name}.pt")


def serve(make: Callable[..., Run], arguments: list[Any], pipe: Connection) -> None:
    """In a process of its own: for each seed received, sends back what that run came to, until the pipe is closed."""
    run = make(*arguments)
    with contextlib.suppress(EOFError):
        while True:
            pipe.send(run(pipe.recv()))


def versus(network: str, recipe: str, file: Path | None, flag: str, session: Session) -> dict[str, Any]:
    try:
        settings = find_recipe(recipe)
    except UserError as error:
        raise Skipped(error.what) from None
    cifar10(session)  # or says that it is missing
    sides: dict[str, tuple[Any, ...]] = {"fit": (ours, network, recipe, session)}
    if session.on_gpu and file is None:
        raise Skipped(f"airbench's own program, which is not part of this repository, is not given: {flag} FILE")
    notes = [] if session.on_gpu else ["airbench's own program is skipped: it runs on a GPU only"]
    with tempfile.TemporaryDirectory() as folder:
        if session.on_gpu and file is not None:
            sides["program"] = (program, file.resolve(), session, Path(folder))
        return race(sides, 2 if session.dry_run else SEEDS) | {"notes": notes, "recipe": settings.to_json()}


def race(sides: dict[str, tuple[Any, ...]], seeds: int) -> dict[str, Any]:
    """The first run of each side, then one of each a seed, in turns."""
    context, pipes = get_context("spawn"), {}
    for name, (make, *arguments) in sides.items():
        pipes[name], far = context.Pipe()
        # not a daemon: compilers start child processes
        context.Process(target=serve, args=(make, arguments, far)).start()
        far.close()  # so that the end of the process is seen here
    try:
        first, figures = runs_in_turns(pipes, seeds)
    finally:
        for pipe in pipes.values():
            pipe.close()  # ends the processes
    top1 = figures["fit, top1"]
    headline = f"fit {said(summary(figures['fit, time']))} s, mean top-1 {sum(top1) / len(top1):.2%}"
    ratios = {}
    if "program" in sides:
        ratios = {
            f"fit/program, {what}": summary(
                [a / b for a, b in zip(figures[f"fit, {what}"], figures[f"program, {what}"], strict=True)]
            )
            for what in ("time", "whole call")
        }
        headline = f"{said(ratios['fit/program, time'])} of the program's time; {headline}"
    return {
        "unit": f"seconds; top-1 on the test images by {VIEWS}",
        "n": seeds,
        "figures": {name: summary(values) for name, values in figures.items()},
        "ratios": ratios,
        "first_time_s": first,
        "mean_top1": {name: sum(v := figures[f"{name}, top1"]) / len(v) for name in sides},
        "headline": headline,
    }


def runs_in_turns(pipes: dict[str, Connection], seeds: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Seconds of each side's first run; and every figure of the others."""
    first: dict[str, float] = {}
    figures: dict[str, list[float]] = {}
    for seed in range(seeds + 1):
        for name in list(pipes)[:: -1 if seed % 2 else 1]:
            pipes[name].send(seed)
            done = pipes[name].recv()
            if seed == 0:
                first[name] = done["whole call"]
                continue
            for what, value in done.items():
                figures.setdefault(f"{name}, {what}", []).append(value)
        said = ", ".join(f"{what} {values[-1]:.3f}" for what, values in figures.items())
        print(f"  run {seed} of {seeds}: {said or first}", flush=True)
    return first, figures
