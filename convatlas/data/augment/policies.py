"""AutoAugment, RandAugment and TrivialAugment: operations drawn for each image, at a strength each.

AutoAugment (Cubuk et al., 2018), https://arxiv.org/abs/1805.09501, Tables 6, 7 and 9: one of 25 sub-policies, drawn
uniformly; each of its two operations is applied with its probability, at its magnitude of 0 ... 9.
RandAugment (Cubuk et al., 2019), https://arxiv.org/abs/1909.13719, Figure 2: N of 14 operations in turn, drawn
uniformly with replacement, at magnitude M on "the same linear scale", where 10 is the end of Table 6's ranges.
TrivialAugment (Müller and Hutter, 2021), https://arxiv.org/abs/2103.10158, in its Wide space: one of the same 14, at a
strength drawn uniformly from 0 ... 30.
Departures from the papers: none known. What they leave open:

- In Table 6's ranges, signed operations (the enhancements among them, with factors around 1) take either sign with
  equal probability; Posterize and Solarize are the stronger, the higher the magnitude ("larger values of N and M
  increase regularization strength"). Vacated pixels get the training set's mean colour.
- RandAugment's magnitudes above 10 (the paper tries up to 31) extend the ranges linearly, as far as an operation goes:
  factors end at 0, Solarize at threshold 0, Posterize at 1 bit. (torchvision puts the end of the ranges at 30.)
- TrivialAugment follows the authors' aug_lib.py: factors run from 0.01 to 2; pixels, degrees and bits are truncated;
  vacated pixels are black. (torchvision's TrivialAugmentWide takes factors around 1, and rounds otherwise.)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import trunc

import torch
from torch import Tensor

from . import colour
from .keys import Draw, Epoch, draw, uniform
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


def autoaugment(name: str, images: Tensor, indices: Tensor, fill: Fill, seed: int, epoch: Epoch) -> Tensor:
    """uint8 images (n, C, H, W), each by its sub-policy of the policy `name`; vacated pixels get `fill`."""
    operations, probabilities, magnitudes = columns(name, images.device)
    row = draw(indices, len(operations), seed, epoch, Draw.POLICY)
    for place in (0, 1):
        applied = uniform(indices, seed, epoch, Draw.POLICY + 1 + place) < probabilities[row, place]
        chosen = torch.where(applied, operations[row, place], OPERATIONS.index("Identity"))
        signs = 1 - 2 * draw(indices, 2, seed, epoch, Draw.POLICY + 3 + place)
        images = apply("autoaugment", images, chosen, signs * magnitudes[row, place], fill)
    return images


def randaugment(
    number: int, magnitude: int, images: Tensor, indices: Tensor, fill: Fill, seed: int, epoch: Epoch
) -> Tensor:
    """uint8 images (n, C, H, W), each by `number` operations at `magnitude`; vacated pixels get `fill`."""
    for place in range(number):
        chosen = draw(indices, CHOICES, seed, epoch, Draw.RANDAUGMENT + 2 * place)
        signs = 1 - 2 * draw(indices, 2, seed, epoch, Draw.RANDAUGMENT + 2 * place + 1)
        images = apply("randaugment", images, chosen, signs * magnitude, fill)
    return images


def trivialaugment(images: Tensor, indices: Tensor, seed: int, epoch: Epoch) -> Tensor:
    """uint8 images (n, C, H, W), each by one operation at a strength of its own; vacated pixels are black."""
    chosen = draw(indices, CHOICES, seed, epoch, Draw.TRIVIALAUGMENT)
    strengths = draw(indices, 31, seed, epoch, Draw.TRIVIALAUGMENT + 1)
    signs = 1 - 2 * draw(indices, 2, seed, epoch, Draw.TRIVIALAUGMENT + 2)
    return apply("trivialaugment", images, chosen, signs * strengths, (0,))


def apply(space: str, images: Tensor, chosen: Tensor, levels: Tensor, fill: Fill) -> Tensor:
    """Each of the uint8 images (n, C, H, W) by its operation, an index into OPERATIONS, at its signed level in `space`.

    On a CPU an operation computes only its own images; elsewhere all of them, so that nothing waits for the draws.
    """
    matrices, values = tabulated(space, *images.shape[2:], images.device)
    at = levels + values.shape[1] // 2
    moves, strengths = matrices[chosen, at], values[chosen, at]
    moved = (moves != matrices[OPERATIONS.index("Identity"), 0]).any(1)
    images = colour.where(moved, lambda those, matrices: affine(those, matrices, fill), images.clone(), moves)
    for name, change in COLOURS.items():
        images = colour.where(chosen == OPERATIONS.index(name), change, images, strengths)
    return images


# The operations. Each has one value: a slope, pixels, degrees, a factor, a threshold or bits

OPERATIONS = (
    *("Identity", "AutoContrast", "Equalize", "Rotate", "Solarize", "Color", "Posterize"),  # RandAugment's Figure 2
    *("Contrast", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY"),
    "Invert",  # AutoAugment's only
)
CHOICES = OPERATIONS.index("Invert")
ENHANCEMENTS = ("Color", "Contrast", "Brightness", "Sharpness")
MOVES: dict[str, Callable[[float, int, int], tuple[float, ...]]] = {  # value, height, width: see spatial.affine
    "ShearX": lambda value, h, w: (1, value, 0, 0, 1, 0),
    "ShearY": lambda value, h, w: (1, 0, 0, value, 1, 0),
    "TranslateX": lambda value, h, w: (1, 0, -value, 0, 1, 0),
    "TranslateY": lambda value, h, w: (1, 0, 0, 0, 1, -value),
    "Rotate": rotation,
}
COLOURS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # images (n, C, H, W), values (n,)
    "AutoContrast": lambda images, _: colour.autocontrast(images),
    "Invert": lambda images, _: colour.invert(images),
    "Equalize": lambda images, _: colour.equalize(images),
    "Solarize": colour.solarize,
    "Posterize": colour.posterize,
    "Contrast": colour.contrast,
    "Color": colour.saturation,
    "Brightness": colour.brightness,
    "Sharpness": colour.sharpness,
}

# Spaces: an operation's value from a signed level, the image's height and its width

Space = dict[str, Callable[[int, int, int], float]]


def table_6(end: int) -> Space:
    """The ranges of AutoAugment's Table 6, for images of 331 x 331 pixels, with their ends at level `end`."""
    return {
        "ShearX": lambda m, h, w: 0.3 * (m / end),
        "ShearY": lambda m, h, w: 0.3 * (m / end),
        "TranslateX": lambda m, h, w: trunc(m / end * 150 / 331 * w),
        "TranslateY": lambda m, h, w: trunc(m / end * 150 / 331 * h),
        "Rotate": lambda m, h, w: 30 * (m / end),
        "Solarize": lambda m, h, w: max(0, 255 - 255 * abs(m) / end),
        "Posterize": lambda m, h, w: max(1, 8 - round(4 * abs(m) / end)),
        **dict.fromkeys(ENHANCEMENTS, lambda m, h, w: max(0, 1 + 0.9 * m / end)),
    }


