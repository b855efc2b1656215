"""A run that starts from another's weights: what is taken, what is left, and what a resume does."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas.catalogue import find
from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.layers import on_meta
from convatlas.recipe import (
    EMA,
    SGD,
    Recipe,
)
from convatlas.recipes import find_recipe
from convatlas.runs import checkpoint
from convatlas.runs.folder import Run, open_run
from convatlas.train.fit import Stopped
from convatlas.train.warm_start import plan_start
from convatlas.weights.types import Weights
from tests.train.short_runs import (
    CHAIN,
    TINY,
    assert_equal_runs,
    at_step,
    interrupting,
    same,
    train,
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Run:
    return train(tmp_path_factory.mktemp("source") / "run", data, replace(CHAIN, ema=EMA(0.5)))


def started(out: Path, data: Data, recipe: Recipe, **more: Any) -> tuple[Run, list[str]]:
    """A run whose steps change nothing, and the notes that it gave."""
    notes: list[str] = []
    still = replace(recipe, optimizer=SGD(0.0), epochs=1)
    run = train(out, data, still, on_event=lambda e: notes.append(e["text"]) if e["kind"] == "note" else None, **more)
    return run, notes


def test_a_run_begins_with_anothers_weights(tmp_path: Path, data: Data, source: Run) -> None:
    run, notes = started(tmp_path, data, CHAIN, init=source)
    assert same(run.weights("last"), source.weights())  # the averages of its best epoch
    record = open_run(tmp_path).record.init
    names = list(source.load().state_dict())
    assert len(record.pop("sha256")) == 64
    assert record == {"file": str(source.checkpoint()), "network": TINY, "taken": names, "left": []}
    assert notes == [
        f"initialised 4 of 4 tensors from {source.checkpoint()} ({TINY}): {', '.join(names)}; newly initialised: none"
    ]


def test_only_what_fits_and_is_asked_for_is_taken(tmp_path: Path, data: Data, source: Run) -> None:
    wider = replace(CHAIN, net=(("widths", (6,)),))
    with pytest.raises(
        UserError, match=r"no tensor of the network that matches init=stem.* has the name and shape of one in .*; give "
    ):
        started(tmp_path / "none", data, replace(wider, init=("stem.*",)), init=source)
    assert not (tmp_path / "none").exists()
    fresh = started(tmp_path / "fresh", data, CHAIN, seed=3)[0].weights("last")
    run, notes = started(tmp_path / "some", data, replace(CHAIN, init=("stem.*", "nothing")), init=source, seed=3)
    for name, tensor in run.weights("last").items():
        assert torch.equal(tensor, (source.weights() if name.startswith("stem.") else fresh)[name]), name
    assert run.record.init["taken"] == ["stem.conv1.weight", "stem.conv1.bias"]
    assert "initialised 2 of 4 tensors from" in notes[0]
    assert "newly initialised: head." in notes[0]


def test_a_resume_has_its_weights_already(tmp_path: Path, data: Data, source: Run) -> None:
    whole = train(tmp_path / "whole", data, CHAIN, init=source)
    with pytest.raises(Stopped):
        train(tmp_path / "run", data, CHAIN, init=source, on_event=interrupting(at_step(1, 3)))
    with pytest.raises(UserError, match="--init cannot be combined with --resume"):
        train(tmp_path / "run", data, CHAIN, init=source, resume=True)
    assert_equal_runs(train(tmp_path / "run", data, CHAIN, resume=True), whole)


def test_a_killed_run_begins_with_them_again(tmp_path: Path, data: Data, source: Run) -> None:
    """Before its first checkpoint, nothing else has them."""
    whole = train(tmp_path / "whole", data, CHAIN, init=source)

    def killed(event: dict[str, Any]) -> None:
        if at_step(1, 2)(event):
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "run", data, CHAIN, init=source, on_event=killed)
    assert_equal_runs(train(tmp_path / "run", data, CHAIN, resume=True), whole)


def test_a_killed_run_begins_with_no_other_weights_than_it_was_to(tmp_path: Path, data: Data, source: Run) -> None:
    """Those of the other run changed meanwhile. With a checkpoint of its own it needs them no more."""
    other = Run(Path(shutil.copytree(source.folder, tmp_path / "other")), source.record)

    def killed(event: dict[str, Any]) -> None:
        if at_step(1, 2)(event):
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(tmp_path / "run", data, CHAIN, init=other, on_event=killed)
    with pytest.raises(Stopped):
        train(tmp_path / "saved", data, CHAIN, init=other, on_event=interrupting(at_step(1, 3)))
    best = other.folder / "best.safetensors"
    tensors, state = checkpoint.load(best)
    checkpoint.save(best, {name: t + 1 if t.is_floating_point() else t for name, t in tensors.items()}, state)
    with pytest.raises(UserError, match=r"the weights in .*other.* have changed since this run"):
        train(tmp_path / "run", data, CHAIN, resume=True)
    shutil.rmtree(other.folder)
    (tmp_path / "saved/last.safetensors").rename(tmp_path / "saved/previous.safetensors")
    whole = train(tmp_path / "whole", data, CHAIN, init=source)
    assert_equal_runs(train(tmp_path / "saved", data, CHAIN, resume=True), whole)


def test_vgg_begins_with_layers_of_a(tmp_path: Path) -> None:
    """Section 3.1.1: net A's first four convolutions and last three layers; what is between begins at random."""
    recipe = find_recipe("vgg")
    with on_meta():
        a, e = (find(name).build() for name in ("vgg11", "vgg19"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("convatlas.train.warm_start.read_weights", lambda _: Weights(a.state_dict()))
        patch.setattr("convatlas.train.warm_start.digest", lambda *_: "of weights that are nowhere")
        patch.setattr("convatlas.train.warm_start.as_type", lambda *_: None)
        taken = plan_start(tmp_path, e, recipe)["taken"]
    layers = [name.removesuffix(".weight") for name in taken if name.endswith(".weight")]
    assert layers == [
        "stages.block1.conv1", "stages.block2.conv1", "stages.block3.conv1", "stages.block3.conv2",
        "head.fc6", "head.fc7", "head.fc8",
    ]  # fmt: skip
    assert len(taken) == 14


def test_a_run_begins_with_another_librarys_weights(tmp_path: Path, data: Data, source: Run) -> None:
    """The classifier, for other classes, starts afresh; all else is the file's."""
    theirs = source.load()
    theirs.reset_head(7)
    torch.save({f"module.x.{name}": tensor for name, tensor in theirs.state_dict().items()}, tmp_path / "w.pth")
    run, notes = started(tmp_path / "run", data, CHAIN, init=tmp_path / "w.pth")
    last = run.weights("last")
    taken = [name for name, tensor in theirs.state_dict().items() if not name.startswith("head")]
    assert all(torch.equal(last[name], theirs.state_dict()[name]) for name in taken)
    assert f"({TINY}, matched by order and shape): " in notes[0]
    assert "newly initialised: head" in notes[0]
    net = find("resnet20").build()
    torch.save({f"x.{name}": tensor for name, tensor in net.state_dict().items()}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=rf"other\.pth does not fit {TINY}"):
        started(tmp_path / "second", data, CHAIN, init=tmp_path / "other.pth")
