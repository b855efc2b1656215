"""Pre-activation ResNet on ImageNet, He et al. (2016), section 5 and appendix.

    convatlas train preact_resnet200 --data folder:IMAGENET

Expected: 20.7% top-1 and 5.3% top-5 error at one crop of 320 pixels (Table 5).
"""

from __future__ import annotations

from ..recipe import SGD, Recipe, Step

RECIPES = (
    Recipe(
        name="preact_resnet",
        source="He et al. (2016), section 5 and appendix",
        epochs=90,
        batch=256,
        optimizer=SGD(lr=0.1, weight_decay=1e-4),
        schedule=Step(milestones=(30, 60)),
        augment=("scale_crop:256:480", "flip", "lighting:0.1"),
        whiten="pixel",
        published="top-1 / top-5 error at one crop of 320 pixels 21.1 / 5.5% (152 layers), 20.7 / 5.3% (200), Table 5",
        departures=(
            "the number of epochs, which the paper does not give, is 90",
            "the mean image is taken over centre crops (paper: over whole images, and cropped with each)",
            "batch norm statistics are over all 256 images (paper: over 32 on each of eight GPUs)",
        ),
    ),
)
