"""The largest network between the published points, against every point of the grid, each counted layer by layer."""

import itertools
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from random import Random

import pytest

from convatlas.accounting import account
from convatlas.choice import costs
from convatlas.choice.certificate import Bound, Value
from convatlas.choice.choose import choose
from convatlas.choice.scaled import FAMILIES, SIDE, Family, Largest, families, further, largest, steps
from convatlas.cli import main
from convatlas.engines.latency import profile as profiles
from convatlas.engines.latency.profile import Profile, key_here, save
from convatlas.limits import OPERATORS, Limit
from convatlas.report.choice import report, scaled_commands
from convatlas.tables import load
from tests.choice.requests import request

SMALL = (
    Family("wrn28_10", {"depth": (10, 16), "width": (0.5, 0.75, 1, 1.25)}),
    Family("mobilenet_v1", {SIDE: (32, 64), "width": (0.1, 0.2)}),
    Family("lenet_caffe", {SIDE: range(24, 40, 5)}),
)
LARGE = (
    Family("mobilenet_v1", {SIDE: range(128, 225, 32), "width": steps(0.25, 1, 0.05)}),
    Family("mobilenet_v2", {SIDE: range(96, 225, 32), "width": steps(0.35, 1.4, 0.05)}),
    Family("efficientnet_b0", {"phi": steps(0, 2, 0.1)}),
    Family("wrn50_2", {"depth": (18, 34, 50), "width": steps(1, 2, 0.25)}),
)
QUANTITIES = ("params", "macs", "activations", "weights", "depth", "size")


def grid(family: Family) -> list[tuple[dict[str, float], tuple[int, ...], dict[str, float]]]:
    """Every point: its options, its image and its costs, from accounts."""
    found = []
    for values in itertools.product(*family.axes.values()):
        options = dict(zip(family.axes, values, strict=True))
        side = options.pop(SIDE, None)
        channels = load(family.network).input[0]
        counts = account(family.network, input=side and (channels, side, side), **options)
        of = costs.of_account(counts, 2017)
        found.append((options, counts.input, {name: of[name].value for name in QUANTITIES}))  # type: ignore[union-attr]
    return found


def agree(family: Family, seeds: Sequence[int]) -> int:
    """Compares with the brute force of random requests; returns how many had an answer."""
    points, answers = grid(family), 0
    for seed in seeds:
        rng = Random(seed)
        limits = []
        for _ in range(rng.randint(1, 3)):
            quantity = rng.choice(QUANTITIES)
            value = rng.choice(points)[2][quantity] * rng.choice((1, 1, 0.97, 1.03))
            op = rng.choice(("<=", "<=", "<=", "<", ">=", "="))
            limits.append(Limit(quantity, op, Decimal(str(value))))
        fitting = [
            (of["macs"], of["params"], options, image)
            for options, image, of in points
            if all(OPERATORS[it.op](of[it.quantity], float(it.value)) for it in limits)
        ]
        found = largest(family, limits, further("auto", 1, 1))
        assert (found.point is None) == (not fitting), (seed, limits)
        if found.point:
            answers += 1
            best = max(fitting, key=lambda it: it[:2])
            assert found.point.size == best[:2], (seed, limits)
            assert any((found.point.options, found.point.input) == it[2:] for it in fitting)
        else:
            assert found.broken in [Bound.of(it) for it in limits]
    return answers


@pytest.mark.parametrize("family", SMALL, ids=lambda it: it.network)
def test_the_largest_of_all_that_fit(family: Family) -> None:
    assert agree(family, range(6)) > 1


@pytest.mark.faults
@pytest.mark.parametrize("family", LARGE, ids=lambda it: it.network)
def test_the_largest_of_every_point_of_the_published_ranges(family: Family) -> None:
    assert agree(family, range(250)) > 60


