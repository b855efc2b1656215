"""`convatlas measure`: what it prints, writes, reads and compares, and its exit status."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from convatlas.cli import main
from convatlas.cli.measure import batches
from convatlas.engines import results
from convatlas.engines.alone import Alone
from convatlas.engines.results import Accuracy, Record, Versus
from convatlas.errors import UserError
from convatlas.machine import facts
from tests.engines.records import MACHINE, record

NAME = "benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv"
HEADER = (
    "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,infer_macts"
)
TIMM = f"""{HEADER}
resnet50,224,60.0,16.667,1,25.56,4.11,11.11
"""


def printed(capsys: pytest.CaptureFixture[str], *args: object, status: int = 0) -> str:
    assert main(["measure", *map(str, args)]) == status
    return capsys.readouterr().out


def written(file: Path, *records: Record) -> Path:
    results.append(file, records)
    return file


@pytest.fixture
def nobody_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process of its own is started."""
    monkeypatch.setattr("convatlas.engines.measure.alone", lambda job, input, file, batches: Alone(
        1_000_000, dict.fromkeys(batches, 0.5), dict.fromkeys(batches, 0.1), dict.fromkeys(batches, 3_000_000)
    ))  # fmt: skip


@pytest.mark.usefixtures("nobody_alone")
def test_measured_written_read_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "r.jsonl"
    args = ("lenet5", "lenet5_tanh", "--batch", "1,2", "--seconds", "50ms")
    text = printed(capsys, *args, "--out", file)
    records, damages = results.read(file)
    assert not damages
    assert [(r.model, r.batch) for r in records] == [(m, b) for b in (1, 2) for m in ("lenet5", "lenet5_tanh")]
    assert printed(capsys, "--read", file) == text
    assert json.loads(printed(capsys, "--read", file, "--json"))["records"] == json.loads(
        json.dumps([r.to_json() for r in records])
    )
    compared = json.loads(printed(capsys, *args, "--against", file, "--json"))
    assert [change["key"]["batch"] for change in compared["changes"]] == [1, 1, 2, 2]
    assert all(change["low"] < change["ratio"] < change["high"] for change in compared["changes"])
    assert len(results.read(file)[0]) == 4


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


LONG = "resnet50_v1_5@torchvision/v1"


