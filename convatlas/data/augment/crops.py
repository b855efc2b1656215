"""Random crops: the part of the stored image that is scaled to the network's input; keyed as augmentation is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ...errors import UserError
from ...recipe import CROPS, operation
from ..pixels import Box
from .keys import Draw, uniform

TRIES = 10
NARROWEST, WIDEST = 3 / 4, 4 / 3  # width / height


@dataclass(frozen=True)
class RandomCrops:
    """One epoch's crops for a network of `size` (height, width), keyed by the images' indices."""

    op: str
    size: tuple[int, int]
    seed: int
    epoch: int

    def boxes(self, indices: Tensor) -> list[Callable[[int, int], Box]]:
        """For each index (n,), the function from its image's height and width to the crop."""
        name, arguments = operation(self.op)
        area = name == "area_crop"
        numbers = torch.arange(Draw.AREA, Draw.AREA + 4 * TRIES) if area else torch.arange(Draw.SCALE, Draw.SCALE + 3)
        rows = uniform(indices[:, None], self.seed, self.epoch, numbers).tolist()
        if area:
            return [partial(area_crop, draws, arguments[0], arguments[1]) for draws in rows]
        sides = tuple(map(round, arguments))
        if name == "scale_crop":
            return [partial(scale_crop, draws, sides[0], sides[1], self.size) for draws in rows]
        crop = square_crop if name == "square_crop" else warp_crop
        return [partial(crop, draws, sides[0], self.size) for draws in rows]

    def drawn(self, indices: Tensor, h: int, w: int) -> Tensor:
        """The crops of images that are all h x w: int64 (n, 4)."""
        return torch.tensor([box(h, w) for box in self.boxes(indices)])


def crops_of(ops: tuple[str, ...], size: tuple[int, int], *, seed: int, epoch: int) -> RandomCrops | None:
    """The epoch's random crops by `ops` (Recipe.augment), or None if there are none.

    Raises UserError if images of that scale cannot hold a crop of `size` (height, width).
    """
    if not ops or operation(ops[0])[0] not in CROPS:
        return None
    name, arguments = operation(ops[0])
    if name != "area_crop" and arguments[0] < max(size):
        enough = [str(max(*size, round(side))) for side in arguments]
        raise UserError(
            f"augmentation {ops[0]!r} scales images below the {size[0]}x{size[1]} crop",
            f"give {':'.join((name, *enough))} or more",
        )
    return RandomCrops(ops[0], size, seed, epoch)


def area_crop(draws: list[float], low: float, high: float, h: int, w: int) -> Box:
    """`low` to `high` of the area at an aspect ratio of 3/4 to 4/3 (log-uniform), anywhere in h x w.

    After ten failed attempts, the largest centre crop of a legal aspect. Szegedy et al. (2014), section 6.
    """
    for i in range(0, 4 * TRIES, 4):
        area = (low + (high - low) * draws[i]) * h * w
        aspect = NARROWEST * (WIDEST / NARROWEST) ** draws[i + 1]
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= w and 0 < height <= h:
            top, left = int(draws[i + 2] * (h - height + 1)), int(draws[i + 3] * (w - width + 1))
            return left, top, left + width, top + height
    width, height = min(w, max(round(h * WIDEST), 1)), min(h, max(round(w / NARROWEST), 1))
    left, top = (w - width) // 2, (h - height) // 2
    return left, top, left + width, top + height


def scale_crop(draws: list[float], low: int, high: int, size: tuple[int, int], h: int, w: int) -> Box:
    """A random crop of `size` from an image scaled to a short side of `low` ... `high` pixels.

    Given in the image's own pixels, so rounded to whole ones. Simonyan and Zisserman (2014), section 3.1.
    """
    scale = (low + int(draws[0] * (high - low + 1))) / min(h, w)
    height, width = (min(max(round(n / scale), 1), whole) for n, whole in zip(size, (h, w)))
    top, left = int(draws[1] * (h - height + 1)), int(draws[2] * (w - width + 1))
    return left, top, left + width, top + height


def square_crop(draws: list[float], side: int, size: tuple[int, int], h: int, w: int) -> Box:
    """A random crop of `size` inside the central `side` x `side` pixels of an image scaled to that short side.

    Rounded as in `scale_crop`. Krizhevsky et al. (2012), sections 2 and 4.1.
    """
    square = min(h, w)
    left, top, right, bottom = scale_crop(draws, side, side, size, square, square)
    x, y = (w - square) // 2, (h - square) // 2
    return left + x, top + y, right + x, bottom + y


def warp_crop(draws: list[float], side: int, size: tuple[int, int], h: int, w: int) -> Box:
    """A random crop of `size` from an image warped to `side` x `side` pixels, whatever its aspect ratio.

    Rounded as in `scale_crop`. Caffe's ImageNet tutorial, http://caffe.berkeleyvision.org/gathered/examples/imagenet.html
    """
    height, width = (max(round(n * whole / side), 1) for n, whole in zip(size, (h, w)))
    top, left = int(draws[1] * (h - height + 1)), int(draws[2] * (w - width + 1))
    return left, top, left + width, top + height
