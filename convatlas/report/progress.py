"""Training progress: a live bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any, TextIO

from ..errors import one_line
from ..runs.log import held_out
from ..train.events import Event, OnEvent

LINE_EVERY_S = 10.0  # between plain lines within an epoch


@contextmanager
def progress(file: TextIO | None = None) -> Iterator[OnEvent]:
    """An `on_event` for `fit`: a bar if the file (default stdout) is a terminal, else plain lines.

    Once the pipe or terminal is closed, nothing more is printed and the training continues.
    """
    file = file or sys.stdout
    if not file.isatty():
        yield Lines(file)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"), TimeRemainingColumn())
    bars = Progress(*columns, TextColumn("left"), console=Console(file=file, highlight=False, emoji=False))
    bars.start()
    try:
        yield Bar(bars)
    finally:
        with suppress(OSError):
            bars.stop()


class Printer:
    """Shows each event (`show`) until the output is closed."""

    open = True

    def __call__(self, event: Event) -> None:
        if self.open:
            try:
                self.show(event)
            except OSError:
                self.open = False

    def show(self, event: Event) -> None:
        raise NotImplementedError


class Bar(Printer):
    """Loss, top-1, images/s and the time left in the whole training; a line above it for each epoch."""

    def __init__(self, bars: Any):
        self.bars = bars
        self.task: Any = None

    def show(self, event: Event) -> None:
        if event["kind"] == "step":
            done = (event["epoch"] - 1) * event["steps"] + event["step"]
            if self.task is None:  # steps done before a resume do not count towards the speed
                total = event["epochs"] * event["steps"]
                self.task = self.bars.add_task("", total=total, completed=done - 1, now="")
            self.bars.update(self.task, completed=done, description=where(event), now=figures(event))
        elif text := one_line(line(event)):
            self.bars.console.print(text, markup=False)


class Lines(Printer):
    """One line per epoch, and one every LINE_EVERY_S seconds within it."""

    def __init__(self, file: TextIO):
        self.file, self.started, self.done, self.last = file, 0.0, 0, monotonic()

    def show(self, event: Event) -> None:
        if event["kind"] != "step":
            if text := one_line(line(event)):
                print(text, file=self.file, flush=True)
            return
        now, done = monotonic(), (event["epoch"] - 1) * event["steps"] + event["step"]
        if not self.started:
            self.started, self.done = now, done
        elif now - self.last >= LINE_EVERY_S:
            left = (now - self.started) / (done - self.done) * (event["epochs"] * event["steps"] - done)
            print(f"{where(event)}  {figures(event)}  {duration(left)} left", file=self.file, flush=True)
            self.last = now


def line(event: Event) -> str:
    """The event as one line of text; empty if it does not get one."""
    match event["kind"]:
        case "start":
            (name, n), *_ = event["held_out"].items()
            images = f"{event['train']:,} images to train on, {n:,} {name}"
            epochs = f"{event['epochs']} epoch{'s' * (event['epochs'] > 1)}"
            steps = f"{event['steps']} step{'s' * (event['steps'] > 1)}"
            return (
                f"{event['network']} ({event['parameters']:,} parameters) on {event['data']} ({images}); recipe "
                f"{event['recipe']}, {epochs} of {steps}, on {event['device']}; into {event['folder']}"
            )
        case "note":
            return event["text"]
        case "epoch":
            train, name = event["train"], held_out(event)
            judged = event[name]
            return (
                f"epoch {event['epoch']}/{event['epochs']}  lr {event['lr']:.4g}  loss {train['loss']:.4f}  "
                f"top-1 {train['top1']:.2%}  {event['images_per_s']:,.0f} images/s  "
                f"{name}: loss {judged['loss']:.4f}  top-1 {judged['top1']:.2%}"
            )
        case _:
            return ""


def where(event: Event) -> str:
    return f"epoch {event['epoch']}/{event['epochs']} step {event['step']}/{event['steps']}"


def figures(event: Event) -> str:
    return f"loss {event['loss']:.4f}  top-1 {event['top1']:.2%}  {event['images_per_s']:,.0f} images/s"


def duration(seconds: float) -> str:
    """ "1:02:03", "2:03"."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
