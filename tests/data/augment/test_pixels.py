"""Operations on colours and places against Pillow, one image at a time."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import ImageEnhance

from convatlas.data.augment import Colours, augment, colour, draw
from convatlas.data.augment.keys import Draw, normal, uniform
from convatlas.data.augment.spatial import squares
from convatlas.recipe import AUGMENTATIONS, CROPS, MIXES, operation
from tests.data.augment.pictures import GREY, pictures, pillow, tensor

AXES = ((50.0, 50.0, 40.0), (10.0, 0.0, -12.5), (2.0, -4.0, 2.0))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (colour.brightness, ImageEnhance.Brightness),
        (colour.contrast, ImageEnhance.Contrast),
        (colour.saturation, ImageEnhance.Color),
        (colour.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_pillows_bit_for_bit(ours, theirs) -> None:
    images = pictures()
    for factor in torch.linspace(0, 2, 29, dtype=torch.float64).tolist():
        out = ours(images, torch.full((len(images),), factor, dtype=torch.float64))
        for image, result in zip(images, out):
            assert torch.equal(result, tensor(theirs(pillow(image)).enhance(factor))), factor


def test_photometric_is_three_enhancements_in_any_order() -> None:
    images, at = pictures(1).expand(120, -1, -1, -1), torch.arange(120)
    out = augment(images, at, ops=("photometric:0.5",), seed=1, epoch=2)
    orders = set()
    for i in range(120):
        sequence = int(draw(at[i : i + 1], 6, 1, 2, Draw.PHOTOMETRIC))
        orders.add(sequence)
        factors = [float(uniform(at[i : i + 1], 1, 2, Draw.PHOTOMETRIC + 1 + k)) + 0.5 for k in range(3)]
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        image = pillow(images[i])
        for k in tuple(permutations(range(3)))[sequence]:
            image = enhancers[k](image).enhance(factors[k])
        assert torch.equal(out[i], tensor(image)), i
    assert len(orders) == 6


def test_lighting_adds_one_colour_to_each_image() -> None:
    images, at = torch.full((4000, 3, 2, 2), 128, dtype=torch.uint8), torch.arange(4000)
    out = augment(images, at, ops=("lighting:0.1",), seed=0, epoch=0, colours=Colours(axes=AXES))
    added = out.double() - 128
    assert (added == added[:, :, :1, :1]).all()
    amounts = np.stack([normal(at, 0, 0, Draw.LIGHTING + i).numpy() for i in range(3)], 1)
    assert np.array_equal(added[:, :, 0, 0].numpy(), np.rint(0.1 * amounts @ np.array(AXES)))
    covariance = np.cov(added[:, :, 0, 0].numpy().T)
    expected = 0.01 * np.array(AXES).T @ np.array(AXES)
    assert np.allclose(covariance, expected, atol=0.06 * expected.max())  # 4,000 draws: 2.2% a standard error
    bright = augment(images.fill_(250), at, ops=("lighting:1",), seed=0, epoch=0, colours=Colours(axes=AXES))
    assert bright.max() == 255  # cut off, not wrapped round
    assert bright.min() < 250


def test_normal_numbers_are_normal() -> None:
    from scipy.stats import kstest

    assert kstest(normal(torch.arange(20_000), 5, 6, 7).numpy(), "norm").pvalue > 1e-3
    assert kstest(uniform(torch.arange(20_000), 5, 6, 7).numpy(), "uniform").pvalue > 1e-3
    low, high = uniform(torch.arange(20_000), 5, 6, 7, 2, 4).aminmax()
    assert 2 < low < 2.001
    assert 3.999 < high < 4


@pytest.mark.parametrize("side", [1, 2, 5, 16, 99])
def test_cutout_fills_a_square_about_a_point_of_the_image(side: int) -> None:
    images, at = torch.zeros(200, 3, 12, 9, dtype=torch.uint8), torch.arange(200)
    out = augment(images, at, ops=(f"cutout:{side}",), seed=8, epoch=9, colours=Colours((5, 6, 7)))
    centres = set()
    for i in range(200):
        row, column = (int(draw(at[i : i + 1], n, 8, 9, Draw.CUTOUT + k)) for k, n in enumerate((12, 9)))
        centres.add((row, column))
        expected = np.zeros((3, 12, 9))
        for y in range(row - side // 2, row - side // 2 + side):
            for x in range(column - side // 2, column - side // 2 + side):
                if 0 <= y < 12 and 0 <= x < 9:
                    expected[:, y, x] = (5, 6, 7)
        assert np.array_equal(out[i], expected)
    assert len(centres) > 80  # of 108


def test_squares_may_have_a_size_each() -> None:
    at = torch.tensor([1, 2])
    found = squares(at, at, torch.tensor([0, 3]), torch.tensor([2, 1]), 4, 4)
    assert not found[0].any()
    assert found[1, 0].int().tolist() == [[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 1, 0]]


EVERY = (
    "pad_crop:4",
    "reflect_crop:3",
    "flip",
    "alternate_flip",
    "photometric",
    "lighting",
    "autoaugment",
    "autoaugment_cifar10",
    "randaugment:1:9",
    "randaugment:3:31",
    "trivialaugment",
    "cutout:5",
)


def test_every_operation_on_pixels_is_tested() -> None:
    assert {operation(op)[0] for op in EVERY} == set(AUGMENTATIONS) - {*CROPS, *MIXES}


@pytest.mark.parametrize("op", EVERY)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_augmented_alike_in_every_batch_and_otherwise_in_the_next_epoch(op: str, channels: int) -> None:
    images, at = pictures(40)[:, :channels], torch.randperm(40, generator=torch.Generator().manual_seed(0))
    colours = Colours((9,) * channels, tuple(row[:channels] for row in AXES[:channels]))
    arguments = dict(ops=(op,), seed=1, colours=colours)
    before = images.clone()
    whole = augment(images, torch.arange(40), epoch=2, **arguments)
    assert torch.equal(images, before)
    assert whole.dtype == torch.uint8
    assert whole.shape == images.shape
    for part in at.split([1, 7, 32]):
        assert torch.equal(augment(images[part], part, epoch=2, **arguments), whole[part])
    for epoch, seed in ((3, 1), (2, 2)):
        assert not torch.equal(augment(images, torch.arange(40), epoch=epoch, **{**arguments, "seed": seed}), whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("op", EVERY)
def test_a_gpu_augments_as_the_cpu_does(op: str) -> None:
    images, at = pictures(200), torch.arange(200)
    arguments = dict(ops=(op,), seed=1, epoch=2, colours=Colours(GREY, AXES))
    out = augment(images.cuda(), at, **arguments)
    assert out.is_cuda
    assert torch.equal(out.cpu(), augment(images, at, **arguments))
