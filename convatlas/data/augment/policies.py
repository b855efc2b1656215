"""AutoAugment: Learning Augmentation Policies from Data (Cubuk et al., 2018), https://arxiv.org/abs/1805.09501

Read beside Tables 7 and 9: each image gets one of 25 sub-policies, drawn uniformly; each of its two operations is
applied with its probability, at its magnitude. Magnitudes 0 ... 9 are spaced evenly over the ranges of Table 6; signed
operations (the enhancements among them, with factors around 1) take either sign with equal probability.
Departures from the paper: none known. It does not say in which direction Posterize and Solarize run (here, as in
torchvision: the higher, the stronger) or what fills vacated pixels (here: the training set's mean colour).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from . import colour
from .keys import Draw, draw, uniform
from .spatial import Fill, affine, rotation

Step = tuple[str, float, int]
Policy = tuple[tuple[Step, Step], ...]
NONE = 0  # for an operation that takes no magnitude

TABLE_7: Policy = (  # CIFAR-10: (operation, probability, magnitude), twice
    (("Invert", 0.1, NONE), ("Contrast", 0.2, 6)),
    (("Rotate", 0.7, 2), ("TranslateX", 0.3, 9)),
    (("Sharpness", 0.8, 1), ("Sharpness", 0.9, 3)),
    (("ShearY", 0.5, 8), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.5, NONE), ("Equalize", 0.9, NONE)),
    (("ShearY", 0.2, 7), ("Posterize", 0.3, 7)),
    (("Color", 0.4, 3), ("Brightness", 0.6, 7)),
    (("Sharpness", 0.3, 9), ("Brightness", 0.7, 9)),
    (("Equalize", 0.6, NONE), ("Equalize", 0.5, NONE)),
    (("Contrast", 0.6, 7), ("Sharpness", 0.6, 5)),
    (("Color", 0.7, 7), ("TranslateX", 0.5, 8)),
    (("Equalize", 0.3, NONE), ("AutoContrast", 0.4, NONE)),
    (("TranslateY", 0.4, 3), ("Sharpness", 0.2, 6)),
    (("Brightness", 0.9, 6), ("Color", 0.2, 8)),
    (("Solarize", 0.5, 2), ("Invert", 0.0, NONE)),
    (("Equalize", 0.2, NONE), ("AutoContrast", 0.6, NONE)),
    (("Equalize", 0.2, NONE), ("Equalize", 0.6, NONE)),
    (("Color", 0.9, 9), ("Equalize", 0.6, NONE)),
    (("AutoContrast", 0.8, NONE), ("Solarize", 0.2, 8)),
    (("Brightness", 0.1, 3), ("Color", 0.7, 0)),
    (("Solarize", 0.4, 5), ("AutoContrast", 0.9, NONE)),
    (("TranslateY", 0.9, 9), ("TranslateY", 0.7, 9)),
    (("AutoContrast", 0.9, NONE), ("Solarize", 0.8, 3)),
    (("Equalize", 0.8, NONE), ("Invert", 0.1, NONE)),
    (("TranslateY", 0.7, 9), ("AutoContrast", 0.9, NONE)),
)

TABLE_9: Policy = (  # ImageNet, likewise
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, NONE)),
    (("Equalize", 0.8, NONE), ("Equalize", 0.6, NONE)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, NONE), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, NONE), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, NONE)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, NONE)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, NONE), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, NONE)),
    (("Equalize", 0.0, NONE), ("Equalize", 0.8, NONE)),
    (("Invert", 0.6, NONE), ("Equalize", 1.0, NONE)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, NONE)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, NONE)),
    (("Color", 0.4, 0), ("Equalize", 0.6, NONE)),
    (("Equalize", 0.4, NONE), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, NONE)),
    (("Invert", 0.6, NONE), ("Equalize", 1.0, NONE)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, NONE), ("Equalize", 0.6, NONE)),
)

POLICIES = {"autoaugment": TABLE_9, "autoaugment_cifar10": TABLE_7}


def follow(name: str, images: Tensor, indices: Tensor, fill: Fill, seed: int, epoch: int) -> Tensor:
    """uint8 images (n, C, H, W), each by its sub-policy of the policy `name`; vacated pixels get `fill`."""
    policy = POLICIES[name]
    chosen = draw(indices, len(policy), seed, epoch, Draw.POLICY).tolist()
    for place in (0, 1):
        likely = uniform(indices, seed, epoch, Draw.POLICY + 1 + place).tolist()
        backward = draw(indices, 2, seed, epoch, Draw.POLICY + 3 + place).tolist()
        todo: dict[str, list[tuple[int, float]]] = {}  # per operation: the images and their magnitudes
        for i, sub in enumerate(chosen):
            operation, probability, magnitude = policy[sub][place]
            if likely[i] < probability:
                todo.setdefault(operation, []).append((i, -magnitude if backward[i] else magnitude))
        for operation, those in todo.items():
            at = torch.tensor([i for i, _ in those], device=images.device)
            changed = OPERATIONS[operation](images[at], [m for _, m in those], fill)
            images = images.index_copy(0, at, changed)
    return images


def moved(matrix: Callable[[float, int, int], tuple[float, ...]]) -> Callable[[Tensor, list[float], Fill], Tensor]:
    def operation(images: Tensor, magnitudes: list[float], fill: Fill) -> Tensor:
        rows = [matrix(m / 9, *images.shape[2:]) for m in magnitudes]
        return affine(images, torch.tensor(rows, dtype=torch.float64), fill)

    return operation


def enhanced(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, list[float], Fill], Tensor]:
    return lambda images, magnitudes, _: change(images, 1 + 0.9 * torch.tensor(magnitudes, dtype=torch.float64) / 9)


def plain(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor, list[float], Fill], Tensor]:
    return lambda images, _, __: change(images)


def solarize(images: Tensor, magnitudes: list[float], _: Fill) -> Tensor:
    return colour.solarize(images, torch.tensor([255 * (1 - abs(m) / 9) for m in magnitudes]))


def posterize(images: Tensor, magnitudes: list[float], _: Fill) -> Tensor:
    return colour.posterize(images, torch.tensor([8 - round(abs(m) * 4 / 9) for m in magnitudes]))


def pixels(share: float, side: int) -> int:
    """Whole pixels, rounded towards zero: at most 150 of 331, the image size of Table 6."""
    return math.trunc(share * 150 / 331 * side)


OPERATIONS: dict[str, Callable[[Tensor, list[float], Fill], Tensor]] = {  # with the ranges of Table 6
    "ShearX": moved(lambda m, h, w: (1, 0.3 * m, 0, 0, 1, 0)),
    "ShearY": moved(lambda m, h, w: (1, 0, 0, 0.3 * m, 1, 0)),
    "TranslateX": moved(lambda m, h, w: (1, 0, -pixels(m, w), 0, 1, 0)),
    "TranslateY": moved(lambda m, h, w: (1, 0, 0, 0, 1, -pixels(m, h))),
    "Rotate": moved(lambda m, h, w: rotation(30 * m, h, w)),
    "AutoContrast": plain(colour.autocontrast),
    "Invert": plain(colour.invert),
    "Equalize": plain(colour.equalize),
    "Solarize": solarize,
    "Posterize": posterize,
    "Contrast": enhanced(colour.contrast),
    "Color": enhanced(colour.saturation),
    "Brightness": enhanced(colour.brightness),
    "Sharpness": enhanced(colour.sharpness),
}
