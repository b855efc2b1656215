"""From pixels to a network's input: normalisation, and the statistics that it needs of the training images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import UserError
from ..preprocess import MEASURED, Preprocess, ResizeMode, Whitening
from ..recipe import operation
from .loading import fetched
from .statistics import sample_statistics
from .types import Data, MemorySplit, Split

MOST_IMAGES = 10_000  # measured, evenly spaced, unless the data set is in memory
ZCA_VALUES = 4096  # per image, at most: the ZCA matrix has the square of that
GCN_SCALE = 55.0  # of pylearn2's make_cifar10_gcn_whitened.py, which maxout, NiN and Wide ResNet used
ZCA_BIAS = 0.1  # added to the variances: pylearn2's ZCA(filter_bias=0.1)
CHUNK = 500  # images measured at a time
IN_CACHE = 1 << 18  # values normalised at a time, to fit the CPU's cache


class Normalizer:
    """A Preprocess and the tensors measured for it on the training images: what `normalise` needs.

    `tensors`, float32 on the CPU: "mean" (C, H, W) for `whiten` "pixel"; "mean" (d,) and "zca" (d, d) for "gcn_zca",
    d = C H W; empty otherwise. Raises UserError if they are missing or have the wrong shape.
    """

    def __init__(self, preprocess: Preprocess, tensors: Mapping[str, Tensor] | None = None):
        self.preprocess = preprocess
        self.tensors = {name: tensor.float().cpu() for name, tensor in (tensors or {}).items()}
        self._on: dict[torch.device, dict[str, Tensor]] = {}
        expected = measured_shapes(preprocess)
        found = {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}
        if found != expected:
            raise UserError(
                f"whiten={preprocess.whiten} needs the tensors {expected} measured on the training images, "
                f"but has {found or 'none'}",
                "take them from the run that trained the network",
            )

    def on(self, device: torch.device) -> dict[str, Tensor]:
        """The tensors on that device."""
        if device not in self._on:
            self._on[device] = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return self._on[device]


def measured_shapes(preprocess: Preprocess) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors to measure. Raises UserError for images too large for the matrix of "gcn_zca"."""
    c, h, w = preprocess.input
    if preprocess.whiten == "pixel":
        return {"mean": (c, h, w)}
    if preprocess.whiten == "gcn_zca":
        if c * h * w > ZCA_VALUES:
            raise UserError(
                f"whiten=gcn_zca needs a matrix of {c * h * w:,} x {c * h * w:,} for images of {c}x{h}x{w}",
                f"give images of at most {ZCA_VALUES:,} values, or whiten=pixel",
            )
        return {"mean": (c * h * w,), "zca": (c * h * w, c * h * w)}
    return {}


def normalise(images: Tensor, normalizer: Normalizer) -> Tensor:
    """uint8 (n, C, H, W), on any device, as the network's float32 input, in channels_last memory."""
    preprocess = normalizer.preprocess
    if preprocess.whiten not in MEASURED:
        n, c, h, w = images.shape
        factor, shift = factor_and_shift(preprocess, w, images.device)
        rows = images.permute(0, 2, 3, 1).reshape(-1, w * c)  # long rows: several times faster than by channel
        out = torch.empty(rows.shape, device=images.device)
        some = max(1, IN_CACHE // (w * c)) if images.device.type == "cpu" else max(1, n * h)
        for levels, values in zip(rows.split(some), out.split(some)):
            torch.addcmul(shift, values.copy_(levels), factor, out=values)
        return out.view(n, h, w, c).permute(0, 3, 1, 2)
    tensors = normalizer.on(images.device)
    pixels = images.to(torch.float32, memory_format=torch.channels_last).div_(preprocess.scale)
    if preprocess.whiten == "pixel":
        return pixels.sub_(tensors["mean"])
    flat = (contrast_normalised(pixels) - tensors["mean"]) @ tensors["zca"]
    return flat.view(images.shape).contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=8)
