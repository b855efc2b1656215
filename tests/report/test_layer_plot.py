"""The picture of a layer: where the first windows lie, what is padding, and the files."""

from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from convatlas.arithmetic import FC, Conv, Pool, Transposed
from convatlas.cli import main
from convatlas.errors import UserError
from convatlas.report.layer_plot import COLOURS, figure


def drawn(kind: str, layer: Conv | Pool | Transposed, shape: tuple[int, ...]) -> Figure:
    return figure(kind, layer, shape, layer.on(shape))


def frames(made: Figure, side: int) -> list[tuple[float, float, float, float]]:
    """x, y, width and height of the coloured frames, left (0) or right (1)."""
    patches = [p for p in made.axes[side].patches if isinstance(p, Rectangle) and not p.get_fill()]
    assert [to_hex(p.get_edgecolor()) for p in patches] == list(COLOURS[: len(patches)])
    return [(*p.get_xy(), p.get_width(), p.get_height()) for p in patches]


def hatched(made: Figure, side: int) -> tuple[float, float, float, float]:
    (patch,) = (p for p in made.axes[side].patches if isinstance(p, Rectangle) and p.get_hatch())
    return (*patch.get_xy(), patch.get_width(), patch.get_height())


def test_conv() -> None:
    made = drawn("conv", Conv(4, (3, 5), 2, (1, 2)), (3, 7, 9))
    assert frames(made, 0) == [(-2, -1, 5, 3), (0, -1, 5, 3), (2, -1, 5, 3)]
    assert frames(made, 1) == [(0, 0, 1, 1), (1, 0, 1, 1), (2, 0, 1, 1)]
    assert hatched(made, 0) == (-2, -1, 13, 9)
    assert [axes.get_title() for axes in made.axes] == ["input 7x9 (hatched: padding)", "output 4x5"]
    assert made.get_supxlabel() == "height: (7 + 2*1 - 3)/2 + 1 = 4\nwidth: (9 + 2*2 - 5)/2 + 1 = 5"


def test_dilation_leaves_cells_out() -> None:
    made = drawn("conv", Conv(1, 2, dilation=3), (1, 4, 4))
    assert frames(made, 0) == [(0, 0, 4, 4)]
    tinted = {p.get_xy() for p in made.axes[0].patches if isinstance(p, Rectangle) and p.get_alpha()}
    assert tinted == {(0, 0), (3, 0), (0, 3), (3, 3)}


def test_pool_that_rounds_up_hangs_out() -> None:
    made = drawn("pool", Pool(3, 2, ceil=True), (1, 6, 6))
    assert hatched(made, 0) == (0, 0, 7, 7)
    assert made.get_supxlabel() == "output: ceil((6 + 2*0 - 3)/2) + 1 = 3"


def test_transposed_has_its_windows_in_the_output() -> None:
    made = drawn("transposed", Transposed(1, 4, 2, 1), (1, 4, 4))
    assert frames(made, 1) == [(-1, -1, 4, 4), (1, -1, 4, 4), (3, -1, 4, 4)]
    assert frames(made, 0) == [(0, 0, 1, 1), (1, 0, 1, 1), (2, 0, 1, 1)]
    assert made.axes[1].get_title() == "output 8x8 (hatched: cut off)"


def test_large_sides_have_no_cells() -> None:
    assert drawn("conv", Conv(1, 3), (1, 9, 9)).axes[0].collections
    assert not drawn("conv", Conv(96, 11, 4), (3, 227, 227)).axes[0].collections


def test_fc_has_no_windows() -> None:
    with pytest.raises(UserError, match="no windows to draw"):
        figure("fc", FC(2), (3,), FC(2).on((3,)))


@pytest.mark.parametrize("kind", ["conv --filters 2", "pool", "transposed --filters 2"])
def test_command(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "layer.png"
    command = ["layer", *kind.split(), "--input", "3x9x9", "--kernel", "3"]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert main([*command, "--plot", str(file)]) == 0
    assert capsys.readouterr().out == table
    assert file.stat().st_size > 5_000
