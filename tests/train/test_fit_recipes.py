"""`fit` with every kind of recipe: exact resumes, averaged weights, clipping, growing drop-path, a start from a run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas.catalogue import find
from convatlas.data.augment import order
from convatlas.data.normalise import normalise
from convatlas.data.types import Data, MemorySplit
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate_split
from convatlas.layers import on_meta
from convatlas.recipe import (
    EMA,
    SGD,
    Adam,
    AdamW,
    ConstantWarmup,
    Exponential,
    LinearWarmup,
    Lookahead,
    Plateau,
    Poly,
    Recipe,
    RMSProp,
    with_epochs,
)
from convatlas.recipes import find_recipe, recipes
from convatlas.runs import checkpoint
from convatlas.runs.folder import Run, open_run
from convatlas.runs.record import RunRecord
from convatlas.train.fit import Stopped
from convatlas.train.loss import loss_of
from convatlas.train.optimizers import clip_, make_optimizer
from convatlas.train.schedule import rate
from convatlas.train.warm_start import plan_start
from convatlas.weights import Weights
from tests.train.short_runs import (
    CHAIN,
    DROPPED,
    TINY,
    WRN,
    assert_equal_runs,
    at_step,
    interrupting,
    same,
    some,
    train,
    weights,
)

KINDS: dict[str, dict[str, Any]] = {
    "momentum": {},
    "rmsprop": {"optimizer": RMSProp(0.1, eps=1.0, weight_decay=1e-3, clip=0.5)},
    "adam": {"optimizer": Adam(1e-3, weight_decay=1e-3), "schedule": Poly()},
    "adamw": {"optimizer": AdamW(1e-3, weight_decay=1e-3), "schedule": Exponential(0.5, every=0.5)},
    "slow weights": {"lookahead": Lookahead(0.9), "optimizer": replace(DROPPED.optimizer, bias_rate=2.0)},
    "warm-up": {"warmup": ConstantWarmup(0.001, error=0.88)},
    "average": {"ema": EMA(0.99), "warmup": LinearWarmup(steps=3)},
}
GOLDEN = Path(__file__).parents[1] / "goldens" / "run"


@pytest.fixture(scope="module")
def data() -> Data:
    return some()


def first(split: Any, n: int) -> MemorySplit:
    return replace(split, images=split.images[:n], labels=split.labels[:n])


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, data: Data, kind: str) -> None:
    recipe = replace(DROPPED, **KINDS[kind])
    whole = train(tmp_path / "whole", data, recipe, WRN)
    for i, (epoch, step) in enumerate([(1, 2), (2, 3)]):
        with pytest.raises(Stopped):
            train(tmp_path / "run", data, recipe, WRN, resume=i > 0, on_event=interrupting(at_step(epoch, step)))
        torch.manual_seed(99)
    assert_equal_runs(train(tmp_path / "run", data, recipe, WRN, resume=True), whole)


def test_the_loop_is_a_plain_one_by_every_recipe(tmp_path: Path, data: Data) -> None:
    """RMSProp, clipped, by a polynomial rate after a warm-up in steps, the weights averaged: written out."""
    recipe = replace(
        CHAIN, optimizer=RMSProp(0.02, eps=0.01, weight_decay=0.01, clip=0.5), schedule=Poly(2.0, lr_end=0.001),
        warmup=LinearWarmup(steps=3), ema=EMA(0.9),
    )  # fmt: skip
    run = train(tmp_path, data, recipe, seed=5)

    torch.manual_seed(5)
    net = find(TINY).build(input=(1, 8, 8), classes=10, widths=(4,))
    optimizer = make_optimizer(net, recipe.optimizer)
    means = {name: t.clone() for name, t in net.state_dict().items()}
    norms = []
    for step in range(10):
        epoch, i = divmod(step, 5)
        lr = 0.02 * step / 3 if step < 3 else 0.001 + 0.019 * (1 - (step - 3) / 7) ** 2
        assert rate(recipe, step / 5, steps=5) == pytest.approx(lr)
        indices = order(72, seed=5, epoch=epoch)[16 * i : 16 * i + 16]
        x = normalise(data.train.fetch(indices, run.preprocess), run.normalizer)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        loss_of(net, x, data.train.labels[indices], recipe)[0].backward()
        norms.append(clip_(optimizer, 0.5).item())
        optimizer.step()
        keep = min(0.9, (2 + step) / (11 + step))
        for name, t in net.state_dict().items():
            means[name] = keep * means[name] + (1 - keep) * t
    assert max(norms) > 0.5  # the clipping did something

    found = weights(run)
    for name, t in net.state_dict().items():
        torch.testing.assert_close(found[name], t, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found[f"average/{name}"], means[name], rtol=1e-3, atol=1e-4)


def test_averaged_weights_are_judged_chosen_and_loaded(tmp_path: Path, data: Data) -> None:
    run = train(tmp_path, data, replace(CHAIN, ema=EMA(0.9), epochs=3, optimizer=SGD(0.1)))
    for which in ("last", "best"):
        kept, loaded = weights(run, which), run.load(which).state_dict()
        assert all(torch.equal(kept[f"average/{name}"], t) for name, t in loaded.items())
        assert not torch.equal(kept["stem.conv1.weight"], loaded["stem.conv1.weight"])  # the file has both
    scores = evaluate_split(run.load("last"), data.val, run.normalizer)
    assert scores.top1 == run.epochs()[-1]["val"]["top1"]
    assert scores.loss == pytest.approx(run.epochs()[-1]["val"]["loss"])


def test_clipping_to_almost_nothing_moves_almost_nothing(tmp_path: Path, data: Data) -> None:
    torch.manual_seed(0)
    start = find(TINY).build(input=(1, 8, 8), classes=10, widths=(4,)).state_dict()
    run = train(tmp_path, data, replace(CHAIN, optimizer=SGD(0.02, momentum=0.0, clip=1e-6), epochs=1))
    moved = torch.cat([(weights(run)[name] - t).flatten() for name, t in start.items()]).norm()
    assert moved <= 5 * 0.02 * 1e-6 * 1.1


def test_a_plateau_of_the_training_top1(tmp_path: Path, data: Data) -> None:
    """The test images are of one class that is never predicted: its top-1 stays at zero while training's rises."""
    recipe = replace(CHAIN, epochs=6, optimizer=SGD(0.05), schedule=Plateau(patience=1))
    watching = replace(recipe, schedule=Plateau(patience=1, watch="train"))
    stale = replace(data, val=replace(data.val, labels=torch.zeros_like(data.val.labels)))  # type: ignore[type-var]
    by_test = [line["lr"] for line in train(tmp_path / "test", stale, recipe).epochs()]
    by_train = [line["lr"] for line in train(tmp_path / "train", stale, watching).epochs()]
    assert by_test[-1] < 0.05
    tops = [line["train"]["top1"] for line in open_run(tmp_path / "train").epochs()]
    drops, best, expected = 0, -1.0, []
    for top1 in tops:
        expected.append(0.05 * 0.1**drops)
        drops, best = (drops, top1) if top1 > best else (min(drops + 1, 3), best)
    assert by_train == pytest.approx(expected)
    assert by_train != by_test