def factor_and_shift(preprocess: Preprocess, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and shift (float32, width * C each) that normalise a row of `width` pixels in channels_last memory."""
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in (preprocess.mean, preprocess.std))
    pair = torch.stack([1 / (preprocess.scale * std), -mean / std])
    factor, shift = pair.repeat(1, width).to(device, torch.float32)
    return factor, shift


def contrast_normalised(pixels: Tensor) -> Tensor:
    """Global contrast normalisation: (n, C, H, W) to (n, C H W), each image minus its mean, with norm GCN_SCALE."""
    flat = pixels.contiguous().flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    length = flat.norm(dim=1, keepdim=True) / GCN_SCALE
    return flat / torch.where(length < 1e-8, 1.0, length)


def measure_normalizer(preprocess: Preprocess, split: Split) -> Normalizer:
    """The Normalizer measured on the training images (all of a split in memory, otherwise at most MOST_IMAGES).

    "pixel": the mean of each pixel and channel, in units of `scale` (Krizhevsky et al., 2012, section 2; He et al.,
    2015, section 4.2). "gcn_zca": the mean of the contrast-normalised images and the matrix that decorrelates
    their values, V (D + ZCA_BIAS)^(-1/2) V', where V D V' is their covariance (Goodfellow et al., 2013, section 5.1).
    Raises UserError as `measured_shapes` does.
    """
    c, h, w = preprocess.input
    if preprocess.whiten == "pixel":
        total = torch.zeros(c, h, w, dtype=torch.float64)
        for images in parts(preprocess, split):
            total += images.sum(0, dtype=torch.int64)
        return Normalizer(preprocess, {"mean": total / preprocess.scale / seen(split)})
    assert preprocess.whiten == "gcn_zca", preprocess.whiten
    (d,) = measured_shapes(preprocess)["mean"]
    mean, products = torch.zeros(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    for images in parts(preprocess, split):
        values = contrast_normalised(images.float() / preprocess.scale)
        mean += values.sum(0, dtype=torch.float64) / seen(split)
        products += values.T @ values
    covariance = products / seen(split) - mean[:, None] * mean
    variances, axes = torch.linalg.eigh(covariance + ZCA_BIAS * torch.eye(d, dtype=torch.float64))
    return Normalizer(preprocess, {"mean": mean, "zca": (axes / variances.sqrt()) @ axes.T})


def seen(split: Split) -> int:
    return len(split) if isinstance(split, MemorySplit) else min(len(split), MOST_IMAGES)


def parts(preprocess: Preprocess, split: Split) -> Iterator[Tensor]:
    """The images to measure, uint8, in chunks."""
    at = torch.linspace(0, len(split) - 1, seen(split)).round().long()
    yield from fetched(split, at.split(CHUNK), preprocess)


def preprocess_for(
    data: Data, input: tuple[int, int, int], whiten: Whitening = "channel", augment: tuple[str, ...] = ()
) -> Preprocess:
    """The default preprocessing of a data set for a network of `input` C x H x W; mean and std of its training pixels.

    Digits are stretched. MNIST's 28 pixels are padded to LeNet's 32 (LeCun et al., 1998, section II.B), or to any size
    below twice their own, and stretched beyond that. CIFAR's 32 pixels are used as they are, or scaled. Images of
    varying sizes have their short side scaled to 256/224 of the input's, and are then centre-cropped. With a `whiten`
    other than "channel", pixels stay in 0 to 255, as in the papers' code, and std is 1. If the random crop in `augment`
    is of an image brought to a square of some side, so is the centre crop: "square_crop" and "warp_crop".
    """
    channels, height, width = input
    resize_mode: ResizeMode = data.resize_mode
    resize = None
    crop, sides = operation(augment[0]) if augment else ("", ())
    if crop == "warp_crop":
        resize_mode, resize = "stretch", round(sides[0])
    elif crop == "square_crop" and resize_mode == "crop":
        resize = round(sides[0])
    elif data.shape is None:
        resize = round(max(height, width) * 256 / 224)
    elif resize_mode == "pad" and max(height, width) >= 2 * max(data.shape[1:]):
        resize_mode = "stretch"
    if channels == len(data.mean):
        mean, std = data.mean, data.std
    elif channels == 3:
        mean, std = data.mean * 3, data.std * 3
    else:  # the std of the luma does not follow from those of the colours
        mean, std = sample_statistics(data.train, 1)
    scale = 255.0
    if whiten != "channel":
        mean, std, scale = tuple(255 * m for m in mean), (1.0,) * channels, 1.0
    return Preprocess(input, mean, std, resize_mode=resize_mode, resize=resize, scale=scale, whiten=whiten)
