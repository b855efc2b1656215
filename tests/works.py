"""Verbs at work in small folders, run with and without a fault, and what is wrong about how they end."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from convatlas.runs import checkpoint
from tests.failing import Failing, Fault, Ran
from tests.train.faults import result

NETWORK = "chain_n1_m1_k0"
OTHER = {  # what else a call can meet than EIO, by its name
    "open": errno.EMFILE,
    "opendir": errno.EACCES,
    "readdir": errno.ESTALE,
    "stat64": errno.EACCES,
    "read": errno.ESTALE,
    "write": errno.ENOSPC,
    "fsync": errno.EDQUOT,
    "close": errno.ENOSPC,
    "rename": errno.EACCES,
    "link": errno.EPERM,
    "unlink": errno.EACCES,
    "mkdir": errno.ENOSPC,
    "fcntl": errno.ENOLCK,
}

SMALLEST = 512  # bytes of the allocations that count: Python makes smaller ones from larger
ACCUSES = ("damaged", "broken", "is empty", "missing", "not written by", "not an intact", "is not a", "incomplete")


@dataclass(frozen=True)
class Work:
    """A verb at work in a folder, which `begin` makes, and of which each run gets a copy."""

    begin: Callable[[Failing, Path], None]
    words: Callable[[Path], list[object]]
    again: Callable[[Path], list[object]]  # the verb to come to the same end afterwards
    end: Callable[[Path, Ran], object]


def make_images(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for part, n in (("train", 2), ("val", 1)):
        for name in ("ants", "bees"):
            (folder / part / name).mkdir(parents=True)
            for i in range(n):
                file = folder / part / name / f"{i}.{'jpg' if i else 'png'}"
                Image.fromarray(draw.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(file)


def train(data: Path, out: Path, *more: str) -> list[object]:
    size = ["--epochs", "2", "--batch", "2", "--input", "3x8x8", "--workers", "0", "--micro-batch", "2"]
    return ["train", NETWORK, "--data", data, "--recipe", "small", *size, "--out", out, *more]


def pack(data: Path, out: Path, form: str) -> list[object]:
    return ["data", "pack", data, "--out", out, "--size", "8", "--format", form, "--workers", "0"]


def nothing(failing: Failing, place: Path) -> None:
    place.mkdir()


def half_trained(failing: Failing, place: Path) -> None:
    """Stopped in the second epoch."""
    place.mkdir()
    words = train(failing.folder / "data", place / "run")
    calls = failing.run(*words).calls
    shutil.rmtree(place / "run")
    ran = failing.run(*words, fault=Fault(calls * 3 // 4, error=-signal.SIGINT))
    assert "of epoch 2" in ran.err, ran


def trained(failing: Failing, place: Path) -> None:
    place.mkdir()
    assert failing.run(*train(failing.folder / "data", place / "run")).status == 0
    weights = checkpoint.averaged(checkpoint.load(place / "run" / checkpoint.LAST)[0])
    torch.save(weights, place / "weights.pth")


def packed(form: str) -> Callable[[Failing, Path], None]:
    def begin(failing: Failing, place: Path) -> None:
        place.mkdir()
        assert failing.run(*pack(failing.folder / "data", place / "pack", form)).status == 0

    return begin


def continued(run: Path, *start: str) -> tuple[str, ...]:
    """How to go on: --init cannot be given twice."""
    return ("--resume",) if (run / "run.json").exists() else start


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def said(place: Path, ran: Ran) -> object:
    return ran.status, ran.out, tree(place)


def works(data: Path) -> dict[str, Work]:
    def reading(begin: Callable[[Failing, Path], None], words: Callable[[Path], list[object]]) -> Work:
        return Work(begin, words, words, said)

    def training(begin: Callable[[Failing, Path], None], data: Callable[[Path], Path], *more: str) -> Work:
        return Work(
            begin,
            lambda place: train(data(place), place / "run", *more),
            lambda place: train(data(place), place / "run", "--resume"),
            lambda place, _: result(place / "run"),
        )

    def packing(form: str) -> Work:
        def words(place: Path) -> list[object]:
            return pack(data, place / "pack", form)

        return Work(nothing, words, words, lambda place, _: tree(place))

    return {
        "train": training(nothing, lambda place: data),
        "resume": training(half_trained, lambda place: data, "--resume"),
        "train from weights": Work(
            trained,
            lambda place: train(data, place / "new", "--init", str(place / "weights.pth")),
            lambda place: train(data, place / "new", *continued(place / "new", "--init", str(place / "weights.pth"))),
            lambda place, _: result(place / "new"),
        ),
        "train on a jpeg pack": training(packed("jpeg"), lambda place: place / "pack"),
        "train on a raw pack": training(packed("raw"), lambda place: place / "pack"),
        "pack jpeg": packing("jpeg"),
        "pack raw": packing("raw"),
        "evaluate a run": reading(trained, lambda place: ["evaluate", place / "run", "--data", data, "--workers", "0"]),
        "evaluate a checkpoint": reading(
            trained, lambda place: ["evaluate", place / "run" / "last.safetensors", "--data", data, "--workers", "0"]
        ),
        "predict": reading(trained, lambda place: ["predict", place / "run", data / "val"]),
        "doctor of a run": reading(trained, lambda place: ["doctor", place / "run"]),
        "doctor of a checkpoint": reading(trained, lambda place: ["doctor", place / "run" / "last.safetensors"]),
        "doctor of weights": reading(trained, lambda place: ["doctor", place / "weights.pth"]),
        "doctor of images": reading(nothing, lambda place: ["doctor", data]),
        "doctor of a jpeg pack": reading(packed("jpeg"), lambda place: ["doctor", place / "pack"]),
        "doctor of a raw pack": reading(packed("raw"), lambda place: ["doctor", place / "pack"]),
    }


class Trials:
    """Works as they end when nothing fails, and when something does."""

    def __init__(self, failing: Failing):
        self.failing, self.place = failing, failing.folder / "place"
        self.data = failing.folder / "data"
        make_images(self.data)
        self.works, self.images = works(self.data), tree(self.data)
        self.begun: dict[str, tuple[Ran, object]] = {}
        warm = failing.folder / "warm"
        failing.warm(*train(self.data, warm / "run"))
        failing.warm(*pack(self.data, warm / "pack", "jpeg"))
        failing.warm("evaluate", warm / "run", "--data", self.data)
        failing.warm("predict", warm / "run", self.data)
        for it in (warm / "run", warm / "pack", self.data):
            failing.warm("doctor", it)

    def lay_out(self, name: str) -> None:
        before = self.failing.folder.parent / "before" / name
        if not before.exists():
            shutil.rmtree(self.place, ignore_errors=True)
            self.works[name].begin(self.failing, self.place)
            shutil.copytree(self.place, before)
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(before, self.place)

    def whole(self, name: str) -> tuple[Ran, object]:
        """What comes of a work when nothing fails."""
        if name not in self.begun:
            self.lay_out(name)
            work = self.works[name]
            ran = self.failing.run(*work.words(self.place))
            assert ran.status == 0, ran
            self.begun[name] = ran, work.end(self.place, ran)
        return self.begun[name]

    def run(self, name: str, fault: Fault) -> Ran:
        """Runs the work, where `lay_out` has been."""
        return self.failing.run(*self.works[name].words(self.place), fault=fault)

    def wrong(self, name: str, fault: Fault) -> tuple[Ran, list[str]]:
        """Runs the work with a fault, and again without: what is wrong about what came of it."""
        _, expected = self.whole(name)
        self.lay_out(name)
        work, before, was = self.works[name], tree(self.place), progress(self.place / "run")
        ran = self.run(name, fault)
        assert ran.status != -signal.SIGALRM, f"{name} hangs after {ran.what}"
        after, wrong = tree(self.place), []
        if ran.status < 0 and fault.error != ran.status and not fault.allocation:
            wrong.append(f"ended by signal {-ran.status}")
        if ran.status == 0 and work.end(self.place, ran) != expected:
            wrong.append("another end, with status 0")
        if ran.status > 0:
            wrong += unclear(ran, fault)
        wrong += lost(before, after)
        if progress(self.place / "run") < was:
            wrong.append("lost steps")
        if ran.status == 0:
            return ran, wrong
        again = self.failing.run(*work.again(self.place))
        if again.status:
            wrong.append(f"not to be repeated: {again.status}, {again.err}")
        elif work.end(self.place, again) != expected:
            wrong.append("another end, repeated")
        if tree(self.data) != self.images:
            wrong.append("changed the images")
        return ran, wrong


def unclear(ran: Ran, fault: Fault) -> list[str]:
    """What a user would not understand, or take amiss."""
    wrong = [f"accuses: {word}" for word in ACCUSES if word in ran.err + ran.out]
    if fault.allocation:  # in the midst of a library, which may report it in any way
        return wrong
    lines = ran.err.splitlines()
    listed = ran.status == 1 and ran.words[0] in ("doctor", "predict")  # they go on, and list what they cannot read
    if ran.status != 2 and not listed:
        wrong.append(f"status {ran.status}")
    if not listed and ([line.startswith("convatlas: ") for line in lines].count(True) != 1 or len(lines) > 2):
        wrong.append("not one line")
    if os.strerror(fault.error) not in ran.err + ran.out * listed:
        wrong.append("no reason")
    return wrong


def lost(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """What is worse than before the work, for whoever does not repeat it."""
    wrong = [f"set aside {name}" for name in after if name.endswith(checkpoint.BROKEN)]
    for name in before:
        if name not in after and Path(name).suffix != ".new" and Path(name).name != "plan.json":
            wrong.append(f"lost {name}")
        elif name.endswith((".pth", ".tar", ".raw", ".npz", "run.json", "pack.json")) and after[name] != before[name]:
            wrong.append(f"changed {name}")
    return wrong


def progress(run: Path) -> tuple[int, int]:
    """How far the newest checkpoint is: epochs and steps."""
    for path in (run / checkpoint.LAST, run / checkpoint.PREVIOUS):
        if path.exists():
            state = checkpoint.load(path)[1]["state"]
            return state["epoch"], state["step"]
    return 0, 0
