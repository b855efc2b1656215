"""Fetching ahead: order and pixels whatever the workers; errors, hanging, closing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from convatlas.data import loading
from convatlas.data.augment import crops_of
from convatlas.data.decode.reference import Content
from convatlas.data.loading import PART, Stuck, Workers, fetched, usual_workers
from convatlas.data.normalise import Normalizer
from convatlas.data.sources import load_data
from convatlas.data.streamed import EncodedSplit
from convatlas.data.types import MemorySplit
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate_split
from convatlas.layers import ConvNet
from convatlas.preprocess import Preprocess
from convatlas.recipe import SGD, Recipe
from convatlas.runs import checkpoint
from convatlas.train.fit import fit

INPUT = Preprocess((3, 16, 16), (0.0,) * 3, (1.0,) * 3, resize_mode="crop", resize=18)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 JPEG files of several sizes in two classes, a test of 8."""
    at, g = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for part, n in (("train", 45), ("val", 8)):
        for i in range(n):
            size = (90, 70) if i % 7 == 0 else (20, 24)
            image = Image.fromarray(g.integers(0, 256, (5, 6, 3), np.uint8)).resize(size)
            path = at / part / "ab"[i % 2] / f"{i:02}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    return at


def batches(n: int = 45, size: int = 19) -> tuple[Tensor, ...]:
    assert size > PART, "more than one worker has a part in it"
    return torch.randperm(n, generator=torch.Generator().manual_seed(0)).split(size)


@pytest.mark.parametrize("op", [(), ("area_crop",)])
def test_any_number_of_workers_gives_the_same_batches(folder: Path, op: tuple[str, ...]) -> None:
    split = load_data(str(folder)).train
    crops = crops_of(op, (16, 16), seed=1, epoch=2)
    expected = [split.fetch(indices, INPUT, crops) for indices in batches()]
    for workers in (0, 1, 2, 4):
        found = list(fetched(split, batches(), INPUT, crops, workers=workers))
        assert all(map(torch.equal, found, expected)), workers
        assert len(found) == 3


def test_crops_of_images_in_memory_are_made_by_workers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (45, 3, 40, 30), dtype=torch.uint8, generator=generator)
    split = MemorySplit("train", images, torch.zeros(45, dtype=torch.int64), ("a",))
    crops = crops_of(("area_crop",), (16, 16), seed=1, epoch=2)
    expected = [split.fetch(indices, INPUT, crops) for indices in batches()]
    threads: set[str] = set()
    fetch = split.fetch
    monkeypatch.setattr(split, "fetch", lambda *a: threads.add(threading.current_thread().name) or fetch(*a))
    for workers in (0, 2):
        found = list(fetched(split, batches(), INPUT, crops, workers=workers))
        assert all(map(torch.equal, found, expected)), workers
    assert any(name.startswith("convatlas-worker") for name in threads)


def test_no_more_than_a_few_batches_are_fetched_ahead() -> None:
    split = Slow(60, 0)
    loaded = fetched(split, torch.arange(600).remainder(60).split(10), INPUT, workers=2)
    next(loaded)
    time.sleep(0.2)
    assert len(split.read) <= 10 * (1 + loading.AHEAD)
    loaded.close()


class Slow(EncodedSplit):
    """Images of one level that are their index; `slow` takes so many seconds for number 7."""

    def __init__(self, n: int, slow: float, bad: int = -1):
        self.labels, self.slow, self.bad = torch.zeros(n, dtype=torch.int64), slow, bad
        self.read: list[int] = []
        self.gate = threading.Event()

    def where(self, i: int) -> str:
        return f"image {i} of the test"

    def content(self, i: int) -> Content:
        self.read.append(i)
        if i == 7 and self.slow:
            self.gate.wait(self.slow)
        if i == self.bad:
            content = Content(b"nothing")
            content.name = self.where(i)
            return content
        out = BytesIO()
        Image.new("RGB", (16, 16), (i, i, i)).save(out, "PNG")
        return Content(out.getvalue())


def test_an_order_that_a_slow_file_does_not_change() -> None:
    split = Slow(60, 0.3)
    images = torch.cat(list(fetched(split, torch.arange(60).split(20), INPUT, workers=4)))
    assert images[:, 0, 0, 0].tolist() == list(range(60))
    assert split.read != list(range(60))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_surfaces_and_names_the_file(workers: int) -> None:
    loaded = fetched(Slow(60, 0, bad=33), torch.arange(60).split(20), INPUT, workers=workers)
    next(loaded)
    with pytest.raises(UserError, match=r"image 33 of the test is not a JPEG"):
        list(loaded)


def test_a_worker_that_hangs_is_named() -> None:
    split = Slow(60, 30)
    loaded = fetched(split, torch.arange(60).split(20), INPUT, workers=2, timeout_s=0.3)
    with pytest.raises(Stuck, match=r"image 7 of the test was not read within 0\.3 s; check its disk"):
        list(loaded)
    split.gate.set()


def workers_alive() -> int:
    return sum(thread.name.startswith("convatlas-worker") for thread in threading.enumerate())


def test_no_thread_is_left_whatever_the_end() -> None:
    def gone() -> bool:
        deadline = time.monotonic() + 5
        while workers_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        return workers_alive() == 0

    assert gone()
    list(fetched(Slow(60, 0), torch.arange(60).split(20), INPUT, workers=3))
    assert gone()
    for _ in zip(range(1), fetched(Slow(60, 0), torch.arange(60).split(20), INPUT, workers=3)):
        assert workers_alive() == 3
    assert gone()
    with pytest.raises(UserError):
        list(fetched(Slow(60, 0, bad=0), torch.arange(60).split(20), INPUT, workers=3))
    assert gone()


