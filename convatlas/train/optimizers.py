"""The optimizers as the papers' programs have them: which weights they decay, how they step, what they remember."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ..recipe import OPTIMIZERS, Recipe

PREFIX = "optimizer/"  # of what an optimizer remembers, in a checkpoint: "optimizer/momentum_buffer/stem.conv1.weight"


def make_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer of all parameters of the network; a step is at the rate times its group's "rate".

    Weight decay is L2's, as in the papers; adamw's is not.

    With `clip` it is `clip_` that adds it to the gradients, since it is part of what is clipped.
    """
    groups = parameter_groups(net, recipe)
    if recipe.clip and recipe.optimizer != "adamw":
        groups = [{**group, "weight_decay": 0.0, "l2": group["weight_decay"]} for group in groups]
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, recipe.lr, recipe.momentum, nesterov=recipe.nesterov, fused=True)
        case "rmsprop":
            rho, eps = own(recipe, "rho"), own(recipe, "eps")
            return RMSProp(groups, recipe.lr, rho=rho, momentum=recipe.momentum, eps=eps)
        case name:
            adam = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
            betas = recipe.momentum, own(recipe, "rho")
            return adam(groups, recipe.lr, betas, own(recipe, "eps"), fused=True)


def own(recipe: Recipe, field: str) -> float:
    """The recipe's value of a field that not all optimizers have: by default the optimizer's."""
    value = getattr(recipe, field)
    return OPTIMIZERS[recipe.optimizer][field] if value is None else value


def parameter_groups(net: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The parameters by what they have of weight decay (the recipe's `decay_scope`) and of the rate (`bias_rate`).

    What a step decays a bias by is not multiplied with its rate.
    """
    norms = {id(p) for m in net.modules() if isinstance(m, _NormBase) for p in m.parameters(recurse=False)}
    depthwise = {id(m.weight) for m in net.modules() if isinstance(m, nn.Conv2d) and 1 < m.groups == m.in_channels}

    def decays(name: str, parameter: nn.Parameter) -> bool:
        match recipe.decay_scope:
            case "all":
                return True
            case "not_norm":
                return id(parameter) not in norms
            case scope:
                weight = parameter.ndim > 1 and not name.endswith("bias")
                return weight and (scope == "weights" or id(parameter) not in depthwise)

    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        rate = recipe.bias_rate if name.endswith("bias") else 1.0
        decay = recipe.weight_decay / rate if rate and decays(name, parameter) else 0.0
        groups.setdefault((decay, rate), []).append(parameter)
    return [{"params": of, "weight_decay": decay, "rate": rate} for (decay, rate), of in groups.items()]


class RMSProp(torch.optim.Optimizer):
    """RMSProp as TensorFlow computes it (tf.train.RMSPropOptimizer, training_ops.cc ApplyRMSProp).

    Unlike torch's, the mean of the squared gradients starts at 1, epsilon is added to it under the root, and the
    momentum is of the steps, the rate in them: m <- rho m + (1 - rho) g^2; v <- momentum v + lr g / sqrt(m + eps);
    w <- w - v. With an epsilon of 1 (Inception, NASNet) the first two make a wholly different optimizer.
    """

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
            torch._foreach_mul_(squares, group["rho"])
            torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["rho"])
            roots = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(roots)
            torch._foreach_mul_(steps, group["momentum"])
            torch._foreach_addcdiv_(steps, gradients, roots, value=group["lr"])
            torch._foreach_sub_(weights, steps)


@torch.no_grad()
def clip_(optimizer: torch.optim.Optimizer, norm: float) -> Tensor:
    """Scales the gradients of all parameters together down to `norm`, if theirs is above it; returns what it was.

    The gradients are of the whole loss, so the L2 penalty's are first added to them (see `make_optimizer`).
    """
    for group in optimizer.param_groups:
        if group.get("l2"):
            weights = [p for p in group["params"] if p.grad is not None]
            torch._foreach_add_([p.grad for p in weights], weights, alpha=group["l2"])
    every = [p for group in optimizer.param_groups for p in group["params"]]
    return nn.utils.clip_grad_norm_(every, norm, foreach=True)


def memory(net: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """All that the optimizer remembers of each parameter, under the parameter's name."""
    return {
        f"{PREFIX}{key}/{name}": value
        for name, parameter in net.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if value is not None  # torch's SGD without momentum
    }


def remember(net: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts back what `memory` took, each tensor beside its parameter and with its strides."""
    parameters = dict(net.named_parameters())
    for name, tensor in tensors.items():
        if name.startswith(PREFIX):
            key, _, of = name.removeprefix(PREFIX).partition("/")
            parameter = parameters[of]
            like = parameter if tensor.shape == parameter.shape else tensor.to(parameter.device)
            optimizer.state[parameter][key] = torch.empty_like(like, requires_grad=False).copy_(tensor)
