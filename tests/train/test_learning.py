"""What is frozen stays byte for byte, parts learn at their rates and in their turn, and classes weigh as asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from convatlas.catalogue import find
from convatlas.data.types import MemorySplit
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.recipe import SGD, Tuning, with_epochs, with_settings
from convatlas.train.learning import Learning, named, parts_of
from convatlas.train.loss import class_weights, loss_of
from convatlas.train.optimizers import make_optimizer, parameter_groups
from tests.train.short_runs import CHAIN, DROPPED, WRN, at_step, interrupting, some, train, weights


def net_of(name: str = "resnet20", **options: Any) -> ConvNet:
    torch.manual_seed(0)
    return find(name).build(input=(1, 8, 8), **{"depth": 8, "classes": 10, **options})


def learnt(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """The parts with a tensor that has changed."""
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    return {".".join(name.split(".")[: 2 if name.startswith("stages") else 1]) for name in changed}


def start(recipe_net: tuple[tuple[str, Any], ...], network: str = WRN) -> dict[str, Tensor]:
    """The weights that a run of seed 0 starts from."""
    torch.manual_seed(0)
    net = find(network).build(input=(1, 8, 8), classes=10, **dict(recipe_net))
    return net.state_dict()


def test_a_frozen_part_keeps_its_weights_and_statistics(tmp_path: Path) -> None:
    recipe = replace(DROPPED, tuning=Tuning(frozen=("stem", "conv2")))
    run = train(tmp_path / "run", some(), recipe, WRN)
    before, after = start(recipe.net), weights(run)
    kept = [name for name in before if name.startswith(("stem.", "stages.conv2."))]
    assert kept
    assert all(torch.equal(before[name], after[name]) for name in kept), "batch norm's statistics included"
    assert learnt(before, {n: after[n] for n in before}) == {"stages.conv3", "stages.conv4", "head"}


def test_frozen_batch_norms_are_byte_equal_and_the_rest_learns(tmp_path: Path) -> None:
    recipe = replace(DROPPED, tuning=Tuning(norm="frozen"))
    run = train(tmp_path / "run", some(), recipe, WRN)
    before, after = start(recipe.net), weights(run)
    norms = [name for name in before if "running" in name or "num_batches" in name]
    layers = {name.rpartition(".")[0] for name in norms}
    assert norms
    for name in before:
        if name.rpartition(".")[0] in layers:
            assert torch.equal(before[name], after[name]), name
    assert learnt(before, {n: after[n] for n in before}) == {
        "stem",
        "stages.conv2",
        "stages.conv3",
        "stages.conv4",
        "head",
    }


def test_parts_learn_in_their_turn() -> None:
    net = net_of()
    learning = Learning(net, Tuning(unfreeze=2))
    assert learning.parts == ["stem", "stages.conv2", "stages.conv3", "stages.conv4", "head"]
    for epoch, expected in ((0, 1), (1, 1), (2, 2), (3, 2), (8, 5), (20, 5)):
        learning.begin_epoch(epoch)
        learns = {name for name, p in net.named_parameters() if p.requires_grad}
        assert {next(p for p in learning.parts if n.startswith(f"{p}.")) for n in learns} == set(
            learning.parts[-expected:]
        )
        assert [net.get_submodule(part).training for part in learning.parts] == [
            part in learning.parts[-expected:] for part in learning.parts
        ]


def test_what_never_learns_by_the_networks_own_rule_stays_so() -> None:
    net = find("airbench94").build(input=(3, 32, 32), widths=(8, 16, 16))
    own = {name for name, p in net.named_parameters() if p.requires_grad}
    learning = Learning(net, Tuning(unfreeze=1))
    learning.begin_epoch(9)
    assert {name for name, p in net.named_parameters() if p.requires_grad} == own
    learning = Learning(net, Tuning(frozen=("stem",)))
    learning.begin_epoch(0)
    net.set_progress(0.0)  # lets the stem's bias learn
    learning.freeze()
    assert not any(p.requires_grad for p in net.stem.parameters())


def test_rates_fall_from_the_head_to_the_stem_and_by_name() -> None:
    net = net_of()
    rates = Learning(net, Tuning(decay=0.5, rates=("conv4:3", "head.linear:0.1", "stages.conv2:0"))).rates
    assert rates["head.linear.weight"] == pytest.approx(0.1)
    for part, rate in (("stages.conv4", 1.5), ("stages.conv3", 0.25), ("stages.conv2", 0), ("stem", 0.5**4)):
        assert {round(rates[name], 6) for name in rates if name.startswith(f"{part}.")} == {rate}
    groups = parameter_groups(net, SGD(0.1, weight_decay=0.01), rates)
    assert {g["weight_decay"] for g in groups} == {0.01}
    assert sum(len(g["params"]) for g in groups) == len(list(net.parameters()))


def test_a_step_is_in_proportion_to_the_rate() -> None:
    net, other = net_of(), net_of()
    x, y = torch.randn(4, 1, 8, 8), torch.arange(4)
    steps = []
    for it, rates in ((net, {}), (other, Learning(other, Tuning(decay=0.5)).rates)):
        optimizer = make_optimizer(it, SGD(0.1, momentum=0.0), None, rates)
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * group["rate"]
        before = {name: p.detach().clone() for name, p in it.named_parameters()}
        F.cross_entropy(it(x), y).backward()
        optimizer.step()
        steps.append({name: p.detach() - before[name] for name, p in it.named_parameters()})
    name = next(name for name, p in net.named_parameters() if name.startswith("stages.conv3.") and p.ndim == 4)
    torch.testing.assert_close(steps[1][name], 0.25 * steps[0][name], atol=1e-6, rtol=1e-2)
    torch.testing.assert_close(steps[1]["head.linear.weight"], steps[0]["head.linear.weight"])


def test_a_run_that_unfreezes_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    recipe = replace(DROPPED, epochs=4, tuning=Tuning(unfreeze=1, decay=0.7, norm="frozen"))
    whole = train(tmp_path / "whole", some(), recipe, WRN)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", some(), recipe, WRN, on_event=interrupting(at_step(2, 3)))
    again = train(tmp_path / "run", some(), recipe, WRN, resume=True)
    a, b = weights(whole), weights(again)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_classes_weigh_the_same_whatever_their_images_and_however_a_batch_is_divided() -> None:
    labels = torch.tensor([0] * 6 + [1] * 2)
    w = class_weights(labels, 3)
    assert w[:2].tolist() == pytest.approx([8 / 12, 2.0])
    assert float(w[labels].mean()) == pytest.approx(1.0)
    logits = torch.randn(8, 3)
    whole = loss_of(lambda x: x, logits, labels, CHAIN, w)[0]
    parts = [loss_of(lambda x: x, logits[i : i + 4], labels[i : i + 4], CHAIN, w)[0] for i in (0, 4)]
    assert float(whole) == pytest.approx(float(sum(parts)) / 2)
    each = F.cross_entropy(logits, labels, reduction="none")
    assert float(whole) == pytest.approx(float((each[:6].mean() + each[6:].mean()) / 2))


def test_balance_changes_what_is_learnt(tmp_path: Path) -> None:
    data = some()
    assert isinstance(data.train, MemorySplit)
    labels = data.train.labels.clone()
    labels[labels > 1] = 0
    uneven = replace(data, train=replace(data.train, labels=labels))
    plain = train(tmp_path / "plain", uneven)
    balanced = train(tmp_path / "balanced", uneven, replace(CHAIN, balance=True))
    assert not torch.equal(weights(plain)["head.logits.weight"], weights(balanced)["head.logits.weight"])


def test_settings() -> None:
    recipe = with_settings(
        CHAIN, ["tuning.frozen=stem,group1", "tuning.decay=0.5", "tuning.rates=head:2", "balance=true"]
    )
    assert recipe.tuning == Tuning(frozen=("stem", "group1"), decay=0.5, rates=("head:2",))
    assert recipe.balance
    assert "tuning frozen stem,group1" in recipe.departures
    assert with_settings(recipe, ["tuning=none"]).tuning is None
    assert with_epochs(replace(CHAIN, tuning=Tuning(unfreeze=1)), 6).tuning == Tuning(unfreeze=3)
    assert type(recipe).from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("tuning", "message"),
    [
        (Tuning(frozen=("conv9",)), "no part of resnet20 named 'conv9'; did you mean conv4, conv3, conv2"),
        (Tuning(rates=("stm:2",)), "no part of resnet20 named 'stm'; did you mean stem"),
        (
            Tuning(frozen=("stem", "conv2", "conv3", "conv4", "head")),
            "all of resnet20 is frozen; leave a part to learn",
        ),
    ],
)
def test_mistakes(tuning: Tuning, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Learning(net_of(), tuning)


def test_a_rate_without_a_number_is_refused() -> None:
    for entry in ("stem", "stem:fast", ":2", "stem:-1"):
        with pytest.raises(UserError, match=r"is not a part and its rate; write stage7:0\.5"):
            Tuning(rates=(entry,))


def test_parts_without_parameters_are_none() -> None:
    net = find("squeezenet1_1").build(input=(3, 64, 64))
    assert "stages.pool3" not in parts_of(net)
    assert named(net, "fire2") == "stages.fire2"
    assert named(net, "head.conv10") == "head.conv10"


def test_a_mistake_leaves_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no part of .* named 'nothing'"):
        train(tmp_path / "run", some(), replace(CHAIN, tuning=Tuning(frozen=("nothing",))))
    assert not (tmp_path / "run").exists()
