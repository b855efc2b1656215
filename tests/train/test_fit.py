"""`fit`: the loop against a plain one; run folders; resuming to the last bit; what stops it."""

from __future__ import annotations

import json
import math
import re
import resource
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.catalogue import find
from convatlas.data.augment import augment, order
from convatlas.data.normalise import Normalizer, normalise
from convatlas.data.sources.folder import FolderSplit
from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.files.atomic import Unwritable
from convatlas.layers import ConvNet, on_meta
from convatlas.machine.processes import World
from convatlas.preprocess import Preprocess
from convatlas.recipe import SGD, ConstantWarmup, LinearWarmup, Plateau, Recipe, Step
from convatlas.runs import checkpoint
from convatlas.runs.folder import Run, open_run
from convatlas.train import fit as module
from convatlas.train import passes
from convatlas.train.divergence import culprits, describe_culprits, first_not_finite
from convatlas.train.events import Event, quiet
from convatlas.train.execution import Execution
from convatlas.train.fit import Diverged, Stopped, fit, steps_in_epoch
from convatlas.train.loss import loss_of
from convatlas.train.optimizers import parameter_groups
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
    untimed,
    weights,
)


@pytest.fixture(scope="module")
def data() -> Data:
    return some()


# what it does


def test_the_loop_is_a_plain_one(tmp_path: Path, data: Data) -> None:
    """The same training written out: torch's SGD, its smoothed loss, the rates by hand."""
    recipe = replace(DROPPED, schedule=Step(milestones=(1.2,)), warmup=LinearWarmup(epochs=0.4), label_smoothing=0.1)
    run = train(tmp_path / "run", data, recipe, WRN, seed=3)
    rates = [0, 0.05, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01]  # 5 steps an epoch: warm-up 2, the drop before 6

    torch.manual_seed(3)
    net = find(WRN).build(input=(1, 8, 8), classes=10, depth=10, width=1)
    optimizer = torch.optim.SGD(net.parameters(), 0.0, 0.9, weight_decay=1e-3, nesterov=True)
    criterion, losses = nn.CrossEntropyLoss(label_smoothing=0.1), []
    preprocess = Preprocess((1, 8, 8), data.mean, data.std)
    for step, lr in enumerate(rates):
        epoch, i = divmod(step, 5)
        indices = order(72, seed=3, epoch=epoch)[16 * i : 16 * i + 16]
        images = augment(
            data.train.fetch(indices, preprocess), indices, ops=("pad_crop:1", "flip"), seed=3, epoch=epoch
        )
        optimizer.param_groups[0]["lr"] = lr
        loss = criterion(net(normalise(images, Normalizer(preprocess))), data.train.labels[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() * len(indices))

    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(weights(run)[name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    first, second = run.epochs()
    assert (first["lr"], second["lr"]) == pytest.approx((0.1, 0.01))  # of the last step
    assert first["train"]["loss"] == pytest.approx(sum(losses[:5]) / 72, rel=1e-3)
    assert second["train"]["loss"] == pytest.approx(sum(losses[5:]) / 72, rel=1e-3)


def test_it_learns_and_leaves_a_run(tmp_path: Path, data: Data) -> None:
    events: list[Event] = []
    run = train(tmp_path / "a" / "run", data, replace(CHAIN, epochs=12), on_event=events.append)
    assert sorted(f.name for f in run.folder.iterdir()) == [
        "best.safetensors",
        "curves.png",
        "last.safetensors",
        "log.csv",
        "log.jsonl",
        "previous.safetensors",
        "run.json",
    ]
    assert open_run(run.folder) == run
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert (record["network"], record["seed"], record["classes"]) == (TINY, 0, list("0123456789"))
    assert record["options"] == {"input": [1, 8, 8], "classes": 10, "widths": [4]}
    assert Recipe.from_json(record["recipe"]) == run.recipe == replace(CHAIN, epochs=12)
    assert record["data"]["name"] == "digits"
    assert record["machine"]["versions"]["torch"] == torch.__version__
    assert record["machine"]["device"] == "cpu"

    epochs = run.epochs()
    assert [line["epoch"] for line in epochs] == list(range(1, 13))
    assert [line["step"] for line in epochs] == list(range(5, 61, 5))
    assert epochs[-1]["train"]["loss"] < 0.5 * epochs[0]["train"]["loss"]
    assert epochs[-1]["val"]["top1"] > 0.6
    assert set(epochs[0]["val"]) == {"loss", "top1", "top5"}
    with Image.open(run.folder / "curves.png") as image:
        assert image.format == "PNG"
        assert len(set(image.convert("L").tobytes())) > 20

    best = max(line["val"]["top1"] for line in epochs)
    at = next(line["epoch"] for line in epochs if line["val"]["top1"] == best)
    state = checkpoint.load(run.folder / "last.safetensors")[1]["state"]
    assert (state["best_top1"], state["best_epoch"], state["epoch"], state["step"]) == (best, at, 12, 0)
    for which, top1 in (("best", best), ("last", epochs[-1]["val"]["top1"])):
        net = run.load(which)
        x = normalise(data.val.fetch(range(32), run.preprocess), run.normalizer)
        assert (net(x).argmax(1) == data.val.labels).double().mean().item() == top1

    kinds = [event["kind"] for event in events]
    assert kinds == ["start", *["step"] * 5, *(["epoch"] + ["step"] * 5) * 11, "epoch", "end"]
    assert (events[0]["parameters"], events[0]["steps"], events[0]["train"]) == (4 * 9 + 4 + 64 * 10 + 10, 5, 72)
    assert {k: v for k, v in events[5].items() if k != "batch_loss"} | {"images_per_s": 0} == {
        "kind": "step", "epoch": 1, "epochs": 12, "step": 5, "steps": 5, "images_per_s": 0, **epochs[0]["train"]
    }  # fmt: skip


def test_the_log_has_a_line_every_so_many_steps(tmp_path: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_EVERY", 2)
    events: list[Event] = []
    run = train(tmp_path / "run", data, on_event=events.append)
    assert [(line["kind"], line["step"]) for line in run.log()] == [
        ("step", 2), ("step", 4), ("epoch", 5), ("step", 7), ("step", 9), ("epoch", 10)
    ]  # fmt: skip
    second, fourth, epoch = run.log()[:3]
    losses = [event["loss"] for event in events if event["kind"] == "step"]  # means since the epoch began
    assert second["loss"] == pytest.approx(losses[1])
    assert fourth["loss"] == pytest.approx((4 * losses[3] - 2 * losses[1]) / 2)  # of steps 3 and 4 alone
    assert epoch["train"]["loss"] == pytest.approx(losses[4])


def test_the_seed_decides_everything(tmp_path: Path, data: Data) -> None:
    one, two, other = (train(tmp_path / f"{i}", data, DROPPED, WRN, seed=s) for i, s in enumerate((1, 1, 2)))
    assert same(weights(one), weights(two))
    assert untimed(one) == untimed(two)
    assert not same(weights(one), weights(other))


def test_the_plateau_schedule_follows_the_test(tmp_path: Path, data: Data) -> None:
    """A rate too small to change any prediction: the first epoch is the best, each later one a drop, three at most."""
    recipe = replace(CHAIN, epochs=7, optimizer=SGD(1e-9), schedule=Plateau(patience=1))
    rates = [line["lr"] for line in train(tmp_path / "run", data, recipe).epochs()]
    assert rates == pytest.approx([1e-9, 1e-9, 1e-10, 1e-11, 1e-12, 1e-12, 1e-12])


@pytest.mark.parametrize(
    ("images", "batch", "steps"), [(64, 16, 4), (72, 16, 5), (65, 16, 4), (66, 16, 5), (5, 128, 1), (2, 128, 1)]
)
def test_the_last_batch_is_smaller_and_never_of_one_image(images: int, batch: int, steps: int) -> None:
    assert steps_in_epoch(images, batch) == steps


@pytest.mark.parametrize(("images", "batch"), [(1, 128), (0, 128)])
def test_too_few_images_are_refused(images: int, batch: int) -> None:
    with pytest.raises(UserError, match=f"{images} training images are too few for a batch; give at least 2"):
        steps_in_epoch(images, batch)


# losses and weight decay


class Aux(ConvNet):
    """Fixed logits of two images and two auxiliary classifiers."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])

    def forward_aux(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self(x), {"a": torch.zeros(2, 3), "b": torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])}


def test_label_smoothing() -> None:
    """q = 0.7 + 0.3 / 3 = 0.8 for the right class, 0.1 for the others (Szegedy et al., 2015, section 7)."""
    y = torch.tensor([0, 2])
    first, second = math.log(math.e**2 + 2), math.log(math.e + 2)  # the logarithms of the sums
    expected = ((first - 0.8 * 2) + (second - 0.1 * 1)) / 2
    loss, _ = loss_of(Aux(), torch.zeros(2, 1), y, replace(CHAIN, label_smoothing=0.3))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    plain, logits = loss_of(Aux(), torch.zeros(2, 1), y, CHAIN)
    assert plain.item() == pytest.approx(((first - 2) + second) / 2, rel=1e-6)
    assert torch.equal(logits, Aux()(y))


def test_auxiliary_losses_count_when_the_recipe_says() -> None:
    y = torch.tensor([0, 2])
    main, _ = loss_of(Aux(), torch.zeros(2, 1), y, CHAIN)
    a, b = math.log(3), (math.log(2 + math.e**5) + math.log(3)) / 2
    loss, logits = loss_of(Aux(), torch.zeros(2, 1), y, replace(CHAIN, aux_weight=0.3))
    assert loss.item() == pytest.approx(main.item() + 0.3 * (a + b), rel=1e-6)
    assert torch.equal(logits, Aux()(y))
    a = b = 0.0  # smoothing reaches them, too
    smooth = replace(CHAIN, aux_weight=0.5, label_smoothing=0.3)
    for logits in Aux().forward_aux(y)[1].values():
        a += F.cross_entropy(logits, y, label_smoothing=0.3).item()
    b = loss_of(Aux(), torch.zeros(2, 1), y, replace(smooth, aux_weight=0.0))[0].item()
    assert loss_of(Aux(), torch.zeros(2, 1), y, smooth)[0].item() == pytest.approx(b + 0.5 * a, rel=1e-6)


def test_a_network_without_auxiliary_classifiers_has_one_loss() -> None:
    net = nn.Linear(4, 3)
    x, y = torch.randn(2, 4), torch.tensor([0, 1])
    assert torch.equal(loss_of(net, x, y, replace(CHAIN, aux_weight=0.3))[0], loss_of(net, x, y, CHAIN)[0])


def test_googlenets_loss_reaches_its_auxiliary_classifiers() -> None:
    with on_meta():
        net = find("googlenet").build(classes=7)
        x, y = torch.empty(2, 3, 224, 224), torch.empty(2, dtype=torch.int64)
    recipe = replace(CHAIN, aux_weight=0.3)
    loss_of(net, x, y, recipe)[0].backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    loss_of(net, x, y, CHAIN)[0].backward()
    assert {name for name, p in net.named_parameters() if p.grad is None and "aux" in name}


@pytest.mark.parametrize(("network", "spared"), [("resnet20", 2 * 19 + 1), ("lenet5", 2 + 2 + 6 + 1 - 0)])
def test_weight_decay_spares_biases_and_batch_norm(network: str, spared: int) -> None:
    with on_meta():
        net = find(network).build()
    names = {id(p): name for name, p in net.named_parameters()}
    every = parameter_groups(net, SGD(0.1, weight_decay=0.1))
    assert [(len(g["params"]), g["weight_decay"]) for g in every] == [(len(names), 0.1)]
    some, none = parameter_groups(net, SGD(0.1, weight_decay=0.1, decay_scope="weights"))
    assert (some["weight_decay"], none["weight_decay"]) == (0.1, 0.0)
    bare = {names[id(p)] for p in none["params"]}
    assert bare == {name for name in names.values() if name.endswith("bias") or ".bn" in name}
    assert len(some["params"]) + len(bare) == len(names)


def test_weight_decay_pulls_to_zero(tmp_path: Path, data: Data) -> None:
    """A first step from the same weights: with decay d, w moves by lr d w more; the spared biases do not."""
    sgd = SGD(0.1, momentum=0.0, decay_scope="weights")
    one = replace(CHAIN, epochs=1, batch=72, optimizer=sgd)
    free = weights(train(tmp_path / "free", data, one))
    decayed = weights(train(tmp_path / "decayed", data, replace(one, optimizer=replace(sgd, weight_decay=0.5))))
    torch.manual_seed(0)
    start = find(TINY).build(input=(1, 8, 8), classes=10, widths=(4,)).state_dict()
    for name, before in start.items():
        extra = 0.1 * 0.5 * before if name.endswith("weight") else torch.zeros_like(before)
        torch.testing.assert_close(free[name] - decayed[name], extra, rtol=1e-4, atol=1e-6)


# resuming


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Data) -> Iterator[Run]:
    """An uninterrupted run, with batch norm, dropout and augmentation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LOG_EVERY", 2)
        yield train(tmp_path_factory.mktemp("whole") / "run", data, DROPPED, WRN)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_EVERY", 2)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("stops", [[(1, 1)], [(1, 3)], [(2, 2)], [(1, 5)], [(1, 2), (1, 4), (2, 1), (2, 4)]])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, data: Data, whole: Run, stops: list[tuple[int, int]]
) -> None:
    for i, (epoch, step) in enumerate(stops):
        with pytest.raises(Stopped, match=f"stopped by SIGINT after step {step} of epoch {epoch}; saved in ") as stop:
            train(tmp_path, data, DROPPED, WRN, resume=i > 0, on_event=interrupting(at_step(epoch, step)))
        assert stop.value.run.folder == tmp_path
        assert stop.value.signum == signal.SIGINT
        state = checkpoint.load(tmp_path / "last.safetensors")[1]["state"]
        assert (state["epoch"], state["step"]) == (epoch - 1, step)
        torch.manual_seed(99)  # another process has other random numbers
    events: list[Event] = []
    assert_equal_runs(train(tmp_path, data, DROPPED, WRN, resume=True, on_event=events.append), whole)
    assert (events[0]["epoch"], events[0]["step"]) == (stops[-1][0] - 1, stops[-1][1])
    steps = [event["step"] for event in events if event["kind"] == "step"]
    assert steps[:1] == ([stops[-1][1] + 1] if stops[-1][1] < 5 else [1])


@pytest.mark.usefixtures("often")
def test_sigterm_in_the_test_after_an_epoch(
    tmp_path: Path, data: Data, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate = module.evaluate_split

    def interrupted(*args: Any, **more: Any) -> Any:
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*args, **more)

    monkeypatch.setattr(module, "evaluate_split", interrupted)
    with pytest.raises(Stopped, match="stopped by SIGTERM in the evaluation of epoch 1") as stop:
        train(tmp_path, data, DROPPED, WRN)
    assert stop.value.signum == signal.SIGTERM
    assert open_run(tmp_path).epochs() == []
    monkeypatch.setattr(module, "evaluate_split", evaluate)
    assert_equal_runs(train(tmp_path, data, DROPPED, WRN, resume=True), whole)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("when", ["before any checkpoint", "within an epoch", "before the checkpoint of an epoch"])
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, data: Data, whole: Run, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def on_event(event: Event) -> None:
        if when == "before any checkpoint" and at_step(1, 4)(event):
            raise Killed
        if when == "within an epoch" and at_step(2, 3)(event):
            raise Killed
        if when == "before the checkpoint of an epoch" and event["kind"] == "epoch" and event["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, data, DROPPED, WRN, on_event=on_event)
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"kind": "step", "st')  # a line that was being written
    assert all(line["kind"] in ("step", "epoch") for line in open_run(tmp_path).log())
    assert_equal_runs(train(tmp_path, data, DROPPED, WRN, resume=True), whole)


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, data: Data) -> None:
    before = weights(train(tmp_path, data))
    lines = open_run(tmp_path).log()
    run = train(tmp_path, data, resume=True)
    assert same(weights(run), before)
    assert run.log() == lines


def test_signals_are_given_back(tmp_path: Path, data: Data) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(Stopped):
        train(tmp_path, data, on_event=interrupting(at_step(1, 1)))
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_changes_nothing(tmp_path: Path, data: Data) -> None:
    def on_event(event: Event) -> None:
        if event["kind"] == "step":
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped, match="stopped by SIGINT after step 1 of epoch 1"):
        train(tmp_path, data, on_event=on_event)


def test_it_trains_outside_the_main_thread(tmp_path: Path, data: Data) -> None:
    thread = threading.Thread(target=train, args=(tmp_path, data))
    thread.start()
    thread.join()
    assert len(open_run(tmp_path).epochs()) == 2


# refusals


def test_a_run_is_not_overwritten(tmp_path: Path, data: Data) -> None:
    before = weights(train(tmp_path, data))
    with pytest.raises(UserError, match="already contains a run; give --resume to continue it, or another --out"):
        train(tmp_path, data, seed=1)
    assert same(weights(open_run(tmp_path)), before)


def test_there_must_be_something_to_resume(tmp_path: Path, data: Data) -> None:
    with pytest.raises(UserError, match=r"there is no run folder .*none; `convatlas train` makes one"):
        train(tmp_path / "none", data, resume=True)
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UserError, match=r"is not a run folder: it has no run.json"):
        train(tmp_path, data, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"network": "chain_n1_m2_k1", "recipe": replace(CHAIN, net=())},
            f'network was "{TINY}", is now "chain_n1_m2',
        ),
        (
            {"recipe": replace(CHAIN, optimizer=SGD(0.5))},
            r"different settings: lr was 0\.02, is now 0\.5; resume it",
        ),
        ({"recipe": replace(CHAIN, epochs=3)}, r"epochs was 2, is now 3"),
        ({"recipe": replace(CHAIN, net=(("widths", (8,)),))}, r"options\.widths was \[4\], is now \[8\]"),
        ({"seed": 7}, "seed was 0, is now 7"),
        ({"input": (1, 16, 16)}, r"options\.input was \[1, 8, 8\], is now \[1, 16, 16\]"),
        ({"data": some(72, 31)}, r"data\.val\.images was 32, is now 31; data\.val\.sha256 was "),
        ({"data": some(flip=True)}, r"has different settings: data\.train\.sha256 was \"[0-9a-f]+\.\.\., is now"),
    ],
)
def test_another_run_is_not_resumed(tmp_path: Path, data: Data, change: dict[str, Any], message: str) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, data, on_event=interrupting(at_step(1, 1)))
    before = (tmp_path / "last.safetensors").read_bytes()
    with pytest.raises(UserError, match=message):
        train(**{"out": tmp_path, "data": data, **change}, resume=True)
    assert (tmp_path / "last.safetensors").read_bytes() == before


