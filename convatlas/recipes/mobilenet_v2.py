"""MobileNetV2 on ImageNet, Sandler et al. (2018), section 6.1.

    convatlas train mobilenet_v2 --data folder:IMAGENET

Expected: 72.0% top-1 accuracy at width 1 and 224 pixels (Table 4).
"""

from __future__ import annotations

from ..recipe import EMA, Exponential, Recipe, RMSProp

RECIPES = (
    Recipe(
        name="mobilenet_v2",
        source="Sandler et al. (2018), section 6.1; epsilon and what decays from the released tf-slim",
        epochs=300,
        batch=96,
        optimizer=RMSProp(lr=0.045, rho=0.9, eps=1.0, momentum=0.9, weight_decay=4e-5, decay_scope="not_depthwise"),
        schedule=Exponential(gamma=0.98, staircase=True),
        ema=EMA(0.9999),
        augment=("area_crop:0.25:1", "flip"),
        published="top-1 accuracy 72.0% (width 1, 224 pixels), 74.7% (width 1.4), Table 4",
        departures=(
            "one machine (paper: 16 asynchronous workers with batches of 96 each)",
            "300 epochs is our choice; the average of the weights and the augmentation, which the paper does not give, "
            "are MobileNet's",
            "channels normalised by the training set's mean and standard deviation (release: pixels scaled to [-1, 1])",
        ),
    ),
)
