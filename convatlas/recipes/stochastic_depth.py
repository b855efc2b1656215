"""ResNets with stochastic depth on CIFAR-10 and CIFAR-100, Huang et al. (2016), section 4.

    convatlas train stochastic_depth_resnet110 --data cifar10:DIR

To expect: 5.23% test error on CIFAR-10 (Table 1).
"""

from __future__ import annotations

from ..recipe import Recipe

RECIPES = (
    Recipe(
        name="stochastic_depth",
        source="Huang et al. (2016), section 4, and the authors' main.lua",
        epochs=500,
        batch=128,
        lr=0.1,
        nesterov=True,
        weight_decay=1e-4,
        schedule="step",
        milestones=(250, 375),
        augment=("pad_crop", "flip"),
        published="CIFAR-10 / 100 test error 5.23 / 24.58% (110 layers, Table 1), 4.91% on CIFAR-10 (1202 layers)",
        departures=(
            "trained on all training images, judged on the test images after each epoch (paper: 45,000, and the epoch "
            "chosen on the other 5,000)",
            "1202 layers start at the whole rate (paper: 0.01 for the first 10 epochs; --set warmup_epochs=10 "
            "--set warmup_lr=0.01)",
            "SVHN is trained as CIFAR (paper: 50 epochs, the rate falling at 30 and 35)",
        ),
    ),
)
