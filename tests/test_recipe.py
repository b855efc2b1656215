"""Recipes: components, --set, --epochs; and the ones that ship."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from convatlas import recipes as package
from convatlas.catalogue import Variant, find, variants
from convatlas.data.augment import crops_of
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.recipe import (
    EMA,
    LADDERS,
    SGD,
    Adam,
    AdamW,
    Constant,
    ConstantWarmup,
    Cosine,
    Exponential,
    LinearWarmup,
    Lookahead,
    Muon,
    Plateau,
    Poly,
    Recipe,
    RMSProp,
    Step,
    operation,
    with_batch,
    with_epochs,
    with_settings,
    with_side,
)
from convatlas.recipe.settings import settings_of
from convatlas.recipes import WITHOUT, find_recipe, recipes

FILES = [import_module(f"convatlas.recipes.{f.stem}") for f in Path(package.__path__[0]).glob("[a-z]*.py")]
BASE = Recipe(name="base", source="a test", epochs=100, batch=128, optimizer=SGD(0.1), schedule=Step((50, 75)))


# components


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD("0.1"), "lr='0.1' is not a number; see SGD.lr"),
        (lambda: SGD(0.1, nesterov=1), "nesterov=1 is not true or false; see SGD.nesterov"),
        (lambda: SGD(float("nan")), "lr=nan is out of range; give at least 0"),
        (lambda: SGD(float("inf")), "lr=inf is out of range; give at least 0"),
        (lambda: SGD(0.1, momentum=1.5), "momentum=1.5 is out of range; give at least 0 and at most 1"),
        (lambda: SGD(0.1, momentum=0, nesterov=True), "nesterov=True needs momentum; give momentum above 0"),
        (lambda: SGD(0.1, clip=-1), "clip=-1 is out of range; give at least 0"),
        (lambda: SGD(0.1, decay_scope="bias"), "no decay scope named 'bias'; choose from all, weights, not_norm"),
        (lambda: Adam(0.1, beta1=1.0), "beta1=1.0 is out of range; give at least 0 and less than 1"),
        (lambda: AdamW(0.1, beta2=1.0), "beta2=1.0 is out of range; give at least 0 and less than 1"),
        (lambda: Muon(0.1, ns_steps=0), "ns_steps=0 is out of range; give at least 1"),
        (lambda: Muon(0.1, sgd_momentum=2), "sgd_momentum=2 is out of range; give at least 0 and at most 1"),
        (lambda: Muon(0.1, normalize=1), "normalize=1 is not true or false; see Muon.normalize"),
        (lambda: RMSProp(0.1, rho=-0.1), "rho=-0.1 is out of range"),
        (lambda: Step(()), "a step schedule without milestones never drops; give milestones, or schedule=constant"),
        (lambda: Step((20, 10)), "milestones=20,10 are not in order"),
        (lambda: Step((0, 10)), "milestones=0,10 is out of range; give more than 0"),
        (lambda: Step([10]), r"milestones=\[10\] is not numbers; see Step.milestones"),
        (lambda: Plateau(patience=0), "patience=0 is out of range; give at least 1"),
        (lambda: Plateau(patience=2.5), "patience=2.5 is not a whole number"),
        (lambda: Plateau(watch="test"), "no watch named 'test'; choose from held_out, train"),
        (lambda: Exponential(0.9, every=0), "every=0 is out of range; give at least 0.001"),
        (lambda: LinearWarmup(), "the warm-up never ends; give exactly one of warmup.epochs, warmup.steps$"),
        (
            lambda: LinearWarmup(epochs=1, steps=5),
            "warmup.epochs and warmup.steps each set when the warm-up ends; give ",
        ),
        (lambda: LinearWarmup(epochs=0), "warmup.epochs=0 is out of range; give more than 0"),
        (
            lambda: ConstantWarmup(0.1, steps=5, error=0.8),
            "warmup.steps and warmup.error each set when the warm-up ends",
        ),
        (lambda: EMA(1.1), "ema.decay=1.1 is out of range; give at least 0 and at most 1"),
        (lambda: Lookahead(-1), "lookahead.decay=-1 is out of range"),
        (lambda: replace(BASE, optimizer=0.1), "optimizer=0.1 is not a component such as SGD"),
        (lambda: replace(BASE, schedule=None), "schedule=None is not a component such as Step"),
        (lambda: replace(BASE, ema=0.9), "ema=0.9 is not a component such as EMA"),
        (lambda: replace(BASE, epochs=2.5), "epochs=2.5 is not a whole number; see Recipe.epochs"),
        (lambda: replace(BASE, batch=True), "batch=True is not a whole number"),
        (lambda: replace(BASE, augment=["flip"]), "augment=.* is not names"),
        (lambda: replace(BASE, net=(("dropout", 0.3, 1),)), r"net=.* is not \(name, value\) pairs"),
        (lambda: replace(BASE, ladder="fast"), "no ladder named 'fast'; choose from paper, speed, own, demo"),
        (lambda: replace(BASE, whiten="pixels"), "no whiten named 'pixels'; did you mean pixel"),
    ],
)
def test_a_value_of_another_type_or_out_of_range_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0.1, rho=0.9), "rho"),
        (lambda: RMSProp(0.1, nesterov=True), "nesterov"),
        (lambda: Muon(0.1, nesterov=True), "nesterov"),
        (lambda: Cosine(milestones=(30,)), "milestones"),
        (lambda: LinearWarmup(error=0.8), "error"),
        (lambda: Exponential(), "gamma"),
    ],
)
def test_a_mixture_without_meaning_cannot_be_written(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("flip", ("flip", ())),
        ("cutout", ("cutout", (16.0,))),
        ("cutout:8", ("cutout", (8.0,))),
        ("scale_crop::480", ("scale_crop", (256.0, 480.0))),
        ("warp_crop", ("warp_crop", (256.0,))),
        ("area_crop:0.35", ("area_crop", (0.35, 1.0))),
        ("randaugment", ("randaugment", (2.0, 9.0))),
        ("randaugment:3:0", ("randaugment", (3.0, 0.0))),
        ("randaugment:1:31", ("randaugment", (1.0, 31.0))),
        ("trivialaugment", ("trivialaugment", ())),
    ],
)
def test_an_augmentation_is_a_name_and_arguments(op: str, expected: tuple[str, tuple[float, ...]]) -> None:
    assert operation(op) == expected


# --set


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["lr=0.05"], {"optimizer": SGD(0.05)}),
        (["lr=1e-3", "nesterov=True"], {"optimizer": SGD(0.001, nesterov=True)}),
        ([" batch = 64 "], {"batch": 64}),
        (["schedule=cosine"], {"schedule": Cosine()}),
        (["schedule=constant"], {"schedule": Constant()}),
        (["milestones=10, 20.5"], {"schedule": Step((10.0, 20.5))}),
        (["schedule=plateau", "watch=train"], {"schedule": Plateau(watch="train")}),
        (["power=2", "schedule=poly"], {"schedule": Poly(2.0)}),
        (["every=2.4", "schedule=exponential", "gamma=0.97"], {"schedule": Exponential(0.97, every=2.4)}),
        (["eps=1", "lr=0.2", "optimizer=rmsprop"], {"optimizer": RMSProp(0.2, eps=1.0)}),
        (["optimizer=muon"], {"optimizer": Muon(0.1)}),
        (["optimizer=muon", "sgd_rate=7", "ns_steps=3"], {"optimizer": Muon(0.1, ns_steps=3, sgd_rate=7.0)}),
        (["warmup=linear", "warmup.epochs=5"], {"warmup": LinearWarmup(epochs=5.0)}),
        (["warmup.lr=0.01", "warmup.error=0.8", "warmup=constant"], {"warmup": ConstantWarmup(0.01, error=0.8)}),
        (["warmup=none", "ema=none"], {}),
        (["ema.decay=0.999"], {"ema": EMA(0.999)}),
        (["lookahead.decay=0.8"], {"lookahead": Lookahead(0.8)}),
        (["augment=pad_crop,flip"], {"augment": ("pad_crop", "flip")}),
        (["augment=scale_crop:256:512,mixup:0.4"], {"augment": ("scale_crop:256:512", "mixup:0.4")}),
        (["net.dropout=0.3"], {"net": (("dropout", 0.3),)}),
        (["net.widths=[4,8]"], {"net": (("widths", (4, 8)),)}),
        (["net.shortcut=B"], {"net": (("shortcut", "B"),)}),
        (["net.pool=false"], {"net": (("pool", False),)}),
    ],
)
def test_set_changes_what_it_names_and_nothing_else(changes: list[str], expected: dict[str, Any]) -> None:
    changed = with_settings(BASE, changes)
    assert replace(changed, departures=()) == replace(BASE, **expected)
    assert bool(changed.departures) == bool(expected)


def test_another_component_keeps_what_the_two_have_in_common() -> None:
    sgd = SGD(0.2, momentum=0.8, nesterov=True, weight_decay=1e-4, decay_scope="weights", clip=2.0)
    base = replace(BASE, optimizer=sgd, schedule=Plateau(gamma=0.5))
    changed = with_settings(base, ["optimizer=rmsprop", "schedule=step", "milestones=30"])
    assert changed.optimizer == RMSProp(0.2, momentum=0.8, weight_decay=1e-4, decay_scope="weights", clip=2.0)
    assert changed.schedule == Step((30.0,), gamma=0.5)
    assert with_settings(base, ["optimizer=adamw"]).optimizer == AdamW(
        0.2, weight_decay=1e-4, decay_scope="weights", clip=2.0
    )
    inception = replace(BASE, optimizer=RMSProp(0.045, eps=1.0))
    assert with_settings(inception, ["optimizer=adam"]).optimizer == Adam(0.045)  # whose epsilon is another thing
    with pytest.raises(UserError, match=r"schedule=exponential needs more settings; add --set gamma=\.\.\."):
        with_settings(base, ["schedule=exponential"])  # a plateau's gamma is not that of an epoch


def test_another_end_takes_the_place_of_the_warm_ups() -> None:
    base = replace(BASE, warmup=ConstantWarmup(0.01, steps=400))
    assert with_settings(base, ["warmup.epochs=5"]).warmup == ConstantWarmup(0.01, epochs=5.0)
    assert with_settings(base, ["warmup.lr=0.02"]).warmup == ConstantWarmup(0.02, steps=400)
    assert with_settings(base, ["warmup=linear"]).warmup == LinearWarmup(0.01, steps=400)
    assert with_settings(base, ["warmup=none"]).warmup is None
    with pytest.raises(UserError, match=r"warmup\.epochs and warmup\.steps each set when the warm-up ends"):
        with_settings(base, ["warmup.epochs=5", "warmup.steps=3"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["lr=0.05"], ["lr 0.05, not 0.1"]),
        (["milestones=30,60"], ["milestones 30,60, not 50,75"]),
        (["nesterov=true"], ["nesterov true, not false"]),
        (["label_smoothing=0.1"], ["label smoothing 0.1, not 0"]),
        (["schedule=cosine"], ["cosine schedule, not step"]),
        (["schedule=poly", "power=2", "lr_end=0"], ["poly schedule, not step", "power 2", "lr end 0"]),
        (["optimizer=adamw", "lr=1e-3"], ["adamw optimizer, not sgd", "lr 0.001, not 0.1"]),
        (["warmup=linear", "warmup.epochs=5"], ["linear warm-up, not none", "warm-up epochs 5"]),
        (["ema.decay=0.999"], ["ema decay 0.999"]),
        (["augment=flip", "net.dropout=0.3"], ["augment flip, not none", "net.dropout 0.3, not the network's own"]),
        (["lr=0.1", "batch=128", "schedule=step", "augment=", "warmup=none"], []),
    ],
)
def test_set_is_recorded_as_departures_in_words(changes: list[str], expected: list[str]) -> None:
    assert with_settings(replace(BASE, departures=("one",)), changes).departures == ("one", *expected)


def test_the_end_of_a_warm_up_and_of_an_average_are_departures() -> None:
    base = replace(BASE, warmup=LinearWarmup(epochs=5), ema=EMA(0.9))
    assert with_settings(base, ["warmup=none", "ema=none"]).departures == ("no warm-up, not linear", "no ema")
    assert with_settings(base, ["warmup.steps=9"]).departures == ("warm-up steps 9",)


def test_the_last_setting_of_a_name_holds() -> None:
    changed = with_settings(BASE, ["net.a=1", "net.b=2", "net.a=3", "lr=1", "lr=2"])
    assert changed.optimizer.lr == 2
    assert dict(changed.net) == {"a": 3, "b": 2}
    assert with_settings(BASE, ["lr=0.3", "lr=0.1"]) == BASE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("momentun=0.9", r"no setting named 'momentun'; did you mean momentum\?"),
        ("weightdecay=1", "did you mean weight_decay"),
        ("zzz=1", "no setting named 'zzz'; choose from epochs, batch, augment, "),
        ("ema.deca=1", "no setting named 'ema.deca'; did you mean ema.decay"),
        ("warmup.epoch=5", "no setting named 'warmup.epoch'; did you mean warmup.epochs"),
        ("warmup_epochs=5", "no setting named 'warmup_epochs'; did you mean warmup.epochs"),
        ("name=x", "no setting named 'name'"),
        ("departures=", "no setting named 'departures'"),
        ("ladder=speed", "no setting named 'ladder'"),
        ("lr", "--set lr gives no value; write --set lr=VALUE"),
        ("lr=fast", "lr='fast' is not a number; lr is now 0.1"),
        ("lr=", "lr='' is not a number"),
        ("lr=-1", "lr=-1.0 is out of range; give at least 0"),
        ("batch=12.5", "batch='12.5' is not a whole number; batch is now 128"),
        ("batch=0", "batch=0 is out of range; give at least 1"),
        ("nesterov=1", "nesterov='1' is not true or false; nesterov is now false"),
        ("milestones=a,b", "milestones='a,b' is not numbers; milestones is now 50,75"),
        ("milestones=", "a step schedule without milestones never drops"),
        ("milestones=nan", "milestones='nan' is not numbers; milestones is now 50,75"),
        ("augment=flop", r"no augmentation named 'flop'; did you mean flip\?"),
        ("augment=cutout:a", "augmentation 'cutout:a' has an argument that is not a number; write cutout:<side of the"),
        ("augment=flip:1", "augmentation 'flip:1' has too many arguments; write flip"),
        ("augment=cutout:0", "augmentation 'cutout:0': the side of the square is out of range; give at least 1"),
        ("augment=area_crop:2", "the lowest share of the area is out of range; give at least 0.001 and at most 1"),
        ("augment=scale_crop:512:256", "the lowest short side is above the highest short side"),
        ("augment=randaugment:0:9", "the number of operations is out of range; give at least 1 and at most 10"),
        ("augment=randaugment:2:32", "the magnitude is out of range; give at least 0 and at most 31"),
        (
            "augment=randaugment:2:9.5",
            "the magnitude is not a whole number; write randaugment:<number of operations>:<",
        ),
        ("augment=pad_crop:2.5", "the number of pixels added on each side is not a whole number"),
        ("augment=trivialaugment:9", "'trivialaugment:9' has too many arguments; write trivialaugment"),
        (
            "augment=flip,area_crop",
            "augment=flip,area_crop has area_crop in the wrong position; a random crop .* first",
        ),
        ("augment=mixup,cutmix", r"has mixup in the wrong position; a mix \(mixup, cutmix\) comes last, and only once"),
        ("schedule=cos", r"no schedule named 'cos'; did you mean cosine\?"),
        ("schedule=none", "no schedule named 'none'"),
        ("optimizer=adan", "no optimizer named .adan.; did you mean adam"),
        ("warmup=linea", r"no warmup named 'linea'; did you mean linear\?"),
        ("warmup=linear", "the warm-up never ends; give exactly one of warmup.epochs, warmup.steps"),
        ("warmup=constant", r"warmup=constant needs more settings; add --set warmup.lr=\.\.\."),
        ("warmup.epochs=5", "warmup.epochs belongs to warmup=linear or constant, but warmup is none; add --set"),
        ("ema=0.9", "ema=0.9 is neither ema nor none; write --set ema.decay=0.9"),
        ("ema=ema", r"ema=ema needs more settings; add --set ema.decay=\.\.\."),
        ("rho=0.9", "rho belongs to optimizer=rmsprop, but optimizer is sgd; add --set optimizer=rmsprop"),
        ("ns_steps=5", "ns_steps belongs to optimizer=muon, but optimizer is sgd; add --set optimizer=muon"),
        ("power=2", "power belongs to schedule=poly, but schedule is step; add --set schedule=poly"),
        ("label_smoothing=-0.1", "label_smoothing=-0.1 is out of range"),
    ],
)
def test_set_refuses(change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_settings(BASE, [change])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["schedule=cosine", "gamma=0.5"],
            "gamma belongs to schedule=step or plateau or exponential, but",
        ),
        (["optimizer=rmsprop", "nesterov=true"], "nesterov belongs to optimizer=sgd, but optimizer is rmsprop"),
        (
            ["warmup=linear", "warmup.epochs=2", "warmup.error=0.8"],
            "warmup.error belongs to warmup=constant, but",
        ),
        (["ema=none", "ema.decay=0.9"], "ema.decay belongs to ema=ema, but ema is none"),
    ],
)
def test_settings_that_do_not_go_together(changes: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        with_settings(BASE, changes)


def test_settings_are_named_as_set_takes_them() -> None:
    recipe = replace(BASE, warmup=LinearWarmup(epochs=5), ema=EMA(0.9), net=(("dropout", 0.3),))
    found = settings_of(recipe)
    assert found["lr"] == 0.1
    assert found["schedule"] == "step"
    assert found["milestones"] == (50, 75)
    assert found["warmup"] == "linear"
    assert found["warmup.epochs"] == 5
    assert "warmup.steps" not in found
    assert found["lookahead"] == "none"
    assert found["net.dropout"] == 0.3


# --epochs and --batch


def test_epochs_scale_the_times() -> None:
    long = replace(BASE, epochs=120, schedule=Step((60, 90)), warmup=LinearWarmup(epochs=6.0))
    short = with_epochs(long, 30)
    assert (short.epochs, short.schedule, short.warmup) == (30, Step((15, 22.5)), LinearWarmup(epochs=1.5))
    assert short.departures == ("30 epochs, not 120; schedule scaled to match",)
    assert with_epochs(short, 240).schedule == Step((120, 180))
    assert with_epochs(replace(BASE, warmup=ConstantWarmup(0.01, steps=10)), 75).warmup == ConstantWarmup(0.01, steps=8)
    assert with_epochs(replace(BASE, schedule=Plateau(patience=5)), 30).schedule == Plateau(patience=2)
    assert with_epochs(replace(BASE, schedule=Exponential(0.9, every=2.4)), 25).schedule == Exponential(0.9, every=0.6)


def test_epochs_keep_what_they_do_not_change() -> None:
    assert with_epochs(BASE, 100) is BASE
    assert with_epochs(replace(BASE, schedule=Plateau(patience=1)), 1).schedule == Plateau(patience=1)
    until = ConstantWarmup(0.01, error=0.8)
    assert with_epochs(replace(BASE, schedule=Cosine(), warmup=until), 3).warmup == until


@pytest.mark.parametrize("epochs", [0, -3])
def test_epochs_below_one_are_refused(epochs: int) -> None:
    with pytest.raises(UserError, match=f"epochs={epochs} is out of range; give at least 1"):
        with_epochs(BASE, epochs)


def test_resnet20_in_three_epochs_drops_where_the_paper_does_in_proportion() -> None:
    schedule = with_epochs(find_recipe("resnet_cifar"), 3).schedule
    assert isinstance(schedule, Step)
    expected = (3 * 32 / 64.124, 3 * 48 / 64.124)  # 164 epochs: 64,124 steps
    assert schedule.milestones == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("schedule", "scaled"), [(Cosine(0.001), Cosine(0.004)), (Poly(2, 0.001), Poly(2, 0.004))])
def test_another_batch_size_scales_the_learning_rates(schedule: Any, scaled: Any) -> None:
    base = replace(BASE, schedule=schedule, warmup=LinearWarmup(0.02, steps=5))
    changed = with_batch(base, base.batch * 4)
    assert changed.optimizer == SGD(0.4)
    assert changed.schedule == scaled
    assert changed.warmup == LinearWarmup(0.08, steps=5)
    assert changed.departures[-1] == "batch size 512, not 128; learning rates scaled linearly"
    assert with_batch(base, base.batch) is base
    with pytest.raises(UserError, match="batch=0 is out of range; give at least 1"):
        with_batch(base, 0)


# as JSON


@pytest.mark.parametrize(
    "recipe", [*recipes().values(), with_settings(BASE, ["net.widths=[4,8]"])], ids=lambda r: r.name
)
def test_json_and_back(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_a_component_in_json_has_its_kind() -> None:
    record = replace(BASE, ema=EMA(0.9)).to_json()
    assert record["optimizer"]["kind"] == "sgd"
    assert record["schedule"] == {"kind": "step", "milestones": (50, 75), "gamma": 0.1}
    assert record["ema"] == {"kind": "ema", "decay": 0.9}
    assert record["warmup"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 1}, r"no recipe field named 'epoch'; did you mean epochs"),
        ({"epochs": ...}, "the recipe has no 'epochs'; it is required"),
        ({"optimizer": {"kind": "sgd", "lr": 1, "lrr": 1}}, "no sgd optimizer field named 'lrr'; did you mean lr"),
        ({"optimizer": {"kind": "sgd"}}, "the sgd optimizer has no 'lr'; it is required"),
        ({"optimizer": {"kind": "sgdd", "lr": 1}}, "no optimizer named 'sgdd'; did you mean sgd"),
        ({"optimizer": {"lr": 1}}, "the recipe's optimizer is not an object with a kind; one of sgd, rmsprop, adam"),
        ({"optimizer": "sgd"}, "the recipe's optimizer is not an object with a kind"),
        ({"optimizer": None}, "optimizer=None is not a component"),
    ],
)
def test_json_that_is_not_a_recipe_is_refused(changes: dict[str, Any], message: str) -> None:
    record = BASE.to_json()
    with pytest.raises(UserError, match=message):
        Recipe.from_json({name: value for name, value in {**record, **changes}.items() if value is not ...})


# the recipes that ship


def test_every_recipe_of_the_catalogue_exists() -> None:
    assert {v.recipe for v in variants().values()} - {None} <= set(recipes())


def test_every_network_has_a_recipe_or_a_reason() -> None:
    without = {v.family for v in variants().values() if v.recipe is None}
    assert without == set(WITHOUT)
    assert all(v.recipe is None for v in variants().values() if v.family in WITHOUT)


def test_the_ladders() -> None:
    """The paper's ladder and the speed ladder have published results; our own and the demo's have none."""
    assert {r.ladder for r in recipes().values()} <= set(LADDERS)
    for recipe in recipes().values():
        assert ("%" in recipe.published) == (recipe.ladder in ("paper", "speed")), recipe.name


def test_our_own_recipes_say_that_no_paper_has_them() -> None:
    own = [r for r in recipes().values() if r.ladder == "own"]
    assert own
    for recipe in own:
        assert recipe.source.startswith("our own"), recipe.name
        assert any("not a paper's recipe" in d for d in recipe.departures), recipe.name
        assert "n=" in (recipe_file(recipe.name).__doc__ or ""), recipe.name


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
    """scale_crop needs images at least as large as the network's; CIFAR's pad_crop is not taken while reading."""
    for variant in networks_of(name):
        assert variant.input is not None
        if name != "digits":
            crops_of(find_recipe(name).augment, variant.input[1:], seed=0, epoch=0)


# another side


def test_images_are_scaled_with_the_networks_side() -> None:
    vgg = find_recipe("vgg")
    half = with_side(vgg, 224, 112)
    assert half.augment == ("scale_crop:128:256", "flip", "lighting:0.1")
    assert half.departures[-1] == "112 pixels, not 224; images resized in proportion before cropping"
    assert with_side(vgg, 224, 448).augment[0] == "scale_crop:512:1024"
    assert with_side(replace(BASE, augment=("scale_crop:100",)), 100, 7).augment == ("scale_crop:7:18",)
    assert with_side(replace(BASE, augment=("square_crop", "flip")), 224, 112).augment == ("square_crop:128", "flip")
    assert with_side(replace(BASE, augment=("warp_crop:256",)), 227, 454).augment == ("warp_crop:512",)
    assert with_side(vgg, 224, 224) is vgg
    assert with_side(find_recipe("googlenet"), 224, 112).augment == find_recipe("googlenet").augment
    assert with_side(BASE, 224, 112) is BASE


@pytest.mark.parametrize(
    ("names", "crop"),
    [
        (("alexnet", "zfnet"), "square_crop:256"),
        (("alexnet_caffe", "googlenet_caffe", "nin", "squeezenet"), "warp_crop:256"),  # Caffe's ImageNet tutorial
        (("bn_alexnet",), "scale_crop:256"),
    ],
)
def test_what_the_first_imagenet_networks_crops_are_of(names: tuple[str, ...], crop: str) -> None:
    """The central square of the scaled image, the image warped to a square, or anywhere in the scaled image."""
    for name in names:
        assert find_recipe(name).augment[0] == crop


def test_fractalnet_trains_with_and_without_its_two_kinds_of_dropping() -> None:
    fractalnet = find("fractalnet_20")
    for name, epochs in (("fractalnet", 400), ("fractalnet_svhn", 20)):
        drops, none = find_recipe(name), find_recipe(f"{name}_no_drop")
        assert (drops.epochs, none.epochs) == (epochs, epochs)
        assert drops.schedule == none.schedule == Step(tuple(epochs * share for share in (0.5, 0.75, 0.875, 0.9375)))
        assert (drops.optimizer.bias_rate, drops.optimizer.decay_scope) == (2.0, "weights")
        rates = [m.p for m in fractalnet.build(**dict(drops.net)).modules() if isinstance(m, nn.Dropout)]
        assert set(rates) == {0.1, 0.2, 0.3, 0.4, 0.15}
        rates = [m.p for m in fractalnet.build(**dict(none.net)).modules() if isinstance(m, nn.Dropout)]
        assert set(rates) == {0.0}
        assert Recipe.from_json(json.loads(json.dumps(none.to_json()))) == none
    assert "4.60 / 23.73" in find_recipe("fractalnet").published
    assert "5.22 / 23.30" in find_recipe("fractalnet_no_drop").published


@pytest.mark.parametrize("form", ["plain{}", "resnet{}", "resnet{}_b"])
def test_cifar_networks_of_110_layers_and_more_warm_up(form: str) -> None:
    """Whatever their shortcuts: section 4.2 gives the reason, that 0.1 is too large a rate to start with."""
    for depth in (20, 56, 110, 1202):
        if form.format(depth) == "plain1202":
            continue
        warmup = find_recipe(find(form.format(depth)).recipe).warmup
        assert warmup == (ConstantWarmup(lr=0.01, error=0.8) if depth >= 110 else None)


def test_densenet_trains_on_svhn_for_40_epochs() -> None:
    """Halved and quartered as on CIFAR, with dropout, as there is no augmentation."""
    svhn = find_recipe("densenet_svhn")
    assert (svhn.epochs, svhn.batch, svhn.schedule) == (40, 64, Step((20, 30)))
    assert (svhn.augment, svhn.net) == ((), (("dropout", 0.2),))
    assert any(c.what == "svhn_err" and c.printed in svhn.published for c in find("densenet_bc_100_12").claims)


def test_the_largest_of_the_first_densenets_trains_longer_on_smaller_batches() -> None:
    """Section 4.2, before DenseNet-264 took its place; the others drop twice in 90 epochs of 256 images."""
    largest = find_recipe(find("densenet161").recipe)
    assert (largest.epochs, largest.batch, largest.schedule) == (100, 128, Step((30, 60, 90)))
    for depth in (121, 169, 201, 264):
        recipe = find_recipe(find(f"densenet{depth}").recipe)
        assert (recipe.epochs, recipe.batch, recipe.schedule) == (90, 256, Step((30, 60)))
    assert any(c.what == "top1_err" and f"{c.printed}%" in largest.published for c in find("densenet161").claims)


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
    assert "Expected: " in text
    if isinstance(recipe.schedule, Step):
        assert all(m < recipe.epochs for m in recipe.schedule.milestones)
    if recipe.warmup and recipe.warmup.epochs:
        assert recipe.warmup.epochs < recipe.epochs


def test_a_plateau_on_the_images_that_results_are_measured_on_is_a_departure() -> None:
    watching = [r for r in recipes().values() if isinstance(r.schedule, Plateau) and r.schedule.watch == "held_out"]
    assert watching
    for recipe in watching:
        assert any("on ImageNet's validation set, on which the results" in d for d in recipe.departures), recipe.name


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
            assert v.net.forward_aux is not ConvNet.forward_aux, v.name


def test_a_mistyped_recipe_is_answered_with_near_names() -> None:
    with pytest.raises(UserError, match=r"no recipe named 'resnet_cifer'; did you mean resnet_cifar"):
        find_recipe("resnet_cifer")