def test_other_terms_are_noted_not_refused(tmp_path: Path, data: Data) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, data, on_event=interrupting(at_step(1, 1)))
    record = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
    record["machine"]["threads"] = 64
    record["data"]["train"]["path"] = "/elsewhere"
    (tmp_path / "run.json").write_text(json.dumps(record), encoding="utf-8")
    events: list[Event] = []
    assert len(train(tmp_path, data, resume=True, on_event=events.append).epochs()) == 2
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert notes == ["resumed with changes, so the last bits may differ: machine.threads was 64, is now 1"]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("damage", ["truncated", "deleted"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, data: Data, whole: Run, damage: str) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, data, DROPPED, WRN, on_event=interrupting(at_step(2, 2)))
    last = tmp_path / "last.safetensors"
    if damage == "deleted":
        last.unlink()
    else:
        last.write_bytes(last.read_bytes()[:1000])
    events: list[Event] = []
    run = train(tmp_path, data, DROPPED, WRN, resume=True, on_event=events.append)
    assert re.match(r".*last.safetensors.*; resuming from .*previous.safetensors", events[0]["text"])
    assert (events[1]["kind"], events[1]["epoch"], events[1]["step"]) == ("start", 1, 0)
    assert_equal_runs(run, whole)


@pytest.mark.usefixtures("often")
def test_with_every_checkpoint_damaged_it_is_not_resumed(tmp_path: Path, data: Data) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, data, on_event=interrupting(at_step(1, 2)))
    last = tmp_path / "last.safetensors"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole: .*last.safetensors is not a whole checkpoint"):
        train(tmp_path, data, resume=True)
    last.unlink()
    events: list[Event] = []
    assert len(train(tmp_path, data, resume=True, on_event=events.append).epochs()) == 2
    text = f"{tmp_path} has no checkpoint; training starts from the first step"
    assert events[0] == {"kind": "note", "text": text}


