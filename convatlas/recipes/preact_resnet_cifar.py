"""Pre-activation ResNet on CIFAR-10, He et al. (2016), appendix.

    convatlas train preact_resnet164 --data cifar10:DIR

Expected: 5.46% test error (94.54% top-1), the median of five runs.
"""

from __future__ import annotations

from ..recipe import SGD, ConstantWarmup, Recipe, Step

STEPS = 391  # an epoch of all 50,000 training images at batch 128

RECIPES = (
    Recipe(
        name="preact_resnet_cifar",
        source="He et al. (2016), appendix",
        epochs=164,  # 64,000 iterations
        batch=128,
        optimizer=SGD(lr=0.1, weight_decay=1e-4),
        schedule=Step(milestones=(32_000 / STEPS, 48_000 / STEPS)),
        warmup=ConstantWarmup(lr=0.01, steps=400),
        augment=("pad_crop", "flip"),
        whiten="pixel",
        published="CIFAR-10 / 100 test error, median of 5: 6.37% (110 layers), 5.46 / 24.33% (164), "
        "4.92 / 22.71% (1001), Table 3",
        departures=("batch norm statistics are over all 128 images (paper: over 64 on each of two GPUs)",),
    ),
)
