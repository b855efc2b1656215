"""Averages of the weights: the exponential moving average, which is evaluated in their place, and Lookahead."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ..runs.checkpoint import AVERAGE, averaged

SLOW = "slow/"


class MovingAverage:
    """An exponential moving average (EMA) of a network's weights, as a second network in eval mode.

    The decay grows with the number of steps, up to `decay`, so that the average soon forgets the initial weights. This
    follows TensorFlow's ExponentialMovingAverage with num_updates, used by the released code of Inception, NASNet and
    EfficientNet. As in that code, batch norm's running statistics are averaged too; integers (batch counts) are copied.
    """

    def __init__(self, net: nn.Module, decay: float):
        self.net, self.decay = deepcopy(net).eval().requires_grad_(False), decay
        mine, theirs = (list(n.state_dict(keep_vars=True).values()) for n in (self.net, net))
        pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if a.is_floating_point()]
        self.mine, self.theirs = [a for a, _ in pairs], [b for _, b in pairs]
        self.copied = [(a, b) for a, b in zip(mine, theirs, strict=True) if not a.is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Updates the average after step number `steps`, counted from 1."""
        keep = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self.mine, self.theirs, 1 - keep)
        for mine, theirs in self.copied:
            mine.copy_(theirs)

    def tensors(self) -> dict[str, Tensor]:
        return {f"{AVERAGE}{name}": tensor for name, tensor in self.net.state_dict().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.net.load_state_dict(averaged(tensors))


class SlowWeights:
    """Lookahead (Zhang et al., 2019, https://arxiv.org/abs/1907.08610), in the variant of Jordan (2024).

    Every fifth step, the slow weights move towards the fast (trained) ones, which are then reset to the slow weights.
    The decay of the slow weights grows with the cube of the training progress, up to `decay`. After the last step, the
    network holds the slow weights. Batch norm's running statistics are treated like weights.
    """

    EVERY = 5  # steps

    def __init__(self, net: nn.Module, decay: float):
        self.decay = decay
        self.fast = {name: t for name, t in net.state_dict().items() if t.is_floating_point()}
        self.slow = {name: t.clone() for name, t in self.fast.items()}

    @torch.no_grad()
    def update(self, steps: int, of: int, bad: Tensor) -> None:
        """Updates the slow weights after step number `steps` of `of`, counted from 1; nothing where `bad` is not 0."""
        fast, slow = list(self.fast.values()), list(self.slow.values())
        if steps % self.EVERY == 0:
            torch._foreach_lerp_(slow, fast, 1 - self.decay * (steps / of) ** 3)
        if steps % self.EVERY == 0 or steps == of:
            for mine, theirs in zip(fast, slow, strict=True):
                torch.where(bad > 0, mine, theirs, out=mine)

    def tensors(self) -> dict[str, Tensor]:
        return {f"{SLOW}{name}": tensor for name, tensor in self.slow.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.slow.items():
            tensor.copy_(tensors[f"{SLOW}{name}"])
