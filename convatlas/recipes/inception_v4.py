"""Inception-v4 and Inception-ResNet on ImageNet, Szegedy et al. (2016), section 4.

    convatlas train inception_v4 --data folder:IMAGENET
    convatlas train inception_resnet_v2 --data folder:IMAGENET

Expected: 20.0% top-1 and 5.0% top-5 error at one crop for Inception-v4, 19.9% and 4.9% for Inception-ResNet-v2
(Table 2).
"""

from __future__ import annotations

from ..recipe import EMA, Exponential, Recipe, RMSProp

RECIPES = (
    Recipe(
        name="inception_v4",
        source="Szegedy et al. (2016), section 4; what it does not give as for Inception-v3",
        epochs=100,
        batch=32,
        optimizer=RMSProp(lr=0.045, rho=0.9, eps=1.0, momentum=0.9, weight_decay=4e-5, decay_scope="weights"),
        schedule=Exponential(gamma=0.94, every=2, staircase=True),
        ema=EMA(0.9999),
        augment=("area_crop:0.05:1", "flip", "photometric:0.4"),
        label_smoothing=0.1,
        published="top-1 / top-5 error at one crop 20.0 / 5.0% (Inception-v4), 21.3 / 5.5% (Inception-ResNet-v1), "
        "19.9 / 4.9% (Inception-ResNet-v2), Table 2",
        departures=(
            "one machine (paper: 20 replicas)",
            "batch size, epochs, weight decay, label smoothing and augmentation, which the paper does not give, are "
            "Inception-v3's",
            "channels normalised by the training set's mean and standard deviation (release: pixels scaled to [-1, 1])",
            "no auxiliary classifier",
        ),
    ),
)
