"""account(): what a network costs, layer by layer, found in one pass on the meta device.

One MAC is one multiply-accumulate of a convolution or a matrix product. Biases, batch norm, pooling, additions and
activation functions cost none. An operator that is not known to be free and has no rule is listed in `uncounted`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..catalogue import Shape, Variant
from .claims import counted, holds
from .rows import LEVELS, Account, Row, Totals

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LEVELS", "Account", "Row", "Totals", "account", "counted", "holds"]


def account(network: nn.Module | Variant | str, input: Shape | None = None, batch: int = 1, **options: Any) -> Account:
    """What `network` costs on `batch` images of `input` (C x H x W; a catalogue network's own when None).

    `network` is a module (it is left as it was), a Variant or a catalogue name; `options` are those of
    `Variant.build` (classes, channels ...). The pass is an evaluation pass, and no weights are allocated.
    Raises UserError for an unknown name or option, or an input that does not pass.
    """
    from .count import count  # the only part that needs torch

    return count(network, input, batch, **options)
