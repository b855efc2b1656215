"""A training that diverges stops before the update, says where and why, and keeps its last good checkpoint."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.data.augment import order
from convatlas.data.sources.folder import FolderSplit
from convatlas.data.types import Data
from convatlas.machine.processes import World
from convatlas.recipe import SGD, ConstantWarmup, Recipe
from convatlas.runs.folder import open_run
from convatlas.train import passes
from convatlas.train.divergence import Diverged, culprits, describe_culprits, first_not_finite
from convatlas.train.loss import loss_of
from tests.train.short_runs import (
    CHAIN,
    at_step,
    interrupting,
    same,
    train,
    weights,
)


def test_a_loss_that_is_not_finite_names_its_step(tmp_path: Path, data: Data) -> None:
    """The first step with such a rate still has a finite loss; its update spoils the second's."""
    with pytest.raises(
        Diverged,
        match=r"the loss is (nan|inf) at step 2 of epoch 1 \(lr 1e\+30\), .*; no checkpoint was saved before; try",
    ):
        train(tmp_path, data, replace(CHAIN, optimizer=SGD(1e30)))
    assert not (tmp_path / "last.safetensors").exists()


SPOILT = {  # what is not finite: what the message says, with the images of step 3 in the order of the epoch
    "image": r"the loss is nan at step 3 of epoch 1 \(lr 0.02\), by the pixels of training images {1}, {4}; .*; fix",
    "output": r"the loss is nan at .*, by the network's outputs for training image {5}; no .*; try a smaller learning",
    "loss": r"the loss is inf at .*, in the batch of training images {0}, .*, {7} and 8 more \(all are in log.jsonl\)",
    "gradient": r"the gradient of stem.conv1.weight is not finite at step 3 of epoch 1 .*, in the batch of training im",
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_what_is_not_finite_stops_it_before_the_update(
    tmp_path: Path, data: Data, spoilt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets: list[tuple[nn.Module, dict[str, Tensor]]] = []

    def spoiling(net: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, _: None) -> tuple[Tensor, Tensor]:
        nets.append((net, {name: t.clone() for name, t in net.state_dict().items()}))
        third = len(nets) == 3
        if third and spoilt == "image":
            x[1, 0, 3, 3], x[4, 0, 0, 0] = math.nan, math.inf
        loss, logits = loss_of(net, x, y, recipe)
        if third and spoilt == "output":
            logits[5, 2] = math.nan
            loss = F.cross_entropy(logits, y)
        if third and spoilt == "loss":
            loss = loss + math.inf
        if third and spoilt == "gradient":
            weight = next(net.parameters())
            loss = loss + 0 * (weight - weight.detach()).sum().sqrt()  # adds nothing, with a gradient of 0 times inf
        return loss, logits

    monkeypatch.setattr(passes, "loss_of", spoiling)
    images = order(72, seed=0, epoch=0)[32:48].tolist()
    with pytest.raises(Diverged, match=SPOILT[spoilt].format(*images)):
        train(tmp_path, data)
    net, before = nets[-1]
    assert len(nets) == 3
    assert same(net.state_dict(), before)
    describe_culprits = open_run(tmp_path).log()[-1]
    assert (describe_culprits["kind"], describe_culprits["step"]) == ("diverged", 3)
    some = {"image": [images[1], images[4]], "output": [images[5]]}
    assert describe_culprits["images"] == some.get(spoilt, images)
    monkeypatch.undo()
    train(tmp_path, data, resume=True)
    assert all(line["kind"] != "diverged" for line in open_run(tmp_path).log())


def test_the_first_that_is_not_finite() -> None:
    huge = torch.full((4,), 3e38)  # whose sum is not finite
    fine = {"a": huge, "b": torch.tensor(3), "c": torch.zeros(0), "d": torch.ones(2, dtype=torch.bfloat16)}
    assert first_not_finite(fine) is None
    for bad in (math.nan, math.inf, -math.inf):
        assert first_not_finite({**fine, "e": torch.tensor([1.0, bad]), "f": torch.tensor(bad)}) == "e"
        assert first_not_finite({**fine, "e": torch.tensor([1.0, complex(0, bad)])}) == "e"
    assert first_not_finite({**fine, "e": torch.tensor([1.0, math.nan]).to(torch.float8_e4m3fn)}) == "e"
    both = {"a": torch.ones(2), "e": torch.tensor([math.inf, -math.inf]), "f": -huge}
    assert first_not_finite(both) == "e"


def test_files_are_named_by_their_paths(tmp_path: Path) -> None:
    split = FolderSplit("train", tuple(tmp_path / f"{i}.png" for i in range(9)), torch.zeros(9), (), {})
    x = torch.zeros(3, 1, 2, 2)
    x[2, 0, 1, 1] = math.inf
    which = culprits(split, World(), torch.tensor([8, 0, 4]), x, torch.zeros(3, 5))
    assert which == {"why": "pixels", "images": [4], "files": [f"{tmp_path}/4.png"]}
    assert describe_culprits(which) == f", by the pixels of {tmp_path}/4.png"


def test_the_last_good_checkpoint_is_kept(tmp_path: Path, data: Data) -> None:
    recipe = replace(CHAIN, optimizer=SGD(1e30), warmup=ConstantWarmup(0.01, epochs=1))
    with pytest.raises(
        Diverged, match=r"the loss is (nan|inf) at step 2 of epoch 2 .*last.safetensors is from an earlier step"
    ):
        train(tmp_path, data, recipe)
    good = train(tmp_path.with_name("good"), data, replace(CHAIN, epochs=1, optimizer=SGD(0.01)))
    assert same(weights(open_run(tmp_path)), weights(good))
    assert len(open_run(tmp_path).epochs()) == 1


def test_weights_that_are_not_finite_are_found_after_the_epochs_last_step(tmp_path: Path, data: Data) -> None:
    with pytest.raises(Diverged, match=r"stem.conv1.weight is not finite at step 1 of epoch 1 \(lr 1e\+39\)"):
        train(tmp_path, data, replace(CHAIN, batch=128, optimizer=SGD(1e39)))
    assert not (tmp_path / "last.safetensors").exists()


def test_a_signal_does_not_save_weights_that_are_not_finite(tmp_path: Path, data: Data) -> None:
    recipe = replace(CHAIN, optimizer=SGD(1e39), warmup=ConstantWarmup(0.01, epochs=1))
    with pytest.raises(
        Diverged, match=r"is not finite at step 1 of epoch 2 .*last.safetensors is from an earlier step"
    ):
        train(tmp_path, data, recipe, on_event=interrupting(at_step(2, 1)))
    assert all(t.isfinite().all() for t in weights(open_run(tmp_path)).values())
