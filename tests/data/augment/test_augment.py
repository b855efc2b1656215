"""Augmentation and shuffling, against one image at a time and Python's own integers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convatlas.data.augment import augment, draw, order
from convatlas.data.augment.keys import Draw

OPS = ("pad_crop", "flip")
MASK = (1 << 64) - 1


def splitmix64(x: int) -> int:
    """The generator's step as its authors print it, on unsigned integers."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def number(index: int, n: int, seed: int, epoch: int, which: int) -> int:
    key = 0
    for part in (seed, epoch, which, index):
        key = splitmix64((key + part) & MASK)
    return ((key >> 32) * n) >> 32


def slowly(image: torch.Tensor, index: int, ops: tuple[str, ...], seed: int, epoch: int, pad: int) -> torch.Tensor:
    """One image (C, H, W), pixel by pixel."""
    for op in ops:
        _, h, w = image.shape
        out = torch.zeros_like(image)
        top, left = (number(index, 2 * pad + 1, seed, epoch, which) - pad for which in (1, 2))
        mirrored = number(index, 2, seed, epoch, 3)
        for y in range(h):
            for x in range(w):
                if op == "flip":
                    out[:, y, x] = image[:, y, w - 1 - x if mirrored else x]
                elif 0 <= y + top < h and 0 <= x + left < w:
                    out[:, y, x] = image[:, y + top, x + left]
        image = out
    return image


def noise(n: int, channels: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8, generator=generator)


def test_splitmix64_gives_the_published_first_outputs() -> None:
    """Of the reference implementation (Vigna) seeded with 1234567: state and output are one here."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [splitmix64((1234567 + i * 0x9E3779B97F4A7C15) & MASK) for i in range(3)] == expected


@given(st.integers(0, 2**62), st.integers(1, 1000), st.integers(0, 2**31), st.integers(0, 10**6), st.integers(0, 9))
def test_draws_are_those_of_unsigned_arithmetic(index: int, n: int, seed: int, epoch: int, which: int) -> None:
    assert draw(torch.tensor([index]), n, seed, epoch, which).tolist() == [number(index, n, seed, epoch, which)]


@given(
    st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
    st.permutations(OPS).flatmap(lambda ops: st.integers(0, 2).map(lambda n: tuple(ops[:n]))),
    st.integers(0, 99),
    st.integers(0, 99),
    st.integers(0, 5),
    st.tuples(st.sampled_from([1, 3]), st.integers(1, 7), st.integers(1, 7)),
)
def test_augment_is_what_it_says_one_image_at_a_time(indices, ops, seed, epoch, pad, shape) -> None:
    images = noise(len(indices), *shape)
    written = tuple(f"pad_crop:{pad}" if op == "pad_crop" else op for op in ops)
    out = augment(images, torch.tensor(indices), ops=written, seed=seed, epoch=epoch)
    expected = torch.stack([slowly(x, i, ops, seed, epoch, pad) for x, i in zip(images, indices)])
    assert out.dtype == torch.uint8
    assert torch.equal(out, expected)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_an_image_is_augmented_alike_in_every_batch(sizes: list[int], random) -> None:
    n = sum(sizes)
    images, indices = noise(n, 3, 8, 8), list(range(n))
    whole = augment(images, torch.arange(n), ops=OPS, seed=1, epoch=2)
    random.shuffle(indices)
    for part in torch.tensor(indices).split(sizes):
        assert torch.equal(augment(images[part], part, ops=OPS, seed=1, epoch=2), whole[part])


def test_another_epoch_and_another_seed_augment_otherwise() -> None:
    images, at = noise(64, 3, 16, 16), torch.arange(64)
    outs = [augment(images, at, ops=OPS, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0), (1, 1))]
    for i in range(4):
        for j in range(i):
            alike = (outs[i] == outs[j]).flatten(1).all(1).sum().item()
            assert alike < 8, f"{alike} of 64 images alike; 64/162 expected"


def test_the_images_given_are_left_alone() -> None:
    images = noise(8, 3, 8, 8)
    before = images.clone()
    augment(images, torch.arange(8), ops=OPS, seed=0, epoch=0)
    assert torch.equal(images, before)


@pytest.mark.parametrize(("n", "limit"), [(2, 15.1), (9, 31.8)])  # 1 in 10,000 of chi-squared, n - 1 degrees
def test_draws_are_evenly_spread(n: int, limit: float) -> None:
    at = torch.arange(90_000)
    for seed in range(3):
        for which in range(4):
            counts = draw(at, n, seed, 5, which).bincount(minlength=n).double()
            assert len(counts) == n
            expected = len(at) / n
            assert ((counts - expected).square() / expected).sum() < limit


def test_draws_do_not_depend_on_one_another() -> None:
    """Rows, columns, flips, of this epoch and the next: no two correlate beyond 4.5 standard errors."""
    at = torch.arange(50_000)
    columns = [draw(at, 9, s, e, which).double() for s in (0, 1) for e in (0, 1) for which in range(4)]
    correlations = torch.corrcoef(torch.stack(columns)) - torch.eye(len(columns))
    assert correlations.abs().max() < 4.5 / len(at) ** 0.5


@given(st.integers(0, 2000), st.integers(0, 2**31), st.integers(0, 10**4))
def test_order_is_a_permutation_and_the_same_again(n: int, seed: int, epoch: int) -> None:
    permutation = order(n, seed=seed, epoch=epoch)
    assert permutation.dtype == torch.int64
    assert torch.equal(permutation.sort().values, torch.arange(n))
    assert torch.equal(permutation, order(n, seed=seed, epoch=epoch))


def test_order_is_fixed_for_ever() -> None:
    """Sorted by the hash, computed with Python's integers: runs are resumed by other versions of torch."""

    def signed_hash(index: int) -> int:
        key = 0
        for part in (7, 3, 0, index):
            key = splitmix64((key + part) & MASK)
        return key - (1 << 64) if key >> 63 else key

    assert order(100, seed=7, epoch=3).tolist() == sorted(range(100), key=signed_hash)


