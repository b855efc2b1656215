"""Learning rates against numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convatlas.recipe import (
    SGD,
    ConstantWarmup,
    Cosine,
    Exponential,
    LinearWarmup,
    Plateau,
    Poly,
    Recipe,
    Schedule,
    Step,
)
from convatlas.recipes import find_recipe
from convatlas.train.schedule import PlateauState, rate, warmed_up

BASE = Recipe(name="base", source="a test", epochs=100, batch=128, optimizer=SGD(0.1))


def test_constant() -> None:
    assert [rate(BASE, epoch) for epoch in (0, 0.5, 99.9)] == [0.1] * 3


def test_step() -> None:
    """WRN's: 0.1, times 0.2 at 60, 120 and 160."""
    recipe = replace(BASE, schedule=Step((60, 120, 160), gamma=0.2))
    expected = [(0, 0.1), (59.999, 0.1), (60, 0.02), (119.99, 0.02), (120, 0.004), (160, 0.0008), (199.9, 0.0008)]
    for epoch, lr in expected:
        assert rate(recipe, epoch) == pytest.approx(lr, rel=1e-12)


def test_resnets_on_cifar_drop_after_32000_and_48000_iterations() -> None:
    recipe = find_recipe("resnet_cifar")
    at = {step: rate(recipe, (epoch * 391 + rest) / 391) for step in (31_999, 32_000, 47_999, 48_000, 63_999)
          for epoch, rest in [divmod(step, 391)]}  # fmt: skip
    assert at == pytest.approx({31_999: 0.1, 32_000: 0.01, 47_999: 0.01, 48_000: 0.001, 63_999: 0.001}, rel=1e-12)


def test_googlenet_falls_by_4_percent_every_8_epochs() -> None:
    recipe = find_recipe("googlenet")
    assert rate(recipe, 7.99) == 0.01
    assert rate(recipe, 8) == pytest.approx(0.0096)
    assert rate(recipe, 80) == pytest.approx(0.01 * 0.96**10)


def test_cosine() -> None:
    """Half of 1 + cos: 1 at the start, (2 + sqrt 2) / 4 at a quarter, 1/2 at half, 1/4 at two thirds, 0 at the end."""
    recipe = replace(BASE, schedule=Cosine())
    expected = [(0, 0.1), (25, 0.0853553390593), (50, 0.05), (200 / 3, 0.025), (100, 0.0)]
    for epoch, lr in expected:
        assert rate(recipe, epoch) == pytest.approx(lr, abs=1e-12)


