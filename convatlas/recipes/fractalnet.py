"""FractalNet on CIFAR-10, CIFAR-100 and ImageNet, Larsson et al. (2016), section 4.

    convatlas train fractalnet_20 --data cifar10:DIR
    convatlas train fractalnet_34 --data folder:IMAGENET

Expected: 5.22% test error on CIFAR-10 and 23.30% on CIFAR-100, augmented (Table 1); 24.12% top-1 error by ten crops on
ImageNet (Table 2).
"""

from __future__ import annotations

from ..recipe import SGD, Recipe, Step


def halving(epochs: int, times: int) -> tuple[float, ...]:
    """The epochs at which a half of training is left, a quarter, and so on."""
    return tuple(epochs * (1 - 0.5**n) for n in range(1, times + 1))


RECIPES = (
    Recipe(
        name="fractalnet",
        source="Larsson et al. (2016), section 4",
        epochs=400,
        batch=100,
        optimizer=SGD(lr=0.02),
        schedule=Step(milestones=halving(400, 4)),
        augment=("pad_crop", "flip"),
        published="CIFAR-10 / 100 test error, augmented, 5.22 / 23.30% (20 layers, Table 1)",
        departures=(
            "the rate drops four times (paper: whenever the remaining epochs halve, without saying how often)",
            "drop-path is drawn once for each batch: local for half of the batches, global for the other half",
        ),
    ),
    Recipe(
        name="fractalnet_imagenet",
        source="Larsson et al. (2016), section 4",
        epochs=70,
        batch=32,
        optimizer=SGD(lr=0.001),
        schedule=Step(milestones=halving(70, 4)),
        augment=("scale_crop:256", "flip"),
        published="top-1 / top-5 error by ten crops 24.12 / 7.39% (34 layers, Table 2)",
        departures=(
            "the rate drops four times (paper: whenever the remaining epochs halve, without saying how often)",
            "augmentation, which the paper does not give, is random crops from images resized to 256 pixels, and flips",
        ),
    ),
)
