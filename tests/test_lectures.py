"""docs/lectures.md is true because it runs: its commands, its Python, and every figure of its tables.

`CONVATLAS_LEDGER` names the ledger of published facts (TOML): with it, every figure and error that it lists of the
lectures must have its row, with the right figure.
"""

import doctest
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from convatlas import cli
from convatlas.tables import index

DOC = Path(__file__).parent.parent / "docs" / "lectures.md"
TEXT = DOC.read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(console|python)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
COLUMNS = {"output": "shape", "parameters": "params", "multiply-adds": "macs", "values": "activations"}  # as JSON says
LATER, NOTHING = "belongs to later work: ", "no command: "
NUMBER = r"\d+(?:[.,]\d+)*"


class Line(NamedTuple):
    """A row of a table: its line in the file, its cells by header, and the text of its section before it."""

    number: int
    cells: dict[str, str]
    before: str


def lines() -> Iterator[Line]:
    headers: list[str] = []
    before = ""
    for number, text in enumerate(TEXT.splitlines(), start=1):
        if not text.startswith("|"):
            before, headers = f"{'' if text.startswith('#') else before} {text}", []
            continue
        cells = [c.strip() for c in text.split("|")[1:-1]]
        if not headers:
            headers = cells
        elif set(text) - set("|-: "):
            yield Line(number, dict(zip(headers, cells, strict=True)), before)


LINES = list(lines())
WORKED = [line for line in LINES if "by" in line.cells]
RAN = [line for line in WORKED if line.cells["by"].startswith("`")]
COUNTED = [line for line in LINES if "layer" in line.cells]
HAVE = "here", "right", "parameters, multiply-adds", "G operations here"  # the columns that the last one yields


def blocks(kind: str) -> str:
    return "".join(text for k, text in BLOCKS if k == kind)


def at_line(line: Line) -> str:
    return f"line {line.number}"


def show(line: Line) -> str:
    """The command that a table of layers stands beside."""
    return next(c for c in code(line.before) if c.startswith("convatlas show "))


def have(line: Line) -> str:
    return next(line.cells[column] for column in HAVE if column in line.cells)


