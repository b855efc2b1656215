"""Less memory for more computing: a network's runs of layers computed again in the backward pass.

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
    """The network as runs of the modules that it passes one after the other, equally many in each but the last.

    So `torch.utils.checkpoint.checkpoint_sequential` cuts, whose memory `checkpointed` predicts.
    Raises UserError for a network that is not such a sequence, or of fewer modules than segments.
    """
    units = sequence(net)
    if len(units) < max(2, segments):
        raise UserError(
            f"{name} passes {len(units)} modules one after the other, too few for {segments} segments",
            (f"give at most {len(units)}" if len(units) > 1 else "it can only be trained without"),
        )
    size = len(units) // segments
    bounds = [*range(0, size * segments, size), len(units)]
    return [nn.Sequential(*units[a:b]) for a, b in pairwise(bounds)]


def recomputed(parts: list[nn.Sequential]) -> Callable[[Tensor], Tensor]:
    """The forward pass that keeps only what goes from one part to the next; the last part is kept whole."""
    *first, last = parts
    contexts = [lambda part=part: (nullcontext(), frozen_statistics(part)) for part in first]

    def forward(x: Tensor) -> Tensor:
        for part, context in zip(first, contexts, strict=True):
            x = checkpoint(part, x, use_reentrant=False, context_fn=context)
        return last(x)

    return forward
