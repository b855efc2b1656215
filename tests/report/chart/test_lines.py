"""Names at the ends of lines: as near to them as they can be without touching."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import isotonic_regression

from convatlas.report.chart.draw import figure
from convatlas.report.chart.frame import Chart, Line, Panel, Point
from convatlas.report.chart.lines import apart_by

from . import texts


@given(st.lists(st.floats(0, 500), min_size=1, max_size=20))
def test_names_are_moved_least_by_squares(values: list[float]) -> None:
    """As scikit-learn's isotonic regression has it, which is the same problem once the gaps are taken away."""
    rising, gaps = np.sort(values), 17.0 * np.arange(len(values))
    found = apart_by(rising, 17.0, -1e6, 1e6)
    np.testing.assert_allclose(found, isotonic_regression(rising - gaps) + gaps, atol=1e-6)
    inside = apart_by(rising, 17.0, 0.0, 500.0)
    assert (np.diff(inside) >= 17 - 1e-9).all()
    assert inside.min() >= 0
    assert inside.max() <= 500 + 1e-9


@pytest.mark.parametrize("count", [3, 14, 40])
def test_names_of_lines_that_end_alike(count: int) -> None:
    """All at one place; where there is no room for all of them, it is said for which."""
    of = [
        Point(f"n{i}", x, 1.0 + 0.001 * i, "a test", f"n{i}" * (x == 9), f"n{i}")
        for i in range(count)
        for x in range(10)
    ]
    picture, unwritten = figure(Chart("made", "Made", (Panel("x", "y", tuple(of), "lines"),), "A note."))
    assert texts.overlapping(picture) == texts.outside(picture) == []
    assert len(unwritten) == max(0, count - (count - len(unwritten)))
    assert (not unwritten) == (count < 20)


def test_thin_lines_and_lines_across() -> None:
    of = [Point("a", x, x + 1.0, "a test", "a" * (x == 39), "a", thin=t) for t in (True, False) for x in range(40)]
    line = Line("a fit of them", "a test", 1, 1.0)
    picture, unwritten = figure(Chart("made", "Made", (Panel("x", "y", tuple(of), "lines", (line,)),), "A note."))
    assert unwritten == []
    thin, thick, across = picture.axes[0].get_lines()
    assert thin.get_linewidth() < thick.get_linewidth()
    assert str(thick.get_marker()) == "None"
    np.testing.assert_allclose(across.get_ydata(), 1 + np.asarray(across.get_xdata()))
    assert any("a fit of them" in text for text in texts.boxes(picture))
