"""The log's other forms: a table of the epochs, TensorBoard's events; what a damaged line costs."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from convatlas.doctor import check_log
from convatlas.errors import UserError
from convatlas.recipe import SGD, Recipe
from convatlas.runs.folder import Run, open_run
from convatlas.runs.log import Log, write_csv
from convatlas.train import fit as module
from convatlas.train.execution import Execution
from convatlas.train.fit import draw, fit
from tests.trained import digits

RECIPE = Recipe(name="brief", source="a test", epochs=2, batch=4, optimizer=SGD(0.01), net=(("widths", (4,)),))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("log") / "run"
    return fit("chain_n1_m1_k0", digits(), RECIPE, out=out, device="cpu", execution=Execution(tensorboard=True))


def test_log_csv_is_the_epochs(run: Run) -> None:
    with (run.folder / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    for row, line in zip(rows, run.epochs(), strict=True):
        assert int(row["epoch"]) == line["epoch"]
        assert float(row["val_top1"]) == line["val"]["top1"]
        assert float(row["train_loss"]) == line["train"]["loss"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_what_the_log_says(run: Run) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    told = events.Scalars("epoch/val_top1")
    assert [e.step for e in told] == [line["step"] for line in run.epochs()]
    assert [e.value for e in told] == pytest.approx([line["val"]["top1"] for line in run.epochs()])
    assert len(events.Scalars("step/gradient_head_mean")) == sum(line["kind"] == "step" for line in run.log())


def test_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"TensorBoard is not installed; pip install 'convatlas\[log\]'"):
        fit(
            "chain_n1_m1_k0",
            digits(),
            RECIPE,
            out=tmp_path / "run",
            device="cpu",
            execution=Execution(tensorboard=True),
        )


EPOCH = {"kind": "epoch", "step": 3, "epoch": 1, "lr": 0.1, "images_per_s": 9.0}
SCORES = {"loss": 1.0, "top1": 0.5}
ODD = ["x", [1], {"a": 1}, None, True, -1, 1.5, 10**30, float("nan"), 2]  # 2 is an accuracy that no run has


def damaged_lines() -> Iterator[bytes]:
    """An epoch's line with each of its values exchanged for another's type, or left out; and other lines."""
    whole = {**EPOCH, "train": SCORES, "val": SCORES}
    for name in whole:
        yield json.dumps({k: v for k, v in whole.items() if k != name}).encode()
        yield from (json.dumps({**whole, name: odd}).encode() for odd in ODD)
    for part in ("train", "val"):
        for name in SCORES:
            yield json.dumps({**whole, part: {k: v for k, v in SCORES.items() if k != name}}).encode()
            yield from (json.dumps({**whole, part: {**SCORES, name: odd}}).encode() for odd in ODD)
        yield from (json.dumps({**whole, "gradient": {"stem": odd}}).encode() for odd in ODD)
        yield from (json.dumps({**whole, "gradient": {"stem": {"mean": 1.0, "max": odd}}}).encode() for odd in ODD)
    yield json.dumps({**EPOCH, "train": SCORES, "test": SCORES}).encode()  # of other data
    yield json.dumps({**whole, "\ud800": 1, "deep": {"a": {"b": {"c": 1}}}}).encode()
    yield json.dumps({"kind": "diverged", "step": 1, "files": 3, "images": "x"}).encode()
    yield from (b"[]", b"3", b"null", b"\xff\xfe", b"{" * 500_000, b"9" * 5000, b"\x00" * 10)


def test_no_line_costs_a_finished_training_its_end(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the lines before and after the last epoch's: curves, table, resuming, its result and doctor."""
    whole = (run.folder / "log.jsonl").read_bytes().splitlines()
    out = Path(shutil.copytree(run.folder, tmp_path / "run"))
    for damaged in damaged_lines():
        (out / "log.jsonl").write_bytes(b"\n".join([whole[0], damaged, *whole[1:], damaged[: len(damaged) // 2], b""]))
        again = open_run(out)
        epochs = again.epochs()
        write_csv(out / "log.csv", epochs)
        assert epochs[-1] == json.loads(whole[-1]), damaged
        assert max(epochs, key=lambda line: line["val"]["top1"]) in epochs
        Log(out / "log.jsonl", 2, 10**6).write("step", step=10**6, epoch=2)
        assert list(check_log(again, {}))
    notes: list[str] = []
    for odd in (2.0, 1e308, float("inf")):  # numbers that a plot has to bear
        line = {**EPOCH, "train": {**SCORES, "loss": odd}, "val": SCORES}
        (out / "log.jsonl").write_bytes(b"\n".join([json.dumps(line).encode(), *whole, b""]))
        draw(open_run(out), lambda event: notes.append(event["text"]))
    assert all("everything else is saved" in text for text in notes)


def test_an_epoch_is_on_the_disk_when_its_line_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, flushed, fsync = Log(tmp_path / "log.jsonl", 0, 0), [], os.fsync

    def noted(handle: int) -> None:
        flushed.append(Path(os.readlink(f"/proc/self/fd/{handle}")).read_bytes().count(b"\n"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    log.write("step", step=1, epoch=1)
    log.write("epoch", step=1, epoch=1, train=SCORES, val=SCORES)
    assert flushed == [2]


def test_a_drawing_that_fails_is_a_note(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no fonts\nat all")

    monkeypatch.setattr(module, "draw_curves", fail)
    notes: list[str] = []
    draw(run, lambda event: notes.append(event["text"]))
    assert notes == [f"the curves in {run.folder} were not drawn (no fonts); everything else is saved"]
