"""benchmarks/gpu: the queue's bookkeeping, and a dry run on the CPU that is killed and goes on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas.runs.log import read_log

GPU = Path(__file__).parent.parent / "benchmarks" / "gpu"
LONG = "schedule_resnet32_seed0"


@pytest.fixture(scope="module")
def queue() -> Iterator[Any]:
    """run.py, imported as where it is run as a script."""
    path, before = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(GPU))
    try:
        import run  # type: ignore[import-not-found]

        yield run
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if str(GPU.parent) in str(getattr(sys.modules[name], "__file__", "")):
                del sys.modules[name]


def dry_run(out: Path) -> list[str]:
    options = ["--device", "cpu", "--dry-run", "--commit", "abc", "--only", "nan_image", LONG]
    return [sys.executable, str(GPU / "run.py"), "--out", str(out), *options]


def test_a_dry_run_that_is_killed_goes_on(tmp_path: Path) -> None:
    with subprocess.Popen(dry_run(tmp_path), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("  epoch 2 of 4"):  # the first is saved
                process.kill()
                break
    finished = (tmp_path / "nan_image.json").read_bytes()
    assert not (tmp_path / f"{LONG}.json").exists()

    done = subprocess.run(dry_run(tmp_path), capture_output=True, text=True, check=True)
    assert "nan_image" not in done.stdout
    assert (tmp_path / "nan_image.json").read_bytes() == finished
    log = read_log(tmp_path / "runs" / "resnet32_seed0" / "log.jsonl")
    assert [line["epoch"] for line in log if line["kind"] == "epoch"] == [1, 2, 3, 4]
    assert "epoch 4 of 4" in done.stdout
    assert "epoch 1 of 4" not in done.stdout

    record = json.loads((tmp_path / f"{LONG}.json").read_text())
    assert record["dry_run"]
    assert record["paper"] == [{"printed": "7.51", "where": "Table 6, standard augmentation"}]
    assert record["figures"]["error"]["values"] == record["error_by_epoch"][-1:]
    assert record["command"] == (
        f"python benchmarks/gpu/run.py --out DIR --device cpu --dry-run --only {LONG}"  # without this machine's paths
    )
    assert record["machine"]["commit"] == "abc"
    assert json.loads(finished)["figures"] == {"cases": 1, "passed": 1, "failed": 0}


def advanced(queue: Any, out: Path, measures: dict[str, Callable[[Any], Any]], minutes: float = 10) -> list[str]:
    """Runs entries of 3 minutes each; returns the names of those that have a record."""
    entries = [queue.Entry(name, name, 3, measure) for name, measure in measures.items()]
    session = queue.Session(out, time.monotonic() + 60 * minutes, torch.device("cpu"))
    queue.advance(entries, session, {"processor": "a test's"}, "command")
    return sorted(path.stem for path in out.glob("*.json"))


def fine(session: Any) -> dict[str, Any]:
    return {"headline": "fine"}


def test_what_does_not_fit_is_not_begun(queue: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert advanced(queue, tmp_path, {"a": fine}, minutes=2.9) == []
    assert "not begun, as the minutes left are too few: a (3 min)" in capsys.readouterr().out
    assert advanced(queue, tmp_path, {"a": fine}) == ["a"]


def test_what_is_skipped_stays_and_what_fails_is_kept(
    queue: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def skipped(session: Any) -> None:
        raise queue.Skipped("there is none")

    def failing(session: Any) -> None:
        raise ValueError("wrong")

    assert advanced(queue, tmp_path, {"a": skipped, "b": failing, "c": fine}) == ["b", "c"]
    assert "a: skipped: there is none" in capsys.readouterr().out
    assert json.loads((tmp_path / "b.json").read_text())["failed"] == "ValueError: wrong"
    assert advanced(queue, tmp_path, {"a": fine, "b": fine}) == ["a", "b", "c"]
    assert json.loads((tmp_path / "b.json").read_text())["failed"], "not run again"


def test_nothing_is_begun_after_the_time_is_up(queue: Any, tmp_path: Path) -> None:
    def long(session: Any) -> None:
        raise queue.Unfinished("stopped by SIGTERM")

    assert advanced(queue, tmp_path, {"a": long, "b": fine}) == []


def test_status(queue: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "KEPT", tmp_path / "kept")
    record = {
        "dry_run": False,
        "machine": {"gpu": "a GPU", "processor": "a CPU"},
        "headline": "2.00 (1.90 to 2.10, n=5)",
    }
    (tmp_path / "kill.json").write_text(json.dumps(record))
    (tmp_path / "sigterm.json").write_text(json.dumps(record | {"dry_run": True}))
    (tmp_path / "equal_bits.json").write_text(json.dumps(record | {"failed": "ValueError: wrong"}))
    rows = {row[0]: row[1:] for row in queue.status(tmp_path).table.rows}
    assert rows["kill"] == ("done", 4, "a GPU", "2.00 (1.90 to 2.10, n=5)")
    assert rows["sigterm"][0] == "to do", "a dry run measures nothing"
    assert rows["equal_bits"][0] == "failed"
    text = queue.status(tmp_path).text(120)
    assert text.isascii() or "─" in text
    assert f" of {len(rows)} done" in text


def test_a_training_run_is_stopped_in_time(queue: Any, tmp_path: Path) -> None:
    """By the signal that fit answers with a checkpoint."""
    import session  # type: ignore[import-not-found]

    soon = session.Session(tmp_path, time.monotonic() + session.STOP_EARLIER_S + 0.2, torch.device("cpu"))
    with pytest.raises(KeyboardInterrupt), session.stopped_in_time(soon):
        time.sleep(10)


def test_names(queue: Any) -> None:
    names = [entry.name for entry in queue.ENTRIES]
    assert len(names) == len(set(names))
    assert names[0] == "resnet20_images_per_s"
    import gpu_faults  # type: ignore[import-not-found]

    assert "tests/accounting/memory/test_memory.py::test_measured_on_a_gpu" in gpu_faults.names_of_gpu_tests()


PROGRAM = """
import sys
import torch

with open(sys.argv[0]) as f:
    code = f.read()

class CifarNet(torch.nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

def main(run, model):
    for name in ("train", "test"):
        found = torch.load(f"cifar10/{name}.pt")
        assert found["images"].shape[1:] == (32, 32, 3) and found["images"].dtype == torch.uint8
        assert len(found["labels"]) == len(found["images"]) and len(found["classes"]) == 10
    print("|  run  |  epoch  |  time_seconds  |")
    print("|    1  |      9  |  2.5000  |")
    print("|       |   eval  |  2.6123  |")
    return 0.94 if run == "warmup" else 0.94 + run / 1000

if __name__ == "__main__":
    sys.exit("run as a script")
"""


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # torch's own, from its compiler
def test_a_program_that_is_compared_with(queue: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds its source and the images, and its time is the one that it prints."""
    import airbench  # type: ignore[import-not-found]

    file, folder = tmp_path / "program.py", tmp_path / "empty"
    file.write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)  # and back at the end, as the program's folder becomes the current one
    monkeypatch.setattr(sys, "argv", [])
    session = queue.Session(tmp_path, time.monotonic() + 60, torch.device("cpu"), dry_run=True)
    run = airbench.program(file, session, folder)
    first, second = run(0), run(1)
    assert (first["time"], first["top1"]) == (2.6123, 0.94)
    assert (second["time"], second["top1"]) == (2.6123, 0.941)
