"""VGG on ImageNet, Simonyan and Zisserman (2014), section 3.

    convatlas train vgg16 --data folder:IMAGENET

To expect: 25.6% top-1 and 8.1% top-5 error for D at one test scale (Table 3), by the paper's own augmentation.
"""

from __future__ import annotations

from ..recipe import Recipe

RECIPES = (
    Recipe(
        name="vgg",
        source="Simonyan and Zisserman (2014), section 3",
        epochs=74,  # 370,000 iterations
        batch=256,
        lr=0.01,
        weight_decay=5e-4,
        schedule="plateau",
        augment=("pad_crop:16", "flip"),
        init=(*(f"stages.block{block}.conv{i}.*" for block, i in ((1, 1), (2, 1), (3, 1), (3, 2))), "head.fc*"),
        published="top-1 / top-5 error 25.6 / 8.1% (D, one test scale, Table 3)",
        departures=(
            "crops shifted by up to 16 pixels, not crops of images scaled to 256 ... 512 pixels; no colour noise",
            "the standard deviation of each channel is divided out, too",
            "the rate drops after 5 epochs without a better top-1 (paper: when the accuracy stops improving)",
            "every network starts from its own initialisation (paper: the deeper from trained layers of A)",
        ),
    ),
)
