"""A network with its normalisation inside: images as files and cameras give them in, logits out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..data.normalise import Normalizer, contrast_normalised
from ..preprocess import MEASURED


class FromPixels(nn.Module):
    """uint8 images (n, H, W, C), colours in the order RGB, in; the network's logits (n, classes) out.

    Computes what `normalise` does, in operators that every engine has. Whitening's tensors, which are measured on the
    training images, become part of the network.
    """

    factor: Tensor
    shift: Tensor
    mean: Tensor
    zca: Tensor

    def __init__(self, net: nn.Module, normalizer: Normalizer):
        super().__init__()
        self.net, self.normalizer = net, normalizer
        preprocess = normalizer.preprocess
        mean, std = (torch.tensor(v, dtype=torch.float64).view(-1, 1, 1) for v in (preprocess.mean, preprocess.std))
        self.register_buffer("factor", (1 / (preprocess.scale * std)).float())
        self.register_buffer("shift", (-mean / std).float())
        for name, tensor in normalizer.tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, images: Tensor) -> Tensor:
        pixels = images.permute(0, 3, 1, 2).float()
        if reversed_colours(self.normalizer):
            pixels = pixels.flip(1)
        logits: Tensor = self.net(self.normalised(pixels))
        return logits

    def normalised(self, pixels: Tensor) -> Tensor:
        preprocess = self.normalizer.preprocess
        if preprocess.whiten not in MEASURED:
            return pixels * self.factor + self.shift
        pixels = pixels / preprocess.scale
        if preprocess.whiten == "pixel":
            return pixels - self.mean
        return ((contrast_normalised(pixels) - self.mean) @ self.zca).view(-1, *preprocess.input)


def reversed_colours(normalizer: Normalizer) -> bool:
    preprocess = normalizer.preprocess
    return preprocess.order == "BGR" and preprocess.input[0] == 3


def as_pixels(images: Tensor, normalizer: Normalizer) -> Tensor:
    """uint8 images (n, C, H, W) in the network's order of colours as FromPixels takes them."""
    return (images.flip(1) if reversed_colours(normalizer) else images).permute(0, 2, 3, 1).contiguous()