@pytest.mark.parametrize("model", ["lenet5", LONG])
def test_tables_fit_80_columns(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    every = [
        record(
            0.1234 * batch,
            model=model,
            engine=engine,
            batch=batch,
            params=25_557_032,
            macs=4_089_184_256,
            disk_bytes=102_531_968,
            peak_bytes=1_234_567_890,
            estimated_bytes=1_000_000_000,
            first_s=0.2,
            load_s=1.5,
            accuracy=Accuracy("published", 76.13, 92.862, source=LONG, protocol="center"),
            ratio=Versus(f"{model} on torch in fp32", 0.5, 0.4, 0.6, 20),
        )
        for engine in ("torch", "onnxruntime")
        for batch in (1, 64)
    ]
    text = printed(capsys, "--read", written(tmp_path / "r.jsonl", *every))
    assert max(map(len, text.splitlines())) <= 80
    assert "76.13%" in text
    assert "123" in text
    assert ("8.10" in text) == (model == "lenet5")  # images/s
    wide = printed(capsys, "--read", tmp_path / "r.jsonl", "--wide")
    assert f"published: {LONG}, center" in wide
    assert "0.50 (0.40 to 0.60)" in wide
    assert "117 to 130" in wide


def test_accuracies_of_different_kinds_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds = {
        "a": Accuracy("published", 69.758, 89.078, source="a@somebody", protocol="center"),
        "b": Accuracy("measured", 54.4, 80.2, 500, 50.0, 58.7, "photos", "center"),
        "c": Accuracy("untrained"),
        "d": Accuracy("unknown"),
    }
    file = written(tmp_path / "r.jsonl", *(record(model=name, accuracy=it) for name, it in kinds.items()))
    rows = {
        line.split()[0]: " ".join(line.split())
        for line in reversed(printed(capsys, "--read", file).splitlines())
        if line
    }
    assert "69.76% published: a@somebody, center" in rows["a"]
    assert "54.40% 500 images of photos: 50.0 to 58.7" in rows["b"]
    assert "untrained" in rows["c"]
    assert " ? " in rows["d"]


def test_files_of_several_machines_and_timms_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = written(tmp_path / "a.jsonl", record(), record(seconds=None, failed="out of memory: bad_alloc", batch=64))
    there = written(tmp_path / "b.jsonl", record(0.05, machine={**MACHINE, "processor": "Another", "cores": 64}))
    (tmp_path / NAME).write_text(TIMM)
    text = printed(capsys, "--read", here, there, tmp_path / NAME)
    assert "On Some Processor (2 cores), torch 2.13.0, 1 thread: processor time." in text
    assert "On Another (64 cores), torch 2.13.0, 1 thread: processor time." in text
    assert "On i9_10940x, torch 2.4.0: published times, as timm publishes them." in text
    assert "lenet5 on torch in fp32, batch 64, 1 thread: out of memory: bad_alloc." in text
    assert sum("Another" in line for line in lines(text)) == 2


def test_csv_has_timms_headers_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / NAME).write_text(TIMM)
    out = printed(capsys, "--read", written(tmp_path / "r.jsonl", record(0.25, batch=4)), tmp_path / NAME, "--csv")
    header, ours, theirs = csv.reader(io.StringIO(out))
    assert header[:4] == ["model", "infer_img_size", "infer_samples_per_sec", "infer_step_time"]
    assert header[4:8] == ["infer_batch_size", "param_count", "infer_gmacs", "infer_macts"]
    assert ours[:8] == ["lenet5", "32", "16.0", "250.0", "4", "0.06", "0.0", "0.01"]
    assert theirs[:8] == ["resnet50", "224", "60.0", "16.667", "1", "25.56", "4.11", "11.11"]
    found = dict(zip(header, theirs))
    assert (found["network"], found["source"], found["threads"], found["mean_s"]) == (
        "resnet50_v1_5",
        "timm",
        "",
        "0.016667",
    )
    assert float(dict(zip(header, ours))["p50_s"]) == 0.25


