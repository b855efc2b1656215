"""airbench94 and what its recipe asks for, against the released program's arithmetic written out."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.catalogue import find
from convatlas.data.augment import augment
from convatlas.data.augment.spatial import alternate_flip
from convatlas.data.normalise import Normalizer
from convatlas.data.types import Data
from convatlas.errors import UserError
from convatlas.evaluation.views import logits_of
from convatlas.nets.airbench import Airbench
from convatlas.preprocess import Preprocess
from convatlas.protocols import PROTOCOLS, find_protocol
from convatlas.recipe import LinearWarmup, Poly
from convatlas.recipes import find_recipe
from convatlas.train.average import SlowWeights
from convatlas.train.fit import Stopped
from convatlas.train.optimizers import make_optimizer
from convatlas.train.schedule import rate
from tests.train.short_runs import at_step, interrupting, some, train, weights

RECIPE, MUON = find_recipe("airbench94"), find_recipe("airbench94_muon")
SMALL = replace(find("airbench94"), args={"widths": (26, 28, 30)})


@pytest.fixture(scope="module")
def net() -> Airbench:
    torch.manual_seed(0)
    return Airbench().eval()


def by_hand(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """The network of airbench94.py, evaluated, from a state dict."""
    x = F.gelu(F.conv2d(x, weights["stem.whiten.weight"], weights["stem.whiten.bias"]))
    for b in (1, 2, 3):
        for c in (1, 2):
            at = f"stages.block{b}"
            x = F.conv2d(x, weights[f"{at}.conv{c}.weight"], padding="same")
            x = F.max_pool2d(x, 2) if c == 1 else x
            mean, var, shift = (
                weights[f"{at}.norm{c}.{n}"][:, None, None] for n in ("running_mean", "running_var", "bias")
            )
            x = F.gelu((x - mean) / (var + 1e-12).sqrt() + shift)
    return F.max_pool2d(x, 3).flatten(1) @ weights["head.linear.weight"].T * (1 / 9)


def test_the_network_is_the_released_one(net: Airbench) -> None:
    with torch.no_grad():
        for p in net.state_dict().values():
            if p.is_floating_point() and p.dim() == 1:
                p.copy_(torch.rand_like(p) + 0.5)
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.ones_(norm.weight)  # the program's stay at 1
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(net(x), by_hand(net.state_dict(), x), rtol=1e-4, atol=1e-5)
    learnt = {name for name, p in net.named_parameters() if p.requires_grad}
    assert {name for name, _ in net.named_parameters()} - learnt == {
        "stem.whiten.weight", *(f"stages.block{b}.norm{c}.weight" for b in (1, 2, 3) for c in (1, 2))
    }  # fmt: skip


def test_convolutions_begin_by_passing_their_channels_on() -> None:
    net = Airbench()
    x = torch.randn(1, 64, 8, 8)
    out = net.stages[1].conv1(x)  # type: ignore[index, union-attr]
    assert torch.equal(out[:, :64], x)
    assert not torch.equal(out[:, 64:128], x)


def test_the_first_layer_whitens(net: Airbench) -> None:
    """Correlated patches come out uncorrelated, of variance 1, first the most frequent direction; then all negated."""
    images = F.avg_pool2d(torch.randn(200, 3, 34, 34), 3, 1) * 3
    net.init_from_data(images)
    out = F.conv2d(images, net.whiten.weight).transpose(0, 1).flatten(1)
    second_moments = out[:12] @ out[:12].T / out.shape[1]
    torch.testing.assert_close(second_moments, torch.eye(12), rtol=0, atol=0.02)
    assert torch.equal(net.whiten.weight[:12], -net.whiten.weight[12:])
    sizes = net.whiten.weight[:12].flatten(1).norm(dim=1)
    assert sizes.tolist() == sorted(sizes.tolist())  # the larger the variance, the smaller the filter


def test_its_biases_rest_after_3_of_9_9_epochs(net: Airbench) -> None:
    assert net.whiten.bias is not None
    for progress, learnt in ((0.0, True), (0.303, True), (0.304, False), (1.0, False), (0.1, True)):
        net.set_progress(progress)
        assert net.whiten.bias.requires_grad == learnt


def test_rates_and_steps_are_the_programs() -> None:
    """The program sums the loss over 1,024 images and gives rate, decay and the biases' rate in its own terms."""
    torch.manual_seed(0)
    ours, theirs = (nn.Sequential(nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    kilostep = 1024 * (1 + 1 / (1 - 0.85))
    lr, wd = 11.5 / kilostep, 0.0153 * 1024 / kilostep
    biases = {"params": [theirs[1].bias], "lr": lr * 64, "weight_decay": wd / (lr * 64)}
    others = {"params": [theirs[0].weight, theirs[1].weight], "lr": lr, "weight_decay": wd / lr}
    program = torch.optim.SGD([biases, others], momentum=0.85, nesterov=True)
    initial = [group["lr"] for group in program.param_groups]
    optimizer = make_optimizer(ours, RECIPE.optimizer)
    for step in (0, 1, 50, 112, 113, 300, 489):
        x, y = torch.randn(1024, 5), torch.randint(4, (1024,))
        share = rate(RECIPE, step / 49, steps=49) / RECIPE.optimizer.lr
        for group, first in zip(program.param_groups, initial, strict=True):
            group["lr"] = first * share
        program.zero_grad()
        F.cross_entropy(theirs(x), y, label_smoothing=0.2, reduction="sum").backward()
        program.step()
        for group in optimizer.param_groups:
            group["lr"] = share * RECIPE.optimizer.lr * group["rate"]
        optimizer.zero_grad()
        F.cross_entropy(ours(x), y, label_smoothing=0.2).backward()
        optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_muons_rates_and_steps_are_the_programs() -> None:
    """The later program's own terms: the sum over 2,000 images, and a head with large weights, divided by 256.

    20 images count 100 times each. Only the rate of the first layer's biases differs (see the recipe's departures).
    """
    torch.manual_seed(0)
    ours = Airbench().double()
    theirs = deepcopy(ours)
    with torch.no_grad():
        theirs.head.linear.weight *= 256 / 9  # type: ignore[union-attr, operator]
    filters = [p for p in theirs.parameters() if p.ndim == 4 and p.requires_grad]
    biases = [p for name, p in theirs.named_parameters() if name.endswith("bias")]
    assert (len(filters), len(biases)) == (6, 7)
    wd, momenta = 2e-6 * 2000, [torch.zeros_like(p) for p in filters]
    sgd = torch.optim.SGD(
        [
            {"params": biases, "lr": 0.053, "weight_decay": wd / 0.053},
            {"params": [theirs.head.linear.weight], "lr": 0.67, "weight_decay": wd / 0.67},  # type: ignore[union-attr]
        ],
        momentum=0.85,
        nesterov=True,
    )
    initial = [group["lr"] for group in sgd.param_groups]
    optimizer = make_optimizer(ours, MUON.optimizer)
    before = {name: p.detach().clone() for name, p in ours.named_parameters()}
    for step in (0, 1, 60, 199):
        x, y = torch.randn(20, 3, 16, 16, dtype=torch.float64), torch.randint(10, (20,))
        assert rate(MUON, step / 25, steps=25) == pytest.approx(0.24 * (1 - step / 200))
        for group in optimizer.param_groups:
            group["lr"] = rate(MUON, step / 25, steps=25) * group["rate"]
        optimizer.zero_grad()
        F.cross_entropy(ours(x), y, label_smoothing=MUON.label_smoothing).backward()
        optimizer.step()

        theirs.zero_grad()
        logits = theirs(x) * 9 / 256
        (100 * F.cross_entropy(logits, y, label_smoothing=0.2, reduction="sum")).backward()
        for group, first in zip(sgd.param_groups, initial, strict=True):
            group["lr"] = first * (1 - step / 200)
        sgd.step()
        with torch.no_grad():
            for p, momentum in zip(filters, momenta, strict=True):
                assert p.grad is not None
                momentum.mul_(0.6).add_(p.grad)
                p *= len(p) ** 0.5 / p.norm()
                m = (p.grad + 0.6 * momentum).reshape(len(p), -1)
                m /= m.norm()
                for _ in range(3):
                    m = 3.4445 * m + (-4.7750 * m @ m.T + 2.0315 * m @ m.T @ m @ m.T) @ m
                p -= 0.24 * (1 - step / 200) * m.view(p.shape)
    with torch.no_grad():
        theirs.head.linear.weight *= 9 / 256  # type: ignore[union-attr, operator]
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5, msg=name)
        assert torch.equal(a, before[name]) != a.requires_grad, name


def test_muons_biases_rest_after_3_of_8_epochs() -> None:
    net = find("airbench94").build(**dict(MUON.net))
    assert isinstance(net, Airbench)
    assert net.whiten.bias is not None
    for step, learnt in ((0, True), (74, True), (75, False), (199, False)):
        net.set_progress(step / 200)
        assert net.whiten.bias.requires_grad == learnt
    assert (MUON.epochs, MUON.batch, 50_000 % MUON.batch) == (8, 2000, 0)  # 200 steps, none of them smaller


def test_the_rate_rises_and_falls_as_the_programs() -> None:
    total = 490
    warm = int(0.23 * total)  # 112, and here 112.7
    for step in range(total):
        share = 0.2 + 0.8 * step / warm if step < warm else 1 - 0.93 * (step - warm) / (total - warm)
        assert rate(RECIPE, step / 49, steps=49) / RECIPE.optimizer.lr == pytest.approx(share, abs=0.006)


def test_biases_can_stay() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), replace(RECIPE.optimizer, bias_rate=0.0))
    assert sorted((group["rate"], group["weight_decay"]) for group in optimizer.param_groups) == [
        (0.0, 0.0), (1.0, RECIPE.optimizer.weight_decay)
    ]  # fmt: skip


