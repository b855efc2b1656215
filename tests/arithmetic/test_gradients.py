"""The gradient through a stack of layers, against autograd."""

from __future__ import annotations

from itertools import combinations
from math import prod

import pytest
import torch

from convatlas.arithmetic import gradient_product
from convatlas.errors import UserError


@pytest.mark.parametrize("depth", [1, 2, 7, 30])
def test_products_are_autograds(depth: int) -> None:
    """Layers tanh(w x): what the plain and the residual stack's backward passes give, from the slopes on the way."""
    weights = torch.randn(depth, dtype=torch.float64, generator=torch.Generator().manual_seed(depth))
    for shortcut in (False, True):
        x = start = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        slopes = []
        for w in weights:
            out = torch.tanh(w * x)
            slopes.append((w * (1 - out**2)).item())
            x = x + out if shortcut else out
        x.backward()
        found = gradient_product(slopes)
        assert start.grad is not None
        assert (found.residual if shortcut else found.plain) == pytest.approx(start.grad.item(), rel=1e-9)


def test_terms_are_the_sums_over_all_paths() -> None:
    slopes = (0.5, -0.25, 2.0, 0.1, -1.5)
    found = gradient_product(slopes)
    for k, term in enumerate(found.terms):
        assert term == pytest.approx(sum(prod(path) for path in combinations(slopes, k)))
    assert sum(found.terms) == pytest.approx(found.residual)
    assert found.terms[-1] == pytest.approx(found.plain)


def test_the_identity_term_does_not_vanish() -> None:
    found = gradient_product([0.01] * 100)
    assert found.plain == pytest.approx(1e-200)
    assert found.terms[0] == 1
    assert found.residual == pytest.approx(1.01**100)
    assert gradient_product([0, 0.0]).residual == 1


def test_no_layers_are_refused() -> None:
    with pytest.raises(UserError, match="there are no layers; give the slope of at least one"):
        gradient_product([])