def test_damaged_lines_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "r.jsonl", record(), record(batch=2))
    file.write_bytes(file.read_bytes() + b'{"kind": "measure", "schema": 1, "model": "\x1b[31mx"}\n{"ki')
    assert main(["measure", "--read", str(file), "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(json.loads(out)["records"]) == 2
    assert [text.partition(", is left out")[0] for text in json.loads(out)["damaged"]] == [
        f"{file}, line {n}" for n in (3, 4)
    ]
    assert err.count("\n") == 2
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("now", "spread", "options", "status"),
    [
        (0.2, 0.01, ["--fail-above", "5%"], 1),
        (0.2, 0.01, [], 0),
        (0.103, 0.01, ["--fail-above", "5%"], 0),
        (0.108, 0.05, ["--fail-above", "5%"], 0),
        (0.108, 0.01, ["--fail-above", "5%"], 1),
        (0.108, 0.01, ["--fail-above", "10"], 0),
        (0.05, 0.01, ["--fail-above", "0%"], 0),
    ],
)
def test_the_exit_status_for_a_teams_ci(
    now: float, spread: float, options: list[str], status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = written(tmp_path / "old.jsonl", record(0.1, spread), record(0.1, spread, batch=2))
    new = written(tmp_path / "new.jsonl", record(now, spread), record(0.1, spread, batch=2))
    text = printed(capsys, "--read", new, "--against", old, *options, status=status)
    assert ("slower" in text.split("of 2 slower")[0]) == (
        now > 0.105 and spread == 0.01 and options != ["--fail-above", "10"]
    )


def test_another_machine_is_refused_unless_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = written(tmp_path / "old.jsonl", record(0.1, machine={**MACHINE, "processor": "Another"}))
    new = written(tmp_path / "new.jsonl", record(0.2))
    assert main(["measure", "--read", str(new), "--against", str(old), "--fail-above", "5%"]) == 2
    assert "another machine (Another, 2 cores); measure both on one machine" in capsys.readouterr().err
    text = printed(capsys, "--read", new, "--against", old, "--fail-above", "5%", "--other-machine", status=1)
    assert "Not the same: another machine: Another then, Some Processor now." in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1", [1]),
        ("8,1, 4,1", [1, 4, 8]),
        ("1,2,4,...,64", [1, 2, 4, 8, 16, 32, 64]),
        ("1,2,...,10", [1, 2, 4, 8, 10]),
        ("1,3,…,9", [1, 3, 5, 7, 9]),
        ("8,16,24,...,48", [8, 16, 24, 32, 40, 48]),
    ],
)
def test_batch_sizes(text: str, found: list[int]) -> None:
    assert batches(text) == found


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "1,,2", "a", "1.5", "...", "1,...,8", "1,2,...", "4,2,...,8", "1,2,...,2", "70000", "²"]
)
def test_batch_sizes_that_are_none(text: str) -> None:
    with pytest.raises(UserError, match=r"write it as in"):
        batches(text)


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ([], "measure takes models to measure, or results to --read; give one of the two"),
        (["lenet5", "--read", "r.jsonl"], "measure takes models to measure, or results to --read"),
        (["--read", "r.jsonl", "--out", "x.jsonl"], "--out is for what is measured now"),
        (["--read", "none.jsonl"], "none.jsonl cannot be read"),
        (["--read", "."], "is a folder; give a results file"),
        (["lenet5", "--fail-above", "5%"], "--fail-above compares with older results; say which with --against FILE"),
        (["lenet5", "--other-machine"], "--other-machine compares with older results"),
        (["lenet5", "--against", "none.jsonl"], "none.jsonl cannot be read"),
        (["lenet5", "--batch", "x"], "--batch 'x' is not a list of batch sizes"),
        (["lenet5", "--threads", "0"], "--threads 0 is too small"),
        (["lenet5", "--threads", "4096"], "4096 threads are more than the"),
        (["lenet5", "--seconds", "soon"], "'soon' is not a time"),
        (["lenet5", "--fail-above", "x", "--against", "none.jsonl"], "'x' is not a percentage"),
        (["lenet5", "--engine", "torhc"], "no engine named 'torhc'; did you mean torch?"),
        (["lenet5", "--precision", "fp64"], "no precision named 'fp64'"),
        (["lenet5", "--precision", "fp32,int8"], "int8 needs images to calibrate on, and nothing else does"),
        (["lenet5", "--calibrate", "digits"], "int8 needs images to calibrate on, and nothing else does"),
        (["lenet5", "--precision", "int8", "--calibrate", "nowhere"], "nowhere"),
        (["lenet5", "--device", "tpu"], "no device named 'tpu'"),
        (["lenet5", "--data", "nowhere"], "nowhere"),
        (["nowhere"], "there is no model nowhere"),
        (["resnet5O"], "there is no model resnet5O; did you mean resnet56, resnet50, resnet152?"),
        (["lenet5", "--out", "nowhere/r.jsonl"], "there is no folder nowhere"),
        (["lenet5", "--out", "notes.txt"], "notes.txt is not a results file; give --out another name"),
    ],
)
def test_mistakes_are_one_line(
    args: Sequence[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("milk\n")
    assert main(["measure", *args]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert why in err


def test_results_are_read_without_torch(tmp_path: Path) -> None:
    file = str(written(tmp_path / "r.jsonl", record(machine=facts.machine())))
    code = (
        "import sys; from convatlas.cli import main; "
        f"main(['measure', '--read', {file!r}]); main(['measure', '--read', {file!r}, '--against', {file!r}]); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