def test_a_damaged_best_gives_way_to_the_best_to_come(tmp_path: Path, data: Data) -> None:
    recipe = replace(CHAIN, epochs=3)
    with pytest.raises(Stopped):
        train(tmp_path, data, recipe, on_event=interrupting(at_step(2, 2)))
    (tmp_path / "best.safetensors").write_bytes(b"")
    events: list[Event] = []
    run = train(tmp_path, data, recipe, resume=True, on_event=events.append)
    assert re.match(
        r".*best.safetensors is not a .*; the best of the remaining epochs will replace it", events[0]["text"]
    )
    tops = [line["val"]["top1"] for line in run.epochs()[1:]]
    about = checkpoint.load(tmp_path / "best.safetensors")[1]
    assert about["state"]["best_top1"] == max(tops)


def test_a_second_process_is_kept_out_and_readers_are_not(tmp_path: Path, data: Data) -> None:
    tops: list[int] = []

    def on_event(event: Event) -> None:
        if event["kind"] == "epoch" and event["epoch"] == 2:
            for resume in (False, True):
                with pytest.raises(UserError, match=r"is training in .*; wait for it|already contains a run"):
                    train(tmp_path, data, resume=resume)
            tops.append(len(open_run(tmp_path).epochs()))
            open_run(tmp_path).load("best")

    run = train(tmp_path, data, on_event=on_event)
    assert tops == [2]
    assert len(run.epochs()) == 2


