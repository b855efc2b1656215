"""ResNeXt on ImageNet and on CIFAR, Xie et al. (2016), sections 4 and 5.3.

    convatlas train resnext50_32x4d --data folder:IMAGENET
    convatlas train resnext29_8x64d --data cifar10:DIR

Expected: 22.2% top-1 error at one crop (Table 3); 3.65% test error on CIFAR-10 (Table 7,
mean of ten runs).
"""

from __future__ import annotations

from ..recipe import SGD, Recipe, Step

RECIPES = (
    Recipe(
        name="resnext",
        source="Xie et al. (2016), section 4, and the authors' released code",
        epochs=100,
        batch=256,
        optimizer=SGD(lr=0.1, nesterov=True, weight_decay=1e-4),
        schedule=Step(milestones=(30, 60, 90)),
        augment=("area_crop:0.08:1", "photometric:0.4", "lighting:0.1", "flip"),
        published="top-1 error at one crop 22.2% (ResNeXt-50, 32x4d), 21.2% (101, 32x4d), 20.4% (101, 64x4d), "
        "Tables 3 and 4",
        departures=("batch norm statistics are over all 256 images (paper: over 32 on each of eight GPUs)",),
    ),
    Recipe(
        name="resnext_cifar",
        source="Xie et al. (2016), section 5.3, and the authors' released code",
        epochs=300,
        batch=128,
        optimizer=SGD(lr=0.1, nesterov=True, weight_decay=5e-4),
        schedule=Step(milestones=(150, 225)),
        augment=("pad_crop", "flip"),
        published="CIFAR-10 / 100 test error, mean of 10: 3.65 / 17.77% (8x64d), 3.58 / 17.31% (16x64d), Table 7",
        departures=(
            "batch norm statistics are over all 128 images (released code: over 16 on each of eight GPUs)",
            "batches of 128, as in the authors' released code (paper: 256, with pre-activation blocks)",
        ),
    ),
)