def test_slow_weights_are_the_programs() -> None:
    net = nn.Linear(1, 1, bias=False)
    slow = first = net.weight.item()
    lookahead = SlowWeights(net, 0.95**5)
    for step in range(1, 13):
        with torch.no_grad():
            net.weight += 1
        lookahead.update(step, 12, torch.zeros(()))
        if step in (5, 10):
            keep = 0.95**5 * (step / 12) ** 3
            slow = keep * slow + (1 - keep) * (first + 5 if step == 5 else slow + 5)
            assert net.weight.item() == pytest.approx(slow)
    assert net.weight.item() == pytest.approx(slow)  # the last steps, which it had not seen, are forgotten


def test_every_second_epoch_is_the_mirror_image() -> None:
    images, indices = torch.randint(256, (2000, 3, 4, 4), dtype=torch.uint8), torch.arange(2000)
    epochs = [augment(images, indices, ops=("alternate_flip",), seed=3, epoch=e) for e in range(4)]
    assert torch.equal(epochs[0], epochs[2])
    assert torch.equal(epochs[1], epochs[3])
    assert torch.equal(epochs[0].flip(3), epochs[1])
    same = (epochs[0] == images).flatten(1).all(1).float().mean().item()
    assert same == pytest.approx(0.5, abs=4.5 * 0.5 / 2000**0.5)
    assert torch.equal(alternate_flip(images[7:9], indices[7:9], 3, 0), epochs[0][7:9])


