"""The optimizers as the papers' code implements them: which weights they decay, how they step, what they store."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from .. import muon
from ..layers import ConvNet
from ..recipe import SGD, Adam, AdamW, Muon, Optimizer, RMSProp

PREFIX = "optimizer/"  # of an optimizer's state in a checkpoint: "optimizer/momentum_buffer/stem.conv1.weight"


def make_optimizer(
    net: nn.Module, config: Optimizer, bad: Tensor | None = None, rates: Mapping[str, float] = MappingProxyType({})
) -> torch.optim.Optimizer:
    """The optimizer over all parameters of the network; each group's learning rate is lr times its "rate".

    `rates` multiply the rates of parameters by name; a recipe's Tuning gives them.

    Weight decay is an L2 penalty, as in the papers, except in AdamW and for filters in Muon. With `clip`, the penalty
    is clipped too, except in these two: `clip_` adds it to the gradients, and the optimizer does not. A step changes
    nothing while `bad`, float32 () on the device, is not 0. On a GPU what changes from step to step is kept there, so
    that a step is the same work every time.
    """
    groups = parameter_groups(net, config, rates)
    if config.clip and not isinstance(config, (AdamW, Muon)):
        groups = [{**group, "weight_decay": 0.0, "l2": group["weight_decay"]} for group in groups]
    optimizer = optimizer_of(groups, config)
    if bad is not None:
        optimizer.grad_scale, optimizer.found_inf = None, bad  # type: ignore[attr-defined]
        if bad.device.type != "cpu":
            for group in optimizer.param_groups:
                group["lr"] = torch.full((), group["lr"], device=bad.device)
                group["capturable"] = True
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr * group["rate"])
        else:
            group["lr"] = lr * group["rate"]


def optimizer_of(groups: list[dict[str, Any]], config: Optimizer) -> torch.optim.Optimizer:
    match config:
        case SGD(lr, momentum, nesterov):
            return torch.optim.SGD(groups, lr, momentum, nesterov=nesterov, fused=True)
        case RMSProp(lr, rho, eps, momentum):
            return TensorFlowRMSProp(groups, lr, rho=rho, momentum=momentum, eps=eps)
        case AdamW(lr, beta1, beta2, eps):
            return torch.optim.AdamW(groups, lr, (beta1, beta2), eps, fused=True)
        case Adam(lr, beta1, beta2, eps):
            return torch.optim.Adam(groups, lr, (beta1, beta2), eps, fused=True)
        case Muon(lr, momentum, ns_steps, normalize, sgd_momentum=sgd):
            return muon.Muon(groups, lr, momentum=momentum, ns_steps=ns_steps, normalize=normalize, sgd_momentum=sgd)
    raise AssertionError(f"an optimizer without a rule: {config}")


def parameter_groups(
    net: nn.Module, config: Optimizer, rates: Mapping[str, float] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """The parameters grouped by weight decay (`decay_scope`) and by learning rate (`bias_rate`, Muon's `sgd_rate`).

    The decay of a parameter in a step does not depend on these rates: its weight decay is divided by them. With those
    of `rates`, by name, it does: what hardly learns hardly decays.
    """
    norms = {id(p) for m in net.modules() if isinstance(m, _NormBase) for p in m.parameters(recurse=False)}
    depthwise = {id(m.weight) for m in net.modules() if isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels}

    def decays(name: str, parameter: nn.Parameter) -> bool:
        match config.decay_scope:
            case "all":
                return True
            case "not_norm":
                return id(parameter) not in norms
            case scope:
                weight = parameter.ndim > 1 and not name.endswith("bias")
                return weight and (scope == "weights" or id(parameter) not in depthwise)

    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        rate = 1.0
        if name.endswith("bias"):
            rate = config.bias_rate
        elif isinstance(config, Muon) and parameter.ndim != 4:
            rate = config.sgd_rate
        decay = config.weight_decay / rate if rate and decays(name, parameter) else 0.0
        groups.setdefault((decay, rate * rates.get(name, 1.0)), []).append(parameter)
    return [{"params": of, "weight_decay": decay, "rate": rate} for (decay, rate), of in groups.items()]


class TensorFlowRMSProp(torch.optim.Optimizer):
    """RMSProp as TensorFlow computes it (tf.train.RMSPropOptimizer, training_ops.cc ApplyRMSProp).

    Unlike torch's, the mean of the squared gradients starts at 1, epsilon is added to it under the root, and momentum
    accumulates updates that include the learning rate:
        m <- rho m + (1 - rho) g^2;  v <- momentum v + lr g / sqrt(m + eps);  w <- w - v.
    With an epsilon of 1 (Inception, NASNet), the first two differences make it an entirely different optimizer.
    A step changes nothing while `found_inf`, if it is given, is not 0.
    """

    found_inf: Tensor | None = None  # named as in torch's fused optimizers

    def __init__(self, groups: list[dict[str, Any]], lr: float, *, rho: float, momentum: float, eps: float):
        super().__init__(groups, {"lr": lr, "rho": rho, "momentum": momentum, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if not weights:
                continue
            for p in weights:
                if not self.state[p]:
                    self.state[p] = {"square_avg": torch.ones_like(p), "momentum_buffer": torch.zeros_like(p)}
            squares = [self.state[p]["square_avg"] for p in weights]
            steps = [self.state[p]["momentum_buffer"] for p in weights]
            gradients = [p.grad for p in weights]
            if group["weight_decay"]:
                gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
            rho, momentum = group["rho"], group["momentum"]
            if self.found_inf is not None:
                bad = self.found_inf > 0
                gradients = [torch.where(bad, 0.0, g) for g in gradients]
                rho, momentum = (torch.where(bad, 1.0, value) for value in (rho, momentum))
            torch._foreach_mul_(squares, rho)
            torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["rho"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_mul_(steps, momentum)
            updates = torch._foreach_div(gradients, roots)
            torch._foreach_mul_(updates, group["lr"])
            torch._foreach_add_(steps, updates)
            if self.found_inf is not None:
                steps = list(torch._foreach_mul(steps, torch.where(bad, 0.0, 1.0)))
            torch._foreach_sub_(weights, steps)


def fill_gradients(net: ConvNet) -> None:
    """Gives parameters of parts that this step skipped a gradient of zero: momentum and weight decay go on moving them.

    Torch and Caffe do so, in which stochastic depth (main.lua) and FractalNet were trained.
    """
    if net.has_unused_parameters:
        for p in net.parameters():
            if p.requires_grad and p.grad is None:
                p.grad = torch.zeros_like(p)


def fill_momenta(optimizer: torch.optim.Optimizer) -> None:
    """Gives parameters that begin to learn later than others of their group a momentum of zero, as a first step has.

    Torch's fused SGD begins with all of a group or with none.
    """
    for group in optimizer.param_groups:
        if isinstance(optimizer, torch.optim.SGD) and group["momentum"]:
            learning = [p for p in group["params"] if p.requires_grad]
            if any(optimizer.state.get(p) for p in learning):
                for p in learning:
                    optimizer.state[p].setdefault("momentum_buffer", torch.zeros_like(p))


@torch.no_grad()
def clip_(optimizer: torch.optim.Optimizer, norm: float) -> Tensor:
    """Scales the gradients so that their norm, over all parameters, is at most `norm`; returns the norm before scaling.

    The gradient of the L2 penalty is added first, since the penalty is part of the loss (see `make_optimizer`).
    """
    for group in optimizer.param_groups:
        if group.get("l2"):
            weights = [p for p in group["params"] if p.grad is not None]
            torch._foreach_add_([p.grad for p in weights], weights, alpha=group["l2"])
    every = [p for group in optimizer.param_groups for p in group["params"]]
    return nn.utils.clip_grad_norm_(every, norm, foreach=True)


def optimizer_state(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state, under its parameters' names."""
    return {
        f"{PREFIX}{key}/{name}": value
        for name, parameter in net.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None  # as in torch's SGD without momentum
    }


def load_optimizer_state(net: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restores what `optimizer_state` returned, each tensor with the device and memory format of its parameter."""
    parameters = dict(net.named_parameters())
    for name, tensor in tensors.items():
        if name.startswith(PREFIX):
            key, _, of = name.removeprefix(PREFIX).partition("/")
            parameter = parameters[of]
            like = parameter if tensor.shape == parameter.shape else tensor.to(parameter.device)
            optimizer.state[parameter][key] = torch.empty_like(like, requires_grad=False).copy_(tensor)
