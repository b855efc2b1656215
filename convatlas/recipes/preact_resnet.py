"""Pre-activation ResNet on ImageNet, He et al. (2016), section 5 and appendix.

    convatlas train preact_resnet200 --data folder:IMAGENET

To expect: 20.7% top-1 and 5.3% top-5 error at one crop of 320 pixels (Table 5).
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
            "the number of epochs, which the paper does not tell, is 90",
            "the mean of each pixel is of the images' middles (paper: of the whole images, cropped with them)",
            "batch norm sees all 256 images on one device (paper: 32 on each of eight)",
        ),
    ),
)