@pytest.fixture(scope="module")
def data() -> Data:
    return some()


def test_a_resumed_run_is_the_same(tmp_path: Path, data: Data) -> None:
    """Through the steps that slow weights and the first layer's biases come from, and after them."""
    recipe = replace(
        RECIPE,
        epochs=3,
        batch=16,
        optimizer=replace(RECIPE.optimizer, lr=0.05),
        schedule=Poly(lr_end=0.01),
        warmup=LinearWarmup(lr=0.01, epochs=0.5),
    )
    whole = train(tmp_path / "whole", data, recipe, SMALL, input=(1, 32, 32))
    for i, (epoch, step) in enumerate([(1, 3), (2, 2), (3, 1)]):
        on_event = interrupting(at_step(epoch, step))
        with pytest.raises(Stopped):
            train(tmp_path / "run", data, recipe, SMALL, input=(1, 32, 32), resume=i > 0, on_event=on_event)
    run = train(tmp_path / "run", data, recipe, SMALL, input=(1, 32, 32), resume=True)
    ours, expected = weights(run), weights(whole)
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    for name, t in run.load("last").state_dict().items():  # the last step is not one of every fifth
        if t.is_floating_point():
            assert torch.equal(ours[f"slow/{name}"], t), name
    first = ours["stem.whiten.weight"]
    torch.manual_seed(0)
    assert not torch.equal(first, SMALL.build(input=(1, 32, 32)).whiten.weight)  # measured on the training images
    assert torch.equal(first[:4], -first[4:])


def test_protocols_are_the_programs() -> None:
    with pytest.raises(UserError, match="no protocol named 'centre'; did you mean center"):
        find_protocol("centre")
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), torch.randint(256, (6, 3, 4, 4), dtype=torch.uint8)
    plain = Normalizer(Preprocess((3, 4, 4), (0.0,) * 3, (1.0,) * 3, scale=1.0))
    x = images.float()
    padded = F.pad(x, (1, 1, 1, 1), "reflect")

    def mirror(x: Tensor) -> Tensor:
        return 0.5 * net(x) + 0.5 * net(x.flip(-1))

    with torch.no_grad():
        moved = [mirror(padded[:, :, :4, :4]), mirror(padded[:, :, 2:, 2:])]
        expected = 0.5 * mirror(x) + 0.5 * torch.stack(moved).mean(0)
        torch.testing.assert_close(logits_of(net, images, plain, protocol=PROTOCOLS["flip"]), mirror(x))
    torch.testing.assert_close(logits_of(net, images, plain, protocol=PROTOCOLS["airbench6"]), expected)
