"""Reports: tables that programs read back, and timm's headers where they mean the same."""

import csv
import io
import json

import pytest

from convatlas.account.reconcile import reconcile
from convatlas.cli import main
from convatlas.tables import index

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
