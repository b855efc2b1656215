"""Random crops against torchvision's random crops, and against crops by Pillow."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp, kstest

from convatlas.data.augment import crops_of
from convatlas.data.types import MemorySplit
from convatlas.errors import UserError
from convatlas.preprocess import Preprocess
from tests.oracles import torchvision_models

INPUT = Preprocess((3, 20, 24), (0.0,) * 3, (1.0,) * 3)


def boxes(op: str, h: int, w: int, n: int = 3000, size: tuple[int, int] = (224, 224), epoch: int = 0) -> np.ndarray:
    crops = crops_of((op, "flip"), size, seed=5, epoch=epoch)
    assert crops is not None
    return np.array([crop(h, w) for crop in crops.boxes(torch.arange(n))])


def test_no_view_is_none() -> None:
    assert crops_of((), (8, 8), seed=0, epoch=0) is None
    assert crops_of(("flip", "mixup"), (8, 8), seed=0, epoch=0) is None


@pytest.mark.oracles
@pytest.mark.parametrize(("h", "w"), [(256, 341), (500, 375), (224, 224), (100, 1000)])
def test_area_crop_is_distributed_as_torchvisions(h: int, w: int) -> None:
    torchvision_models()
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    image = torch.empty(3, 1, 1).expand(3, h, w)
    rows = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(3000)]
    theirs = np.array([(left, top, left + width, top + height) for top, left, height, width in rows])
    ours = boxes("area_crop:0.08:1", h, w)
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, 2] <= w).all()
    assert (ours[:, 3] <= h).all()
    for figure in (
        lambda b: (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]),
        lambda b: (b[:, 2] - b[:, 0]) / (b[:, 3] - b[:, 1]),
        lambda b: b[:, 0] + b[:, 2],
        lambda b: b[:, 1] + b[:, 3],
    ):
        assert ks_2samp(figure(ours), figure(theirs)).pvalue > 1e-3


@pytest.mark.parametrize(("h", "w", "expected"), [(1, 9, (4, 0, 5, 1)), (9, 1, (0, 4, 1, 5)), (3, 100, (48, 0, 52, 3))])
def test_an_image_with_no_legal_window_gives_its_middle(h: int, w: int, expected: tuple) -> None:
    assert tuple(boxes("area_crop:0.9:1", h, w, n=1)[0]) == expected


@pytest.mark.parametrize(("h", "w"), [(256, 341), (375, 500), (1000, 600)])
def test_scale_crop_shows_what_the_size_covers_at_any_short_side(h: int, w: int) -> None:
    found = boxes("scale_crop:256:512", h, w)
    widths, heights = found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]
    assert np.abs(widths - heights).max() <= 1
    short = 224 / heights * min(h, w)
    assert 255 < short.min() < 258
    assert 508 < short.max() < 518
    assert kstest((short - 256) / 257, "uniform").statistic < 0.03  # whole pixels: not quite continuous
    for start, length, whole in ((found[:, 0], widths, w), (found[:, 1], heights, h)):
        assert (start >= 0).all()
        assert (start + length <= whole).all()
        assert kstest((start + 0.5) / (whole - length + 1), "uniform").statistic < 0.03


def test_scale_crop_at_one_scale_is_a_plain_random_crop() -> None:
    found = boxes("scale_crop:256:256", 256, 341)
    assert (found[:, 2:] - found[:, :2] == 224).all()
    assert [*found[:, :2].min(0), *found[:, :2].max(0)] == [0, 0, 117, 32]


@pytest.mark.parametrize(("h", "w"), [(256, 341), (512, 256), (256, 256)])
def test_square_crop_stays_inside_the_central_square(h: int, w: int) -> None:
    """The paper's two steps: the central 256x256 of the image scaled to a short side of 256, then a random crop."""
    found = boxes("square_crop:256", h, w)
    x, y = (w - 256) // 2, (h - 256) // 2
    assert (found[:, 2:] - found[:, :2] == 224).all()
    assert [*found[:, :2].min(0), *found[:, :2].max(0)] == [x, y, x + 32, y + 32]


def test_square_crop_is_in_proportion_to_the_image() -> None:
    found = boxes("square_crop:256", 512, 900)
    assert (found[:, 2:] - found[:, :2] == 448).all()
    assert [*found[:, :2].min(0), *found[:, :2].max(0)] == [194, 0, 258, 64]


@pytest.mark.parametrize(("h", "w"), [(256, 256), (512, 768), (768, 1280)])
def test_warp_crop_is_a_crop_of_the_image_warped_to_a_square(h: int, w: int) -> None:
    found = boxes("warp_crop:256", h, w) / np.tile([w / 256, h / 256], 2)
    assert (found[:, 2:] - found[:, :2] == 224).all()
    assert found[:, :2].min() == 0
    assert found[:, 2:].max() == 256
    for side in (0, 1):
        assert kstest((found[:, side] + 0.5) / 33, "uniform").statistic < 0.04


