"""MobileNet on ImageNet, Howard et al. (2017), section 3.2.

    convatlas train mobilenet_v1 --data folder:IMAGENET

Expected: 70.6% top-1 accuracy at width 1 and 224 pixels (Table 8).
"""

from __future__ import annotations

from ..recipe import EMA, Exponential, Recipe, RMSProp

RECIPES = (
    Recipe(
        name="mobilenet_v1",
        source="Howard et al. (2017), section 3.2; figures from Inception-v3, which it refers to, and tf-slim",
        epochs=100,
        batch=96,
        optimizer=RMSProp(lr=0.045, rho=0.9, eps=1.0, momentum=0.9, weight_decay=4e-5, decay_scope="not_depthwise"),
        schedule=Exponential(gamma=0.94, every=2, staircase=True),
        ema=EMA(0.9999),
        augment=("area_crop:0.25:1", "flip"),
        published="top-1 accuracy 70.6% (width 1, 224 pixels), Table 8",
        departures=(
            "one machine (paper: asynchronous)",
            "learning rate, its decay, the average of the weights and the number of epochs, which the paper does not "
            "give, are Inception-v3's; the batch size is MobileNetV2's",
            "the smallest crop is a quarter of the area (paper: limited, without saying to what)",
            "channels normalised by the training set's mean and standard deviation (release: pixels scaled to [-1, 1])",
        ),
    ),
)
