"""Reports: tables that programs read back, and timm's headers where they mean the same."""

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
from torch import nn

from convatlas import report
from convatlas.accounting import account
from convatlas.accounting.counters.reconcile import reconcile
from convatlas.accounting.layer_graph import layer_graph
from convatlas.cli import main
from convatlas.errors import UserError
from convatlas.layers import stack
from convatlas.report.account import report as account_report
from convatlas.report.charts import receptive_figure
from convatlas.report.tables import SCHEMA
from convatlas.tables import index, load
from tests import json_goldens

# timm's results/benchmark-infer-amp-nchw-pt240-cu124-rtx3090.csv: model, img_size, param_count, gmacs, macts; ours
TIMM = [
    ("resnet18", 224, 11.69, 1.82, 2.48, "resnet18"),
    ("resnet34", 224, 21.8, 3.67, 3.74, "resnet34"),
    ("resnet50", 224, 25.56, 4.11, 11.11, "resnet50_v1_5"),
    ("resnet101", 224, 44.55, 7.83, 16.23, "resnet101_v1_5"),
    ("resnet152", 224, 60.19, 11.56, 22.56, "resnet152_v1_5"),
    ("vgg11", 224, 132.86, 7.61, 7.44, "vgg11"),
    ("vgg13", 224, 133.05, 11.31, 12.25, "vgg13"),
    ("vgg16_bn", 224, 138.37, 15.5, 13.56, "vgg16_bn"),
    ("densenet121", 224, 7.98, 2.87, 6.9, "densenet121"),
    ("mobilenetv1_100", 224, 4.23, 0.58, 5.04, "mobilenet_v1"),
    ("mobilenetv2_100", 224, 3.5, 0.31, 6.68, "mobilenet_v2"),
    ("efficientnet_b0", 224, 5.29, 0.4, 6.75, "efficientnet_b0_symmetric"),
    ("inception_v3", 299, 23.83, 5.73, 8.97, "inception_v3_tv"),
    ("resnext50_32x4d", 224, 25.03, 4.26, 14.4, "resnext50_32x4d"),
]


def output(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(args) == 0
    return capsys.readouterr().out


@pytest.fixture
def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, str]]:
    rows = csv.DictReader(io.StringIO(output(capsys, "list", "--csv")))
    return {row["model"]: row for row in rows}


def test_list_as_csv(listed: dict[str, dict[str, str]]) -> None:
    assert list(listed) == list(index())
    assert list(listed["vgg16"])[:5] == ["model", "img_size", "param_count", "gmacs", "macts"]
    assert listed["lenet5"]["channels"] == "1"
    assert int(listed["vgg16"]["params"]) == 138_357_544


@pytest.mark.parametrize(("model", "side", "params", "gmacs", "macts", "name"), TIMM, ids=[t[0] for t in TIMM])
def test_timm_publishes_the_same(
    listed: dict[str, dict[str, str]], model: str, side: int, params: float, gmacs: float, macts: float, name: str
) -> None:
    """Parameters and activations to both decimals. timm's gmacs are fvcore's, which add batch norm and pooling."""
    row = listed[name]
    assert [float(row[k]) for k in ("img_size", "param_count", "macts")] == [side, params, macts], model
    fvcore = reconcile(name, (3, side, side), ["fvcore"])["fvcore"]
    assert round(fvcore.total / 1e9, 2) == gmacs
    assert float(row["gmacs"]) == round((fvcore.total - sum(line.amount for line in fvcore.lines)) / 1e9, 2)


def test_show_csv_reads_back(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(output(capsys, "show", "resnet50", "--csv"))))
    totals = json.loads(output(capsys, "show", "resnet50", "--json"))["totals"]
    assert sum(int(r["parameters"]) for r in rows) == totals["params"] == 25_557_032
    assert sum(int(r["multiply-adds"]) for r in rows) == totals["macs"]


