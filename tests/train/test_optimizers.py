"""Optimizers against TensorFlow's formulas written out, timm's RMSProp and torch's; what decays; clipping; saving."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas import muon
from convatlas.catalogue import find
from convatlas.layers import on_meta
from convatlas.recipe import SGD, Adam, AdamW, Muon, Optimizer, RMSProp
from convatlas.train.optimizers import (
    TensorFlowRMSProp,
    clip_,
    fill_momenta,
    load_optimizer_state,
    make_optimizer,
    optimizer_state,
    parameter_groups,
)
from tests import oracles

RMSPROP = RMSProp(0.045, eps=1.0, weight_decay=4e-5)
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(0.045, weight_decay=4e-5),
    "nesterov": SGD(0.045, nesterov=True, weight_decay=4e-5),
    "no momentum": SGD(0.045, momentum=0.0, weight_decay=4e-5),
    "rmsprop": RMSPROP,
    "adam": Adam(1e-3, weight_decay=4e-5),
    "adamw": AdamW(1e-3, weight_decay=4e-5),
    "muon": Muon(0.02, weight_decay=4e-5, sgd_rate=2.0, bias_rate=8.0),
    "normalized muon": Muon(0.24, momentum=0.6, ns_steps=3, normalize=True, weight_decay=4e-5),
}


def small() -> nn.Module:
    """Weights of several shapes, one of them laid out channels last."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 5))
    return net.to(memory_format=torch.channels_last)


def gradients(net: nn.Module, steps: int, seed: int = 1) -> Iterator[None]:
    """Sets the same gradients, step by step, in whatever network has these shapes."""
    g = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in net.parameters():
            p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=g))
        yield


def weights(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def trained(optimizer: torch.optim.Optimizer, net: nn.Module, steps: int = 12) -> list[Tensor]:
    for _ in gradients(net, steps):
        optimizer.step()
    return weights(net)


# the update


@pytest.mark.parametrize(("eps", "rho", "momentum", "decay"), [
    (1.0, 0.9, 0.9, 4e-5), (1e-3, 0.9, 0.9, 1e-5), (1e-10, 0.9, 0.0, 0.0), (0.1, 0.99, 0.5, 0.1)
])  # fmt: skip
def test_rmsprop_is_tensorflows(eps: float, rho: float, momentum: float, decay: float) -> None:
    """training_ops.cc, ApplyRMSProp, in float64 and by hand; the slots start at one and at zero."""
    net = small()
    w = [p.detach().double().numpy().copy() for p in net.parameters()]
    ms = [np.ones_like(a) for a in w]
    mom = [np.zeros_like(a) for a in w]
    optimizer = make_optimizer(net, RMSProp(0.045, rho, eps, momentum, weight_decay=decay))
    for step, _ in enumerate(gradients(net, 12)):
        lr = 0.045 * 0.94**step
        for group in optimizer.param_groups:
            group["lr"] = lr
        for i, p in enumerate(net.parameters()):
            assert p.grad is not None
            g = p.grad.double().numpy() + decay * w[i]
            ms[i] += (g * g - ms[i]) * (1 - rho)
            mom[i] = momentum * mom[i] + lr * g / np.sqrt(ms[i] + eps)
            w[i] -= mom[i]
        optimizer.step()
    for ours, theirs in zip(weights(net), w, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.oracles
@pytest.mark.parametrize("eps", [1.0, 1e-3])
def test_rmsprop_is_timms(eps: float) -> None:
    oracles.timm()
    from timm.optim import RMSpropTF

    net, other = small(), small()
    theirs = RMSpropTF(other.parameters(), 0.045, alpha=0.9, eps=eps, momentum=0.9, weight_decay=4e-5)
    ours = trained(make_optimizer(net, replace(RMSPROP, eps=eps)), net)
    torch.testing.assert_close(ours, trained(theirs, other), rtol=1e-6, atol=1e-7)


def test_rmsprop_is_not_torchs() -> None:
    net, other = small(), small()
    theirs = torch.optim.RMSprop(other.parameters(), 0.045, alpha=0.9, eps=1.0, momentum=0.9, weight_decay=4e-5)
    ours = trained(make_optimizer(net, RMSPROP), net)
    assert not torch.allclose(ours[0], trained(theirs, other)[0], rtol=0.01)


def test_a_parameter_without_a_gradient_stays() -> None:
    """As the auxiliary classifiers do in a run whose recipe has no loss for them."""
    net = small()
    optimizer = make_optimizer(net, RMSPROP)
    before = net[3].weight.clone()
    for _ in gradients(net, 2):
        net[3].weight.grad = None
        optimizer.step()
    assert torch.equal(net[3].weight, before)
    assert net[3].weight not in optimizer.state
    TensorFlowRMSProp(
        [{"params": [nn.Parameter(torch.ones(1))]}], 0.1, rho=0.9, momentum=0.9, eps=1.0
    ).step()  # nor fails


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, 0.045, 0.9, weight_decay=4e-5)),
        ("nesterov", lambda p: torch.optim.SGD(p, 0.045, 0.9, weight_decay=4e-5, nesterov=True)),
        ("no momentum", lambda p: torch.optim.SGD(p, 0.045, weight_decay=4e-5)),
        ("adam", lambda p: torch.optim.Adam(p, 1e-3, (0.9, 0.999), 1e-8, weight_decay=4e-5)),
        ("adamw", lambda p: torch.optim.AdamW(p, 1e-3, (0.9, 0.999), 1e-8, weight_decay=4e-5)),
    ],
)
def test_the_others_are_torchs(name: str, make: Any) -> None:
    """The plain implementations of the same, with torch's own defaults."""
    net, other = small(), small()
    ours = trained(make_optimizer(net, OPTIMIZERS[name]), net)
    torch.testing.assert_close(ours, trained(make(other.parameters()), other), rtol=1e-5, atol=1e-6)