def test_a_program_that_ends_waits_for_what_is_being_decoded(tmp_path: Path) -> None:
    """With the generator open: a thread that comes out of OpenCV's code when Python has ended aborts."""
    program = (
        "import os, sys, time; from convatlas.data.loading import in_order\n"
        "def name(i, what): return f'{sys.argv[1]}/{i} {what}'\n"
        "def work(i):\n    open(name(i, 'begun'), 'w').close()\n"
        "    time.sleep(0.2 * (i > 0))\n    open(name(i, 'done'), 'w').close()\n"
        "made = in_order(work, ([(i,)] for i in range(9)), 2)\nnext(made)\n"
        "while not os.path.exists(name(1, 'begun')): time.sleep(0.01)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True, timeout=60)
    begun, done = ({it.name[0] for it in tmp_path.glob(f"* {what}")} for what in ("begun", "done"))
    assert {"0", "1"} <= begun == done
    assert len(begun) < 9


def test_the_usual_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_data("digits").train
    assert usual_workers(digits) == 0
    assert usual_workers(digits, crops=True) > 0
    split = load_data(str(folder)).train
    monkeypatch.setattr(loading.os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert usual_workers(split) == 12
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
    assert usual_workers(split) == 2
    with pytest.raises(UserError, match="workers=-1 is out of range; give at least 0 and at most 1024"):
        list(fetched(split, batches(), INPUT, workers=-1))


def test_ctrl_c_stops_and_saves_with_workers_at_work(folder: Path, tmp_path: Path) -> None:
    options = [
        "--recipe",
        "digits",
        "--set",
        "net.widths=[2]",
        "--input",
        "3x16x16",
        "--workers",
        "2",
        "--epochs",
        "5000",
    ]
    command = ["train", "chain_n1_m1_k0", "--data", str(folder), *options, "--out", str(tmp_path / "run")]
    child = subprocess.Popen(
        [sys.executable, "-m", "convatlas", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout
    for text in child.stdout:
        if text.startswith("epoch 2/5000"):
            child.send_signal(signal.SIGINT)
            break
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "stopped by SIGINT" in err
    assert err.count("\n") == 2


def test_a_thread_that_hangs_does_not_keep_the_program_from_ending() -> None:
    program = (
        "import threading, torch; from convatlas.data.loading import in_order, Stuck\n"
        "try: list(in_order(lambda i: threading.Event().wait(), [[(1,)]], 1, 0.1))\n"
        "except Stuck as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("an image was not read within 0.1 s")


class Counts(ConvNet):
    def __init__(self) -> None:
        super().__init__()
        self.stem = self.head = torch.nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))[:, :2]


def test_evaluation_is_the_same_with_any_workers(folder: Path) -> None:
    split = load_data(str(folder)).val
    scores = [evaluate_split(Counts(), split, Normalizer(INPUT), batch=3, workers=workers) for workers in (0, 1, 3)]
    assert all(torch.equal(s.losses, scores[0].losses) for s in scores)


def test_training_from_files_is_the_same_with_any_workers_and_resumes(folder: Path, tmp_path: Path) -> None:
    from convatlas.train.execution import Execution

    recipe = Recipe(name="tiny", source="a test", epochs=2, batch=20, optimizer=SGD(0.01), net=(("widths", (4,)),))
    recipe = replace(recipe, augment=("area_crop", "flip", "photometric"))
    data = load_data(str(folder))

    def train(name: str, **more):
        return fit("chain_n1_m1_k0", data, recipe, out=tmp_path / name, device="cpu", input=(3, 16, 16), **more)

    runs = [train(f"{workers}", execution=Execution(workers=workers)) for workers in (0, 1, 4)]
    assert [run.record.execution["workers"] for run in runs] == [0, 1, 4]
    assert "decoder" in runs[0].record.machine
    weights = [checkpoint.load(run.folder / "last.safetensors")[0] for run in runs]
    for other in weights[1:]:
        assert all(torch.equal(other[name], weights[0][name]) for name in other)
    usual = train("usual")
    assert usual.record.execution["workers"] == usual_workers(data.train)


def test_closing_does_not_wait_for_a_job_that_a_worker_took_first() -> None:
    class Racing(SimpleQueue):  # type: ignore[type-arg]
        """Holds nothing any more, though it did when it was asked."""

        def empty(self) -> bool:
            return False

    workers = Workers(1)
    took, workers.jobs = workers.jobs, Racing()
    closing = threading.Thread(target=workers.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()
    took.put(None)


def test_closed_workers_have_ended_but_for_one_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that comes back from torch when Python has ended aborts the program."""
    workers, begun = Workers(3), threading.Event()
    workers.submit(lambda: (begun.set(), time.sleep(0.2)))
    begun.wait(10)
    workers.close()
    assert not any(thread.is_alive() for thread in workers.threads)

    monkeypatch.setattr(loading, "LEAVE_S", 0.1)
    workers, at_work, never = Workers(2), threading.Event(), threading.Event()
    workers.submit(lambda: (at_work.set(), never.wait()))
    at_work.wait(10)
    began = time.monotonic()
    workers.close()
    assert time.monotonic() - began < 5
    assert sum(thread.is_alive() for thread in workers.threads) == 1
    never.set()