def test_time_and_memory_limit_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """At a nanosecond a multiply-add, with an interval of a tenth to either side: only what is surely within counts."""
    family = SMALL[0]

    def latency(counts: object, engine: str, threads: int, batch: int) -> Value:
        seconds = batch * counts.totals.macs * 1e-9  # type: ignore[attr-defined]
        return Value(seconds, 0.9 * seconds, 1.1 * seconds, "estimated")

    monkeypatch.setattr(costs, "latency_of", latency)
    macs = sorted(of["macs"] for _, _, of in grid(family))
    for limit, value in (("latency", 1.1e-9 * macs[4]), ("latency", 1.09e-9 * macs[4])):
        found = largest(family, [Limit(limit, "<=", Decimal(value))], further("auto", 1, 1))
        assert found.point
        assert found.point.size[0] == (macs[4] if value == 1.1e-9 * macs[4] else macs[3])
    rate = largest(family, [Limit("throughput", ">=", Decimal(1 / (1.1e-9 * macs[2]) - 1))], further("auto", 1, 4))
    assert rate.point
    assert rate.point.size[0] == macs[2]
    memory = largest(family, [Limit("memory", "<=", Decimal(3_000_000))], further("auto", 1, 1))
    assert memory.point
    assert memory.values["memory"].value <= 3_000_000  # type: ignore[union-attr]


def test_the_published_ends_are_points() -> None:
    """Without limits the largest is the largest that is published, as the tables have it."""
    known: Mapping[str, str] = {"mobilenet_v1": "mobilenet_v1", "mobilenet_v2": "mobilenet_v2_1_4_224"}
    for family in FAMILIES["imagenet"][:2]:
        last = Family(family.network, {name: values[-1:] for name, values in family.axes.items()})
        found = largest(last, [], further("auto", 1, 1)).point
        assert found
        totals = load(known[family.network]).totals
        assert found.size == (totals.macs, totals.params)
    assert families("mnist", ()) == ()
    assert [it.network for it in families("cifar100", ())] == ["wrn28_10"]
    assert families("imagenet", ("ResNet-50",))[0].axes == {SIDE: range(48, 449, 16)}


def test_the_command_builds_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    """`show`, as it is printed, counts the same; accuracies are said to be unknown."""
    choice = choose(request("top1>=75%", "params<=3M", "macs<=10M", dataset="mnist", scaled=("lenet_caffe", "lenet5")))
    commands = scaled_commands(choice)
    assert [name for name, _ in commands] == ["lenet_caffe", "lenet5"][: len(commands)]
    for it, (_, command) in zip([it for it in choice.scaled if it.point], commands, strict=True):
        assert main([*command.split()[1:], "--json"]) == 0
        totals = json.loads(capsys.readouterr().out)["totals"]
        assert it.point
        assert (totals["macs"], totals["params"]) == it.point.size
    text = report(choice).text()
    assert "unknown" in text
    assert commands[0][1] in text
    made = choice.to_json()["scaled"][0]
    assert made["show"] == commands[0][1]
    assert made["train"].startswith("convatlas train lenet_caffe")


def test_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["choose", "--dataset", "mnist", "--limit", "params<=10", "--scaled", "lenet_caffe"]) == 0
    assert "none: params<=10" in capsys.readouterr().out
    assert main(["choose", "--scaled", "lenet6"]) == 2
    assert "no network named 'lenet6'; did you mean lenet5" in capsys.readouterr().err


def test_with_a_profile(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    save(Profile(key_here("onnxruntime"), {"call": 1.0, "3x3 macs": 1.0, "1x1 macs": 1.0}, 0.8, 1.25, 200, 0, 0.001))
    assert profiles.here()
    found: Largest = largest(SMALL[0], [Limit("latency", "<=", Decimal("0.5"))], further("auto", 1, 1))
    assert found.point
    of = found.values["latency"]
    assert of is not None
    assert of.how == "estimated"
    assert 0 < of.low < of.value < of.high <= 0.5