def test_cosine_is_torchs() -> None:
    recipe = replace(BASE, schedule=Cosine(), epochs=7)
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    for epoch in range(7):
        assert rate(recipe, epoch) == pytest.approx(torchs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        torchs.step()


def test_linear_warmup_then_cosine() -> None:
    """Warm-up takes the first 20 epochs, the cosine's whole half-period the other 80."""
    recipe = replace(BASE, schedule=Cosine(), warmup=LinearWarmup(0.02, epochs=20))
    expected = [(0, 0.02), (5, 0.04), (10, 0.06), (19, 0.096), (20, 0.1), (40, 0.0853553390593), (60, 0.05), (100, 0.0)]
    for epoch, lr in expected:
        assert rate(recipe, epoch) == pytest.approx(lr, abs=1e-12)


def test_linear_warmup_then_step_counts_epochs_from_the_start() -> None:
    recipe = replace(BASE, schedule=Step((30,)), warmup=LinearWarmup(epochs=10))
    assert [rate(recipe, epoch) for epoch in (0, 5, 10, 29.9, 30)] == pytest.approx([0, 0.05, 0.1, 0.1, 0.01])


def test_constant_warmup_of_resnet110() -> None:
    """Section 4.2: 0.01 until the training error is below 80%, then 0.1."""
    recipe = find_recipe("resnet_cifar_110")
    assert recipe.warmup == ConstantWarmup(0.01, error=0.8)
    rates = [rate(recipe, step / 391, steps=391, warm=step >= 400) for step in (0, 399, 400, 782)]
    assert rates == [0.01, 0.01, 0.1, 0.1]


@pytest.mark.parametrize(("error", "done"), [(0.81, False), (0.8, False), (0.79, True)])
def test_a_training_error_below_the_bound_ends_a_warm_up_that_waits_for_it(error: float, done: bool) -> None:
    assert warmed_up(find_recipe("resnet_cifar_110"), error) == done
    assert not warmed_up(find_recipe("preact_resnet_cifar"), error)
    assert not warmed_up(BASE, error)


def after(tops: list[float], schedule: Schedule) -> list[int]:
    """How often the rate has dropped after each epoch."""
    state, drops = PlateauState(), []
    for top1 in tops:
        state = state.after(schedule, held_out=top1, train=0.0)
        drops.append(state.drops)
    return drops


def test_plateau() -> None:
    schedule = Plateau(patience=2, drops=2)
    tops = [0.1, 0.2, 0.2, 0.2, 0.3, 0.1, 0.29, 0.1, 0.1, 0.1, 0.1]
    #                      2 without a better one: drop 1; best 0.3; drop 2 at 0.29; no third
    assert after(tops, schedule) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
    recipe = replace(BASE, schedule=schedule)
    assert [rate(recipe, 0, drops) for drops in (0, 1, 2)] == pytest.approx([0.1, 0.01, 0.001])


def test_plateau_with_patience_one_drops_at_once() -> None:
    assert after([0.5, 0.5, 0.5, 0.6, 0.5], Plateau(patience=1, drops=9)) == [0, 1, 2, 2, 3]


def test_a_first_top1_of_zero_is_a_best() -> None:
    assert after([0.0, 0.0], Plateau(patience=2)) == [0, 0]


def test_a_plateau_watches_the_split_that_it_is_told_and_other_schedules_none() -> None:
    state = PlateauState()
    assert state.after(Plateau(), held_out=0.3, train=0.6).best == 0.3
    assert state.after(Plateau(watch="train"), held_out=0.3, train=0.6).best == 0.6
    assert state.after(Step((30,)), held_out=0.3, train=0.6) is state


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75]), max_size=60), st.integers(1, 6), st.integers(0, 4))
def test_plateau_is_torchs(tops: list[float], patience: int, limit: int) -> None:
    """torch's "patience" is how many epochs it ignores: one less than ours. Ours stops at `drops`."""
    schedule = Plateau(patience, drops=limit, gamma=0.5)
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience - 1, threshold=0.0, min_lr=0.5**limit
    )
    theirs = []
    for top1 in tops:
        torchs.step(top1)
        theirs.append(optimizer.param_groups[0]["lr"])
    assert [0.5**drops for drops in after(tops, schedule)] == theirs


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_poly_is_torchs(power: float) -> None:
    recipe = replace(BASE, schedule=Poly(power), epochs=7)
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    torchs = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=7, power=power)
    for epoch in range(7):
        assert rate(recipe, epoch) == pytest.approx(torchs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        torchs.step()


def test_poly_and_cosine_end_where_they_are_told() -> None:
    """tf.train.polynomial_decay: (lr - end) (1 - share)^power + end; cosine: end + (lr - end) (1 + cos) / 2."""
    poly = replace(BASE, schedule=Poly(2.0, lr_end=0.02))
    assert [rate(poly, epoch) for epoch in (0, 50, 100)] == pytest.approx([0.1, 0.02 + 0.08 / 4, 0.02])
    cosine = replace(BASE, schedule=Cosine(lr_end=0.02))
    assert [rate(cosine, epoch) for epoch in (0, 50, 100)] == pytest.approx([0.1, 0.06, 0.02])


def test_exponential_is_torchs() -> None:
    recipe = replace(BASE, schedule=Exponential(gamma=0.9, staircase=True))
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.1)
    torchs = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
    for epoch in range(12):
        assert rate(recipe, epoch) == rate(recipe, epoch + 0.99) == pytest.approx(torchs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        torchs.step()


@given(st.integers(1, 400), st.integers(0, 350 * 400), st.sampled_from([2.4, 2.0, 1.0, 30.0]))
def test_exponential_is_tensorflows(steps: int, step: int, every: float) -> None:
    """tf.train.exponential_decay: lr gamma^(step / decay_steps), the exponent rounded down on a staircase."""
    recipe = replace(BASE, schedule=Exponential(gamma=0.97, every=every), epochs=1000)
    times = step / (steps * every)
    assert rate(recipe, step / steps) == pytest.approx(0.1 * 0.97**times, rel=1e-9)
    stairs = rate(replace(recipe, schedule=Exponential(0.97, every, staircase=True)), step / steps)
    whole = round(times * 10) % 10 == 0 and abs(times - round(times)) < 1e-6  # a step's edge: floats may differ there
    assert whole or stairs == pytest.approx(0.1 * 0.97 ** int(times), rel=1e-9)


def test_a_stair_begins_with_its_step() -> None:
    """2.4 epochs of 5 steps are 12 steps: the rate falls at step 12, 24, 36 ... and at no other."""
    recipe = replace(BASE, schedule=Exponential(gamma=0.97, every=2.4, staircase=True), epochs=350)
    rates = [rate(recipe, step / 5) for step in range(1750)]
    assert [step for step in range(1, 1750) if rates[step] != rates[step - 1]] == list(range(12, 1750, 12))


def test_warmup_in_steps() -> None:
    """EfficientNet's program: lr step / warm-up steps, then the staircase that began at step 0."""
    schedule = Exponential(gamma=0.97, every=2.4, staircase=True)
    recipe = replace(BASE, schedule=schedule, warmup=LinearWarmup(steps=25))
    rates = [rate(recipe, step / 5, steps=5) for step in range(40)]
    assert rates == pytest.approx([0.1 * s / 25 if s < 25 else 0.1 * 0.97 ** (s // 12) for s in range(40)])
    same = replace(recipe, warmup=LinearWarmup(epochs=5.0))
    assert [rate(same, step / 5, steps=5) for step in range(40)] == rates


@given(st.lists(st.sampled_from([0.0, 0.25, 0.3, 0.5, 0.75]), max_size=60), st.integers(1, 6))
def test_a_threshold_is_torchs(tops: list[float], patience: int) -> None:
    schedule = Plateau(patience, drops=99, gamma=0.5, threshold=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1)], 1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience - 1, threshold=0.1, threshold_mode="abs", eps=0.0
    )
    theirs = []
    for top1 in tops:
        torchs.step(top1)
        theirs.append(optimizer.param_groups[0]["lr"])
    assert [0.5**drops for drops in after(tops, schedule)] == theirs
