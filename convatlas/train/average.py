"""What follows the weights in training: their moving average, which is evaluated instead, and slow weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ..runs.checkpoint import AVERAGE, averaged

SLOW = "slow/"


class MovingAverage:
    """An exponential moving average (EMA) of a network's weights, as a second network in eval mode.

    As in TensorFlow (ExponentialMovingAverage with num_updates, which the released code of Inception, NASNet and
    EfficientNet uses) the decay grows with the number of steps, up to `decay`, so that the first weights are soon
    forgotten. Batch norm's running statistics are averaged like weights, as in that code; integers (counts of batches)
    are copied.
    """

    def __init__(self, net: nn.Module, decay: float):
        self.net, self.decay = deepcopy(net).eval().requires_grad_(False), decay
        mine, theirs = (list(n.state_dict(keep_vars=True).values()) for n in (self.net, net))
        pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if a.is_floating_point()]
        self.mine, self.theirs = [a for a, _ in pairs], [b for _, b in pairs]
        self.copied = [(a, b) for a, b in zip(mine, theirs, strict=True) if not a.is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """After a step, the `steps`-th since training began."""
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

    After every fifth step the slow weights move towards the trained ones, which are then reset to them. The share that
    the slow weights keep grows with the cube of time, up to `decay`. After the last step the network has the slow
    weights. Batch norm's running statistics are treated like weights.
    """

    EVERY = 5  # steps

    def __init__(self, net: nn.Module, decay: float):
        self.decay = decay
        self.fast = {name: t for name, t in net.state_dict().items() if t.is_floating_point()}
        self.slow = {name: t.clone() for name, t in self.fast.items()}

    @torch.no_grad()
    def update(self, steps: int, of: int) -> None:
        """After a step, the `steps`-th of `of`."""
        fast, slow = list(self.fast.values()), list(self.slow.values())
        if steps % self.EVERY == 0:
            torch._foreach_lerp_(slow, fast, 1 - self.decay * (steps / of) ** 3)
        if steps % self.EVERY == 0 or steps == of:
            torch._foreach_copy_(fast, slow)

    def tensors(self) -> dict[str, Tensor]:
        return {f"{SLOW}{name}": tensor for name, tensor in self.slow.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.slow.items():
            tensor.copy_(tensors[f"{SLOW}{name}"])
