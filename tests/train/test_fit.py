"""`fit`: the loop against a plain one, the run folder that it leaves, and what it refuses."""

from __future__ import annotations

import json
import resource
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from convatlas.catalogue import find
from convatlas.data.augment import augment, order
from convatlas.data.normalise import Normalizer, normalise
from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.layers import on_meta
from convatlas.machine.processes import World
from convatlas.preprocess import Preprocess
from convatlas.recipe import SGD, LinearWarmup, Plateau, Recipe, Step
from convatlas.runs import checkpoint
from convatlas.runs.folder import open_run
from convatlas.train import fit as module
from convatlas.train.events import Event, quiet
from convatlas.train.execution import Execution
from convatlas.train.fit import fit
from convatlas.train.job import Job, steps_in_epoch
from convatlas.train.setup import new_record
from tests.train.short_runs import (
    CHAIN,
    DROPPED,
    TINY,
    WRN,
    same,
    train,
    untimed,
    weights,
)


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


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (1, "1 training images are too few for a batch; give at least 2"),
        (0, "the data has no training images, only some to evaluate on; give data with a train split"),
    ],
)
def test_too_few_images_are_refused(images: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        steps_in_epoch(images, 128)


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


def test_it_trains_outside_the_main_thread(tmp_path: Path, data: Data) -> None:
    thread = threading.Thread(target=train, args=(tmp_path, data))
    thread.start()
    thread.join()
    assert len(open_run(tmp_path).epochs()) == 2


def test_a_run_is_not_overwritten(tmp_path: Path, data: Data) -> None:
    before = weights(train(tmp_path, data))
    with pytest.raises(UserError, match="already contains a run; give --resume to continue it, or another --out"):
        train(tmp_path, data, seed=1)
    assert same(weights(open_run(tmp_path)), before)


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


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ((("widhts", (4,)),), "has no option 'widhts'; its options are "),
        ((("widths", (4, 4)),), r"widths=\(4, 4\) is not 1 positive widths"),
        ((("convs", "two"),), r"chain_n1_m1_k0 cannot be built with net.convs='two' \(.+\); see `convatlas show ch"),
        ((("classes", 3),), "net.classes is not a setting of the recipe; it comes from the data"),
        ((("input", (1, 9, 9)),), "net.input is not a setting of the recipe"),
    ],
)
def test_what_cannot_be_built_leaves_no_folder(tmp_path: Path, data: Data, net: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", data, replace(CHAIN, net=net))
    assert list(tmp_path.iterdir()) == []


def test_the_images_have_the_size_that_phi_gives(data: Data) -> None:
    recipe, execution = replace(CHAIN, net=(("phi", 1.0),)), Execution(precision="float32", micro_batch=16)
    job = Job(find("efficientnet_b0"), data, recipe, None, 0, torch.device("cpu"), execution, World(), quiet)
    record = new_record(job)
    assert record.options == {"phi": 1.0, "input": (1, 258, 258), "classes": 10}
    assert record.preprocess.input == (1, 258, 258)
    with on_meta():
        net = record.build()
    assert net.input == (1, 258, 258)
    assert new_record(replace(job, input=(1, 64, 64))).options["input"] == (1, 64, 64)


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
