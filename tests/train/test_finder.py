"""The learning-rate finder: its sums by hand, and a rate that trains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.cli import main
from convatlas.errors import UserError
from convatlas.recipe import SGD, LinearWarmup, Recipe
from convatlas.train.finder import Search, averaged, find_rate
from tests.trained import digits

RECIPE = Recipe(name="brief", source="a test", epochs=1, batch=16, optimizer=SGD(0.1), net=(("widths", (4,)),))
NET = "chain_n1_m1_k0"


def test_the_average_is_adams() -> None:
    a, b, c = 0.3 / 0.1, (0.9 * 0.3 + 0.1) / 0.19, (0.81 * 0.3 + 0.09 + 0.2) / 0.271
    assert averaged((3.0, 1.0, 2.0), 0.9) == pytest.approx((a, b, c))


def test_the_loss_is_smoothed_both_ways() -> None:
    """3, 1, 2, and 9 taken as 3."""
    a, b = 3.0, (0.8 * 0.6 + 0.2) / 0.36
    c, d = (0.64 * 0.6 + 0.16 + 0.4) / 0.488, (0.512 * 0.6 + 0.128 + 0.32 + 0.6) / 0.5904
    assert Search((0.1, 0.2, 0.4, 0.8), (3.0, 1.0, 2.0, 9.0)).smoothed == pytest.approx(
        (
            0.2 * (0.512 * d + 0.64 * c + 0.8 * b + a) / 0.5904,
            0.2 * (0.64 * d + 0.8 * c + b) / 0.488,
            0.2 * (0.8 * d + c) / 0.36,
            d,
        )
    )


def test_the_loss_falls_fastest_where_it_does() -> None:
    """At a step, and in the middle of a slope, not so many steps later as an average of the past lags."""
    rates = tuple(10.0**i for i in range(101))
    step = Search(rates, tuple(2.0 if i < 60 else 1.0 for i in range(101)))
    assert step.best == rates[59]
    slope = [min(2.0, max(1.0, 2 - (i - 50) / 20)) for i in range(101)]
    assert rates[57] <= Search(rates, tuple(slope)).best <= rates[63]
    assert rates[57] <= Search(rates, (*slope[:90], *(100.0 * i for i in range(11)))).best <= rates[63]


def test_rates_grow_by_equal_factors_until_the_loss_explodes() -> None:
    events: list[dict] = []
    found = find_rate(NET, digits(), RECIPE, lowest=1e-4, highest=1e4, steps=40, device="cpu", on_event=events.append)
    ratios = [b / a for a, b in zip(found.rates, found.rates[1:])]
    assert ratios == pytest.approx([10 ** (8 / 40)] * len(ratios))
    assert 10 < len(found.rates) < 40
    assert len(found.losses) == len(found.rates) == len(events)
    assert 1e-3 < found.best < 10


def test_the_rate_of_each_step_is_the_one_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from convatlas.train import fit as module

    used: list[float] = []
    rate = module.rate
    monkeypatch.setattr(module, "rate", lambda *a: used.append(rate(*a)) or used[-1])  # type: ignore[func-returns-value]
    found = find_rate(NET, digits(), replace(RECIPE, warmup=LinearWarmup(epochs=1)), steps=30, highest=1e-3)
    assert [r for r in used if r in used[: len(found.rates)]][:16] == pytest.approx(found.rates[:16])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "learning rates from 1.0 to 0.1 do not rise; give 0 < lowest < highest"),
        ({"steps": 3}, "3 steps are too few to find a slope; give at least 10"),
        (
            {"lowest": 1e30, "highest": 1e31},
            r"not finite even at a learning rate of 1e\+30; start from a smaller",
        ),
    ],
)
def test_searches_that_make_no_sense(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_rate(NET, digits(), RECIPE, **options)  # type: ignore[arg-type]


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "rates.svg"
    args = ["lr", NET, "--data", "digits", "--recipe", "digits", "--steps", "20", "--plot", str(plot), "--json"]
    assert main(args) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["recipe_lr"] == 0.002
    assert len(found["rates"]) == len(found["losses"]) == len(found["smoothed"])
    assert plot.read_text().lstrip().startswith("<?xml")
    assert main([*args[:-2], "rates.txt"]) == 2
    assert (
        "--plot rates.txt is not a picture file; give a name that ends in .png, .svg, .pdf" in capsys.readouterr().err
    )


def test_a_fall_back_from_an_explosion_is_none() -> None:
    rates = tuple(10 ** (-6 + i / 10) for i in range(80))
    losses = [2.6] * 30 + [2.6 - 0.02 * i for i in range(20)] + [2.2] * 5 + [2.6] * 10 + [2.3] * 15
    assert rates[28] < Search(rates, tuple(losses)).best < rates[52]
