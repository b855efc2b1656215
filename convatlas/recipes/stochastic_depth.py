"""ResNets with stochastic depth on CIFAR-10, CIFAR-100 and SVHN, Huang et al. (2016), section 4.

    convatlas train stochastic_depth_resnet110 --data cifar10:DIR
    convatlas train stochastic_depth_resnet1202 --data cifar10:DIR
    convatlas train stochastic_depth_resnet152_svhn --data svhn:DIR --val 0.01

Expected: 5.23% test error on CIFAR-10 with 110 layers (Table 1), 4.91% with 1202; 1.75% on SVHN.
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import SGD, ConstantWarmup, Recipe, Step

CIFAR = Recipe(
    name="stochastic_depth",
    source="Huang et al. (2016), section 4, and the authors' main.lua",
    epochs=500,
    batch=128,
    optimizer=SGD(lr=0.1, nesterov=True, weight_decay=1e-4),
    schedule=Step(milestones=(250, 375)),
    augment=("pad_crop", "flip"),
    published="CIFAR-10 / 100 test error 5.23 / 24.58% (110 layers, Table 1)",
    departures=(
        "trained on all training images, to the last epoch (paper: on 45,000, to the epoch chosen on the other 5,000)",
    ),
)

RECIPES = (
    CIFAR,
    replace(
        CIFAR,
        name="stochastic_depth_1202",
        warmup=ConstantWarmup(lr=0.01, epochs=10),
        published="CIFAR-10 test error 4.91% (1202 layers)",
    ),
    replace(
        CIFAR,
        name="stochastic_depth_svhn",
        epochs=50,
        schedule=Step(milestones=(30, 35)),
        augment=(),
        published="SVHN test error 1.75% (152 layers, Table 1)",
        departures=(
            "the epoch is chosen on a hundredth of the training images, which are held out (paper: on 6,000 of them)",
        ),
    ),
)
