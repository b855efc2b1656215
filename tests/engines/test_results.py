"""Results files: written by whole lines, read back as they were, merged; damaged and hostile lines named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convatlas.engines import results
from convatlas.engines.results import Accuracy, Record, Seconds, Versus
from convatlas.errors import UserError
from tests.engines.records import MACHINE, record

FULL = record(
    accuracy=Accuracy("measured", 69.5, 89.0, 500, 65.3, 73.4, "imagenet1000", "center"),
    ratio=Versus("lenet5 on torch in fp32", 0.5, 0.45, 0.55, 20),
    load_s=0.2,
    first_s=0.3,
    disk_bytes=240_000,
    estimated_bytes=1,
    base_bytes=2,
    peak_bytes=3,
    image_joules=0.01,
)
FAILED = record(seconds=None, failed="out of memory", batch=64)


def test_records_come_back_as_they_went(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    results.append(file, [FULL])
    results.append(file, [FAILED, record()])
    assert results.read(file) == ([FULL, FAILED, record()], [])
    assert len(file.read_text(encoding="utf-8").splitlines()) == 3


def test_what_is_derived_is_written_too() -> None:
    line = record(p50=0.2, batch=4).to_json()
    assert (line["image_s"], line["images_per_s"]) == (0.05, 20)
    assert FAILED.to_json()["image_s"] is None


def test_a_line_that_a_kill_cut_short_harms_no_other(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    results.append(file, [FULL, FAILED])
    file.write_bytes(file.read_bytes()[:-20])
    results.append(file, [record()])
    records, damages = results.read(file)
    assert records == [FULL, record()]
    assert [(d.line, d.file) for d in damages] == [(2, str(file))]


def changed(name: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(line: dict[str, Any]) -> Any:
        *outer, last = name.split(".")
        held = line
        for key in outer:
            held = held[key]
        held[last] = value
        return line

    return change


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda line: {key: value for key, value in line.items() if key != name}


HOSTILE: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda line: [line], "no record"),
    (lambda line: "measure", "no record"),
    (without("kind"), "no record"),
    (without("schema"), "has schema None, this convatlas reads 1"),
    (changed("schema", 2), "has schema 2, this convatlas reads 1"),
    (without("model"), "has no 'model'"),
    (without("machine"), "on which machine"),
    (changed("machine", ["x"]), "on which machine"),
    (changed("batch", 0), "batch=0 is out of range"),
    (changed("batch", "8"), "batch='8' is not a whole number"),
    (changed("batch", True), "batch=True is not a whole number"),
    (changed("threads", -1), "threads=-1 is out of range"),
    (changed("input", [3, 0, 32]), "input=3,0,32 is out of range"),
    (changed("seconds", 0.1), "seconds=0.1 is not"),
    (changed("seconds", None), "no time, and does not say why"),
    (changed("seconds.p50", None), "no time, and does not say why"),
    (changed("seconds.p50", float("nan")), "p50=nan is out of range"),
    (changed("seconds.p50", 1e300), "p50=1e[+]300 is out of range"),
    (changed("seconds.p50", 0.5), "not in their order"),
    (changed("seconds.clock", "sundial"), "no seconds.clock named 'sundial'"),
    (changed("accuracy", None), "accuracy=None is not"),
    (changed("accuracy.kind", "guessed"), "no accuracy.kind named 'guessed'"),
    (changed("accuracy.top1", "70"), "top1='70' is not a number"),
    (changed("surprise", 1), "no record field named 'surprise'"),
    (changed("load", 3), "load=3 is not"),
    (changed("peak_bytes", 10**50), "more than 40 digits"),
]


@pytest.mark.parametrize(("change", "why"), HOSTILE, ids=[why for _, why in HOSTILE])
def test_lines_that_are_no_records_are_named(tmp_path: Path, change: Callable[[Any], Any], why: str) -> None:
    file = tmp_path / "r.jsonl"
    hostile = json.dumps(change(json.loads(json.dumps(FULL.to_json()))))
    file.write_text(f"{json.dumps(FAILED.to_json())}\n\n{hostile}\n", encoding="utf-8")
    records, (damage,) = results.read(file)
    assert records == [FAILED]
    assert damage.line == 3
    with pytest.raises(ValueError, match=why):
        raise ValueError(damage.why)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\0\xff\n", b"{}\n", b"[" * 100_000, b"null\n"])
def test_a_file_without_results_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"there are no results in .*r\.jsonl"):
        results.read(tmp_path / "r.jsonl")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none.jsonl cannot be read \(No such file"):
        results.read(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="is a folder"):
        results.read(tmp_path)


def test_nothing_is_appended_to_a_file_of_something_else(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("milk\nbread\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"notes\.txt is not a results file; give --out another name"):
        results.append(other, [record()])
    assert other.read_text(encoding="utf-8") == "milk\nbread\n"
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        results.append(tmp_path / "nowhere" / "r.jsonl", [record()])
    with pytest.raises(UserError, match="cannot be written"):
        results.append(tmp_path, [record()])


def test_of_the_same_measurement_the_newest_counts() -> None:
    old, new = record(0.2, date="2026-01-01T00:00:00Z"), record(0.1, date="2026-01-02T00:00:00Z")
    elsewhere = record(0.3, machine={**MACHINE, "processor": "Another"})
    updated = record(0.4, machine={**MACHINE, "versions": {"torch": "2.14.0"}})
    assert results.newest([new, elsewhere, old, updated]) == [new, elsewhere, updated]
    assert results.newest([old, FULL, new]) == [new]
    assert results.newest([FULL, replace(FULL, batch=2)]) == [FULL, replace(FULL, batch=2)]


def test_a_record_checks_itself() -> None:
    with pytest.raises(UserError, match=r"seconds.n=0 is out of range"):
        Seconds("wall", 0)
    with pytest.raises(UserError, match=r"batch=1\.5 is not a whole number"):
        record(batch=1.5)
    assert Record.from_json(json.loads(json.dumps(FULL.to_json()))) == FULL
