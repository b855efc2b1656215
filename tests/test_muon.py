"""Muon: Newton-Schulz against an SVD, steps against the published ones written out, matrices against torch's Muon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from convatlas.muon import Muon, orthogonalize, orthogonalize_alike


def conditioned(*shape: int, lowest: float, seed: int = 0) -> Tensor:
    """Matrices (n, rows, columns) in float64 with singular values from `lowest` to 1."""
    u, s, vt = torch.linalg.svd(
        torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), full_matrices=False
    )
    return u * torch.linspace(1, lowest, s.shape[-1], dtype=torch.float64) @ vt


@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("shape", [(2, 6, 20), (3, 20, 6), (1, 8, 8)])
def test_newton_schulz_changes_only_singular_values(shape: tuple[int, int, int], steps: int) -> None:
    """Against the SVD: the published polynomial of each singular value, between the same singular vectors."""
    matrices = conditioned(*shape, lowest=0.1)
    u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
    s = s / s.norm(dim=1, keepdim=True)
    for _ in range(steps):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    torch.testing.assert_close(orthogonalize(matrices, steps), u * s[:, None] @ vt, rtol=1e-5, atol=1e-5)  # eps: 1e-7


@pytest.mark.parametrize(("steps", "lowest"), [(3, 0.2), (5, 0.01)])
@pytest.mark.parametrize("shape", [(4, 16, 144), (4, 64, 16)])
def test_newton_schulz_makes_singular_values_nearly_1(shape: tuple[int, int, int], steps: int, lowest: float) -> None:
    """Within the published [0.5, 1.5], and within the narrower band that the docstring states."""
    made = orthogonalize(conditioned(*shape, lowest=lowest), steps)
    values = torch.linalg.svdvals(made)
    assert 0.68 <= values.min() < values.max() <= 1.21
    rows = min(shape[1:])
    gram = made @ made.mT if shape[1] <= shape[2] else made.mT @ made
    torch.testing.assert_close(gram, torch.eye(rows, dtype=torch.float64).expand_as(gram), rtol=0, atol=0.6)
    assert values.min() < 0.99 or values.max() > 1.01  # and not exactly 1


def test_newton_schulz_of_nothing_is_nothing() -> None:
    assert torch.equal(orthogonalize(torch.zeros(2, 3, 5)), torch.zeros(2, 3, 5))


def test_equal_shapes_in_one_batch_are_as_each_alone() -> None:
    shapes = [(4, 3, 3, 3), (2, 8, 1, 1), (4, 3, 3, 3), (8, 2, 1, 1), (4, 3, 3, 3)]
    updates = [torch.randn(s, dtype=torch.float64).to(memory_format=torch.channels_last) for s in shapes]
    for made, update in zip(orthogonalize_alike(updates, 5), updates, strict=True):
        alone = orthogonalize(update.reshape(1, len(update), -1)).view(update.shape)
        torch.testing.assert_close(made, alone, rtol=1e-12, atol=1e-12)


# steps


def network() -> nn.Module:
    """In float64: filters of several shapes, two of them alike, tall ones too; a norm, a matrix and biases."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, bias=False), nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4),
        nn.Conv2d(4, 9, 1), nn.Conv2d(9, 9, 3, groups=9), nn.Flatten(), nn.Linear(9, 5),
    )  # fmt: skip
    return net.double().to(memory_format=torch.channels_last)


def gradients(net: nn.Module, steps: int) -> Iterator[None]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for p in net.parameters():
            p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype)
        yield


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_steps_are_the_published_ones(normalize: bool, decay: float) -> None:
    """One parameter at a time, the orthogonal matrix from the SVD; the others by torch's SGD."""
    net, other = network(), network()
    optimizer = Muon(net.parameters(), 0.1, momentum=0.6, ns_steps=3, normalize=normalize, sgd_momentum=0.85)
    optimizer.param_groups[0]["weight_decay"] = decay
    filters = [p for p in other.parameters() if p.ndim == 4]
    rest = [p for p in other.parameters() if p.ndim != 4]
    sgd = torch.optim.SGD(rest, 0.1, 0.85, weight_decay=decay, nesterov=True)
    momenta = [torch.zeros_like(p) for p in filters]
    for step, _ in enumerate(zip(gradients(net, 5), gradients(other, 5), strict=True)):
        lr = 0.1 * (1 - step / 5)
        for group in (*optimizer.param_groups, *sgd.param_groups):
            group["lr"] = lr
        optimizer.step()
        sgd.step()
        with torch.no_grad():
            for p, momentum in zip(filters, momenta, strict=True):
                assert p.grad is not None
                momentum.copy_(0.6 * momentum + p.grad)
                u, s, vt = torch.linalg.svd((p.grad + 0.6 * momentum).reshape(len(p), -1), full_matrices=False)
                s /= s.square().sum().sqrt() + 1e-7
                for _ in range(3):
                    s = s * (3.4445 + s**2 * (-4.7750 + 2.0315 * s**2))
                p.mul_(len(p) ** 0.5 / p.norm() if normalize else 1 - lr * decay)
                p.sub_(lr * (u @ s.diag() @ vt).view(p.shape))
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(6, 40), (12, 12), (40, 6)])
def test_of_matrices_it_is_torchs(shape: tuple[int, int]) -> None:
    """torch scales the updates of tall matrices by sqrt(rows / columns), and computes in bfloat16."""
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(2))
    ours, theirs = nn.Parameter(weight.clone().view(*shape, 1, 1)), nn.Parameter(weight.clone())
    scale = max(1, shape[0] / shape[1]) ** 0.5
    mine = Muon([ours], 0.05)
    mine.param_groups[0]["weight_decay"] = 0.1
    torchs = torch.optim.Muon([theirs], 0.05 / scale, 0.1 * scale, 0.95)
    for step in range(6):
        gradient = torch.randn(*shape, generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = gradient.view(*shape, 1, 1), gradient.clone()
        mine.step()
        torchs.step()
    moved = (theirs - weight).norm()
    assert (ours.view(shape) - theirs).norm() < 0.02 * moved


def test_normalized_filters_have_a_norm_of_the_root_of_their_number_before_each_step() -> None:
    weight = nn.Parameter(5 * torch.randn(9, 4, 3, 3))
    optimizer = Muon([weight], 0.0, normalize=True)
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    assert weight.norm().item() == pytest.approx(3)


def test_a_parameter_without_a_gradient_stays() -> None:
    net = network()
    optimizer = Muon(net.parameters(), 0.1, normalize=True)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer.step()
    assert not optimizer.state
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


class Operators(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.seen.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("rate", [0.1, torch.tensor(0.1, dtype=torch.float64)], ids=["a number", "a tensor"])
def test_a_step_never_reads_the_device(rate: float | Tensor) -> None:
    """Neither with a rate that is kept on the device; the steps are the same."""
    net, other = network(), network()
    optimizer, plain = Muon(net.parameters(), 0.1), Muon(other.parameters(), 0.1)
    for group in (*optimizer.param_groups, *plain.param_groups):
        group["weight_decay"] = 0.3
    for group in optimizer.param_groups:
        group["lr"] = rate
    for _ in zip(gradients(net, 2), gradients(other, 2), strict=True):
        with Operators() as operators:
            optimizer.step()
        plain.step()
        assert "baddbmm" in operators.seen
        assert not operators.seen & {"_local_scalar_dense", "item", "nonzero", "_to_copy"}
    for ours, theirs in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
