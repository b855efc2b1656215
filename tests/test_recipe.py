"""Recipes: legal values, --set, --epochs; and the ones that ship."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from convatlas import recipes as package
from convatlas.catalogue import Variant, variants
from convatlas.data.augment import view_of
from convatlas.errors import UserError
from convatlas.recipe import LADDERS, Recipe, operation, with_batch, with_epochs, with_settings, with_side
from convatlas.recipes import WITHOUT, find_recipe, recipes

FILES = [import_module(f"convatlas.recipes.{f.stem}") for f in Path(package.__path__[0]).glob("[a-z]*.py")]
BASE = Recipe(name="base", source="a test", epochs=100, batch=128, lr=0.1, milestones=(50, 75))


# --set


@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("lr=0.05", "lr", 0.05),
        ("lr=1e-3", "lr", 0.001),
        (" batch = 64 ", "batch", 64),
        ("nesterov=true", "nesterov", True),
        ("nesterov=True", "nesterov", True),
        ("schedule=cosine", "schedule", "cosine"),
        ("augment=pad_crop,flip", "augment", ("pad_crop", "flip")),
        ("augment=scale_crop:256:512,mixup:0.4", "augment", ("scale_crop:256:512", "mixup:0.4")),
        ("milestones=10, 20.5", "milestones", (10.0, 20.5)),
        ("milestones=", "milestones", ()),
        ("net.dropout=0.3", "net", (("dropout", 0.3),)),
        ("net.widths=[4,8]", "net", (("widths", (4, 8)),)),
        ("net.shortcut=B", "net", (("shortcut", "B"),)),
        ("net.pool=false", "net", (("pool", False),)),
    ],
)
def test_set_reads_a_value_of_the_fields_type(setting: str, field: str, value: Any) -> None:
    changed = with_settings(BASE, [setting])
    assert getattr(changed, field) == value
    assert type(getattr(changed, field)) is type(value)
    assert replace(changed, **{field: getattr(BASE, field)}, departures=()) == BASE  # nothing else


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("flip", ("flip", ())),
        ("cutout", ("cutout", (16.0,))),
        ("cutout:8", ("cutout", (8.0,))),
        ("scale_crop::480", ("scale_crop", (256.0, 480.0))),
        ("area_crop:0.35", ("area_crop", (0.35, 1.0))),
    ],
)
def test_an_augmentation_is_a_name_and_arguments(op: str, expected: tuple[str, tuple[float, ...]]) -> None:
    assert operation(op) == expected


def test_set_is_recorded_as_a_departure() -> None:
    changed = with_settings(replace(BASE, departures=("one",)), ["lr=0.05", "augment=flip", "net.dropout=0.3"])
    assert changed.departures == (
        "one",
        "lr=0.05, not 0.1",
        "augment=flip, not none",
        "net.dropout=0.3, not the network's own",
    )


def test_set_to_what_it_is_changes_nothing() -> None:
    assert with_settings(BASE, ["lr=0.1", "batch=128"]) == BASE


def test_the_last_setting_of_a_field_holds() -> None:
    changed = with_settings(BASE, ["net.a=1", "net.b=2", "net.a=3", "lr=1", "lr=2"])
    assert changed.lr == 2
    assert dict(changed.net) == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("momentun=0.9", r"no recipe field named 'momentun'; did you mean momentum\?"),
        ("weightdecay=1", "did you mean weight_decay"),
        ("zzz=1", "no recipe field named 'zzz'; there is epochs, batch, lr, optimizer, "),
        ("name=x", "no recipe field named 'name'"),
        ("departures=", "no recipe field named 'departures'"),
        ("lr", "--set lr gives no value; write --set lr=VALUE"),
        ("lr=fast", "lr='fast' is not a number; lr is now 0.1"),
        ("lr=", "lr='' is not a number"),
        ("batch=12.5", "batch='12.5' is not a whole number; batch is now 128"),
        ("nesterov=1", "nesterov='1' is not true or false"),
        ("milestones=a,b", "milestones='a,b' is not numbers"),
        ("augment=flop", r"no augmentation named 'flop'; did you mean flip\?"),
        ("augment=cutout:a", "augmentation 'cutout:a' has an argument that is no number; write cutout:<side of the"),
        ("augment=flip:1", "augmentation 'flip:1' has too many arguments; write flip"),
        ("augment=cutout:0", "augmentation 'cutout:0': the side of the square is out of range; give at least 1"),
        ("augment=area_crop:2", "the lowest share of the area is out of range; give at least 0.001 and at most 1"),
        ("augment=scale_crop:512:256", "the lowest short side is above the highest short side"),
        ("augment=flip,area_crop", "augment=flip,area_crop has area_crop in the wrong place; a view .* comes first"),
        ("augment=mixup,cutmix", r"has mixup in the wrong place; a mix \(mixup, cutmix\) comes last, and only once"),
        ("schedule=cos", r"no schedule named 'cos'; did you mean cosine\?"),
        ("optimizer=adan", "no optimizer named .adan.; did you mean adam"),
        ("decay_scope=bias", "no decay scope named 'bias'; there is all, weights"),
        ("warmup=linea", r"no warm-up named 'linea'; did you mean linear\?"),
        ("ladder=speed", "no recipe field named 'ladder'"),
        ("rho=0.9", "rho=0.9 means nothing to sgd; it is for rmsprop, adam, adamw"),
        ("eps=1", "eps=1.0 means nothing to sgd; it is for rmsprop, adam, adamw"),
        ("eps=small", "eps='small' is not a number or none; eps is now None"),
        ("watch=val", "no watched split named 'val'; there is test, train"),
        ("every=0", "every=0.0 is out of range; give at least 0.001"),
        ("ema=1.1", "ema=1.1 is out of range; give at least 0 and at most 1"),
        ("clip=-1", "clip=-1.0 is out of range; give at least 0"),
        ("lr=nan", "lr=nan is out of range; give at least 0"),
        ("lr=inf", "lr=inf is out of range"),
        ("momentum=1.5", "momentum=1.5 is out of range; give at least 0 and at most 1"),
        ("batch=0", "batch=0 is out of range; give at least 1"),
        ("label_smoothing=-0.1", "label_smoothing=-0.1 is out of range"),
        ("milestones=20,10", r"milestones=\(20.0, 10.0\) do not rise"),
        ("milestones=0,10", r"milestones=\(0.0, 10.0\) do not rise"),
        ("milestones=nan", r"milestones=\(nan,\) do not rise"),
    ],
)
def test_set_refuses(setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_settings(BASE, [setting])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["optimizer=rmsprop", "nesterov=true"], "nesterov=True means nothing to rmsprop; it is for sgd"),
        (["optimizer=adam", "rho=1"], "adam never forgets with momentum or rho at 1; give less"),
        (["optimizer=adamw", "momentum=1"], "adamw never forgets with momentum or rho at 1"),
        (["warmup_epochs=1", "warmup_steps=5"], "warmup_epochs and warmup_steps each say when the warm-up ends"),
        (["warmup_error=0.8", "warmup_steps=5"], "warmup_steps and warmup_error each say when the warm-up ends"),
        (["warmup_error=0.8", "warmup=linear"], "warmup_error=0.8 does not say how fast to rise; give warmup=constant"),
    ],
)
def test_fields_that_do_not_go_together(settings: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_settings(BASE, settings)


def test_fields_of_an_optimizer_come_in_any_order() -> None:
    """Several settings are one change: what they make together is what must hold."""
    changed = with_settings(BASE, ["rho=0.95", "eps=1", "optimizer=rmsprop"])
    assert (changed.optimizer, changed.rho, changed.eps) == ("rmsprop", 0.95, 1.0)
    assert with_settings(changed, ["eps=none", "rho=none", "optimizer=sgd"]).eps is None


def test_another_batch_scales_the_rates() -> None:
    base = replace(BASE, lr_end=0.001, warmup_lr=0.02)
    changed = with_batch(base, base.batch * 4)
    assert (changed.lr, changed.lr_end, changed.warmup_lr) == pytest.approx((4 * base.lr, 0.004, 0.08))
    assert changed.departures[-1] == f"batches of {base.batch * 4}, not {base.batch}; the rate is scaled alike"
    assert with_batch(base, base.batch) == base
    with pytest.raises(UserError, match="batch=0 is out of range; give at least 1"):
        with_batch(base, 0)


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(UserError, match="nesterov=True has no momentum to look ahead by"):
        with_settings(BASE, ["momentum=0", "nesterov=true"])


@pytest.mark.parametrize("fields", [{"lr": "0.1"}, {"epochs": 2.5}, {"batch": True}, {"augment": ["flip"]}])
def test_a_value_of_another_type_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"{next(iter(fields))}=.* is not .*; see Recipe.{next(iter(fields))}"):
        replace(BASE, **fields)


# --epochs


def test_epochs_scale_the_schedule() -> None:
    long = replace(BASE, epochs=120, milestones=(60, 90), warmup_epochs=6.0, patience=5, every=2.4)
    short = with_epochs(long, 30)
    assert (short.epochs, short.milestones, short.warmup_epochs, short.patience) == (30, (15, 22.5), 1.5, 2)
    assert short.every == pytest.approx(0.6)
    assert with_epochs(replace(BASE, warmup_steps=10), 75).warmup_steps == 8
    assert short.departures == ("30 epochs, not 120; the schedule is scaled alike",)
    assert with_epochs(short, 240).milestones == (120, 180)


def test_epochs_keep_what_they_do_not_change() -> None:
    assert with_epochs(BASE, 100) is BASE
    assert with_epochs(replace(BASE, patience=1), 1).patience == 1


@pytest.mark.parametrize("epochs", [0, -3])
def test_epochs_below_one_are_refused(epochs: int) -> None:
    with pytest.raises(UserError, match=f"epochs={epochs} is out of range; give at least 1"):
        with_epochs(BASE, epochs)


def test_resnet20_in_three_epochs_drops_where_the_paper_does_in_proportion() -> None:
    recipe = with_epochs(find_recipe("resnet_cifar"), 3)
    assert recipe.milestones == pytest.approx((3 * 32 / 64.124, 3 * 48 / 64.124), rel=1e-6)  # 164 epochs: 64,124 steps


# as JSON


@pytest.mark.parametrize(
    "recipe", [*recipes().values(), with_settings(BASE, ["net.widths=[4,8]"])], ids=lambda r: r.name
)
def test_json_and_back(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_json_of_another_version_is_refused() -> None:
    record = BASE.to_json()
    with pytest.raises(UserError, match=r"no recipe field named 'lrr'; did you mean lr"):
        Recipe.from_json({**record, "lrr": 1})
    del record["lr"]
    with pytest.raises(UserError, match="the recipe has no 'lr'"):
        Recipe.from_json(record)


# the recipes that ship


def test_every_recipe_of_the_catalogue_exists() -> None:
    assert {v.recipe for v in variants().values()} - {None} <= set(recipes())


def test_every_network_has_a_recipe_or_a_reason() -> None:
    without = {v.family for v in variants().values() if v.recipe is None}
    assert without == set(WITHOUT)
    assert all(v.recipe is None for v in variants().values() if v.family in WITHOUT)


def test_the_ladders() -> None:
    """The paper's ladder and the speed ladder have published results; the demo's has none."""
    assert {r.ladder for r in recipes().values()} <= set(LADDERS)
    for recipe in recipes().values():
        assert ("%" in recipe.published) == (recipe.ladder != "demo"), recipe.name


def networks_of(name: str) -> list[Variant]:
    """Those that train by the recipe unless told otherwise, and those that its file's commands name with it."""
    commands = [line.split() for line in (recipe_file(name).__doc__ or "").splitlines() if "convatlas train " in line]
    told = [variants()[words[2]] for words in commands if words[-2:] == ["--recipe", name]]
    return [v for v in variants().values() if v.recipe == name] + told


