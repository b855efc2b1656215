"""Preprocess, and the one way from an image's pixels to a network's input."""

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.data.decode.reference import read_image
from convatlas.data.normalise import Normalizer, normalise
from convatlas.data.pixels import LONGEST, recolour, to_input_size
from convatlas.data.sources.folder import FolderSplit
from convatlas.data.statistics import statistics
from convatlas.data.types import MemorySplit
from convatlas.errors import UserError
from convatlas.preprocess import Preprocess, ResizeMode

PLAIN = Preprocess((3, 24, 20), (0.0,) * 3, (1.0,) * 3)
GREY = Preprocess((1, 24, 20), (0.0,), (1.0,))


def noise(n: int, channels: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8, generator=generator)


def pillow(image: torch.Tensor) -> Image.Image:
    """One image (C, H, W) as Pillow holds it."""
    return Image.fromarray(np.ascontiguousarray(image[0] if len(image) == 1 else image.permute(1, 2, 0)))


def tensor(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def test_json_gives_back_an_equal_record() -> None:
    record = replace(
        PLAIN, resize_mode="crop", resize=32, order="BGR", scale=1.0, interpolation="bicubic", background=7
    )
    assert Preprocess.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resize_mode": "croq"}, "no resize mode named 'croq'; did you mean crop"),
        ({"interpolation": "lanczos"}, "no interpolation named 'lanczos'; choose from nearest, bilinear, bicubic"),
        ({"order": "RGBA"}, "no order named 'RGBA'"),
        ({"input": (2, 24, 20)}, "input 2x24x20 is not an image size"),
        ({"input": (3, 0, 20)}, "input 3x0x20 is not an image size"),
        ({"input": (24, 20)}, r"input=\(24, 20\) is not 3 numbers"),
        ({"mean": (0.5,)}, "mean has 1 values for 3 channels"),
        ({"std": (0.5,) * 4}, "std has 4 values for 3 channels"),
        ({"std": (0.5, 0.0, 0.5)}, "std=0.5,0.0,0.5 is out of range; give more than 0"),
        ({"scale": 0.0}, "scale=0.0 is out of range; give more than 0"),
        ({"resize": 23}, "resize=23 is too small to crop 24x20 from; give at least 24"),
        ({"background": 256}, "background=256 is out of range; give at least 0 and at most 255"),
    ],
)
def test_a_wrong_value_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(PLAIN, **change)


def test_a_wrong_record_is_refused() -> None:
    with pytest.raises(UserError, match="no preprocessing field named 'meen'; did you mean mean"):
        Preprocess.from_json({**PLAIN.to_json(), "meen": [0.0]})
    with pytest.raises(UserError, match="has no 'std'"):
        Preprocess.from_json({"input": [1, 8, 8], "mean": [0.0]})
    with pytest.raises(UserError, match="is not numbers"):
        Preprocess.from_json({**PLAIN.to_json(), "std": ["a", "b", "c"]})


def test_luma_is_pillows_for_every_pair_of_extremes_and_many_colours() -> None:
    images = torch.cat([noise(4, 3, 64, 64), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)])
    images[4].view(3, -1)[:, :8] = torch.tensor([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)]).T
    expected = torch.stack([tensor(pillow(image).convert("L")) for image in images])
    assert torch.equal(recolour(images, 1), expected)


def test_grey_in_a_colour_network_is_three_equal_channels() -> None:
    images = noise(2, 1, 5, 5)
    out = recolour(images, 3)
    assert out.shape == (2, 3, 5, 5)
    assert all(torch.equal(out[:, c], images[:, 0]) for c in range(3))


