"""Yosinski's protocol: what is copied and what is frozen at each layer, from which base, on which classes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convatlas.catalogue import find
from convatlas.data.types import MemorySplit
from convatlas.errors import UserError
from convatlas.recipe import SGD, Recipe
from convatlas.runs import checkpoint
from convatlas.tuning.yosinski import Treatment, halves, layers_of, transferability, treated
from tests.trained import digits

NET = "chain_n1_m2_k1"  # stem, group2, fc1, logits
LAYERS = ["stem", "stages.group2", "head.fc1", "head.logits"]
RECIPE = Recipe(
    "yosinski", "a test", epochs=1, batch=32, optimizer=SGD(0.05), net=(("widths", (4, 4)), ("hidden", (8,)))
)


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> list[Treatment]:
    out = tmp_path_factory.mktemp("yosinski")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convatlas.train.fit.draw_curves", lambda *_: None)
        return transferability(NET, digits(120), RECIPE, out=out, layers=(2,), input=(1, 8, 8), device="cpu")


def tensors(it: Treatment) -> dict[str, torch.Tensor]:
    return {name: t for name, t in checkpoint.load(it.run.folder / "last.safetensors")[0].items() if "/" not in name}


def assert_copied_and_frozen(found: list[Treatment]) -> None:
    folder = found[0].run.folder.parent
    bases = {x: checkpoint.load(folder / f"base{x}" / "last.safetensors")[0] for x in "AB"}
    for it in found[1:]:
        copied = [name for name in tensors(it) if any(name.startswith(f"{path}.") for path in LAYERS[: it.layers])]
        assert set(it.run.record.init["taken"]) == set(copied), it.name
        assert set(it.run.record.init["left"]) == set(tensors(it)) - set(copied), it.name
        assert Path(it.run.record.init["file"]).parent.name == f"base{it.source}"
        for name, tensor in tensors(it).items():
            base = bases[it.source][name]
            assert torch.equal(tensor, base) == (name in copied and it.frozen), f"{it.name}: {name}"


def test_each_network_copies_and_freezes_its_layers(studied: list[Treatment]) -> None:
    assert [it.name for it in studied] == ["baseB", "B2B", "A2B", "B2B+", "A2B+"]
    assert_copied_and_frozen(studied)


@pytest.mark.slow
def test_at_every_layer(tmp_path: Path) -> None:
    found = transferability(NET, digits(120), RECIPE, out=tmp_path, input=(1, 8, 8), device="cpu")
    assert {it.layers for it in found} == {0, 1, 2, 3}
    assert_copied_and_frozen(found)


def test_all_are_trained_and_judged_on_b(studied: list[Treatment]) -> None:
    _, b = halves(digits(120), 0)
    for it in studied:
        assert it.run.classes == b.classes
        assert it.top1 == it.run.epochs()[-1]["val"]["top1"]


def test_what_is_there_is_not_trained_again(studied: list[Treatment], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convatlas.tuning.yosinski.fit", None)
    folder = studied[0].run.folder.parent
    again = transferability(NET, digits(120), RECIPE, out=folder, layers=(2,), input=(1, 8, 8), device="cpu")
    assert [it.top1 for it in again] == [it.top1 for it in studied]


def test_halves_divide_the_classes() -> None:
    data = digits(120)
    a, b = halves(data, 3)
    assert sorted([*a.classes, *b.classes]) == list("0123456789")
    assert len(a.train) + len(b.train) == 120
    assert isinstance(a.train, MemorySplit)
    assert isinstance(data.train, MemorySplit)
    own = [data.classes.index(name) for name in a.classes]
    at = torch.isin(data.train.labels, torch.tensor(own))
    assert torch.equal(a.train.images, data.train.images[at])
    assert [a.classes[i] for i in a.train.labels] == [data.classes[i] for i in data.train.labels[at]]
    assert a.test is None
    assert {*halves(data, 4)[0].classes} != {*a.classes}


def test_layers_are_the_papers() -> None:
    net = find("alexnet").build(input=(3, 227, 227), classes=4)
    assert [path.rpartition(".")[2] for path in layers_of(net)] == [
        *("stem", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    ]
    recipe = treated(RECIPE, ["stem", "stages.conv2"], frozen=True)
    assert recipe.init == ("stem.*", "stages.conv2.*")
    assert recipe.tuning is not None
    assert recipe.tuning.frozen == ("stem", "stages.conv2")
    assert treated(RECIPE, ["stem"], frozen=False).tuning is None


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="chain_n1_m2_k1 has no 4 layers to copy; give 1 to 3"):
        transferability(NET, digits(60), RECIPE, out=tmp_path, layers=(4,), input=(1, 8, 8))
    with pytest.raises(UserError, match="'CnB' is not one of the protocol's networks; give some of BnB, AnB"):
        transferability(NET, digits(60), RECIPE, out=tmp_path, ways=("CnB",), input=(1, 8, 8))
    data = digits(60)
    with pytest.raises(UserError, match="digits has 3 classes, too few for halves of two"):
        halves(replace(data, train=replace(data.train, classes=("a", "b", "c"))), 0)
