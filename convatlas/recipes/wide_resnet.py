"""Wide ResNet on CIFAR-10 and CIFAR-100, Zagoruyko and Komodakis (2016), section 3.

    convatlas train wrn28_10 --data cifar10:DIR

To expect: 4.00% test error on CIFAR-10, 19.25% on CIFAR-100 (Table 5).
"""

from __future__ import annotations

from ..recipe import Recipe

RECIPES = (
    Recipe(
        name="wide_resnet",
        source="Zagoruyko and Komodakis (2016), section 3, and the authors' scripts/train_cifar.sh",
        epochs=200,
        batch=128,
        lr=0.1,
        nesterov=True,
        weight_decay=5e-4,
        schedule="step",
        milestones=(60, 120, 160),
        gamma=0.2,
        augment=("pad_crop", "flip"),
        published="CIFAR-10 / 100 test error 4.00 / 19.25% (WRN-28-10, Table 5), "
        "3.89 / 18.85% with dropout 0.3 (Table 6)",
        departures=("crops are padded with zeros, not with reflections of the image",),
    ),
)