WIDE: Space = {  # levels to 30
    "ShearX": lambda m, h, w: 0.99 * m / 30,
    "ShearY": lambda m, h, w: 0.99 * m / 30,
    "TranslateX": lambda m, h, w: trunc(32 * m / 30),
    "TranslateY": lambda m, h, w: trunc(32 * m / 30),
    "Rotate": lambda m, h, w: trunc(135 * m / 30),
    "Solarize": lambda m, h, w: 256 - trunc(256 * abs(m) / 30),
    "Posterize": lambda m, h, w: 8 - trunc(6 * abs(m) / 30),
    **dict.fromkeys(ENHANCEMENTS, lambda m, h, w: 0.01 + 1.99 * abs(m) / 30),
}
SPACES = {"autoaugment": (table_6(9), 9), "randaugment": (table_6(10), 31), "trivialaugment": (WIDE, 30)}  # to level


@cache
def tabulated(space: str, h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Per operation and level -highest ... highest: its matrix (operations, levels, 6) and value (operations, levels).

    float64; the matrix of an operation that moves nothing is the identity, and a value that means nothing 0.
    """
    ranges, highest = SPACES[space]
    matrices, values = [], []
    for name in OPERATIONS:
        value, move = ranges.get(name, lambda m, h, w: 0), MOVES.get(name, lambda v, h, w: (1, 0, 0, 0, 1, 0))
        values.append([float(value(m, h, w)) for m in range(-highest, highest + 1)])
        matrices.append([move(v, h, w) for v in values[-1]])
    return torch.tensor(matrices, dtype=torch.float64, device=device), torch.tensor(
        values, dtype=torch.float64, device=device
    )


@cache
def columns(policy: str, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """A policy's operations, probabilities and magnitudes, (sub-policies, 2) each."""
    operations, probabilities, magnitudes = zip(*(zip(*sub) for sub in POLICIES[policy]))
    return (
        torch.tensor([[OPERATIONS.index(name) for name in pair] for pair in operations], device=device),
        torch.tensor(probabilities, dtype=torch.float64, device=device),
        torch.tensor(magnitudes, device=device),
    )
