"""Squeeze-and-excitation networks on ImageNet, Hu et al. (2017), section 5.1.

    convatlas train se_resnet50 --data folder:IMAGENET

Expected: 23.29% top-1 and 6.62% top-5 error at one crop (Table 2).
"""

from __future__ import annotations

from ..recipe import SGD, Recipe, Step

RECIPES = (
    Recipe(
        name="senet",
        source="Hu et al. (2017), section 5.1",
        epochs=100,
        batch=1024,
        optimizer=SGD(lr=0.6, weight_decay=1e-4),
        schedule=Step(milestones=(30, 60, 90)),
        augment=("area_crop:0.08:1", "flip"),
        whiten="mean",
        published="top-1 / top-5 error at one crop 23.29 / 6.62% (SE-ResNet-50), 22.38 / 6.07% (101), "
        "21.57 / 5.73% (152), Table 2",
        departures=(
            "weight decay, which the paper does not give, is ResNet's",
            "no rotation or pixel jitter (released code: up to 10 degrees, up to 20 levels)",
            "images are sampled uniformly (paper: balanced over the classes)",
            "batch norm statistics are over all 1,024 images",
        ),
    ),
)
