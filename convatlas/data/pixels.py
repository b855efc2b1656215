"""From an image's pixels to a network's size: channels, scaling, crops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..preprocess import Preprocess

Shape = tuple[int, int, int]  # C x H x W
Box = tuple[int, int, int, int]  # left, top, right, bottom, in pixels of an image
LONGEST = 16  # aspect ratio beyond which an image is cropped to its middle before it is scaled
RESAMPLE = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def to_input_size(images: Tensor, preprocess: Preprocess) -> Tensor:
    """Images of one size, uint8 (n, C, h, w), as uint8 (n, C', H, W): channels, size and channel order of `preprocess`.

    Every image that a network sees, in training and in prediction, passes through here. Resizing is Pillow's
    (on the CPU, one image at a time), so that a pixel never depends on the batch, the device or the machine.
    """
    channels, height, width = preprocess.input
    images = recolour(images, channels)
    h, w = images.shape[2:]
    if preprocess.resize_mode == "stretch":
        side = preprocess.resize
        images = resize(images, (side, side) if side else (height, width), preprocess.interpolation)
        images = center_crop(images, (height, width))
    elif preprocess.resize_mode == "crop":
        images = center_crop(images, (min(h, LONGEST * w), min(w, LONGEST * h)))
        h, w = images.shape[2:]
        short = preprocess.resize or max(height, width)
        size = (short, short * w // h) if h <= w else (short * h // w, short)
        images = center_crop(resize(images, size, preprocess.interpolation), (height, width))
    else:
        shrink = min(height / h, width / w, 1.0)
        size = (max(round(h * shrink), 1), max(round(w * shrink), 1))
        images = center_crop(resize(images, size, preprocess.interpolation), (height, width), preprocess.background)
    return images.flip(1) if preprocess.order == "BGR" and channels == 3 else images


def crop_and_resize(images: Tensor, crops: Sequence[Callable[[int, int], Box]], preprocess: Preprocess) -> Tensor:
    """Each image's crop, scaled to H x W: uint8 (n, C, h, w) to uint8 (n, C', H, W)."""
    channels, height, width = preprocess.input
    images = recolour(images, channels)
    boxes = [crop(*images.shape[2:]) for crop in crops]
    cuts = [
        resize(image[None, :, top:bottom, left:right], (height, width), preprocess.interpolation)
        for image, (left, top, right, bottom) in zip(images, boxes, strict=True)
    ]
    images = torch.cat([images.new_empty(0, channels, height, width), *cuts])
    return images.flip(1) if preprocess.order == "BGR" and channels == 3 else images


def recolour(images: Tensor, channels: int) -> Tensor:
    """uint8 (n, C, h, w) with `channels` channels: grey repeated, or the luma of colours, rounded as Pillow does."""
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


def center_crop(images: Tensor, size: tuple[int, int], background: int = 0) -> Tensor:
    """The centre crop of `size` (height, width); padded where it is larger than the images."""
    height, width = size
    top, left = (round((n - k) / 2) for n, k in zip(images.shape[2:], size))
    h, w = images.shape[2:]
    pads = (-left, left + width - w, -top, top + height - h)
    return F.pad(images, pads, value=background) if any(pads) else images  # a negative pad crops