def test_an_image_of_the_right_size_is_left_alone() -> None:
    images = noise(3, 3, 24, 20)
    for resize_mode in ("stretch", "pad"):
        assert torch.equal(to_input_size(images, replace(PLAIN, resize_mode=resize_mode)), images)
    square = noise(3, 3, 32, 32)
    assert torch.equal(to_input_size(square, replace(PLAIN, input=(3, 32, 32), resize_mode="crop")), square)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_stretch_is_pillows_resize(interpolation: str) -> None:
    filters = {"nearest": Image.NEAREST, "bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}
    images = noise(2, 3, 37, 50)
    expected = torch.stack([tensor(pillow(image).resize((20, 24), filters[interpolation])) for image in images])
    assert torch.equal(to_input_size(images, replace(PLAIN, interpolation=interpolation)), expected)


def test_stretch_to_a_larger_square_takes_its_centre() -> None:
    (image,) = noise(1, 3, 333, 500)
    expected = pillow(image).resize((256, 256), Image.BILINEAR).crop((16, 16, 240, 240))
    record = replace(PLAIN, input=(3, 224, 224), resize=256)
    assert torch.equal(to_input_size(image[None], record)[0], tensor(expected))


@pytest.mark.parametrize("size", [(256, 300), (333, 256), (500, 400), (100, 150)])
def test_crop_scales_the_short_side_and_takes_the_centre(size: tuple[int, int]) -> None:
    """The steps of the usual ImageNet evaluation, done by Pillow."""
    (image,) = noise(1, 3, *size)
    h, w = size
    wide = (256, 256 * w // h) if h <= w else (256 * h // w, 256)
    top, left = round((wide[0] - 224) / 2), round((wide[1] - 224) / 2)
    expected = pillow(image).resize(wide[::-1], Image.BILINEAR).crop((left, top, left + 224, top + 224))
    record = replace(PLAIN, input=(3, 224, 224), resize_mode="crop", resize=256)
    assert torch.equal(to_input_size(image[None], record)[0], tensor(expected))


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (3, 3_000_000)])
def test_the_middle_of_a_very_long_image_is_taken_before_it_is_scaled(size: tuple[int, int]) -> None:
    """3 x 3,000,000 pixels scaled whole to a short side of 256 would need 65 GB."""
    images = torch.zeros(1, 1, *size, dtype=torch.uint8)
    side = 0 if size[0] > size[1] else 1
    middle = slice(size[side] // 2 - LONGEST * 2, size[side] // 2 + LONGEST * 2)
    images[0, 0][(middle, slice(None)) if side == 0 else (slice(None), middle)] = 200
    out = to_input_size(images, replace(GREY, input=(1, 224, 224), resize_mode="crop", resize=256))
    assert out.shape == (1, 1, 224, 224)
    assert (out == 200).all()


def test_pad_puts_mnist_in_the_middle_as_lenet_wants_it() -> None:
    images = noise(2, 1, 28, 28)
    out = to_input_size(images, replace(GREY, input=(1, 32, 32), resize_mode="pad", background=9))
    assert torch.equal(out[:, :, 2:30, 2:30], images)
    out[:, :, 2:30, 2:30] = 9
    assert (out == 9).all()


def test_pad_scales_a_larger_image_down_first() -> None:
    images = torch.full((1, 3, 40, 80), 100, dtype=torch.uint8)
    out = to_input_size(images, replace(PLAIN, input=(3, 20, 20), resize_mode="pad"))  # 80 -> 20 wide, so 40 -> 10 high
    assert (out[:, :, 5:15] == 100).all()
    assert (out[:, :, :5] == 0).all()
    assert (out[:, :, 15:] == 0).all()
    thin = to_input_size(torch.full((1, 1, 1, 500), 7, dtype=torch.uint8), replace(GREY, resize_mode="pad"))
    assert thin.shape == (1, 1, 24, 20)
    assert (thin == 7).sum() == 20  # one row is left of it


def test_order_bgr_swaps_red_and_blue() -> None:
    images = noise(2, 3, 24, 20)
    assert torch.equal(to_input_size(images, replace(PLAIN, order="BGR")), images[:, [2, 1, 0]])


def test_normalise_is_the_formula_by_hand_and_channels_last() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    record = Preprocess((3, 4, 4), mean=(0.1, 0.2, 0.5), std=(0.5, 0.25, 2.0))
    out = normalise(images, Normalizer(record))
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert out[1, :, 2, 3].tolist() == pytest.approx([-0.2, 0.0, 0.25], abs=1e-7)  # float32
    caffe = normalise(images, Normalizer(replace(record, scale=1.0, mean=(104.0, 117.0, 123.0), std=(1.0,) * 3)))
    assert caffe[0, :, 0, 0].tolist() == [-104.0, 51.0 - 117.0, 255.0 - 123.0]


def test_normalise_leaves_its_input_alone() -> None:
    images = noise(2, 3, 24, 20)
    before = images.clone()
    normalise(images, Normalizer(PLAIN))
    assert torch.equal(images, before)


@given(st.integers(1, 3), st.integers(1, 9), st.integers(0, 99))
def test_statistics_are_numpys(n: int, size: int, seed: int) -> None:
    images = noise(n, 3, size, size + 1, seed)
    mean, std = statistics(images)
    pixels = images.numpy() / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)))
    assert std == pytest.approx(np.maximum(pixels.std((0, 2, 3)), 1 / 255))


