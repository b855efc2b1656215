"""mixup and cutmix: partners, shares and targets, one image at a time."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import beta, kstest
from torch import Tensor

from convatlas.data.augment import drawn_mixes, mix, mix_with, partners
from convatlas.data.augment.mix import patches, shares

N, CLASSES = 30, 7


def batch(n: int = N) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, 8, 10, generator=g)
    return x, torch.randint(0, CLASSES, (n,), generator=g), torch.randperm(1000, generator=g)[:n]


def mixed(op: str, at: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """What a rank makes of its part of the batch, given its partners."""
    x, y, indices = batch()
    drawn = drawn_mixes(indices, ops=(op,), seed=1, epoch=2)
    assert drawn
    p, share = (of[at] for of in drawn)
    return mix_with(op, x[at], y[at], indices[at], (x[p], y[p]), share, classes=CLASSES, seed=1, epoch=2)


@pytest.mark.parametrize("op", ["mixup:0.4", "cutmix"])
def test_a_whole_batch_is_mixed_by_the_last_operation(op: str) -> None:
    x, y, indices = batch()
    for ops in ((), ("flip",)):
        assert drawn_mixes(indices, ops=ops, seed=1, epoch=2) is None
    drawn = drawn_mixes(indices, ops=("flip", op), seed=1, epoch=2)
    assert drawn
    out = mix(x, y, indices, drawn, op=op, classes=CLASSES, seed=1, epoch=2)
    assert all(map(torch.equal, out, mixed(op)))


@pytest.mark.parametrize("n", [1, 2, 3, 64])
def test_partners_are_a_permutation_that_leaves_none_alone(n: int) -> None:
    indices = torch.randperm(1000)[:n]
    p = partners(indices, seed=3, epoch=4)
    assert sorted(p.tolist()) == list(range(n))
    assert n == 1 or (p != torch.arange(n)).all()
    turned = torch.randperm(n)  # the same images in another order have the same partners
    assert torch.equal(indices[turned][partners(indices[turned], seed=3, epoch=4)], indices[p][turned])
    assert n < 64 or not torch.equal(partners(indices, seed=3, epoch=5), p)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_are_of_the_beta_distribution(alpha: float) -> None:
    found = shares(torch.arange(20_000), alpha, 6, 7).numpy()
    assert kstest(found, beta(alpha, alpha).cdf).pvalue > 1e-3


def test_mixup_is_equation_1() -> None:
    x, y, indices = batch()
    out, targets = mixed("mixup:0.4")
    share = shares(indices, 0.4, 1, 2).tolist()
    p = partners(indices, seed=1, epoch=2).tolist()
    for i in range(N):
        assert torch.allclose(out[i], share[i] * x[i] + (1 - share[i]) * x[p[i]], atol=1e-6)
        expected = torch.zeros(CLASSES)
        expected[y[i]] += share[i]
        expected[y[p[i]]] += 1 - share[i]
        assert torch.allclose(targets[i], expected, atol=1e-6)


def test_cutmix_puts_a_rectangle_of_the_other_in_place() -> None:
    x, y, indices = batch()
    out, targets = mixed("cutmix:1")
    p = partners(indices, seed=1, epoch=2).tolist()
    areas = []
    for i in range(N):
        other = (out[i] == x[p[i]]).all(0)
        assert torch.equal(out[i][:, ~other], x[i][:, ~other])
        rows, columns = other.any(1).nonzero(), other.any(0).nonzero()
        area = int(other.sum())
        assert area == len(rows) * len(columns)  # a rectangle
        assert not area or rows[-1] - rows[0] + 1 == len(rows)
        areas.append(area / 80)
        expected = torch.zeros(CLASSES)
        expected[y[i]] += 1 - area / 80
        expected[y[p[i]]] += area / 80
        assert torch.allclose(targets[i], expected, atol=1e-6)
    assert len(set(areas)) > 10


def test_cutmixs_rectangles_have_the_shares_area_where_the_edge_does_not_cut_them() -> None:
    at = torch.arange(3000)
    share = torch.linspace(0, 1, 3000, dtype=torch.float64)
    found = patches(at, share, 200, 200, 0, 0)
    area = found.double().mean((1, 2, 3))
    whole = ~(found[:, 0, [0, -1]].any(-1).any(-1) | found[:, 0, :, [0, -1]].any(-1).any(-1))
    assert whole.sum() > 500
    assert (area - (1 - share))[whole].abs().max() < 0.01  # sides are cut to whole pixels
    assert (area <= 1 - share + 1e-9).all()


@pytest.mark.parametrize("op", ["mixup:0.4", "cutmix:1"])
def test_ranks_make_the_whole_batch_together(op: str) -> None:
    whole = mixed(op)
    for parts in ((slice(0, 15), slice(15, N)), (slice(0, 4), slice(4, 5), slice(5, N))):
        made = [mixed(op, part) for part in parts]
        for k in (0, 1):
            assert torch.equal(torch.cat([m[k] for m in made]), whole[k])


@pytest.mark.parametrize("op", ["mixup:0", "cutmix:0"])
def test_alpha_0_changes_nothing(op: str) -> None:
    x, y, _ = batch()
    out, targets = mixed(op)
    assert torch.equal(out, x)
    assert torch.equal(targets, torch.eye(CLASSES)[y])


def test_targets_add_up_to_1_and_half_precision_stays() -> None:
    x, y, indices = batch()
    drawn = drawn_mixes(indices, ops=("mixup",), seed=1, epoch=2)
    assert drawn
    out, targets = mix(x.half(), y, indices, drawn, op="mixup", classes=CLASSES, seed=1, epoch=2)
    assert out.dtype == torch.float16
    assert torch.allclose(targets.sum(1), torch.ones(N))