@pytest.mark.parametrize("name", recipes())
def test_a_recipes_options_are_its_networks(name: str) -> None:
    assert networks_of(name)
    for variant in networks_of(name):
        for option, _ in find_recipe(name).net:
            assert option in variant.options, variant.name


@pytest.mark.parametrize("name", recipes())
def test_a_recipes_crops_fit_its_networks(name: str) -> None:
    """scale_crop needs images at least as large as the network's; CIFAR's pad_crop has no view."""
    for variant in networks_of(name):
        assert variant.input is not None
        if name != "digits":
            view_of(find_recipe(name).augment, variant.input[1:], seed=0, epoch=0)


# another side


def test_images_are_scaled_with_the_networks_side() -> None:
    vgg = find_recipe("vgg")
    half = with_side(vgg, 224, 112)
    assert half.augment == ("scale_crop:128:256", "flip", "lighting:0.1")
    assert half.departures[-1] == "112 pixels, not 224; images are scaled alike before they are cropped"
    assert with_side(vgg, 224, 448).augment[0] == "scale_crop:512:1024"
    assert with_side(replace(BASE, augment=("scale_crop:100",)), 100, 7).augment == ("scale_crop:7:18",)
    assert with_side(vgg, 224, 224) is vgg
    assert with_side(find_recipe("googlenet"), 224, 112).augment == find_recipe("googlenet").augment
    assert with_side(BASE, 224, 112) is BASE


