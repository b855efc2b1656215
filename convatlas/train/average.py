"""What follows the weights: their moving average, which papers that keep one publish the results of, and slow weights
that they are put back to."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ..runs.checkpoint import AVERAGE, averaged

SLOW = "slow/"


class Average:
    """A second network, in eval mode: after each step its weights move towards those of the one that is trained.

    As in TensorFlow (ExponentialMovingAverage with num_updates, which the released programs of Inception, NASNet and
    EfficientNet give it) the share kept grows with the number of steps, so that the first weights are soon forgotten.
    Batch norm's running statistics are averaged as the weights are: those programs list them among the variables to
    average. Whole numbers (batches counted) are copied.
    """

    def __init__(self, net: nn.Module, decay: float):
        self.net, self.decay = deepcopy(net).eval().requires_grad_(False), decay
        mine, theirs = (list(n.state_dict(keep_vars=True).values()) for n in (self.net, net))
        pairs = [(a, b) for a, b in zip(mine, theirs, strict=True) if a.is_floating_point()]
        self.mine, self.theirs = [a for a, _ in pairs], [b for _, b in pairs]
        self.copied = [(a, b) for a, b in zip(mine, theirs, strict=True) if not a.is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """After the step that makes it `steps` since training began."""
        keep = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self.mine, self.theirs, 1 - keep)
        for mine, theirs in self.copied:
            mine.copy_(theirs)

    def tensors(self) -> dict[str, Tensor]:
        return {f"{AVERAGE}{name}": tensor for name, tensor in self.net.state_dict().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.net.load_state_dict(averaged(tensors))


class Lookahead:
    """Slow weights (Zhang et al., 2019, https://arxiv.org/abs/1907.08610), as Jordan (2024) has them.

    After every fifth step the slow weights move towards those that are trained, which then begin again from there;
    the share that they keep grows with the cube of the time, up to `keep`. After the last step the network has the
    slow weights. Batch norm's running statistics go along.
    """

    EVERY = 5  # steps

    def __init__(self, net: nn.Module, keep: float):
        self.keep = keep
        self.fast = {name: t for name, t in net.state_dict().items() if t.is_floating_point()}
        self.slow = {name: t.clone() for name, t in self.fast.items()}

    @torch.no_grad()
    def update(self, steps: int, of: int) -> None:
        """After the step that makes it `steps` of the `of` that there will be."""
        fast, slow = list(self.fast.values()), list(self.slow.values())
        if steps % self.EVERY == 0:
            torch._foreach_lerp_(slow, fast, 1 - self.keep * (steps / of) ** 3)
        if steps % self.EVERY == 0 or steps == of:
            torch._foreach_copy_(fast, slow)

    def tensors(self) -> dict[str, Tensor]:
        return {f"{SLOW}{name}": tensor for name, tensor in self.slow.items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self.slow.items():
            tensor.copy_(tensors[f"{SLOW}{name}"])
