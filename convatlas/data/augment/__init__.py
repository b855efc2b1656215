"""Batched augmentation on the images' device, keyed by (seed, epoch, index): see keys.py.

Three kinds, in this order (recipe.AUGMENTATIONS): a random crop, taken as images are read (crops.py); operations on the
uint8 pixels of a batch (`augment`); mixing of normalised images (mix.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...preprocess import Preprocess
from ...recipe import CROPS, MIXES, operation
from ..statistics import principal_axes, sample
from ..types import Split
from .colour import lighting, photometric
from .crops import RandomCrops, crops_of
from .keys import Epoch, draw, order
from .mix import drawn_mixes, mix, mix_with, partners
from .policies import POLICIES, autoaugment, randaugment, trivialaugment
from .spatial import alternate_flip, cutout, flip, pad_crop, reflect_crop

__all__ = [
    "Colours",
    "RandomCrops",
    "augment",
    "crops_of",
    "draw",
    "drawn_mixes",
    "mix",
    "mix_with",
    "order",
    "partners",
]


@dataclass(frozen=True)
class Colours:
    """The colours of the training pixels, in levels 0 to 255, for the operations that need them."""

    mean: tuple[int, ...] = (0,)  # each channel's, rounded
    axes: tuple[tuple[float, ...], ...] = ()  # the principal axes as rows; each norm is the std along it

    @classmethod
    def of(cls, split: Split, preprocess: Preprocess, ops: Sequence[str]) -> Colours:
        """The colours of the split's images under `preprocess`; the axes only if `ops` need them."""
        mean = tuple(round(m * preprocess.scale) for m in preprocess.mean)
        if not any(operation(op)[0] == "lighting" for op in ops):
            return cls(mean)
        axes = principal_axes(sample(split, preprocess.input[0]))
        return cls(mean, tuple(tuple(round(v, 4) for v in axis) for axis in axes.tolist()))

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Colours:
        return cls(tuple(record["mean"]), tuple(map(tuple, record["axes"])))


def augment(
    images: Tensor, indices: Tensor, *, ops: Sequence[str], seed: int, epoch: Epoch, colours: Colours | None = None
) -> Tensor:
    """Applies the pixel operations among `ops` (recipe.AUGMENTATIONS), in order, to uint8 images (n, C, H, W).

    `indices` (n,) are the images' indices in their split. "lighting" needs `colours`, those of the split's pixels; they
    also fill what "cutout", AutoAugment and RandAugment leave empty (black without them).
    """
    indices = indices.to(images.device)
    colours = colours or Colours()
    for op in ops:
        name, arguments = operation(op)
        if name in CROPS or name in MIXES:
            continue
        if name == "pad_crop":
            images = pad_crop(images, indices, int(arguments[0]), seed, epoch)
        elif name == "reflect_crop":
            images = reflect_crop(images, indices, int(arguments[0]), seed, epoch)
        elif name == "flip":
            images = flip(images, indices, seed, epoch)
        elif name == "alternate_flip":
            images = alternate_flip(images, indices, seed, epoch)
        elif name == "photometric":
            images = photometric(images, indices, arguments[0], seed, epoch)
        elif name == "lighting":
            assert colours.axes, "lighting needs the axes of the training pixels' colours"
            images = lighting(images, indices, arguments[0], colours.axes, seed, epoch)
        elif name == "cutout":
            images = cutout(images, indices, int(arguments[0]), colours.mean, seed, epoch)
        elif name == "randaugment":
            number, magnitude = map(int, arguments)
            images = randaugment(number, magnitude, images, indices, colours.mean, seed, epoch)
        elif name == "trivialaugment":
            images = trivialaugment(images, indices, seed, epoch)
        else:
            assert name in POLICIES, name
            images = autoaugment(name, images, indices, colours.mean, seed, epoch)
    return images
