"""Drawings: well-formed, a box a row, every edge of the trace, and nothing over anything else."""

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn

from convatlas import report
from convatlas.accounting import account
from convatlas.accounting.count import row_nodes
from convatlas.accounting.layer_graph import INPUT, layer_graph, shortcuts
from convatlas.accounting.rows import Account
from convatlas.cli import main
from convatlas.errors import UserError
from convatlas.report.drawing import drawing
from convatlas.report.layout import DIRECTIONS
from convatlas.report.picture import draw
from convatlas.tables import load

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = (
    *(("lenet5", "layer"), ("googlenet", "block"), ("googlenet", "layer"), ("resnet18", "leaf")),
    *(("densenet121", "block"), ("nasnet_a_mobile", "block"), ("inception_v3", "layer"), ("fractalnet_20", "layer")),
)


@pytest.mark.parametrize(("name", "level"), DRAWN)
def test_a_box_a_row_and_an_edge_a_tensor(name: str, level: str) -> None:
    counts = account(name)
    root = ElementTree.fromstring(report.svg(counts, level, full=True))
    rows = [int(g.attrib["data-row"]) for g in root.iter(f"{SVG}g") if "box" in g.attrib["class"]]
    groups = enumerate(counts.groups(level))
    computing = {i for i, group in groups if any(r.activations or r.op == "Flatten" for r in group)}
    assert sorted(rows) == [INPUT, *sorted(computing), len(counts.groups(level))]
    edges = {
        (int(g.attrib["data-from"]), int(g.attrib["data-to"]))
        for g in root.iter(f"{SVG}g")
        if "edge" in g.attrib["class"]
    }
    assert edges == by_marking(counts, level)


def by_marking(counts: Account, level: str) -> set[tuple[int, int]]:
    """The edges another way: from each row's nodes forwards, through what belongs to no row, to the rows reached."""
    traced, sizes = counts.trace, [len(g) for g in counts.groups(level)]
    assert traced is not None
    level_of = [i for i, n in enumerate(sizes) for _ in range(n)]
    row_of = {n: level_of[i] for i, (_, _, nodes) in enumerate(row_nodes(traced)) for n in nodes}
    readers: dict[int, list[int]] = {}
    for index, node in enumerate(traced.nodes):
        for i in node.inputs:
            readers.setdefault(i, []).append(index)
    found = set()
    for start in (INPUT, *row_of):
        waiting = [start]
        while waiting:
            at = waiting.pop()
            for reader in readers.get(at, ()):
                if reader in row_of:
                    found.add((row_of.get(start, INPUT), row_of[reader]))
                else:
                    waiting.append(reader)
            if at not in readers and traced.nodes[at].inputs:  # and is no constant
                found.add((row_of.get(start, INPUT), len(sizes)))
    return {(a, b) for a, b in found if a != b}


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("name", "level"), DRAWN)
def test_nothing_overlaps(name: str, level: str, direction: str) -> None:
    made = drawing(account(name), level, direction)
    for i, a in enumerate(made.boxes):
        assert a.left >= 0
        assert a.right <= made.width
        assert a.bottom <= made.height
        for b in made.boxes[i + 1 :]:
            apart = a.right < b.left or b.right < a.left or a.bottom < b.top or b.bottom < a.top
            assert apart, f"{a.title} over {b.title}"
    for a, b in ((a, b) for i, a in enumerate(made.frames) for b in made.frames[i + 1 :]):
        assert a.x + a.width <= b.x or b.x + b.width <= a.x or a.y + a.height <= b.y or b.y + b.height <= a.y


@pytest.mark.parametrize(("name", "level"), DRAWN)
def test_edges_pass_between_the_boxes(name: str, level: str) -> None:
    """Straight runs touch no box but their own two; turns are made where there is no box at all."""
    made = drawing(account(name), level)
    at = {b.row: b for b in made.boxes}
    for line in made.lines:
        assert line.edge is not None
        start, end = at[line.edge.source], at[line.edge.target]
        others = [b for b in made.boxes if b is not start and b is not end]
        x, y = start.x, start.bottom
        assert line.steps[0] == ("M", (x, y))
        for kind, numbers in line.steps[1:]:
            low = numbers[-1]
            assert low >= y - 0.1, line.title
            if kind == "L":
                assert abs(numbers[0] - x) < 1e-6, "straight down"
                assert not [b for b in others if b.left < x < b.right and b.top < low and b.bottom > y], line.title
            else:
                assert not [b for b in made.boxes if b.top < low and b.bottom > y], line.title
                x = numbers[-2]
            y = low
        assert abs(x - end.x) < 1
        assert 0 < end.top - y < 8


@pytest.mark.parametrize("name", ["resnet18", "resnet152", "googlenet", "vgg16", "mobilenet_v2"])
def test_to_the_right_it_fits_a_slide(name: str) -> None:
    made = drawing(account(name), "block", "right")
    assert 1.1 < made.width / made.height < 2.9, "about 16:9"
    at = {b.row: b for b in made.boxes}
    for line in made.lines:
        assert line.edge is not None
        start, end = at[line.edge.source], at[line.edge.target]
        assert line.steps[0] == ("M", (start.right, start.y))
        assert line.steps[-1][1] == pytest.approx((end.left - 5, end.y))
        corners = [numbers[-2:] for _, numbers in line.steps]
        for (x0, y0), (x1, y1) in pairwise(corners):
            low, high, left, right = min(y0, y1), max(y0, y1), min(x0, x1), max(x0, x1)
            crossed = [b for b in made.boxes if b.left < right and b.right > left and b.top < high and b.bottom > low]
            assert not crossed, line.title


