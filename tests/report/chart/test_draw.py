"""Every chart can be put on a slide: its texts are large, apart from each other and within the picture."""

import csv
import io
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from convatlas.errors import UserError
from convatlas.report.chart import LISTED, chart, find, points
from convatlas.report.chart.draw import MANY, SIZE, TEXT, draw, figure
from convatlas.report.chart.frame import Asked, Chart, Line, Panel, Point
from convatlas.report.chart.labels import Label, place
from convatlas.report.chart.published import printed

from . import texts

QUICK = "winners", "canziani", "top1-operations"  # the others are drawn by `make test-slow`
OF_THE_CATALOGUE = [
    pytest.param(it.name, marks=() if it.name in QUICK else pytest.mark.slow) for it in LISTED if not it.files
]


def made(count: int = 6, **panel: Any) -> Chart:
    """Points on a curve, each with a label."""
    of = tuple(
        Point(f"n{i}", 2.0**i, 50 + 3 * i, "a test", label=f"network {i}", group="ab"[i % 2]) for i in range(count)
    )
    return Chart("made", "Made", (Panel("x", "y", of, **{"log_x": True, **panel}),), "A note.")


@pytest.fixture(scope="module", params=OF_THE_CATALOGUE)
def drawn(request: pytest.FixtureRequest) -> tuple[Chart, Figure, list[str]]:
    asked = Asked(networks="densenet*") if request.param == "top1-memory" else None  # all of them take a minute
    of = chart(request.param, asked)
    return of, *figure(of)


def test_texts_lie_apart_inside_the_picture_and_are_large(drawn: tuple[Chart, Figure, list[str]]) -> None:
    of, picture, unwritten = drawn
    assert texts.overlapping(picture) == []
    assert texts.outside(picture) == []
    assert texts.smallest(picture) >= 14
    assert not unwritten or len(of.points) > MANY, "each label that a chart asks for has room"
    assert len(unwritten) <= 5
    labels = {p.label for _, p in of.points if p.label} | {line.text for p in of.panels for line in p.lines}
    shown = {
        re.sub(r"\s+", " ", it.partition(" at ")[0].strip("'\"").replace("\\n", " ")) for it in texts.boxes(picture)
    }
    assert {re.sub(r"\s+", " ", label) for label in labels} - set(unwritten) <= shown


def test_every_point_has_its_source_and_survives_csv(drawn: tuple[Chart, Figure, list[str]]) -> None:
    of, _, _ = drawn
    rows = list(csv.DictReader(io.StringIO(points.report(of).csv())))
    assert len(rows) == len(of.points) > 2
    for row, (_, point) in zip(rows, of.points, strict=True):
        assert row["source"] == point.source
        assert (row["name"], row["group"]) == (point.name, point.group)
        assert Decimal(row["y"]) == Decimal(str(point.y))
        for value, cell in ((point.size, row["size"]), (point.low, row["low"]), (point.high, row["high"])):
            assert cell == ("" if value is None else str(value))
        assert isinstance(point.x, str) or Decimal(row["x"]) == Decimal(str(point.x))
    assert of.note
    assert all(line.source for panel in of.panels for line in panel.lines)


def test_many_labels() -> None:
    """Those that have no room are told, and the others lie apart."""
    picture, unwritten = figure(made(40, marks="lines", log_x=True))
    assert texts.overlapping(picture) == []
    assert texts.outside(picture) == []
    assert sum("'network " in text for text in texts.boxes(picture)) + len(unwritten) == 40


def test_places_without_room_are_returned(capsys: pytest.CaptureFixture[str]) -> None:
    """In axes that are smaller than a name."""
    small = Figure(figsize=(1, 1))
    axes = small.subplots()
    axes.scatter([0, 1], [0, 1])
    assert place(axes, [Label("a name that is much too long for it", 0.5, 0.5)], size=TEXT)
    assert place(axes, []) == []
    assert capsys.readouterr().out == ""


def test_the_overlap_is_found() -> None:
    """The check itself can fail."""
    picture = Figure(figsize=(4, 3))
    picture.text(0.5, 0.5, "one")
    picture.text(0.51, 0.5, "two")
    picture.text(0.98, 0.1, "three")
    assert len(texts.overlapping(picture)) == 1
    assert len(texts.outside(picture)) == 1


def test_a_slide_is_16_to_9() -> None:
    assert SIZE[0] / SIZE[1] == pytest.approx(16 / 9, abs=2e-3)


def test_panels_lines_bubbles_and_intervals() -> None:
    """Whatever a panel can have, at once: nothing of it lies on other text."""
    side = made(5).panels[0]
    bubbles = tuple(
        Point(p.name, p.x, p.y, p.source, p.label, p.group, size=10.0 * (i + 1), low=p.y - 2, high=p.y + 2)
        for i, p in enumerate(side.points)
    )
    lines = (Line("a limit", "a test", 55), Line("a fit", "a test", 50, 0.5))
    both = (Panel("x", "y", bubbles, size="MB", title="one machine"), Panel("x", "y", side.points, title="another"))
    for panels, stacked in ((both, False), ((Panel("x", "y", bubbles, lines=lines, size="MB"),), False)):
        picture, unwritten = figure(Chart("made", "Made", panels, "A note.", stacked))
        assert texts.overlapping(picture) == []
        assert texts.outside(picture) == []
        assert unwritten == []


@pytest.mark.parametrize("marks", ["columns", "bars"])
def test_bars_of_several_groups(marks: Any) -> None:
    of = [Point(n, n, i + 1.0, "a test", label=f"{i + 1}", group=g) for g in "ab" for i, n in enumerate(("one", "two"))]
    picture, _ = figure(Chart("made", "Made", (Panel("", "y", tuple(of), marks),), "A note."))
    assert texts.overlapping(picture) == []
    assert sum(text.startswith("'1'") for text in texts.boxes(picture)) >= 2


def test_a_chart_is_the_same_file_each_time(tmp_path: Path) -> None:
    for name in ("one.png", "other.png", "one.svg"):
        assert draw(made(3), tmp_path / name) == []
    starts = {".png": b"\x89PNG", ".svg": b"<?xml"}
    assert all(it.read_bytes().startswith(starts[it.suffix]) for it in tmp_path.iterdir())
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_a_name_that_is_near() -> None:
    with pytest.raises(UserError, match="no chart named 'winers'; did you mean winners"):
        find("winers")


def test_what_a_chart_does_not_take() -> None:
    with pytest.raises(
        UserError, match="chart winners is drawn from the catalogue, and reads no files; leave them out"
    ):
        chart("winners", Asked(files=(Path("x"),)))
    with pytest.raises(UserError, match="chart winners takes no --networks; leave it out"):
        chart("winners", Asked(networks="vgg*"))


def test_the_winners_are_those_of_the_ledger(ledger: dict[str, Any]) -> None:
    facts = {entry["id"]: entry["facts"] for entry in ledger["entry"]}
    known = {(f["year"], str(f["value"])): f.get("layers") for f in facts["ilsvrc_winners"]}
    ours = {(row["year"], str(row["top5_err"])): row.get("layers") for row in printed()["winners"]}
    assert ours == known
    (human,) = (it for it in ledger["deck_figure"] if it["id"] == "human_error")
    assert str(printed()["human"]["top5_err"]) in human["expression"]
