"""docs/reports.md says what every column of CSV and every key of JSON means."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
import torch

from convatlas.choice.choose import Request, choose
from convatlas.cli import main
from convatlas.data.check.scan import Finding
from convatlas.data.check.scan import Report as Scan
from convatlas.doctor import Diagnosis
from convatlas.doctor import Finding as Diagnosed
from convatlas.engines.latency.profile import Key, Profile, estimated
from convatlas.evaluation.predictions import Prediction
from convatlas.evaluation.scores import Scores
from convatlas.limits import parse_limit
from convatlas.report import latency, predictions, scan, scores
from convatlas.report.tables import SCHEMA
from convatlas.train.finder import Search
from convatlas.train.plan import Plan
from tests import json_goldens

TEXT = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
TOLD = set(re.findall(r"`([^`]+)`", TEXT))
COMMANDS = (
    "list lenet5",
    "show lenet5",
    "show lenet5 --receptive",
    "claims --gaps",
    "diff lenet5 lenet_caffe",
    "memory lenet5",
    f"measure --read {json_goldens.RESULTS}",
    f"measure --read {json_goldens.RESULTS} --against {json_goldens.RESULTS}",
    "reconcile lenet5",
    "recipes",
    "recipes lenet",
    "layer fc --input 4 --units 2",
    "choose --dataset mnist --facts",
    "choose --dataset mnist",
    "chart list",
    "chart canziani",
)
SCORES = Scores(("a", "b"), torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([0, 1]), *torch.ones(2, 2))
SCAN = Scan(2, (Finding("near", ("x", "y"), ("a", "a"), ("train", "train"), "x is near y"),))
PREDICTIONS = [Prediction("x.png", (("a", 0.9),)), Prediction("y.png", error="y.png is not an image")]
PLAN = Plan("x", "y", "z", "cpu", {}, 1, 2, 3, 4, 5, 6, 7, 8, 0.1, (0.1, 0.2), 9.0)
PROFILE = Profile(Key("onnxruntime", "fp32", 1, "1", "x", ("avx2",), 2), {"launches": 1.0}, 0.8, 1.25, 200, 0, 2e-3)
RECORDS = {
    "choose": choose(Request((parse_limit("params<=50k"),), "mnist", "params")).to_json(),
    "calibrate": {**latency.calibrated(PROFILE, Path("x.json")).record, "seconds": {}},  # by feature
    "evaluate": scores.report(SCORES, (1,)).record,
    "predict": json.loads("".join(predictions.json_lines(PREDICTIONS))),
    "data scan": SCAN.to_json(),
    "doctor": Diagnosis("weights", "x", (Diagnosed("error", "it is damaged", "download it again"),)).to_json(),
    "lr": Search((0.1, 0.2), (2.0, 1.0)).to_json(),
    "train --plan": PLAN.to_json(),
    "train": json.loads((json_goldens.FOLDER.parent / "run" / "log.jsonl").read_text().splitlines()[-1]),
}


def keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | set().union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list | tuple) else set()


@pytest.mark.parametrize("file", sorted(json_goldens.FOLDER.glob("*.json")), ids=lambda file: file.stem)
def test_every_key_of_a_golden(file: Path) -> None:
    record = json.loads(file.read_text(encoding="utf-8"))
    for named in ("changed", "idle"):  # their keys are columns and modules
        record.pop(named, None)
    assert keys(record) <= TOLD


@pytest.mark.parametrize("verb", RECORDS)
def test_every_key_of_what_is_trained(verb: str) -> None:
    record = RECORDS[verb]
    assert record
    assert keys(record) <= TOLD
    assert f"**`{verb}`**" in TEXT


def test_every_key_of_an_estimate() -> None:
    assert keys(estimated({"launches": 1e-3}, PROFILE).to_json()) <= TOLD


@pytest.mark.parametrize("command", COMMANDS)
def test_every_column(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--csv"]) == 0
    assert set(next(csv.reader(io.StringIO(capsys.readouterr().out)))) <= TOLD


def test_every_column_of_what_is_trained() -> None:
    for report in (scores.report(SCORES, (1,)), predictions.report(PREDICTIONS), scan.report(SCAN)):
        assert set(next(csv.reader(io.StringIO(report.csv())))) <= TOLD


def test_the_schema() -> None:
    assert f"`schema`, which is {SCHEMA}:" in TEXT


@pytest.mark.parametrize(
    "command",
    ["list", "show lenet5", "show lenet5 --receptive", "claims --gaps", "diff lenet5 alexnet", "memory lenet5",
     "reconcile lenet5", "recipes", f"measure --read {json_goldens.RESULTS}"],
)  # fmt: skip
def test_columns_are_dropped_in_the_order_told(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a table that is as narrow as it gets, in the words of the line below it."""
    monkeypatch.setenv("COLUMNS", "20")
    assert main(command.split()) == 0
    told = re.findall(r"not shown: (.*?)\. --wide shows everything", " ".join(capsys.readouterr().out.split()))
    verb, *options = command.split()
    row = " ".join([verb, *(o for o in options if o == "--receptive")])
    documented = re.search(rf"^\| `{row}` \| (.*) \|$", TEXT, re.MULTILINE)
    assert documented, row
    assert told[-1].split(", ") == re.findall(r"`([^`]+)`", documented[1])
