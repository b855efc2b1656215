"""Split: labelled images as the rest of the house sees them, whatever they came from; and pixels to network input."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .preprocess import Preprocess

Shape = tuple[int, int, int]  # C x H x W
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels of an image
CACHE_BYTES = 1 << 30  # a memory split that was resized is kept whole up to this size
LONGEST = 16  # of an image longer than so many times its width, the middle is taken before it is scaled
RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


class Windows(Protocol):
    """A view of the images (data/augment/views.py): which window of each is taken."""

    def windows(self, indices: Tensor) -> list[Callable[[int, int], Box]]: ...


class Split(Protocol):
    """One split (train, val, test) of a labelled set: metadata, and `fetch`."""

    name: str
    classes: tuple[str, ...]
    labels: Tensor  # int64 (N,)
    provenance: dict[str, Any]  # source, path, counts, checksums: enough to say what was trained on

    def __len__(self) -> int: ...

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, view: Windows | None = None) -> Tensor:
        """The images at `indices` as uint8 (n, C, H, W): their geometry as `preprocess` says, or the view's windows,
        scaled to H x W."""
        ...


@dataclass(frozen=True)
class Data:
    """A labelled set: a split to train on and one to test on, and the statistics of the training pixels."""

    name: str
    train: Split
    test: Split
    shape: Shape | None  # native C x H x W; None where each image has its own
    mean: tuple[float, ...]  # of the training pixels, in [0, 1], one for each channel
    std: tuple[float, ...]
    fit: str = "crop"  # how its images reach a network's size unless told otherwise (see Preprocess)
    skipped: tuple[tuple[str, str], ...] = ()  # files that were left out, each with the reason

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @property
    def provenance(self) -> dict[str, Any]:
        return {"name": self.name, "classes": len(self.classes)} | {
            split.name: split.provenance for split in (self.train, self.test)
        }


@dataclass(eq=False)
class MemorySplit:
    """A split whose images are held as one uint8 tensor (N, C, H, W) at their native size."""

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any] = field(default_factory=dict)
    _shaped: tuple[Preprocess, Tensor] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        assert self.images.dtype == torch.uint8, self.images.dtype
        assert self.labels.dtype == torch.int64, self.labels.dtype
        assert len(self.images) == len(self.labels), (len(self.images), len(self.labels))

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Sequence[int] | Tensor, preprocess: Preprocess, view: Windows | None = None) -> Tensor:
        """The images at `indices` as uint8 (n, C, H, W); reshaped once for all when the whole split is small enough."""
        at = torch.as_tensor(indices, dtype=torch.int64, device=self.images.device)
        if view is not None:
            return cut(self.images[at], view.windows(at), preprocess)
        c, h, w = preprocess.input
        if len(self) * c * h * w > CACHE_BYTES:
            return geometry(self.images[at], preprocess)
        if self._shaped is None or self._shaped[0] != preprocess:
            self._shaped = preprocess, geometry(self.images, preprocess)
        return self._shaped[1][at]


def geometry(images: Tensor, preprocess: Preprocess) -> Tensor:
    """Images of one size, uint8 (n, C, h, w), as uint8 (n, C', H, W): channels, size and order as `preprocess` says.

    Every image that a network sees, in training and in prediction, passes through here. Resizing is Pillow's
    (on the CPU, one image at a time), so that a pixel never depends on the batch, the device or the machine.
    """
    channels, height, width = preprocess.input
    images = recolour(images, channels)
    h, w = images.shape[2:]
    if preprocess.fit == "stretch":
        images = resize(images, (height, width), preprocess.interpolation)
    elif preprocess.fit == "crop":
        images = window(images, (min(h, LONGEST * w), min(w, LONGEST * h)))
        h, w = images.shape[2:]
        short = preprocess.resize or max(height, width)
        size = (short, short * w // h) if h <= w else (short * h // w, short)
        images = window(resize(images, size, preprocess.interpolation), (height, width))
    else:
        shrink = min(height / h, width / w, 1.0)
        size = (max(round(h * shrink), 1), max(round(w * shrink), 1))
        images = window(resize(images, size, preprocess.interpolation), (height, width), preprocess.background)
    return images.flip(1) if preprocess.order == "BGR" and channels == 3 else images


def cut(images: Tensor, windows: Sequence[Callable[[int, int], Box]], preprocess: Preprocess) -> Tensor:
    """Of each image, uint8 (n, C, h, w), its window, scaled to H x W: uint8 (n, C', H, W)."""
    channels, height, width = preprocess.input
    images = recolour(images, channels)
    boxes = [window(*images.shape[2:]) for window in windows]
    cuts = [
        resize(image[None, :, top:bottom, left:right], (height, width), preprocess.interpolation)
        for image, (left, top, right, bottom) in zip(images, boxes, strict=True)
    ]
    images = torch.cat([images.new_empty(0, channels, height, width), *cuts])
    return images.flip(1) if preprocess.order == "BGR" and channels == 3 else images


def recolour(images: Tensor, channels: int) -> Tensor:
    """uint8 (n, C, h, w) with `channels` channels: grey three times, or the luma of colour, rounded as Pillow does."""
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    red, green, blue = (plane.to(torch.int32) for plane in images.unbind(1))
    luma = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16  # ITU-R 601: .299, .587, .114
    return luma.to(torch.uint8)[:, None]


def resize(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """uint8 (n, C, h, w) scaled to `size` (height, width)."""
    if tuple(images.shape[2:]) == size:
        return images
    n, channels, _, _ = images.shape
    scaled = np.empty((n, *size, channels), np.uint8)
    for pixels, out in zip(images.permute(0, 2, 3, 1).contiguous().cpu().numpy(), scaled):
        image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
        out[:] = np.asarray(image.resize(size[::-1], RESAMPLE[interpolation])).reshape(out.shape)
    return torch.from_numpy(scaled).permute(0, 3, 1, 2).contiguous().to(images.device)


def window(images: Tensor, size: tuple[int, int], background: int = 0) -> Tensor:
    """The centred window of `size` (height, width), which may be larger than the images on either side."""
    height, width = size
    top, left = (round((n - k) / 2) for n, k in zip(images.shape[2:], size))
    h, w = images.shape[2:]
    pads = (-left, left + width - w, -top, top + height - h)
    return F.pad(images, pads, value=background) if any(pads) else images  # a negative pad crops


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 images (n, C, H, W), in [0, 1]: exact, from histograms."""
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten().cpu(), minlength=256).double() / channel.numel()
        mean = (share * levels).sum()
        means.append(mean.item())
        stds.append(max((share * (levels - mean).square()).sum().sqrt().item(), 1 / 255))  # one flat colour: not zero
    return tuple(means), tuple(stds)


def memory_data(
    name: str,
    splits: dict[str, tuple[Tensor, Tensor]],  # "train" and "test": uint8 images (N, C, H, W), int64 labels (N,)
    classes: tuple[str, ...],
    provenance: dict[str, Any],
    *,
    fit: str,
) -> Data:
    """A set held in memory, with its statistics, counts and checksums (of pixels in N, C, H, W order, then labels)."""
    train, test = (
        MemorySplit(
            split, images, labels, classes, {**provenance, "images": len(images), "sha256": checksum(images, labels)}
        )
        for split, (images, labels) in splits.items()
    )
    _, c, h, w = train.images.shape
    return Data(name, train, test, (c, h, w), *statistics(train.images), fit)


def checksum(images: Tensor, labels: Tensor) -> str:
    digest = hashlib.sha256(images.contiguous().numpy().data)
    digest.update(labels.numpy().astype("<i8").data)
    return digest.hexdigest()


def principal_axes(images: Tensor) -> Tensor:
    """The principal axes of the colours of uint8 images (n, C, H, W), longest first, as rows: float64 (C, C).

    Each is as long as the pixels' standard deviation along it, in levels, and its largest entry is positive.
    """
    channels = images.shape[1]
    total, products = torch.zeros(channels, dtype=torch.float64), torch.zeros(channels, channels, dtype=torch.float64)
    for part in images.split(1000):
        colours = part.transpose(0, 1).flatten(1).double()
        total += colours.sum(1)
        products += colours @ colours.T
    pixels = images.numel() / channels
    mean = total / pixels
    values, vectors = torch.linalg.eigh(products / pixels - mean[:, None] * mean)
    axes = (vectors * values.clamp(min=0).sqrt()).T.flip(0)
    return axes * torch.where(axes.gather(1, axes.abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0)
