"""Every table of every verb fits 80 and 120 columns, breaks no number and no name, and has every form."""

import csv
import functools
import io
import json
import re

import pytest
import torch

import convatlas.cli.claims
from convatlas.cli import main
from convatlas.evaluation.scores import Scores
from convatlas.report import scores as report_scores
from convatlas.tables import load

COMMANDS = (
    "list",
    "list vgg --dataset imagenet --sort top1",
    "list --dataset cifar10",
    "show lenet5",
    "show alexnet --level leaf",
    "show nasnet_a_large --level leaf",
    "show preact_resnet1001 --level block",
    "show efficientnet_b7 --receptive",
    "show resnet50 --epoch 1281167",
    "diff resnet50 resnet50_v1_5 --weights",
    "diff nasnet_a_mobile nasnet_a_large",
    "claims",
    "claims --gaps",
    "claims googlenet",
    "claims squeezenet1_1 --start",
    "recipes",
    "recipes efficientnet",
    "recipes airbench94",
    "memory resnet20 --level layer --fit 1GB",
    "reconcile mobilenet_v2",
    "choose --limit top1>=70 --limit params<=5M --limit macs<=600M --limit size<=1GB --over depth,activations,bytes",
    "choose --limit top1>=99",
    "choose --dataset cifar10 --facts",
    "layer conv --input 3x7x8 --filters 10 --kernel 3x5 --stride 3 --padding 0x1",
)


BRIEF = ("params", "MACs", "holds", "yes", "no")  # headers and cells that are shortened to words


def output(capsys: pytest.CaptureFixture[str], command: str) -> str:
    assert main(command.split()) == 0
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger of all networks, which takes seconds to read."""
    monkeypatch.setattr(convatlas.cli.claims, "load", read)


read = functools.cache(load)


@pytest.mark.parametrize("command", COMMANDS)
def test_tables_fit(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each word that is printed in 80 or 120 columns is one of the full output, or the short form of a cell."""
    monkeypatch.delenv("COLUMNS", raising=False)
    whole = output(capsys, command)
    assert "--wide" not in whole, "a pipe gets everything"
    monkeypatch.setenv("COLUMNS", "20")
    assert output(capsys, f"{command} --wide") == whole
    words = {*whole.split(), *(path.rpartition("/")[2] for path in whole.split()), *BRIEF}
    for width in (80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        text = output(capsys, command)
        assert [line for line in text.splitlines() if len(line) > width or line != line.rstrip()] == []
        table = re.sub(r"To fit \d+ columns, .*?--wide\s+shows\s+everything\.", "", text, flags=re.DOTALL)
        new = {word for word in table.split() if word not in words and set(word) != {"─"}}
        assert {word for word in new if not re.fullmatch(r"[+-]?\d{1,3}(\.\d+)?[kMG]", word)} == set()
        if set(re.sub("─+", "", text).split()) != set(re.sub("─+", "", whole).split()):
            assert f"To fit {width} columns" in text, "what is shortened or dropped is said"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_form(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As wide as it takes, in as few columns as there are."""
    monkeypatch.setenv("COLUMNS", "40")
    header, *rows = csv.reader(io.StringIO(output(capsys, f"{command} --csv")))
    assert len(set(header)) == len(header)
    assert "" not in header
    assert rows
    assert {len(row) for row in rows} == {len(header)}
    record = json.loads(output(capsys, f"{command} --json"))
    assert next(iter(record)) == "schema"
    assert len(record) > 1
    assert re.search(r"^\| -{3}:? \|", output(capsys, f"{command} --md"), re.MULTILINE)


def test_forms_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--csv", "--json"]) == 2
    assert "--json: not allowed with argument --csv" in capsys.readouterr().err


def test_there_are_no_colours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor would NO_COLOR have anything to turn off, on a terminal that asks for them."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    assert "\x1b" not in output(capsys, "show lenet5")


@pytest.mark.parametrize("classes", [10, 20, 1000])
@pytest.mark.parametrize("width", [80, 120])
def test_scores_fit(classes: int, width: int) -> None:
    generator = torch.Generator().manual_seed(0)
    labels, predicted = torch.randint(classes, (2, 50_000), generator=generator)
    ranks = (labels != predicted).long() * 7
    made = Scores(tuple(f"class number {i}" for i in range(classes)), labels, predicted, ranks, *torch.rand(2, 50_000))
    text = report_scores.report(made, (1, 5)).text(width)
    assert max(map(len, text.splitlines())) <= width
    assert ("not shown:" in text) == (classes == 20)
    assert f"{made.top1:.2%}" in text
