"""Trainings that are killed, stopped and damaged at moments drawn at random, and end as if nothing had been.

A sample here; `make test-faults` has the whole count. Every draw is seeded, so a failure can be met again: but for the
moments on the clock, which fall where the machine's load puts them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from itertools import product
from pathlib import Path

import pytest

from convatlas.data.augment import order
from convatlas.runs import checkpoint
from convatlas.runs.folder import open_run
from tests.damages import DAMAGES
from tests.train.faults import Blow, Cell, finish, result, start, wait

CELLS = [
    Cell(*it) for it in product(("sgd", "rmsprop"), (1, 2), (0, 2), (False, True), ("each step", "each epoch"))
]  # 32 ways to train
SAMPLE = [
    Cell("sgd", 1, 2, False, "each step"),
    Cell("rmsprop", 1, 0, True, "each epoch"),
    Cell("sgd", 2, 2, True, "each step"),
    Cell("rmsprop", 2, 0, False, "each step"),
]
PLACES = {"step": 15, "save": 15, "log": 3, "test": 3}  # how often a training comes there, at least
KILLS = 7  # of each of the 32 cells: 224


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"))


class Whole:
    """What each cell comes to when nothing happens, and how long that takes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.of = cache(self.trained)

    def trained(self, cell: Cell) -> tuple[tuple[object, ...], float]:
        out, began = self.folder / str(cell), time.monotonic()
        finish(cell, out)
        return result(out), time.monotonic() - began


def kill_once(cell: Cell, out: Path, seconds: float, rng: random.Random) -> str:
    """Kills one process of the training, or all; says when."""
    if rng.random() < 0.5:
        moment = rng.uniform(0, seconds)
        processes = start(cell, out)
        time.sleep(moment)
        struck = processes if rng.random() < 0.5 else [rng.choice(processes)]
        for process in struck:
            process.kill()
        statuses, when = wait(processes), f"after {moment:.3f} s"
    else:
        where = rng.choice([*PLACES])
        blow = Blow(where, rng.randint(1, PLACES[where]), signal.SIGKILL)
        statuses, when = wait(start(cell, out, blow)), str(blow)
    assert set(statuses) <= {0, -9, 3, -15}, (when, statuses)  # 3, -15: its partner had been killed
    return when


def killed_and_resumed(cell: Cell, out: Path, whole: Whole, rng: random.Random) -> None:
    expected, seconds = whole.of(cell)
    when = [kill_once(cell, out, seconds, rng) for _ in range(1 + (rng.random() < 0.3))]
    finish(cell, out)
    assert result(out) == expected, (str(cell), when)
    assert not [f.name for f in out.iterdir() if f.name.startswith(".")], when


@pytest.mark.parametrize("cell", SAMPLE, ids=str)
def test_a_kill_at_a_random_moment_changes_nothing(tmp_path: Path, whole: Whole, cell: Cell) -> None:
    killed_and_resumed(cell, tmp_path / "run", whole, random.Random(str(cell)))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(KILLS))
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_224_kills_at_random_moments_change_nothing(tmp_path: Path, whole: Whole, cell: Cell, seed: int) -> None:
    killed_and_resumed(cell, tmp_path / "run", whole, random.Random(f"{cell} {seed}"))


def stopped_and_resumed(cell: Cell, out: Path, whole: Whole, blow: Blow) -> None:
    """A signal is answered within 10 s by a checkpoint and the status that `convatlas train --help` tells."""
    describe_culprits = out.with_name("told")
    processes = start(cell, out, blow, describe_culprits)
    statuses = wait(processes)
    assert time.monotonic() - float(describe_culprits.read_text()) < 10
    last_chance = blow.where in ("test", "save", "log") and statuses == [0] * cell.world  # it had finished
    assert last_chance or statuses == [128 + blow.signum] * cell.world, (blow, statuses)
    if not last_chance:
        state = checkpoint.load(out / checkpoint.LAST)[1]["state"]
        if blow.where in WITHIN:  # a process alone gives the step up; of two, each waits for the other
            assert state["epoch"] * 5 + state["step"] == blow.n - (cell.world == 1)
    finish(cell, out)
    assert result(out) == whole.of(cell)[0], blow


WITHIN = {"load": 6, "forward": 1, "backward": 7}
STOPS = [
    Blow(where, n, signum, twice)
    for where, n in {**WITHIN, "step": 7, "test": 2, "save": 3, "log": 1}.items()
    for signum in (signal.SIGINT, signal.SIGTERM)
    for twice in (False, True)
]


@pytest.mark.parametrize(
    ("cell", "blow"),
    [
        (SAMPLE[0], Blow("load", 1, signal.SIGTERM)),
        (SAMPLE[1], Blow("forward", 7, signal.SIGINT, twice=True)),
        (SAMPLE[0], Blow("backward", 9, signal.SIGHUP)),
        (SAMPLE[0], Blow("step", 7, signal.SIGINT, twice=True)),
        (SAMPLE[1], Blow("test", 2, signal.SIGTERM)),
        (SAMPLE[0], Blow("save", 3, signal.SIGTERM)),
        (SAMPLE[3], Blow("step", 7, signal.SIGTERM, twice=True)),
        (SAMPLE[2], Blow("forward", 7, signal.SIGHUP)),
    ],
    ids=str,
)
def test_a_signal_is_answered_and_changes_nothing(tmp_path: Path, whole: Whole, cell: Cell, blow: Blow) -> None:
    stopped_and_resumed(cell, tmp_path / "run", whole, blow)


