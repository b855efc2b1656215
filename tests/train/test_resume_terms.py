"""Resuming under changed conditions: every row of the table in docs/reliability.md, done."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.recipe import SGD
from convatlas.runs.folder import open_run
from convatlas.train.events import Event
from convatlas.train.execution import Execution
from convatlas.train.fit import fit
from tests.train.short_runs import CHAIN, TINY, some

DOC = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
SECTION = DOC.split("## Resuming under changed conditions")[1].split("\n## ")[0]
ROWS = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", SECTION, re.MULTILINE)[1:])
ROWS = {row: verdict for row, verdict in ROWS.items() if not row.startswith("-")}

Change = Callable[[dict[str, Any]], Any]


def put(*path: str, value: Any) -> Change:
    """Changes run.json, as if the run had been begun so."""

    def change(record: dict[str, Any]) -> None:
        for name in path[:-1]:
            record = record[name]
        assert path[-1] in record, path
        record[path[-1]] = value

    return change


THERE: dict[str, Change] = {  # what is changed in the run that is there
    "location of the data": lambda record: record["data"]["train"].update(path="/elsewhere"),
    "preprocessing": put("preprocess", "interpolation", value="bicubic"),
    "library version": put("machine", "versions", "torch", value="2.10.0"),
    "Python version": put("machine", "versions", "python", value="3.10.0"),
    "threads": put("machine", "threads", value=64),
    "device": put("machine", "device", value="cuda"),
    "number of processes": put("machine", "processes", value=8),
    "schema": put("schema", value=99),
}
HERE: dict[str, dict[str, Any]] = {  # what is asked for otherwise
    "network": {"network": "chain_n1_m2_k1", "recipe": replace(CHAIN, net=())},
    "an option of the network": {"recipe": replace(CHAIN, net=(("widths", (8,)),))},
    "recipe": {"recipe": replace(CHAIN, optimizer=SGD(0.5))},
    "data": {"data": some(flip=True)},
    "seed": {"seed": 7},
    "input": {"input": (1, 16, 16)},
    "execution": {"execution": Execution(micro_batch=4)},
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Path:
    """A run of one epoch of two: it was killed then."""

    class Killed(Exception):
        pass

    def on_event(event: Event) -> None:
        if event["kind"] == "step" and event["epoch"] == 2:
            raise Killed

    out = tmp_path_factory.mktemp("begun") / "run"
    with pytest.raises(Killed):
        fit(TINY, data, CHAIN, out=out, input=(1, 8, 8), device="cpu", on_event=on_event)
    return out


def test_every_row_is_tested() -> None:
    assert len(ROWS) >= 15
    assert set(ROWS) == set(THERE) | set(HERE)


@pytest.mark.parametrize("row", ROWS)
def test_each_row_does_what_it_says(tmp_path: Path, begun: Path, data: Data, row: str) -> None:
    out = Path(shutil.copytree(begun, tmp_path / "run"))
    if row in THERE:
        record = json.loads((out / "run.json").read_text(encoding="utf-8"))
        THERE[row](record)
        (out / "run.json").write_text(json.dumps(record), encoding="utf-8")
    events: list[Event] = []
    asked = {"network": TINY, "data": data, "recipe": CHAIN, "input": (1, 8, 8), **HERE.get(row, {})}

    def go_on() -> None:
        fit(**asked, out=out, device="cpu", resume=True, on_event=events.append)

    before = {f: f.read_bytes() for f in out.iterdir()}
    refusals = {
        "refused, naming both": r"has different settings: .* was .+, is now .+",
        "refused, saying how to begin with its weights": r"by an older convatlas \(schema 1\).*--init ",
        "refused, saying to update convatlas": r"has schema 99, .*; update convatlas",
    }
    if ROWS[row] in refusals:
        with pytest.raises(UserError, match=refusals[ROWS[row]]):
            go_on()
        assert {f: f.read_bytes() for f in out.iterdir()} == before
        return
    go_on()
    notes = [event["text"] for event in events if event["kind"] == "note"]
    if ROWS[row] == "continues":
        assert notes == []
    else:
        assert ROWS[row] == "continues, saying that the last bits may differ"
        assert len(notes) == 1
        assert re.match(r"resumed with changes, so the last bits may differ: .+ was .+, is now .+", notes[0])
    assert len(open_run(out).epochs()) == 2