def test_every_recipe_is_some_networks_or_its_file_shows_its_command() -> None:
    named = {v.recipe for v in variants().values()}
    for file in FILES:
        for recipe in file.RECIPES:
            assert recipe.name in named or f"--recipe {recipe.name}\n" in (file.__doc__ or ""), recipe.name


def recipe_file(name: str) -> ModuleType:
    """The module that holds the recipe of that name."""
    return next(file for file in FILES if name in {recipe.name for recipe in file.RECIPES})


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_says_where_it_is_from_and_what_to_expect(name: str) -> None:
    recipe, text = find_recipe(name), recipe_file(name).__doc__ or ""
    assert "(19" in recipe.source or "(20" in recipe.source  # author (year)
    assert "section" in recipe.source or "appendix" in recipe.source
    assert "convatlas train " in text
    assert "To expect: " in text
    assert all(m < recipe.epochs for m in recipe.milestones)
    assert recipe.warmup_epochs < recipe.epochs


@pytest.mark.parametrize("name", recipes())
def test_the_commands_of_a_recipe_file_name_networks_that_use_it(name: str) -> None:
    commands = [line.split() for line in (recipe_file(name).__doc__ or "").splitlines() if "convatlas train " in line]
    used = [
        words[words.index("--recipe") + 1] if "--recipe" in words else variants()[words[2]].recipe for words in commands
    ]
    assert set(used) <= {recipe.name for recipe in recipe_file(name).RECIPES}


def test_auxiliary_losses_are_for_networks_that_have_them() -> None:
    for v in variants().values():
        if v.recipe and find_recipe(v.recipe).aux_weight:
            assert hasattr(v.net, "forward_aux"), v.name


def test_a_mistyped_recipe_is_answered_with_near_names() -> None:
    with pytest.raises(UserError, match=r"no recipe named 'resnet_cifer'; did you mean resnet_cifar"):
        find_recipe("resnet_cifer")