def test_equal_blocks_are_one_box_unless_all_are_asked_for() -> None:
    counts = account("resnet152")
    short, full = drawing(counts), drawing(counts, full=True)
    assert len(full.boxes) - len(short.boxes) == 34 + 6
    (long,) = [b for b in short.boxes if b.lines[0] == "stages.conv4.block2 ... block36"]
    assert long.lines[1:] == ("35 times Bottleneck", "1.12M params, 218M MACs each")
    assert len(short.lines) == len(short.boxes) - 1


def test_shortcuts_by_hand() -> None:
    """ResNet-18 projects where the map shrinks (He et al., 2015, Figure 3); MobileNetV2 adds at stride 1 alone."""
    found = shortcuts(account("resnet18"))
    assert {block for block, kind in found.items() if kind == "projection"} == {
        f"stages.conv{stage}.block1" for stage in (3, 4, 5)
    }
    assert len(found) == 8
    assert sorted(shortcuts(account("mobilenet_v2")).values()) == ["identity"] * 10
    for none in ("googlenet", "densenet121", "nasnet_a_mobile", "fractalnet_20", "vgg16"):
        assert not shortcuts(account(none)), none
    arcs = drawing(account("resnet18")).arcs
    assert [arc.dashed for arc in arcs].count(True) == 3
    assert len(arcs) == 8


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_a_picture_of_the_same(tmp_path: Path, suffix: str) -> None:
    files = [draw(account("lenet5"), tmp_path / f"{n}{suffix}", "layer", "right") for n in "ab"]
    assert files[0].read_bytes() == files[1].read_bytes(), "equal drawings are equal files"
    assert files[0].read_bytes()[:4] == {".png": b"\x89PNG", ".pdf": b"%PDF"}[suffix]


def test_an_unknown_direction_is_refused() -> None:
    with pytest.raises(UserError, match="no direction named 'rigth'; did you mean right"):
        drawing(account("lenet5"), direction="rigth")


def test_two_towers() -> None:
    """AlexNet, figure 2: the towers meet at conv3 alone."""
    of = layer_graph(account("alexnet"), "layer")
    assert [r.groups for r in of.rows if r.kernel and r.weights] == [1, 2, 1, 2, 2]
    assert all(len([e for e in of.edges if e.target == i]) == 1 for i in of.drawn), "grouped convolutions are one box"


class Branches(nn.Module):
    """A user's own: two branches, functional joins, a view between, and a layer that computes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.nothing, self.out = nn.Identity(), nn.Linear(8 * 8 * 8, 2)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.left(x), self.nothing(self.right(x))], 1)
        return self.out(joined.flatten(1))


def test_a_module_of_ones_own() -> None:
    counts = account(Branches(), input=(3, 8, 8))
    of = layer_graph(counts, "leaf")
    name = {i: r.path for i, r in enumerate(of.rows)} | {INPUT: "input", len(of.rows): "output"}
    assert {(name[e.source], name[e.target], e.shapes) for e in of.edges} == {
        ("input", "left", ((3, 8, 8),)),
        ("input", "right", ((3, 8, 8),)),
        ("left", "cat", ((4, 8, 8),)),
        ("right", "cat", ((4, 8, 8),)),
        ("cat", "out", ((512,),)),
        ("out", "output", ((2,),)),
    }
    assert [of.rows[i].path for i in of.drawn] == ["left", "right", "cat", "out"]
    assert of.narrowest[of.drawn[2]] == ((1, 1), (0, 0)), "by the 1x1 branch"
    assert ElementTree.fromstring(report.svg(counts, "leaf")).tag == f"{SVG}svg"


def test_names_are_escaped() -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu()

    Odd.__name__ = "<Odd & 'odd'>"
    root = ElementTree.fromstring(report.svg(account(Odd(), input=(3, 4, 4)), "leaf"))
    assert "<Odd & 'odd'>" in root.attrib["aria-label"]


def test_a_shipped_table_is_traced_again() -> None:
    assert layer_graph(load("lenet5"), "block") == layer_graph(account("lenet5"), "block")
    other = replace(load("lenet5"), name="mine")
    with pytest.raises(UserError, match="mine was read without its graph; count it again with account"):
        layer_graph(other)


def test_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "LeNet-5", "--level", "layer", "-o", str(tmp_path / "net.svg")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'net.svg'}\n"
    assert "16x10x10" in (tmp_path / "net.svg").read_text(encoding="utf-8")
    assert main(["draw", "lenet5", "-o", str(tmp_path / "none" / "net.svg")]) == 2
    assert "for net.svg; create it first" in capsys.readouterr().err


def test_without_igraph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "igraph", None)
    with pytest.raises(
        UserError, match=r"drawing a network needs igraph; install it with: pip install 'convatlas\[draw\]'"
    ):
        report.svg(account("lenet5"))


def test_other_formats_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["draw", "resnet18", "-o", "net.bmp"]) == 2
    assert "--out net.bmp is not a picture file; give a name that ends in .png, .svg, .pdf" in capsys.readouterr().err


def test_your_own_network_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(288, 5))\n"
    )
    assert main(["draw", "mine.py:make", "--input", "3x8x8", "--level", "leaf"]) == 0
    assert capsys.readouterr().out == "mine.svg\n"
    assert "Conv2d" in Path("mine.svg").read_text()
