"""Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024), https://kellerjordan.github.io/posts/muon/

Read beside airbench94_muon.py of https://github.com/KellerJordan/cifar10-airbench, which applies it to convolutions.
torch.optim.Muon takes only matrices. It is on this floor because training and the memory account both run it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of x, x^3 and x^5


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for filters, the parameters of four dimensions; SGD for all others.

    The gradient with Nesterov momentum of filters (cout, cin, height, width) is taken as a matrix (cout, cin * height *
    width) and replaced by `orthogonalize` of it, so that a step changes every direction by about `lr`. Their weight
    decay is decoupled; with `normalize`, they are instead scaled to a norm of sqrt(cout) before each step. The others
    take steps of SGD with Nesterov momentum `sgd_momentum`, and their weight decay is an L2 penalty.

    A step never waits for the device, and changes nothing while `found_inf`, if it is given, is not 0.
    """

    found_inf: Tensor | None = None  # named as in torch's fused optimizers

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.95,
        ns_steps: int = 5,
        normalize: bool = False,
        sgd_momentum: float = 0.9,
    ):
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})
        self.momentum, self.ns_steps, self.normalize = momentum, ns_steps, normalize
        self.sgd_momentum = sgd_momentum
        self.bad: Tensor | None = None  # in a step: whether it is to change nothing

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.bad = None if self.found_inf is None else self.found_inf > 0
        for group in self.param_groups:
            trained = [p for p in group["params"] if p.grad is not None]
            if filters := [p for p in trained if p.ndim == 4]:
                self.step_filters(filters, group["lr"], group["weight_decay"])
            if others := [p for p in trained if p.ndim != 4]:
                self.step_others(others, group["lr"], group["weight_decay"])

    def step_filters(self, filters: list[Tensor], lr: float, weight_decay: float) -> None:
        if self.normalize:
            norms = torch._foreach_norm(filters)
            torch._foreach_div_(norms, [len(p) ** 0.5 for p in filters])
            torch._foreach_div_(filters, [self.unless_bad(norm, 1.0) for norm in norms])
        elif weight_decay:
            torch._foreach_mul_(filters, self.unless_bad(1 - lr * weight_decay, 1.0))
        updates = self.nesterov(filters, [p.grad for p in filters], self.momentum)
        self.subtract(filters, orthogonalize_alike(updates, self.ns_steps), lr)

    def step_others(self, others: list[Tensor], lr: float, weight_decay: float) -> None:
        gradients: Any = [p.grad for p in others]
        if weight_decay:
            gradients = torch._foreach_add(gradients, others, alpha=weight_decay)
        self.subtract(others, self.nesterov(others, gradients, self.sgd_momentum), lr)

    def nesterov(self, parameters: list[Tensor], gradients: Any, momentum: float) -> list[Tensor]:
        """Adds the gradients to the momentum: b <- momentum b + g; returns g + momentum b."""
        for p in parameters:
            if not self.state[p]:
                self.state[p] = {"momentum_buffer": torch.zeros_like(p)}
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        gradients = [self.unless_bad(gradient, 0.0) for gradient in gradients]
        torch._foreach_mul_(buffers, self.unless_bad(momentum, 1.0))
        torch._foreach_add_(buffers, gradients)
        return list(torch._foreach_add(gradients, buffers, alpha=momentum))

    def subtract(self, parameters: list[Tensor], updates: list[Tensor], lr: float) -> None:
        torch._foreach_mul_(updates, self.unless_bad(lr, 0.0))
        torch._foreach_sub_(parameters, updates)

    def unless_bad(self, value: Any, instead: float) -> Any:
        """The value, or `instead` in a step that is to change nothing, which only the device knows."""
        return value if self.bad is None else torch.where(self.bad, instead, value)


def orthogonalize_alike(updates: list[Tensor], steps: int) -> list[Tensor]:
    """Each of the filters' updates orthogonalised; those of equal shape in one batch.

    In bfloat16 on a GPU, as published; elsewhere in the updates' own precision.
    """
    alike: dict[torch.Size, list[int]] = {}
    for i, update in enumerate(updates):
        alike.setdefault(update.shape, []).append(i)
    made = list(updates)
    for shape, which in alike.items():
        matrices = torch.stack([updates[i] for i in which]).flatten(2)
        in_precision = matrices.bfloat16() if matrices.is_cuda else matrices
        orthogonal = orthogonalize(in_precision, steps).to(matrices.dtype)
        for i, of in zip(which, orthogonal.unbind(), strict=True):
            made[i] = of.view(shape)
    return made


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration on matrices (n, rows, columns): roughly U V^T of their singular value decompositions.

    Each step takes every singular value x to 3.4445 x - 4.7750 x^3 + 2.0315 x^5, which rises steeply from 0 and then
    stays near 1: five steps take all from 0.002 to 1 into [0.68, 1.21]. Dividing a matrix by its norm comes first.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