def test_muon_has_the_recipes_settings_and_rates() -> None:
    """Filters by Muon at the recipe's rate, biases and the rest by SGD at their own, all decaying alike."""
    config = Muon(0.2, 0.6, 3, True, sgd_rate=5.0, sgd_momentum=0.8, bias_rate=50.0, weight_decay=0.01)
    optimizer = make_optimizer(small(), config)
    assert isinstance(optimizer, muon.Muon)
    settings = optimizer.momentum, optimizer.ns_steps, optimizer.normalize, optimizer.sgd_momentum
    assert settings == (0.6, 3, True, 0.8)
    found = {(g["rate"], tuple(p.ndim for p in g["params"])): g["weight_decay"] for g in optimizer.param_groups}
    assert found == {(1.0, (4,)): 0.01, (50.0, (1, 1, 1)): 0.01 / 50, (5.0, (1, 2)): 0.01 / 5}


def test_muon_clips_the_gradient_without_the_penalty() -> None:
    """Filters decay apart from their gradient, so the penalty of the others is left out, too."""
    optimizer = make_optimizer(small(), replace(OPTIMIZERS["muon"], clip=1.0, weight_decay=0.3))
    decays = [group["weight_decay"] * group["rate"] for group in optimizer.param_groups]
    assert decays == pytest.approx([0.3, 0.3, 0.3])
    assert not any(group.get("l2") for group in optimizer.param_groups)


def test_the_recipe_gives_decay_rates_and_epsilon() -> None:
    adam = make_optimizer(small(), Adam(0.045, beta1=0.8, beta2=0.95, eps=1e-3))
    assert (adam.defaults["betas"], adam.defaults["eps"]) == ((0.8, 0.95), 1e-3)
    rmsprop = make_optimizer(small(), RMSProp(0.045))
    assert (rmsprop.defaults["rho"], rmsprop.defaults["eps"]) == (0.9, 1e-10)  # TensorFlow's


# what decays