@pytest.mark.faults
@pytest.mark.parametrize("blow", STOPS, ids=str)
@pytest.mark.parametrize("cell", SAMPLE, ids=str)
def test_112_signals_are_answered_and_change_nothing(tmp_path: Path, whole: Whole, cell: Cell, blow: Blow) -> None:
    stopped_and_resumed(cell, tmp_path / "run", whole, blow)


def damaged_and_resumed(cell: Cell, out: Path, whole: Whole, damage: str, n: int) -> None:
    wait(start(cell, out, Blow("step", n, signal.SIGTERM)))
    last = out / checkpoint.LAST
    if damage == "deleted":
        last.unlink()
    else:
        last.write_bytes(DAMAGES[damage](last.read_bytes()))
    finish(cell, out)
    assert result(out) == whole.of(cell)[0]


def test_a_damaged_checkpoint_changes_nothing(tmp_path: Path, whole: Whole) -> None:
    damaged_and_resumed(SAMPLE[0], tmp_path / "run", whole, "a bit flipped", 8)


@pytest.mark.faults
@pytest.mark.parametrize("damage", [*DAMAGES, "deleted"])
@pytest.mark.parametrize("cell", SAMPLE, ids=str)
def test_28_damaged_checkpoints_change_nothing(tmp_path: Path, whole: Whole, cell: Cell, damage: str) -> None:
    damaged_and_resumed(cell, tmp_path / "run", whole, damage, 12)


@pytest.mark.faults
@pytest.mark.parametrize(
    "cell", [Cell("sgd", 2, 2, True, "each step"), Cell("rmsprop", 2, 0, False, "each step")], ids=str
)
def test_a_pixel_that_is_no_number_stops_all_ranks_before_the_update(tmp_path: Path, whole: Whole, cell: Cell) -> None:
    """On the second of two; the image is named, and without it the run ends as if nothing had been."""
    out = tmp_path / "run"
    assert wait(start(cell, out, Blow("pixels", 8, signal.SIGKILL))) == [1, 1]
    describe_culprits = open_run(out).log()[-1]
    assert (describe_culprits["kind"], describe_culprits["step"], describe_culprits["why"]) == ("diverged", 8, "pixels")
    batch = order(72, seed=0, epoch=1)[32:48]  # the third of the second epoch, of 16 images
    second = batch.tensor_split(2)[1].tolist()
    assert set(describe_culprits["images"]) & set(second)
    if not cell.mixup:
        assert describe_culprits["images"] == second[:1]
    finish(cell, out)
    assert result(out) == whole.of(cell)[0]


@pytest.mark.parametrize("failures", [(0, 1), (1, 0)], ids=["of the second machine", "of the first machine"])
def test_machines_that_count_their_own_failures_go_on_alike(
    tmp_path: Path, whole: Whole, failures: tuple[int, int]
) -> None:
    """Each tells its process of its own alone: what a failure left is gone on with, or begun when there is nothing."""
    cell, out = SAMPLE[2], tmp_path / "run"
    assert wait(start(cell, out, failures=failures)) == [0, 0]
    assert result(out) == whole.of(cell)[0]
    shutil.rmtree(out)
    assert wait(start(cell, out, Blow("save", 6, signal.SIGKILL)))[0] == -9
    assert checkpoint.load(out / checkpoint.LAST)[1]["state"]["step"] > 0
    assert wait(start(cell, out, failures=failures)) == [0, 0]
    assert result(out) == whole.of(cell)[0]


NET = ["chain_n1_m1_k0", "--data", "digits", "--recipe", "digits", "--set", "net.widths=[4]", "--set", "batch=128"]
NET += ["--input", "1x8x8", "--device", "cpu", "--epochs", "40", "--save-every", "0.1s"]


@pytest.mark.faults
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("restarts", [0, 1])
def test_a_rank_that_is_killed_under_torchrun(tmp_path: Path, rank: int, restarts: int) -> None:
    """Within 30 s torchrun begins again and ends with the weights of an undisturbed run; or it is over, and says so."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [f"--max-restarts={restarts}", "-m", "convatlas", "train", *NET]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    out = tmp_path / "run"
    process = subprocess.Popen([*command, "--out", str(out)], env=env, stderr=subprocess.PIPE, text=True)
    while not (out / checkpoint.LAST).exists():
        assert process.poll() is None
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[rank]), signal.SIGKILL)
    killed, saved = time.monotonic(), (out / checkpoint.LAST).stat().st_mtime_ns
    while process.poll() is None and (out / checkpoint.LAST).stat().st_mtime_ns == saved:
        assert time.monotonic() - killed < 30
        time.sleep(0.05)
    _, err = process.communicate(timeout=120)
    if not restarts:
        assert process.returncode != 0
        assert "Signal 9 (SIGKILL)" in err
        assert subprocess.run([*command, "--out", str(out), "--resume"], env=env, capture_output=True).returncode == 0
    else:
        assert process.returncode == 0, err
    whole = tmp_path / "whole"
    assert subprocess.run([*command, "--out", str(whole)], env=env, capture_output=True).returncode == 0
    assert result(out) == result(whole)