@pytest.mark.parametrize("bound", [1e-6, 0.6, 0.8, 1.0])
def test_a_warm_up_ends_with_the_training_error(tmp_path: Path, data: Data, bound: float) -> None:
    """At a line of the log, of which these epochs have one each, at their end."""
    recipe = replace(CHAIN, epochs=6, optimizer=SGD(0.05), warmup=ConstantWarmup(0.02, error=bound))
    lines = train(tmp_path, data, recipe).epochs()
    errors = [1 - line["train"]["top1"] for line in lines]
    warm = [any(error < bound for error in errors[:n]) for n in range(6)]
    assert [line["lr"] for line in lines] == [0.05 if it else 0.02 for it in warm]
    if bound == 0.8:
        assert len(set(warm)) == 2  # it ends on the way


def test_drop_path_grows_with_the_training(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told before each step how far training is, and after a resume as well; not in the test."""
    shares: list[float] = []

    def build(record: RunRecord) -> torch.nn.Module:
        net = find(TINY).build(input=(1, 8, 8), classes=10, widths=(4,))
        net.set_progress = shares.append  # type: ignore[assignment]
        return net

    monkeypatch.setattr(RunRecord, "build", build)
    with pytest.raises(Stopped):
        train(tmp_path, data, on_event=interrupting(at_step(1, 3)))
    assert shares == [0, 0.1, 0.2]
    shares.clear()
    train(tmp_path, data, resume=True)
    assert shares == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])


def test_shares_of_classes_are_a_target_too() -> None:
    """A mixed image's loss is the mix of its two labels' losses, smoothed or not."""
    net, x = torch.nn.Linear(4, 3), torch.randn(2, 4)
    a, b, share = torch.tensor([0, 2]), torch.tensor([1, 2]), torch.tensor([0.3, 0.6])
    one_hot = torch.nn.functional.one_hot
    mixed = share[:, None] * one_hot(a, 3) + (1 - share)[:, None] * one_hot(b, 3)
    for smoothing in (0.0, 0.1):
        recipe = replace(CHAIN, label_smoothing=smoothing)
        each = [
            share[i] * loss_of(net, x[i : i + 1], a[i : i + 1], recipe)[0]
            + (1 - share[i]) * loss_of(net, x[i : i + 1], b[i : i + 1], recipe)[0]
            for i in range(2)
        ]
        torch.testing.assert_close(loss_of(net, x, mixed, recipe)[0], sum(each) / 2)


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_that_ships_trains(tmp_path: Path, data: Data, name: str) -> None:
    """Two steps of a small network in place of its own, on colour images: optimizer, rates, augmentation, average."""
    recipe = replace(find_recipe(name), batch=8, net=(("widths", (4,)),))
    few = replace(data, train=first(data.train, 16), val=first(data.val, 8))
    notes: list[str] = []
    short = replace(with_epochs(recipe, 1), optimizer=replace(recipe.optimizer, lr=min(recipe.optimizer.lr, 0.01)))
    run = train(tmp_path, few, short, input=(3, 12, 12), on_event=lambda e: notes.append(e["kind"]))
    assert notes.count("step") == 2
    found = weights(run)
    assert all(t.isfinite().all() for t in found.values())
    assert any(key.startswith("optimizer/") for key in found)
    assert any(key.startswith("average/") for key in found) == bool(recipe.ema)


# a start from another run


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
        taken = plan_start(tmp_path, e, recipe)["taken"]
    layers = [name.removesuffix(".weight") for name in taken if name.endswith(".weight")]
    assert layers == [
        "stages.block1.conv1", "stages.block2.conv1", "stages.block3.conv1", "stages.block3.conv2",
        "head.fc6", "head.fc7", "head.fc8",
    ]  # fmt: skip
    assert len(taken) == 14