def test_warp_crop_shows_what_a_crop_of_the_warped_image_shows() -> None:
    g = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 8, 6, generator=g)  # smooth: a crop in whole pixels of the image shows the same
    image = torch.nn.functional.interpolate(image, (512, 768), mode="bicubic").clamp(0, 1).mul(255).to(torch.uint8)
    split = MemorySplit("train", image, torch.zeros(1, dtype=torch.int64), ("a",))
    crops = crops_of(("warp_crop:256",), (224, 224), seed=5, epoch=0)
    assert crops is not None
    left, top, _, _ = crops.boxes(torch.tensor([0]))[0](512, 768)
    warped = Image.fromarray(image[0].permute(1, 2, 0).numpy()).resize((256, 256), Image.Resampling.BILINEAR)
    x, y = round(left / 3), round(top / 2)
    expected = np.asarray(warped.crop((x, y, x + 224, y + 224)), int)
    preprocess = Preprocess((3, 224, 224), (0.0,) * 3, (1.0,) * 3)
    found = split.fetch([0], preprocess, crops)[0].permute(1, 2, 0).numpy()
    difference = np.abs(found - expected)  # x and y are off by up to half a pixel
    assert difference.mean() < 1.5
    assert difference.max() < 10


@pytest.mark.parametrize("op", ["square_crop:100", "warp_crop:100"])
def test_a_square_below_the_window_is_refused(op: str) -> None:
    with pytest.raises(UserError, match=f"'{op}' scales images below the 224x224 crop; give {op[:-4]}:224 or more"):
        crops_of((op,), (224, 224), seed=0, epoch=0)


def test_a_scale_below_the_window_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"'scale_crop:100:200' scales images below the 224x224 crop; give scale_crop:224:224"
    ):
        crops_of(("scale_crop:100:200",), (224, 224), seed=0, epoch=0)
    with pytest.raises(UserError, match=r"give scale_crop:299:480"):
        crops_of(("scale_crop:256:480",), (299, 224), seed=0, epoch=0)


def test_windows_follow_index_seed_and_epoch_and_not_the_batch() -> None:
    for op in ("area_crop", "scale_crop:256:512", "square_crop", "warp_crop"):
        first = boxes(op, 300, 400, n=50)
        crops = crops_of((op,), (224, 224), seed=5, epoch=0)
        assert crops is not None
        assert tuple(crops.boxes(torch.tensor([33]))[0](300, 400)) == tuple(first[33])
        assert (boxes(op, 300, 400, n=50, epoch=1) != first).any(1).mean() > 0.9


@pytest.mark.parametrize(
    ("op", "size"),
    [
        ("area_crop", (32, 48)),
        ("scale_crop:24:40", (32, 48)),
        ("area_crop", (9, 7)),
        ("square_crop:26", (32, 48)),
        ("warp_crop:26", (48, 32)),
        ("warp_crop:26", (9, 7)),
    ],
)
def test_a_split_in_memory_gives_the_windows_scaled(op: str, size: tuple[int, int]) -> None:
    g = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 3, *size), dtype=torch.uint8, generator=g)
    split = MemorySplit("train", images, torch.zeros(12, dtype=torch.int64), ("a",))
    crops = crops_of((op,), INPUT.input[1:], seed=1, epoch=2)
    assert crops is not None
    at = torch.tensor([7, 0, 11, 3])
    out = split.fetch(at, INPUT, crops)
    for result, i, crop in zip(out, at.tolist(), crops.boxes(at)):
        image = Image.fromarray(images[i].permute(1, 2, 0).numpy()).crop(crop(*size))
        assert np.array_equal(result.permute(1, 2, 0), np.asarray(image.resize((24, 20), Image.Resampling.BILINEAR)))
    assert split.fetch([], INPUT, crops).shape == (0, 3, 20, 24)


def test_a_view_minds_channels_and_their_order() -> None:
    images = torch.tensor([10, 20, 30], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 6, 6)
    split = MemorySplit("train", images, torch.zeros(1, dtype=torch.int64), ("a",))
    crops = crops_of(("area_crop",), (4, 4), seed=1, epoch=2)
    swapped = Preprocess((3, 4, 4), (0.0,) * 3, (1.0,) * 3, order="BGR")
    assert split.fetch([0], swapped, crops)[0, :, 0, 0].tolist() == [30, 20, 10]
    assert split.fetch([0], Preprocess((1, 4, 4), (0.0,), (1.0,)), crops)[0, 0, 0, 0] == math.floor(18.16 + 0.5)
