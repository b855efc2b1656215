"""ResNet and plain networks on ImageNet, He et al. (2015), section 3.4.

    convatlas train resnet50 --data folder:IMAGENET

To expect: ResNet-50, 22.85% top-1 and 6.71% top-5 error by ten crops (Table 3), by the paper's own augmentation.
"""

from __future__ import annotations

from ..recipe import Recipe

RECIPES = (
    Recipe(
        name="resnet",
        source="He et al. (2015), section 3.4",
        epochs=120,  # 600,000 iterations of 256 images
        batch=256,
        lr=0.1,
        weight_decay=1e-4,
        schedule="plateau",
        augment=("pad_crop:16", "flip"),
        published="top-1 / top-5 error (10-crop) 22.85 / 6.71% (ResNet-50), 21.75 / 6.05% (101), 21.43 / 5.71% (152), "
        "Table 3",
        departures=(
            "crops shifted by up to 16 pixels, not crops of images scaled to 256 ... 480 pixels; no colour noise",
            "the mean and standard deviation of each channel, not the mean of each pixel, are taken out",
            "the rate drops after 5 epochs without a better top-1 (paper: when the error plateaus)",
        ),
    ),
)
