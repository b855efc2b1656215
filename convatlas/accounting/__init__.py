"""account(): what a network costs, layer by layer, counted in one forward pass on the meta device.

One MAC is one multiply-accumulate of a convolution or a matrix product. Biases, batch norm, pooling, additions and
activation functions count as zero. An operator with no rule, unless known to be free, is listed in `uncounted`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..catalogue import Variant
from .claims import counted, holds
from .rows import LEVELS, Account, Row, Totals

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LEVELS", "Account", "Row", "Totals", "account", "counted", "holds"]


def account(
    network: nn.Module | Variant | str,
    input: Any = None,
    batch: int | None = None,
    *,
    training: bool = False,
    strict: bool = False,
    **options: Any,
) -> Account:
    """What `network` costs on `batch` images of `input` (C x H x W; None: the catalogue network's default input).

    `network` is a catalogue name, a Variant, any module, which is left unchanged, or the path of an ONNX file, which is
    not run; `options` are those of `Variant.build` (classes, channels ...). A module with other inputs takes a tensor,
    a list of shapes and tensors, or a dict of them by argument name. Without `batch` the count is for as many images as
    the first input has if that is a tensor, or as an ONNX file was exported for, and otherwise for one. The pass runs
    in evaluation mode unless `training`; no weights are allocated.

    An operator without a rule is listed in `uncounted`, and the count is partial; with `strict`, and for every
    catalogue network, that is an error. Raises UserError for an unknown name or option, and for an input that the
    network cannot take.
    """
    from .count import count  # the only part that needs torch

    return count(network, input, batch, training, strict, **options)
