"""`convatlas recipes`: the list, one recipe, and JSON that makes it again."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from convatlas.cli import main
from convatlas.recipe import SGD, Recipe, with_settings
from convatlas.recipe.settings import settings_of
from convatlas.recipes import find_recipe, recipes


def output(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["recipes", *args]) == 0
    return capsys.readouterr().out


def test_the_list_has_every_recipe_and_what_it_is_published_to_reach(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {line.split()[0]: line for line in output(capsys).splitlines() if line.strip()}
    assert set(recipes()) <= set(lines)
    assert "test error 8.75% (ResNet-20)" in lines["resnet_cifar"]
    assert lines["efficientnet"].split()[-4:] == ["350", "2,048", "0.128", "22"]
    assert f"{len(recipes())} recipes." in lines[str(len(recipes()))]


def test_a_ladder_narrows_it_down(capsys: pytest.CaptureFixture[str]) -> None:
    out = output(capsys, "--ladder", "demo")
    assert "\ndigits " in out
    assert "resnet_cifar" not in out


@pytest.mark.parametrize("name", recipes())
def test_one_recipe_in_full(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed of the fields is what `--set` takes: it makes the recipe of a bare one."""
    recipe, out = find_recipe(name), output(capsys, name)
    assert recipe.source in out
    assert recipe.published in out
    assert all(departure in out for departure in recipe.departures)
    rows = [line.split() for line in out.partition("─")[2].splitlines() if len(line.split()) == 2]
    printed = [f"{name}={value}" for name, value in rows if not name.startswith("net.")]
    bare = Recipe(name="bare", source="", epochs=1, batch=1, optimizer=SGD(1.0))
    made, told = flat(with_settings(bare, printed)), flat(recipe)
    assert made.keys() == told.keys() - {name for name in told if name.startswith("net.")}
    for name, value in made.items():
        assert value == (pytest.approx(told[name], rel=1e-5) if isinstance(value, float) else told[name]), name


def flat(recipe: Recipe) -> dict[str, Any]:
    """Every setting, numbers of a tuple one by one: printed ones have six digits."""
    found = {}
    for name, value in settings_of(recipe).items():
        numbers = isinstance(value, tuple) and value and not isinstance(value[0], str)
        found |= {f"{name} {i}": float(v) for i, v in enumerate(value)} if numbers else {name: value}
    return found


def test_json_makes_the_recipe_again(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(output(capsys, "--json"))["recipes"]
    for record in found:
        assert isinstance(record.pop("networks"), list)
        recipe = Recipe.from_json(record)
        assert recipe == find_recipe(recipe.name)
    assert {r["name"] for r in found} == set(recipes())


def test_a_mistyped_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "resnet_cifer"]) == 2
    assert "no recipe named 'resnet_cifer'; did you mean resnet_cifar" in capsys.readouterr().err


def test_the_other_forms(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "vgg", "--csv").splitlines()[:4] == [
        "setting,value",
        "epochs,74",
        "batch,256",
        "optimizer,sgd",
    ]
    assert output(capsys, "vgg", "--md").startswith("# vgg: Simonyan and Zisserman (2014), section 3")
    assert output(capsys, "--ladder", "demo", "--csv").splitlines() == [
        "recipe,ladder,optimizer,schedule,published,epochs,batch,lr,networks", "digits,demo,sgd,cosine,,60,32,0.002,0"
    ]  # fmt: skip


def test_a_recipe_fits_eighty_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, output(capsys).splitlines())) <= 80
    assert max(map(len, output(capsys, "resnet").splitlines())) <= 80


def test_it_does_without_torch() -> None:
    code = "import sys; from convatlas.cli import main; main(['recipes']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
