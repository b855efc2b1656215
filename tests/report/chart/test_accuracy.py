"""The charts of the catalogue: what is counted is the tables', what is printed its source's, and protocols are told."""

from typing import Any

import pytest

from convatlas.accounting import account
from convatlas.accounting.memory.predict import inference_peak
from convatlas.errors import UserError
from convatlas.report.chart import chart
from convatlas.report.chart.accuracy import LANDMARKS, LINEAGES, ORDER, OTHERS
from convatlas.report.chart.frame import Asked, Chart, Point
from convatlas.report.chart.published import printed
from convatlas.tables import index
from convatlas.tables.published import published

ALL = "top1-operations", "top1-parameters", "top1-density", "density"


def of(drawn: Chart, name: str) -> Point:
    (found,) = (point for _, point in drawn.points if point.name == name)
    return found


def test_costs_are_those_of_a_fresh_count() -> None:
    counted = account("squeezenet1_0").totals
    found = of(chart("top1-operations"), "squeezenet1_0")
    assert found.x == counted.macs / 1e9
    assert found.size == counted.params / 1e6
    assert found.y == float(published(index()["squeezenet1_0"]).top1) == 57.5  # type: ignore[union-attr]
    assert of(chart("top1-parameters"), "squeezenet1_0").x == counted.params / 1e6
    assert of(chart("top1-density"), "squeezenet1_0").x == 57.5 / (counted.params / 1e6)
    assert of(chart("top1-size"), "squeezenet1_0").x == counted.params * 4 / 1e6  # it has no running statistics
    canziani = of(chart("canziani"), "VGG-19")
    totals = account("vgg19").totals
    assert (canziani.x, canziani.size) == (2 * totals.macs / 1e9, totals.params / 1e6)
    assert of(chart("canziani-density"), "VGG-19").y == 71.0 / (totals.params / 1e6)


def test_memory_is_that_of_accounting() -> None:
    drawn = chart("top1-memory", Asked(networks="squeezenet1_1"))
    assert of(drawn, "squeezenet1_1").x == inference_peak("squeezenet1_1").of(1) / 1e6


@pytest.mark.parametrize("name", ALL)
def test_a_network_has_one_figure_of_one_crop(name: str) -> None:
    drawn = chart(name)
    networks = [point.name for _, point in drawn.points]
    assert len(networks) == len(set(networks)) > 15
    assert "one centre crop" in drawn.note
    assert "ILSVRC-2012 val, 10 crops" not in " ".join(point.source for _, point in drawn.points)
    assert {point.group for _, point in drawn.points} <= set(ORDER)


def test_the_densest_are_in_order() -> None:
    values = [point.y for _, point in chart("density").points]
    every = [point.x for _, point in chart("top1-density").points]
    assert values == sorted(values, reverse=True)
    assert values[0] == max(every)


def test_landmarks_and_lineages_are_in_the_catalogue() -> None:
    known = {point.name for _, point in chart("top1-operations").points}
    assert set(LANDMARKS) <= known
    assert set(LINEAGES) <= {entry["family"] for entry in index().values()}
    assert set(LINEAGES.values()) | {OTHERS} == set(ORDER)


def test_other_data_sets_and_patterns() -> None:
    cifar = chart("top1-parameters", Asked(dataset="cifar10"))
    assert cifar.note.startswith("cifar10, the whole image")
    assert any(point.label for _, point in cifar.points)
    vgg = chart("top1-operations", Asked(networks="vgg1*"))
    assert all(point.name.startswith("vgg1") and point.label == point.name for _, point in vgg.points)
    with pytest.raises(UserError, match="no data set named 'cifar1'; did you mean cifar10"):
        chart("top1-operations", Asked(dataset="cifar1"))
    with pytest.raises(UserError, match="no network matches 'xyzzy'"):
        chart("top1-operations", Asked(networks="xyzzy"))
    with pytest.raises(UserError, match="no network like 'lenet5' has a figure on imagenet"):
        chart("top1-operations", Asked(networks="lenet5"))


def test_canziani_is_the_ledgers(ledger: dict[str, Any]) -> None:
    (entry,) = (it for it in ledger["entry"] if it["id"] == "canziani_analysis")
    theirs = {fact["network"]: float(fact["value"]) for fact in entry["facts"] if fact["key"] == "top1_acc"}
    assert dict(printed()["canziani"]["top1"].values()) == theirs
    assert {point.name: point.y for _, point in chart("canziani").points} == theirs


def test_compressed_networks_are_the_ledgers(ledger: dict[str, Any]) -> None:
    (entry,) = (it for it in ledger["entry"] if it["id"] == "deep_compression")
    theirs = {
        (float(fact["MB_before"]), float(fact["MB_after"])): fact.get("top1_acc")
        for fact in entry["facts"]
        if fact["key"] == "compression"
    }
    for row in printed()["compressed"]:
        sizes = float(row["mb_before"]), float(row["mb"])
        assert sizes in theirs, row
        assert theirs[sizes] is None or float(theirs[sizes]) == row["top1"] or row["network"] == "VGG-16"
