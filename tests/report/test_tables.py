"""Tables: what is shortened, dropped and broken so that they fit, and the same rows in every form."""

import csv
import io
import json
import os

import pytest

from convatlas.cli import output
from convatlas.report.tables import Report, Table, compact, compact_signed, label, number, prose

NETWORKS = Table(
    "networks",
    (
        label("network"),
        label("input", drop=1),
        number("parameters", "params"),
        number("change", show=lambda n: f"{n:+,}", short=compact_signed, drop=2),
        label("file", drop=3),
        prose("note"),
    ),
    [
        (
            "resnet50",
            (3, 224, 224),
            25_557_032,
            -1_234_567,
            "convatlas/nets/resnet.py",
            "as its paper has it, in Table 1",
        ),
        ("lenet5", (1, 32, 32), 60_000, 17, "convatlas/nets/lenet.py", None),
    ],
)


def test_everything_where_there_is_room() -> None:
    expected = f"""\
network   input      parameters      change  file                      note
{"─" * 102}
resnet50  3x224x224  25,557,032  -1,234,567  convatlas/nets/resnet.py  as its paper has it, in Table 1
lenet5    1x32x32        60,000         +17  convatlas/nets/lenet.py"""
    assert NETWORKS.text() == expected
    assert NETWORKS.text(102) == expected


def test_prose_is_broken_first() -> None:
    assert (
        NETWORKS.text(98)
        == f"""\
network   input      parameters      change  file                      note
{"─" * 98}
resnet50  3x224x224  25,557,032  -1,234,567  convatlas/nets/resnet.py  as its paper has it, in
                                                                       Table 1
lenet5    1x32x32        60,000         +17  convatlas/nets/lenet.py"""
    )


def test_numbers_are_shortened_next() -> None:
    lines = NETWORKS.text(88).splitlines()
    assert lines[2].startswith("resnet50  3x224x224       25.6M  -1.23M  convatlas/nets/resnet.py  as its")
    assert lines[4].startswith("lenet5    1x32x32           60k     +17  convatlas/nets/lenet.py")
    assert lines[-1] == "To fit 88 columns, numbers are shortened. --wide shows everything."


@pytest.mark.parametrize(("width", "dropped"), [(80, "file"), (60, "file, change"), (44, "file, change, input")])
def test_columns_are_dropped_in_their_order(width: int, dropped: str) -> None:
    text = NETWORKS.text(width)
    note = f"To fit {width} columns, numbers are shortened; not shown: {dropped}. --wide shows everything."
    assert " ".join(text.split()).endswith(note)
    assert all(len(line) <= width and line == line.rstrip() for line in text.splitlines())
    assert all(name not in text.splitlines()[0] for name in dropped.split(", "))


def test_names_are_never_broken() -> None:
    """Where even the last columns do not fit, lines are longer than asked for."""
    lines = Table("paths", (label("path"), number("n")), [("stages.conv5.block1.branch", 7)]).text(12).splitlines()
    assert lines[2] == "stages.conv5.block1.branch  7"


def test_wide_characters() -> None:
    lines = Table("classes", (label("class"), number("n")), [("猫", 1), ("ab", 2)]).text().splitlines()
    assert lines[2:] == ["猫     1", "ab     2"]


def test_no_rows() -> None:
    assert Table("none", (label("a"), number("b")), []).text(80) == "a  b\n────"


def test_other_forms_have_every_column_and_digit() -> None:
    head, rule, *rows = NETWORKS.markdown().splitlines()
    assert head == "| network | input | parameters | change | file | note |"
    assert rule == "| --- | --- | ---: | ---: | --- | --- |"
    assert rows[1] == "| lenet5 | 1x32x32 | 60,000 | +17 | convatlas/nets/lenet.py |  |"
    read = list(csv.DictReader(io.StringIO(NETWORKS.csv())))
    assert read[0]["params"] == "25557032"
    assert read[0]["input"] == "3x224x224"
    assert read[1]["note"] == ""
    assert NETWORKS.records()[1]["input"] == (1, 32, 32)
    assert NETWORKS.records()[1]["note"] is None


def test_bars_are_escaped_in_markdown() -> None:
    assert "| a\\|b |" in Table("t", (label("x"),), [("a|b",)]).markdown()


def test_a_report_in_every_form() -> None:
    report = Report(NETWORKS, before=("Networks: two of them",), after=("  a line that is long enough to be folded",))
    text = report.text(30)
    assert text.startswith("Networks: two of them\n")
    assert text.endswith("  a line that is long enough\n  to be folded")
    assert report.text().endswith("  a line that is long enough to be folded")
    assert report.markdown().startswith("# Networks: two of them\n\n| network |")
    assert report.csv() == NETWORKS.csv()
    assert json.loads(report.json())["networks"][0]["params"] == 25_557_032
    assert next(iter(json.loads(report.json()))) == "schema"
    other = Report(NETWORKS, record={"n": 2}, data=Table("x", (label("y"),), [("z",)]))
    assert (json.loads(other.json()), other.csv()) == ({"schema": 1, "n": 2}, "y\nz")


def test_the_width_is_that_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert output.terminal_width() == 80
    for nothing in ("", "0", "wide"):
        monkeypatch.setenv("COLUMNS", nothing)
        assert output.terminal_width() is None, "not a terminal"


def test_a_terminal_that_says_0_has_no_known_width(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()  # nobody has told it a size
    monkeypatch.delenv("COLUMNS", raising=False)
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        assert terminal.isatty()
        assert output.terminal_width() is None
    os.close(ours)


def test_compact() -> None:
    numbers = {
        0: "0",
        999: "999",
        1000: "1k",
        163_696: "164k",
        999_600: "1.00M",
        6_998_552: "7.00M",
        12_345_678: "12.3M",
    }
    assert {n: compact(n) for n in numbers} == numbers
    assert [compact(n) for n in (9_996_000, 999_400_000, 15_470_264_320)] == ["10.0M", "999M", "15.5G"]
    assert compact(1_234_567_890_123) == "1,235G"


def test_compact_signed() -> None:
    assert [compact_signed(n) for n in (0, 77_070_336, -17, -1_500_000)] == ["0", "+77.1M", "-17", "-1.50M"]