@pytest.mark.parametrize("room", [200, 4000])  # bytes a file: not enough for run.json; for a checkpoint
def test_a_full_disk_stops_it_in_one_line(tmp_path: Path, data: Data, room: int) -> None:
    with pytest.raises(Stopped):
        train(tmp_path / "a", data, on_event=interrupting(at_step(1, 2)))
    old = (tmp_path / "a" / "last.safetensors").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        if room == 200:
            with pytest.raises(Unwritable, match=r"run.json cannot be written \(File too large\); what was"):
                train(tmp_path / "b", data)
        else:
            with pytest.raises(Unwritable, match=r"safetensors cannot be written \(File too large\)"):
                train(tmp_path / "a", data, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    if room == 200:
        assert list((tmp_path / "b").iterdir()) == []
        train(tmp_path / "b", data)
        return
    assert (tmp_path / "a" / "last.safetensors").read_bytes() == old
    assert not list((tmp_path / "a").glob(".*"))
    assert same(weights(train(tmp_path / "a", data, resume=True)), weights(train(tmp_path / "b", data)))


def test_a_picture_that_cannot_be_drawn_is_noted(tmp_path: Path, data: Data) -> None:
    """There is room for the checkpoints, and none for the picture."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    events: list[Event] = []
    try:
        run = train(tmp_path, data, on_event=events.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert events[-2]["text"] == f"{tmp_path}/curves.png cannot be written (File too large); everything else is saved"
    assert not list(tmp_path.glob(".*"))
    assert len(run.epochs()) == 2


def test_another_networks_checkpoint_is_not_resumed(tmp_path: Path, data: Data) -> None:
    train(tmp_path / "a", data)
    train(tmp_path / "b", data, replace(CHAIN, net=(("widths", (8,)),)))
    (tmp_path / "a/last.safetensors").write_bytes((tmp_path / "b/last.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"last.safetensors belongs to another run; "):
        train(tmp_path / "a", data, resume=True)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ((("widhts", (4,)),), "has no option 'widhts'; its options are "),
        ((("widths", (4, 4)),), r"widths=\(4, 4\) does not give 1 widths"),
        ((("convs", "two"),), r"chain_n1_m1_k0 cannot be built with net.convs='two' \(.+\); see `convatlas show ch"),
        ((("classes", 3),), "net.classes is not a setting of the recipe; it comes from the data"),
        ((("input", (1, 9, 9)),), "net.input is not a setting of the recipe"),
    ],
)
def test_what_cannot_be_built_leaves_no_folder(tmp_path: Path, data: Data, net: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", data, replace(CHAIN, net=net))
    assert list(tmp_path.iterdir()) == []


def test_an_option_that_json_cannot_hold_is_refused(tmp_path: Path, data: Data) -> None:
    variant = replace(find(WRN), args={**find(WRN).args, "kernels": nn.ReLU})
    with pytest.raises(UserError, match=r"has an option that cannot be stored in run.json .*; give plain values"):
        train(tmp_path / "run", data, DROPPED, variant)


def test_a_variant_of_ones_own_is_rebuilt_from_the_record(tmp_path: Path, data: Data) -> None:
    variant = replace(find(TINY), args={**find(TINY).args, "widths": (6,)})
    run = train(tmp_path, data, replace(CHAIN, net=()), variant)
    assert run.record.options["widths"] == [6]
    assert open_run(tmp_path).load().state_dict()["stem.conv1.weight"].shape == (6, 1, 3, 3)


@pytest.mark.parametrize("device", ["cud", "meta", "cuda:63"])
def test_a_device_that_is_not_there(tmp_path: Path, data: Data, device: str) -> None:
    with pytest.raises(UserError, match=f"device '{device}' is not available .*; give auto or cpu"):
        fit(TINY, data, CHAIN, out=tmp_path / "run", device=device)
    assert not (tmp_path / "run").exists()


# divergence


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

    def spoiling(net: nn.Module, x: Tensor, y: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
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
    both = {"a": torch.ones(2), "e": torch.tensor([math.inf, -math.inf]), "f": -huge}
    assert first_not_finite(both) == "e"


def test_files_are_named_by_their_paths(tmp_path: Path) -> None:
    split = FolderSplit("train", tuple(tmp_path / f"{i}.png" for i in range(9)), torch.zeros(9), (), {})
    x = torch.zeros(3, 1, 2, 2)
    x[2, 0, 1, 1] = math.inf
    which = culprits(split, World(), torch.tensor([8, 0, 4]), x, torch.zeros(3, 5))
    assert which == {"why": "pixels", "images": [4], "files": [f"{tmp_path}/4.png"]}
    assert describe_culprits(which) == f", by the pixels of {tmp_path}/4.png"


@pytest.mark.usefixtures("often")
def test_checkpoints_within_an_epoch_lose_nothing(tmp_path: Path, data: Data, whole: Run) -> None:
    class Killed(Exception):
        pass

    def on_event(event: Event) -> None:
        if at_step(2, 4)(event):
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path, data, DROPPED, WRN, execution=Execution(save_every_s=0.0), on_event=on_event)
    events: list[Event] = []
    assert_equal_runs(
        train(tmp_path, data, DROPPED, WRN, execution=Execution(save_every_s=0.0), resume=True, on_event=events.append),
        whole,
    )
    assert (events[0]["epoch"], events[0]["step"]) == (1, 3)


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


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    quiet({"kind": "note", "text": "anything"})
    assert capsys.readouterr() == ("", "")


def test_an_epoch_of_one_step_is_pointed_out(tmp_path: Path, data: Data) -> None:
    events: list[Event] = []
    train(tmp_path / "one", data, replace(CHAIN, epochs=1, batch=512), on_event=events.append)
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert notes == [
        "an epoch is a single step: 72 training images in batches of 512; give a smaller --batch for more steps"
    ]
