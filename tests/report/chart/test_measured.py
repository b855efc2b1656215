"""Charts of results files: what they show is what the files say, and their lines are those of closed forms."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convatlas.engines.results import Accuracy, append
from convatlas.errors import UserError
from convatlas.report.chart import chart, points
from convatlas.report.chart.draw import figure
from convatlas.report.chart.frame import Asked, Chart
from convatlas.report.chart.results import SHOWN
from convatlas.tables import index
from tests.engines.records import MACHINE, record

from . import texts

NETWORKS = {"resnet18": 0.04, "vgg16": 0.3, "mobilenet_v2": 0.01, "densenet121": 0.09}  # seconds of an image
BATCHES = (1, 2, 4, 8)
OTHER = {**MACHINE, "processor": "Another Processor"}
Files = Callable[..., Path]


def of(network: str, batch: int = 1, **changed: Any) -> Any:
    """A record of a network of the atlas with what the tables count of it."""
    totals, seconds = index()[network]["totals"], NETWORKS.get(network, 0.05)
    usual = dict(
        model=network,
        network=network,
        batch=batch,
        input=tuple(index()[network]["input"]),
        macs=totals["macs"],
        params=totals["params"],
        peak_bytes=400_000_000 + 5 * totals["params"],
        image_joules=seconds * (10 + batch),
    )
    return record(p50=seconds * batch * (0.7 + 0.3 / batch), **{**usual, **changed})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    def write(name: str, *records: Any) -> Path:
        append(tmp_path / name, records)
        return tmp_path / name

    return write


@pytest.fixture
def usual(files: Files) -> Path:
    return files("here.jsonl", *(of(network, batch) for network in NETWORKS for batch in BATCHES))


def drawn(name: str, *given: Path, **more: Any) -> Chart:
    return chart(name, Asked(tuple(given), **more))


@pytest.mark.parametrize("name", ["batch", "time", "speed", "throughput", "memory", "power"])
def test_each_can_be_put_on_a_slide_and_says_where_it_is_from(name: str, usual: Path) -> None:
    made = drawn(name, usual)
    picture, unwritten = figure(made)
    assert texts.overlapping(picture) == []
    assert texts.outside(picture) == []
    assert texts.smallest(picture) >= 14
    assert unwritten == []
    rows = list(csv.DictReader(io.StringIO(points.report(made).csv())))
    assert len(rows) == len(made.points) >= 3
    for row in rows:
        assert row["source"].startswith(
            "here.jsonl: measured 2026-01-01 on Some Processor, torch fp32, 1 thread, batch"
        )


def test_time_by_batch(usual: Path) -> None:
    (panel,) = drawn("batch", usual).panels
    assert len(panel.points) == len(NETWORKS) * len(BATCHES)
    for point in panel.points:
        expected = 1e3 * NETWORKS[point.name] * (0.7 + 0.3 / point.x)
        assert (point.y, point.low, point.high) == pytest.approx((expected, 0.95 * expected, 1.05 * expected))
    assert [p.label for p in panel.points if p.x == 8] == list(NETWORKS)


def test_operations_are_those_of_the_tables_and_the_line_is_their_median_rate(usual: Path) -> None:
    (panel,) = drawn("time", usual).panels
    assert {p.name: p.x for p in panel.points} == {n: index()[n]["totals"]["macs"] / 1e9 for n in NETWORKS}
    rates = [index()[n]["totals"]["macs"] / seconds for n, seconds in NETWORKS.items()]
    (line,) = panel.lines
    assert line.intercept == 0
    assert line.slope == pytest.approx(1e12 / np.median(rates))  # ms for each G of multiply-adds
    assert f"{np.median(rates) / 1e9:.3g} G" in line.text


def test_operations_beside_time_are_sorted_by_operations(usual: Path) -> None:
    count, times = drawn("speed", usual).panels
    assert [p.name for p in count.points] == ["mobilenet_v2", "resnet18", "densenet121", "vgg16"]
    assert [p.label for p in times.points] == ["10", "40", "90", "300"]


def test_the_memory_line_is_numpys_and_beside_it_are_bianco_s(usual: Path, ledger: dict[str, Any]) -> None:
    (panel,) = drawn("memory", usual).panels
    fit, *theirs = panel.lines
    slope, intercept = np.polyfit([p.x for p in panel.points], [p.y for p in panel.points], 1)
    assert (fit.slope, fit.intercept) == pytest.approx((slope, intercept))
    assert (fit.slope, fit.intercept) == pytest.approx((1.25, 400))  # all lie on it
    assert fit.text == "fitted: 1.25 x size + 400 MB"
    (entry,) = (it for it in ledger["entry"] if it["id"] == "bianco_benchmark")
    (known,) = (fact["value"] for fact in entry["facts"] if fact["key"] == "memory_line")
    assert [line.intercept for line in theirs] == known["intercept_MB"]
    assert {line.slope for line in theirs} == {float(known["slope"])}


def test_power_is_energy_over_time(usual: Path) -> None:
    watts, joules = drawn("power", usual).panels
    for w, j in zip(watts.points, joules.points, strict=True):
        seconds = NETWORKS[w.name] * (0.7 + 0.3 / w.x)
        assert j.y == pytest.approx(NETWORKS[w.name] * (10 + w.x))
        assert w.y == pytest.approx(j.y / seconds)


@pytest.mark.parametrize("name", ["batch", "memory"])
def test_a_second_machine_has_a_panel_beside_the_first(name: str, usual: Path, files: Files) -> None:
    second = files("there.jsonl", *(of(n, b, machine=OTHER, date="2026-01-02") for n in NETWORKS for b in BATCHES))
    made = drawn(name, usual, second)
    assert [panel.title for panel in made.panels] == ["Some Processor", "Another Processor"]
    assert "torch fp32, 1 thread" in made.note
    assert [len(panel.points) for panel in made.panels] == [len(drawn(name, usual).panels[0].points)] * 2
    assert all(p.source.startswith("there.jsonl: measured 2026-01-02 on Another") for p in made.panels[1].points)
    picture, unwritten = figure(made)
    assert texts.overlapping(picture) == texts.outside(picture) == unwritten == []


def test_a_second_machine_has_bars_of_its_own(usual: Path, files: Files) -> None:
    second = files("there.jsonl", *(of(n, machine=OTHER) for n in NETWORKS))
    _, times = drawn("speed", usual, second).panels
    assert {p.group for p in times.points} == {"Some Processor", "Another Processor"}


def test_the_newest_of_a_measurement_counts(files: Files) -> None:
    old, new = of("resnet18", date="2026-01-01"), of("resnet18", date="2026-01-03", macs=7)
    (panel,) = drawn("time", files("a.jsonl", new), files("b.jsonl", old, of("vgg16"))).panels
    assert next((p.name, p.x) for p in panel.points) == ("resnet18", 7e-9)
    assert len(panel.points) == 2


def test_no_accuracy_by_another_protocol_enters(files: Files) -> None:
    """Of AlexNet ten crops alone are published; a measured accuracy, and that of the weights, are those that ran."""
    measured = Accuracy("measured", 71.5, 90.0, 500, 70.0, 73.0, "folder:/imagenet", "center")
    tencrop = Accuracy("measured", 99.0, 99.0, 500, 98.0, 99.5, "folder:/imagenet", "ten crops")
    on_cifar = Accuracy("measured", 95.0, 99.0, 500, 94.0, 96.0, "cifar10", "center")
    weights = Accuracy("published", 71.592, 90.382, source="vgg16@torchvision/v1", protocol="center")
    made = drawn(
        "throughput",
        files(
            "a.jsonl",
            of("resnet18"),
            of("alexnet"),
            of("mobilenet_v2", model="mobilenet_v2@slim", accuracy=measured),
            of("densenet121", model="run", accuracy=tencrop),
            of("squeezenet1_1", model="other", accuracy=on_cifar),
            of("vgg16", model="vgg16@torchvision/v1", accuracy=weights),
        ),
    )
    shown = {p.name: (p.y, p.group) for _, p in made.points}
    assert shown == {
        "resnet18": (69.57, "published, timed without weights"),
        "mobilenet_v2@slim": (71.5, "measured"),
        "vgg16@torchvision/v1": (71.592, "published with the weights"),
    }
    assert "No such figure of alexnet, run, other." in made.note
    (interval,) = ((p.low, p.high) for _, p in made.points if p.group == "measured")
    assert interval == (70.0, 73.0)
    for _, point in made.points:
        assert point.x == pytest.approx(1 / NETWORKS[point.name.partition("@")[0]])


def test_what_was_not_timed_at_the_batch_is_told(files: Files) -> None:
    made = drawn("time", files("a.jsonl", of("resnet18"), of("vgg16"), of("densenet121", 4)))
    assert {p.name for _, p in made.points} == {"resnet18", "vgg16"}
    assert "Batch 1. Not timed at this size: densenet121." in made.note


def test_machines_without_a_batch_size_in_common_have_one_each(files: Files) -> None:
    """That of the most of their networks."""
    here = [of("resnet18", 2), of("vgg16", 2), of("vgg16", 4)]
    there = [of("resnet18", 8, machine=OTHER), of("vgg16", 16, machine=OTHER), of("resnet18", 16, machine=OTHER)]
    made = drawn("time", files("a.jsonl", *here, *there))
    assert "Batch 2 (Some Processor); 16 (Another Processor)." in made.note
    assert [{p.name for p in panel.points} for panel in made.panels] == [{"resnet18", "vgg16"}] * 2


def test_other_image_sizes_are_networks_of_their_own(files: Files) -> None:
    """And no accuracy at the usual size is theirs; nor is that in fp32 of what ran in int8."""
    records = [of("resnet18"), of("resnet18", input=(3, 160, 160)), of("vgg16", precision="int8"), of("densenet121")]
    file = files("a.jsonl", *records)
    assert {p.name for _, p in drawn("time", file).points} == {"resnet18", "resnet18 at 160", "vgg16", "densenet121"}
    assert {p.name for _, p in drawn("throughput", file).points} == {"resnet18", "densenet121"}


def test_only_the_networks_that_are_asked_for(usual: Path) -> None:
    assert {p.name for _, p in drawn("batch", usual, networks="vgg*, mobilenet").points} == {"vgg16", "mobilenet_v2"}
    with pytest.raises(UserError, match=r"there is no time of 'lenet5' in .*here.jsonl; make one: convatlas measure"):
        drawn("batch", usual, networks="lenet5")


TIMM = "benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv"
HEADER = (
    "model,infer_samples_per_sec,infer_step_time,infer_batch_size,infer_img_size,infer_gmacs,infer_macts,param_count"
)


def test_timms_files(tmp_path: Path) -> None:
    lines = ["resnet18,100,10,1,224,1.82,2.48,11.69", "resnet50,20,50,1,224,4.11,11.11,25.56", "nobody,1,1,1,8,1,1,1"]
    file = tmp_path / TIMM
    file.write_text("\n".join([HEADER, *lines]))
    (panel,) = drawn("time", file).panels
    assert drawn("time", file, networks="*").panels == (panel,), "nobody is not in the atlas"
    assert {(p.name, p.x, p.y) for p in panel.points} == {("resnet18", 1.82, 10), ("resnet50", 4.11, 50)}
    assert "published by timm on i9_10940x, torch.compile fp32, batch 1" in panel.points[0].source
    with pytest.raises(
        UserError, match="chart batch needs several batch sizes, and the files have 1 alone; measure mo"
    ):
        drawn("batch", file)
    with pytest.raises(UserError, match=f"no result in {TIMM} says how much memory it took; make one: convatlas meas"):
        drawn("memory", file)
    with pytest.raises(UserError, match=r"says what energy it took; measure where the processor \(RAPL\) or the GPU"):
        drawn("power", file)


def test_files_of_something_else(tmp_path: Path, usual: Path, files: Files) -> None:
    (tmp_path / "notes.txt").write_text("a note\n")
    remedy = "make one: convatlas measure resnet18 vgg16 --batch 1,2,4,8 --out results.jsonl"
    with pytest.raises(
        UserError, match=r"chart batch is drawn from results files: there are no results in .*notes"
    ) as error:
        drawn("batch", tmp_path / "notes.txt")
    assert error.value.remedy == remedy
    with pytest.raises(UserError, match=r"chart batch is drawn from results files: .* is a folder") as error:
        drawn("batch", tmp_path)
    assert error.value.remedy == remedy
    with pytest.raises(
        UserError, match=r"chart batch is drawn from results files; make one: convatlas measure .*jsonl, an"
    ):
        drawn("batch")
    with pytest.raises(UserError, match=r"none\.jsonl"):
        drawn("batch", tmp_path / "none.jsonl")
    many = files("many.jsonl", *(of(n, b) for n in [*index()][: SHOWN + 1] for b in (1, 2)))
    with pytest.raises(UserError, match=f"has room for {SHOWN} networks, and the files have {SHOWN + 1}; choose some"):
        drawn("batch", many)
    engines = files(
        "engines.jsonl", *(of("vgg16", engine=e, precision=p) for e in ("a", "b") for p in ("fp32", "bf16"))
    )
    with pytest.raises(UserError, match="the files have 4 machines, engines or precisions, and a slide has room for 3"):
        drawn("time", engines)
    with pytest.raises(UserError, match="a line needs networks of two sizes"):
        drawn("memory", files("one.jsonl", of("vgg16")))
    with pytest.raises(
        UserError, match="none of the networks has an accuracy on cifar10 by one centre crop; measure one"
    ):
        drawn("throughput", usual, dataset="cifar10")
