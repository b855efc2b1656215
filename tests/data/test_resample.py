"""Crops scaled together against Pillow, one image at a time, along rows and then along columns."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor

from convatlas.data.augment import crops_of
from convatlas.data.pixels import RESAMPLE, crop_and_resize
from convatlas.data.resample import cut_and_scale
from convatlas.preprocess import Preprocess


def noise(n: int, channels: int, h: int, w: int) -> Tensor:
    """Images of noise, the first black, white and striped: sums that overflow or leave 0 to 255 show there."""
    images = torch.randint(0, 256, (n, channels, h, w), generator=torch.Generator().manual_seed(h), dtype=torch.uint8)
    images[0], images[1] = 0, 255
    images[2] = (255 * (torch.arange(w) // 2 % 2)).byte()
    return images


def some_boxes(n: int, h: int, w: int) -> Tensor:
    generator = torch.Generator().manual_seed(w)
    rows, columns = (torch.rand(n, 2, generator=generator).mul(k + 1).long().sort(1).values for k in (h, w))
    boxes = torch.stack([columns[:, 0], rows[:, 0], columns[:, 1], rows[:, 1]], 1)
    boxes[:, 2:] = torch.maximum(boxes[:, 2:], boxes[:, :2] + 1).minimum(torch.tensor([w, h]))
    boxes[:, :2] = torch.minimum(boxes[:, :2], boxes[:, 2:] - 1)
    boxes[:3] = torch.tensor([0, 0, w, h])
    return boxes


def by_pillow(image: Tensor, box: list[int], size: tuple[int, int], interpolation: str) -> Tensor:
    planes = []
    for plane in image.numpy():
        picture = Image.fromarray(plane).crop(tuple(box))
        for to in ((size[1], picture.height), (size[1], size[0])):
            picture = picture.resize(to, RESAMPLE[interpolation])
        planes.append(torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(size))
    return torch.stack(planes)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("channels", "h", "w", "size"),
    [(3, 60, 80, (36, 36)), (1, 28, 28, (32, 32)), (3, 100, 30, (9, 40)), (3, 5, 7, (11, 3)), (1, 64, 64, (64, 64))],
)
def test_pixels_are_pillows_bit_for_bit(
    channels: int, h: int, w: int, size: tuple[int, int], interpolation: str
) -> None:
    images, boxes = noise(12, channels, h, w), some_boxes(12, h, w)
    made = cut_and_scale(images, boxes, size, interpolation)
    for image, box, out in zip(images, boxes.tolist(), made, strict=True):
        assert torch.equal(out, by_pillow(image, box, size, interpolation)), box


def test_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images, boxes = noise(7, 3, 40, 50), some_boxes(7, 40, 50)
    whole = cut_and_scale(images, boxes, (24, 20), "bilinear")
    monkeypatch.setattr("convatlas.data.resample.TOGETHER", 3 * 40 * 20 * 3)  # three images
    assert torch.equal(cut_and_scale(images, boxes, (24, 20), "bilinear"), whole)


def test_random_crops_are_those_of_the_reference() -> None:
    """Pillow 13 takes the columns first where the height shrinks much more than the width: two levels at most."""
    images, at = noise(40, 3, 48, 64), torch.arange(40) + 100
    crops = crops_of(("area_crop:0.08:1",), (32, 32), seed=1, epoch=3)
    assert crops
    made = cut_and_scale(images, crops.drawn(at, 48, 64), (32, 32), "bilinear")
    expected = crop_and_resize(images, crops.boxes(at), Preprocess((3, 32, 32), (0.0,) * 3, (1.0,) * 3))
    different = (made.int() - expected.int()).abs()
    assert different.max() <= 2
    assert (different > 0).any((1, 2, 3)).sum() <= 8