@pytest.mark.parametrize(
    ("scope", "network", "spared"),
    [
        ("all", "mobilenet_v1_0_25_128", lambda name: False),
        ("weights", "mobilenet_v1_0_25_128", lambda name: name.endswith("bias") or ".bn." in name),
        ("not_norm", "mobilenet_v1_0_25_128", lambda name: ".bn." in name),
        (
            "not_depthwise",
            "mobilenet_v1_0_25_128",
            lambda name: name.endswith("bias") or ".bn." in name or "depthwise" in name,
        ),
        ("weights", "lenet5", lambda name: name.endswith("bias")),
        ("not_norm", "lenet5", lambda name: False),
    ],
)
def test_the_scope_of_weight_decay(scope: Any, network: str, spared: Any) -> None:
    with on_meta():
        net = find(network).build()
    names = {id(p): name for name, p in net.named_parameters()}
    groups = parameter_groups(net, SGD(0.045, weight_decay=4e-5, decay_scope=scope))
    found = {names[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}
    assert found == {name: 0.0 if spared(name) else 4e-5 for name in names.values()}
    assert len(set(found.values())) == (1 if not any(map(spared, found)) else 2)


# clipping


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam"])
@pytest.mark.parametrize("norm", [0.5, 1e9])
def test_the_gradient_of_the_whole_loss_is_clipped(name: str, norm: float) -> None:
    """Against the L2 penalty written into the loss: its gradient is part of what is clipped."""
    net, other, config = small(), small(), replace(OPTIMIZERS[name], weight_decay=0.3, clip=norm)
    ours, theirs = make_optimizer(net, config), make_optimizer(other, replace(config, weight_decay=0.0, clip=0.0))
    for _ in zip(gradients(net, 4), gradients(other, 4), strict=True):
        every = [p for p in other.parameters() if p.grad is not None]
        for p in every:
            p.grad = p.grad + 0.3 * p.detach()
        total = torch.cat([p.grad.flatten() for p in every]).norm().item()
        for p in every:
            p.grad = p.grad * min(1.0, norm / total)
        theirs.step()
        assert clip_(ours, norm).item() == pytest.approx(total, rel=1e-5)
        ours.step()
    torch.testing.assert_close(weights(net), weights(other), rtol=1e-5, atol=1e-6)


def test_adamw_decays_beside_the_clipping() -> None:
    optimizer = make_optimizer(small(), replace(OPTIMIZERS["adamw"], clip=1.0, weight_decay=0.3))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3]


# saving


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_with_its_memory_back_goes_on_as_if_it_had_never_stopped(name: str) -> None:
    net, config = small(), OPTIMIZERS[name]
    optimizer = make_optimizer(net, config)
    trained(optimizer, net, 3)
    kept = {key: tensor.clone().contiguous() for key, tensor in optimizer_state(net, optimizer).items()}
    assert all(key.startswith("optimizer/") for key in kept)
    again = small()
    again.load_state_dict(net.state_dict())
    another = make_optimizer(again, config)
    load_optimizer_state(again, another, kept)
    assert optimizer_state(again, another).keys() == kept.keys()
    for (key, ours), theirs in zip(
        optimizer_state(again, another).items(), optimizer_state(net, optimizer).values(), strict=True
    ):
        assert torch.equal(ours, theirs), key
        assert ours.stride() == theirs.stride(), key
    for _ in zip(gradients(net, 3, seed=2), gradients(again, 3, seed=2), strict=True):
        optimizer.step()
        another.step()
    assert all(torch.equal(a, b) for a, b in zip(weights(net), weights(again), strict=True))


@pytest.mark.parametrize("nesterov", [False, True])
def test_what_begins_to_learn_later_starts_as_in_a_first_step(nesterov: bool) -> None:
    """Beside torch's SGD of each step's formulas, in which every parameter is on its own."""
    nets = small(), small()
    ours = make_optimizer(nets[0], SGD(0.1, nesterov=nesterov, weight_decay=1e-3))
    theirs = torch.optim.SGD(
        nets[1].parameters(), 0.1, 0.9, weight_decay=1e-3, nesterov=nesterov, foreach=False, fused=False
    )
    for epoch in range(3):
        for net in nets:
            for i, p in enumerate(net.parameters()):
                p.requires_grad_(i >= 4 - 2 * epoch)  # the last layer, then batch norm, then the first
        fill_momenta(ours)
        for net, optimizer in zip(nets, (ours, theirs), strict=True):
            for _ in gradients(net, 2, seed=epoch):
                for p in net.parameters():
                    p.grad = p.grad if p.requires_grad else None
                optimizer.step()
    torch.testing.assert_close(weights(nets[0]), weights(nets[1]))


def test_what_they_remember_of_each_parameter() -> None:
    expected = {
        "sgd": {"momentum_buffer"},
        "no momentum": set(),
        "rmsprop": {"square_avg", "momentum_buffer"},
        "adam": {"step", "exp_avg", "exp_avg_sq"},
        "muon": {"momentum_buffer"},
    }
    for name, keys in expected.items():
        net = small()
        optimizer = make_optimizer(net, OPTIMIZERS[name])
        trained(optimizer, net, 1)
        names = {n for n, _ in net.named_parameters()}
        assert set(optimizer_state(net, optimizer)) == {f"optimizer/{key}/{n}" for key in keys for n in names}
