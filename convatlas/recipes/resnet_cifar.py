"""ResNet-20 ... 1202 and plain networks on CIFAR-10, He et al. (2015), section 4.2.

    convatlas train resnet20 --data cifar10:DIR

Expected: 8.75% test error (91.25% top-1) after the full schedule; with `--epochs 3`, 65% top-1 or more.
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import SGD, ConstantWarmup, Recipe, Step

STEPS = 391  # an epoch of all 50,000 training images at batch 128

CIFAR = Recipe(
    name="resnet_cifar",
    source="He et al. (2015), section 4.2",
    epochs=164,  # 64,000 iterations
    batch=128,
    optimizer=SGD(lr=0.1, weight_decay=1e-4),
    schedule=Step(milestones=(32_000 / STEPS, 48_000 / STEPS)),
    augment=("pad_crop", "flip"),
    whiten="pixel",
    published="test error 8.75% (ResNet-20), 7.51% (32), 7.17% (44), 6.97% (56): Table 6",
    departures=(
        "trained on all training images, to the last epoch (paper: its number determined with 5,000 of them held out)",
    ),
)

RECIPES = (
    CIFAR,
    replace(
        CIFAR,
        name="resnet_cifar_110",
        warmup=ConstantWarmup(lr=0.01, error=0.8),
        departures=(
            *CIFAR.departures,
            "the training error that ends the warm-up is taken over 48 iterations (paper: not given)",
        ),
        published="test error 6.43% (best of 5; mean 6.61%) with 110 layers, 7.93% with 1202: Table 6",
    ),
)
