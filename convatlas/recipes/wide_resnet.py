"""Wide ResNet on CIFAR-10, CIFAR-100 and SVHN, Zagoruyko and Komodakis (2016), section 3.

    convatlas train wrn28_10 --data cifar10:DIR
    convatlas train wrn16_8_dropout --data svhn:DIR --recipe wide_resnet_svhn

Expected: 4.00% test error on CIFAR-10, 19.25% on CIFAR-100 (Table 5); 1.54% on SVHN.
"""

from __future__ import annotations

from ..recipe import SGD, Recipe, Step

RECIPES = (
    Recipe(
        name="wide_resnet",
        source="Zagoruyko and Komodakis (2016), section 3, and the authors' scripts/train_cifar.sh",
        epochs=200,
        batch=128,
        optimizer=SGD(lr=0.1, nesterov=True, weight_decay=5e-4),
        schedule=Step(milestones=(60, 120, 160), gamma=0.2),
        augment=("reflect_crop:4", "flip"),
        published="CIFAR-10 / 100 test error 4.00 / 19.25% (WRN-28-10, Table 5), "
        "3.89 / 18.85% with dropout 0.3 (Table 6)",
    ),
    Recipe(
        name="wide_resnet_svhn",
        source="Zagoruyko and Komodakis (2016), section 3, and the authors' scripts/train_svhn.sh",
        epochs=160,
        batch=128,
        optimizer=SGD(lr=0.01, nesterov=True, weight_decay=5e-4),
        schedule=Step(milestones=(80, 120)),
        net=(("dropout", 0.4),),
        published="SVHN test error 1.54% (WRN-16-8, dropout 0.4), 1.64% (WRN-16-4, Table 6)",
        departures=(
            "channels normalised by the training set's mean and standard deviation (paper: pixels are divided by 255)",
        ),
    ),
)