def code(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def figures(line: Line) -> list[str]:
    """The figures of a row that its command must yield: those set as code, or else the whole cell."""
    return code(have(line)) or [have(line)]


def shown(value: Any, figure: str) -> str:
    """A value as the figure is written: with its decimals, and with separators."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    decimals = len(figure.partition(".")[2])
    return f"{value:,.{decimals}f}"


def output(capsys: pytest.CaptureFixture[str], command: str) -> str:
    assert cli.main(shlex.split(command)[1:]) == 0, f"{command}: {capsys.readouterr().err}"
    return capsys.readouterr().out


@pytest.fixture(autouse=True)
def layer(monkeypatch: pytest.MonkeyPatch) -> None:
    if "layer" not in cli.VERBS:
        monkeypatch.setattr(cli, "VERBS", (*cli.VERBS, "layer"))


@pytest.fixture(scope="module")
def ran() -> tuple[dict[str, Any], list[str]]:
    """What the Python of the page defines, and what it prints that the page does not show."""
    test = doctest.DocTestParser().get_doctest(blocks("python"), {}, DOC.name, str(DOC), 0)
    failures: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=failures.append, clear_globs=False)
    assert result.attempted > 20
    return test.globs, failures


@pytest.fixture
def names(ran: tuple[dict[str, Any], list[str]]) -> dict[str, Any]:
    return ran[0]


def test_the_python_prints_what_is_shown(ran: tuple[dict[str, Any], list[str]]) -> None:
    assert not ran[1], "".join(ran[1])


def test_the_commands_print_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    runs = 0
    for command, printed in re.findall(r"^\$ (convatlas .*)\n((?:(?!\$ ).*\n)*)", blocks("console"), re.MULTILINE):
        assert output(capsys, command) == printed, command
        runs += 1
    assert runs == blocks("console").count("$ ") > 5


@pytest.mark.parametrize("line", RAN, ids=at_line)
def test_a_figure_is_what_its_command_yields(
    line: Line, names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    by, expected = code(line.cells["by"]), figures(line)
    if by[0].startswith("convatlas "):
        printed = "\n".join(output(capsys, command) for command in by)
        for figure in expected:
            assert re.search(rf"(?<![\w.,]){re.escape(figure)}(?![\w]|[.,]\d)", printed), f"{by} prints no {figure}"
        return
    (expression,) = by
    value = eval(expression, names)
    values = value if isinstance(value, tuple) else (value,)
    assert [shown(v, f) for v, f in zip(values, expected, strict=True)] == expected


@pytest.mark.parametrize("line", COUNTED, ids=at_line)
def test_a_layer_is_what_show_counts(line: Line, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(output(capsys, f"{show(line)} --json"))
    path = line.cells["layer"].strip("`")
    row = record["totals"] if path == "total" else next(r for r in record["rows"] if r["path"] == path)
    compared = 0
    for column, cell in list(line.cells.items())[1:]:
        if column.startswith("printed") or not cell:
            continue
        value = row[COLUMNS.get(column, column)]
        if column == "output":
            assert cell == "x".join(map(str, value))
        elif column == "stride":
            assert cell == "x".join(map(str, sorted(set(value))))
        else:
            assert cell == f"{value:,}", column
        compared += 1
    assert compared


def test_whole_tables_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    tables: dict[str, list[str]] = {}
    for line in COUNTED:
        tables.setdefault(show(line), []).append(line.cells["layer"].strip("`"))
    assert len(tables) == 5
    for command, paths in tables.items():
        rows = json.loads(output(capsys, f"{command} --json"))["rows"]
        assert paths == [*(r["path"] for r in rows), "total"], command


def test_every_row_says_what_reproduces_it() -> None:
    assert len(WORKED) > 150
    for line in WORKED:
        by = line.cells["by"]
        assert re.fullmatch(rf"(`[^`]+` ?)+|{LATER}`\w+`|{NOTHING}.+", by), f"line {line.number}: {by}"


def test_later_work_is_still_to_come() -> None:
    import convatlas

    there = {*cli.VERBS, *index(), *(p.stem for p in Path(convatlas.__file__).parent.iterdir())}
    for line in WORKED:
        if line.cells["by"].startswith(LATER):
            (name,) = code(line.cells["by"])
            assert name not in there, f"line {line.number}: {name} has come; write what reproduces the row"


# The ledger


@pytest.fixture(scope="module")
def ledger() -> dict[str, Any]:
    if not os.environ.get("CONVATLAS_LEDGER"):
        pytest.skip("CONVATLAS_LEDGER is not set: no ledger of published facts on this machine")
    return tomllib.loads(Path(os.environ["CONVATLAS_LEDGER"]).read_text(encoding="utf-8"))


def rows_by_id(column: str) -> dict[str, Line]:
    return {code(line.cells[column])[0]: line for line in WORKED if code(line.cells.get(column, ""))}


def test_every_figure_of_the_ledger_has_its_row(ledger: dict[str, Any]) -> None:
    rows = rows_by_id("figure")
    assert set(rows) == {figure["id"] for figure in ledger["deck_figure"]}
    for figure in ledger["deck_figure"]:
        line = rows[figure["id"]]
        assert line.cells["lectures"] == ", ".join(figure["decks"]), figure["id"]
        if "value" in figure:
            first = figures(line)[0]
            assert abs(float(first.replace(",", "")) - figure["value"]) <= 0.5 * 10 ** -len(first.partition(".")[2])


def test_every_error_of_the_ledger_has_its_row(ledger: dict[str, Any]) -> None:
    rows = rows_by_id("error")
    assert set(rows) == {error["id"] for error in ledger["deck_error"]}
    for error in ledger["deck_error"]:
        line = rows[error["id"]]
        assert line.cells["lectures"] == ", ".join(error["decks"]), error["id"]
        if error["kind"] == "error":
            wanted = set(re.findall(NUMBER, error["right_figure"])) - set(re.findall(NUMBER, line.cells["right"]))
            assert not wanted, f"{error['id']}: the ledger's right figure has {wanted}"