class Page(HTMLParser):
    """What a page refers to, its tables and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(text)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "img", "source", "link", "br"):
            self.open.append(tag)
        loads = ("src", "srcset", "href", "xlink:href", "data", "poster", "action")
        self.references += [v or "" for k, v in attributes if k in loads and not (tag == "a" and k == "href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.mark.parametrize("name", ["lenet5", "googlenet", "se_resnet50"])
def test_the_page_stands_alone(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "page.html"
    assert output(capsys, "show", name, "--html", str(file)) == f"{file}\n"
    text = file.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(r.startswith(("data:image/svg+xml;base64,", "#")) for r in page.references), page.references
    assert "@import" not in text
    assert "url(#head)" in text
    assert text.replace("url(#head)", "").count("url(") == 0
    counts = load(name)
    for row in counts.table("leaf"):
        assert [row.path, f"{row.macs:,}"] in [[cells[0], cells[6]] for cells in page.rows if len(cells) == 9]
    assert f"{counts.totals.params:,}" in text
    assert text.count("<svg") == 2


def test_the_page_of_ones_own() -> None:
    """No claims, no picture where there is no image, and names are escaped."""
    net = stack(line=nn.Conv1d(2, 4, 3), relu=nn.ReLU())
    page = report.html(account(net, input=(2, 16)))
    assert "Published figures" not in page
    assert "<img" not in page
    Page(page)
    odd = type("Odd", (nn.Sequential,), {})
    odd.__name__ = "<b>&"
    assert "<h1>&lt;b&gt;&amp;</h1>" in report.html(account(odd(nn.Conv2d(3, 4, 3)), input=(3, 8, 8)))


def test_forms_of_ones_own() -> None:
    counts = account(stack(conv=nn.Conv2d(3, 8, 3), relu=nn.ReLU(), up=nn.ConvTranspose2d(8, 1, 2)), input=(3, 8, 8))
    assert "| conv | Conv2d+ReLU | 8x6x6 | 3x3/1 pad 0 | 216 | 224 | 7,776 | 288 | 1,152 |" in report.markdown(counts)
    rows = list(csv.DictReader(io.StringIO(account_report(counts, "leaf", receptive=True).csv())))
    assert [(r["layer"], r["field"], r["exact"]) for r in rows[:2]] == [("conv", "3", "yes"), ("relu", "3", "yes")]
    found = json.loads(report.json(counts))
    assert found["schema"] == 1
    assert found["totals"]["params"] == 3 * 9 * 8 + 8 + 8 * 4 + 1
    assert "claims" not in found
    assert "multiply-adds  " in report.text(counts)


def test_receptive_table(capsys: pytest.CaptureFixture[str]) -> None:
    """AlexNet by hand: 11/4, 3/2, 5 pad 2, 3/2, three 3 pad 1, 3/2."""
    rows = list(csv.DictReader(io.StringIO(output(capsys, "show", "alexnet", "--receptive", "--csv"))))
    size, jump, start = 1, 1, 0
    expected = []
    for kernel, stride, padding in ((11, 4, 0), (3, 2, 0), (5, 1, 2), (3, 2, 0), *[(3, 1, 1)] * 3, (3, 2, 0)):
        size, start, jump = size + (kernel - 1) * jump, start - padding * jump, jump * stride
        expected.append([str(size), str(jump), str(start), str(-start), "yes"])
    windows = [r for r in rows if r["kernel"]]
    assert [[r[k] for k in ("field", "jump", "start", "padding", "exact")] for r in windows] == expected
    assert "negative in the padding" in output(capsys, "show", "alexnet", "--receptive")
    assert "| field | jump |" in output(capsys, "show", "alexnet", "--receptive", "--md")


def test_the_plot_is_of_these_numbers() -> None:
    of = layer_graph(account("googlenet"), "layer")
    figure = receptive_figure(of)
    lines = {
        line.get_color(): np.asarray(line.get_ydata()) for line in figure.axes[0].lines if len(line.get_xdata()) > 50
    }
    rows = [r for r in of.rows if r.receptive_field and all(r.jump)]
    assert [-r.start[0] for r in rows] in [list(y) for y in lines.values()]
    assert [r.jump[0] for r in rows] in [list(y) for y in lines.values()]
    words = {t.get_text() for t in figure.axes[0].texts}
    assert {"sees 715", "jump 32", "padding 327", "image 224"} <= words
    narrow = [n.size[0] for n, r in zip(of.narrowest, of.rows, strict=True) if n and r in rows]
    assert f"at least {narrow[-1]}" in words
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert legend[:2] == ["receptive field, widest branches", "receptive field, narrowest branches"]
    assert {"side of the image", "the image", "read, narrowest branches"} <= set(legend)
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "pixels of the image (log scale)",
        "rows of the image (pixels)",
    ]
    plt.close("all")


def test_narrowest_by_hand() -> None:
    """GoogLeNet: an inception module's 1x1 branch widens nothing; ResNet's identities neither: 11 after the stem."""
    google = layer_graph(account("googlenet"), "block")
    narrow = {r.path: n and n.size for r, n in zip(google.rows, google.narrowest, strict=True)}
    assert narrow["stages.inception3a"] == narrow["stem.pool2"] == (27, 27)
    resnet = layer_graph(account("resnet34"), "block")
    assert {n.size for r, n in zip(resnet.rows, resnet.narrowest, strict=True) if n and "block" in r.path} == {(11, 11)}


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_plot_files(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / f"fields.{kind}"
    table = output(capsys, "show", "lenet5", "--receptive")
    assert output(capsys, "show", "lenet5", "--plot", str(file)) == f"{table}{file}\n"
    assert json.loads(output(capsys, "show", "lenet5", "--plot", str(file), "--json"))["name"] == "lenet5"
    if kind == "svg":
        assert ElementTree.parse(file).getroot().tag.endswith("svg")
    assert file.stat().st_size > 10_000
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


def test_what_is_not_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for args, message in (
        (
            ["--plot", "x.gif"],
            "x.gif is not in a picture format that can be written; end its name in .png or .svg or .pdf",
        ),
        (["--plot", str(tmp_path / "none" / "x.png")], "x.png cannot be written (No such file or directory)"),
        (["--html", str(tmp_path)], "cannot be written (Is a directory); name a file in a folder that exists"),
        (["--plot", "x.png", "--html", "x.html"], "--plot and --html write two files; give one of them"),
    ):
        assert main(["show", "lenet5", *args]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="Linear has no map of an image, and so no receptive fields to draw"):
        receptive_figure(layer_graph(account(nn.Linear(3, 4), input=(3,)), "leaf"))


@pytest.mark.parametrize("name", json_goldens.COMMANDS)
def test_json_is_its_golden(name: str) -> None:
    golden = (json_goldens.FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert json_goldens.printed(json_goldens.COMMANDS[name]) == golden, (
        "run `python -m tests.json_goldens` and read its diff: a key that goes or changes its meaning raises the schema"
    )
    assert json.loads(golden)["schema"] == SCHEMA
    assert next(iter(json.loads(golden))) == "schema"
