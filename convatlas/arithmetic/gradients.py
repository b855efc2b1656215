"""What becomes of a gradient on its way back through a stack of layers, with shortcuts around them and without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from ..errors import UserError


@dataclass(frozen=True)
class GradientProduct:
    """The derivative of a stack's output with respect to its input, from the slope of each layer."""

    slopes: tuple[float, ...]

    @property
    def plain(self) -> float:
        """Without shortcuts: the product of the slopes, which vanishes with depth where they are below 1."""
        return prod(self.slopes)

    @property
    def residual(self) -> float:
        """With a shortcut around each layer: the product of 1 + slope."""
        return prod(1 + slope for slope in self.slopes)

    @property
    def terms(self) -> tuple[float, ...]:
        """`residual` expanded, by the number of layers that a path passes through: 0, 1, ... all of them.

        The first is the identity term, 1, whatever the depth: the path along the shortcuts. The last is `plain`.
        """
        terms = [1.0]
        for slope in self.slopes:
            terms = [around + slope * through for around, through in zip([*terms, 0.0], [0.0, *terms])]
        return tuple(terms)


def gradient_product(slopes: Sequence[float]) -> GradientProduct:
    """The gradient through layers of these slopes dF/dx (He et al., 2016, https://arxiv.org/abs/1603.05027, eq. 5).

    Raises UserError if there are none.
    """
    if not slopes:
        raise UserError("there are no layers", "give the slope of at least one")
    return GradientProduct(tuple(map(float, slopes)))
