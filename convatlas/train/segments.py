"""Activation checkpointing: less memory for more compute, by recomputing segments of a network in the backward pass.

Chen et al. (2016), Training Deep Nets with Sublinear Memory Cost, https://arxiv.org/abs/1604.06174, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..accounting.memory.predict import sequence
from ..errors import UserError
from ..layers import frozen_statistics


def cut(net: nn.Module, segments: int, name: str) -> list[nn.Sequential]:
    """Cuts the sequence of modules that a network consists of into `segments`, equally long except for the last.

    These are the cuts of `torch.utils.checkpoint.checkpoint_sequential`, for which `checkpointed` predicts memory.
    Raises UserError for a network that is not a sequence, or has fewer modules than segments.
    """
    units = sequence(net)
    if len(units) < max(2, segments):
        raise UserError(
            f"{name} runs {len(units)} module{'s' * (len(units) > 1)} in sequence, too few for {segments} segments",
            (f"give at most {len(units)}" if len(units) > 1 else "leave out --segments"),
        )
    size = len(units) // segments
    bounds = [*range(0, size * segments, size), len(units)]
    return [nn.Sequential(*units[a:b]) for a, b in pairwise(bounds)]


def recomputed(parts: list[nn.Sequential]) -> Callable[[Tensor], Tensor]:
    """A forward pass that keeps only the input of each part; all activations of the last part are kept."""
    *first, last = parts
    contexts = [lambda part=part: (nullcontext(), frozen_statistics(part)) for part in first]

    def forward(x: Tensor) -> Tensor:
        for part, context in zip(first, contexts, strict=True):
            x = checkpoint(part, x, use_reentrant=False, context_fn=context)
        return last(x)

    return forward
