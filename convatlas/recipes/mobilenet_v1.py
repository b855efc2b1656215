"""MobileNet on ImageNet, Howard et al. (2017), section 3.2.

    convatlas train mobilenet_v1 --data folder:IMAGENET

To expect: 70.6% top-1 at width 1 and 224 pixels (Table 8), by the paper's own optimizer and augmentation.
"""

from __future__ import annotations

from ..recipe import Recipe

RECIPES = (
    Recipe(
        name="mobilenet_v1",
        source="Howard et al. (2017), section 3.2",
        epochs=150,
        batch=128,
        lr=0.05,
        weight_decay=4e-5,
        decay_scope="weights",
        schedule="cosine",
        augment=("pad_crop:16", "flip"),
        published="top-1 70.6% (width 1, 224 pixels)",
        departures=(
            "SGD with momentum and a cosine schedule of 150 epochs (paper: asynchronous RMSProp, rates not told)",
            "weight decay 4e-5 on every weight (paper: very little or none on the depthwise filters)",
            "crops shifted by up to 16 pixels, not Inception's crops and distortions",
        ),
    ),
)