def test_order_changes_with_epoch_and_seed_and_leaves_few_in_place() -> None:
    orders = [order(1000, seed=s, epoch=e) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert all((o == torch.arange(1000)).sum() < 9 for o in orders)  # Poisson, mean 1
    assert all((orders[i] == orders[j]).sum() < 9 for i in range(3) for j in range(i))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_augments_as_the_cpu_does() -> None:
    images, at = noise(300, 3, 32, 32), torch.arange(1000, 1300)
    expected = augment(images, at, ops=OPS, seed=3, epoch=4)
    out = augment(images.cuda(), at, ops=OPS, seed=3, epoch=4)
    assert out.is_cuda
    assert torch.equal(out.cpu(), expected)


@pytest.mark.parametrize("pad", [0, 1, 4, 9])
def test_reflect_crop_is_a_crop_of_numpys_reflection(pad: int) -> None:
    """The window lies where pad_crop's does; 9 pixels about an image of 8 x 5 reflect more than once."""
    images = torch.arange(20 * 3 * 8 * 5).remainder(251).view(20, 3, 8, 5).to(torch.uint8)
    out = augment(images, torch.arange(20), ops=(f"reflect_crop:{pad}",), seed=1, epoch=2)
    rows = draw(torch.arange(20), 2 * pad + 1, 1, 2, Draw.ROWS)
    columns = draw(torch.arange(20), 2 * pad + 1, 1, 2, Draw.COLUMNS)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (pad, pad), (pad, pad)), mode="reflect")
    for i, (top, left) in enumerate(zip(rows.tolist(), columns.tolist(), strict=True)):
        assert np.array_equal(out[i].numpy(), padded[i, :, top : top + 8, left : left + 5])
    if pad:
        assert len(set(rows.tolist())) > 1