def test_images_of_one_flat_colour_can_still_be_divided_by_their_std() -> None:
    mean, std = statistics(torch.full((2, 1, 4, 4), 51, dtype=torch.uint8))
    assert mean == pytest.approx((0.2,))
    assert std == (1 / 255,)


def memory(images: torch.Tensor) -> MemorySplit:
    return MemorySplit("train", images, torch.arange(len(images)), tuple(map(str, range(len(images)))))


@pytest.mark.parametrize("resize_mode", get_args(ResizeMode))
@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("net", [(1, 24, 20), (3, 24, 20), (3, 33, 41)])
@pytest.mark.parametrize("own", [(1, 28, 28), (3, 28, 28), (3, 40, 30), (3, 24, 20)])
def test_the_same_image_gives_the_same_pixels_from_memory_a_folder_and_a_file(
    tmp_path, own: tuple[int, int, int], net: tuple[int, int, int], order: str, resize_mode: str
) -> None:
    images = noise(4, *own)
    record = Preprocess(net, (0.0,) * net[0], (1.0,) * net[0], resize_mode=resize_mode, order=order)
    paths = tuple(tmp_path / f"{i}.png" for i in range(4))
    for image, path in zip(images, paths):
        pillow(image).save(path)
    split = memory(images)
    expected = split.fetch([2, 0, 3], record)
    assert expected.shape == (3, *net)
    assert expected.dtype == torch.uint8
    folder = FolderSplit("train", paths, split.labels, split.classes, {})
    assert torch.equal(folder.fetch([2, 0, 3], record), expected)
    alone = [to_input_size(read_image(paths[i], net[0])[None], record) for i in (2, 0, 3)]
    assert torch.equal(torch.cat(alone), expected)


def test_a_memory_split_answers_the_same_with_and_without_its_cache(monkeypatch) -> None:
    images = noise(6, 3, 28, 30)
    other = replace(PLAIN, input=(3, 16, 16), resize_mode="crop")
    split = memory(images)
    cached = [split.fetch(torch.tensor([5, 1]), record) for record in (PLAIN, other, PLAIN)]
    monkeypatch.setattr("convatlas.data.types.CACHE_BYTES", 0)
    fresh = [memory(images).fetch([5, 1], record) for record in (PLAIN, other, PLAIN)]
    assert all(torch.equal(a, b) for a, b in zip(cached, fresh))
    assert not torch.equal(cached[0][:, :, :16, :16], cached[1])


def test_what_was_fetched_may_be_written_to() -> None:
    split = memory(noise(3, 1, 20, 24))
    record = replace(PLAIN, input=(3, 20, 24))
    first = split.fetch([0, 1], record)
    first[:] = 0
    assert split.fetch([0, 1], record).any()


def test_fetching_nothing_gives_no_images() -> None:
    split = memory(noise(3, 3, 28, 28))
    assert split.fetch([], PLAIN).shape == (0, 3, 24, 20)
    assert FolderSplit("train", (), torch.empty(0), (), {}).fetch([], PLAIN).shape == (0, 3, 24, 20)
    assert to_input_size(split.images[:0], PLAIN).shape == (0, 3, 24, 20)
