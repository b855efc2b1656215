"""The moving average of the weights, which is what the papers that keep one publish the results of."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

PREFIX = "average/"  # of its tensors, in a checkpoint


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
        return {f"{PREFIX}{name}": tensor for name, tensor in self.net.state_dict().items()}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.net.load_state_dict(averaged(tensors))


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a checkpoint's tensors those that the network is judged by: the averages if it has them, else the weights."""
    averages = {name.removeprefix(PREFIX): t for name, t in tensors.items() if name.startswith(PREFIX)}
    return averages or {name: t for name, t in tensors.items() if "/" not in name}
