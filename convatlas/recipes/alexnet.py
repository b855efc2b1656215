"""AlexNet on ImageNet, Krizhevsky et al. (2012), sections 4 and 5.

    convatlas train alexnet --data folder:IMAGENET

To expect: 40.7% top-1 and 18.2% top-5 error by ten crops, by the paper's own augmentation.
"""

from __future__ import annotations

from ..recipe import Recipe

RECIPES = (
    Recipe(
        name="alexnet",
        source="Krizhevsky et al. (2012), sections 4 and 5",
        epochs=90,
        batch=128,
        lr=0.01,
        weight_decay=5e-4,
        schedule="plateau",
        augment=("pad_crop:16", "flip"),
        published="top-1 / top-5 error 40.7 / 18.2% by ten crops, one network",
        departures=(
            "crops shifted by up to 16 pixels, not 224-pixel crops of 256-pixel images; no PCA colour lighting",
            "the mean and standard deviation of each channel, not the mean of each pixel, are taken out",
            "the rate drops after 5 epochs without a better top-1 (paper: by hand, when the error stops improving)",
        ),
    ),
)
