"""NASNet-A on ImageNet and on CIFAR-10, Zoph et al. (2017), appendices A.2 to A.7.

    convatlas train nasnet_a_mobile --data folder:IMAGENET
    convatlas train nasnet_a_6_768 --data cifar10:DIR

To expect: 74.0% top-1 for the mobile network (Table 3) and 3.41% test error on CIFAR-10 (Table 1), by the paper's own
optimizer and drop-path schedule.
"""

from __future__ import annotations

from ..recipe import Recipe

RECIPES = (
    Recipe(
        name="nasnet",
        source="Zoph et al. (2017), appendix A.2; figures from the released nasnet.py",
        epochs=250,
        batch=128,
        lr=0.05,
        weight_decay=4e-5,
        schedule="cosine",
        augment=("pad_crop:16", "flip"),
        label_smoothing=0.1,
        aux_weight=0.4,
        published="top-1 / top-5 accuracy 74.0 / 91.6% (4 @ 1056), 82.7 / 96.2% (6 @ 4032), Tables 2 and 3",
        departures=(
            "SGD with momentum and a cosine schedule of 250 epochs in batches of 128 (paper: RMSProp on 50 to 100 "
            "workers, 0.97 every 2.4 epochs; averaged weights)",
            "no gradient clipping (released code: at norm 10)",
            "weight decay 4e-5 for every network (released code: 5e-5 for the large ones)",
            "drop-path at its whole rate from the start (paper: growing over the training)",
            "crops shifted by up to 16 pixels, not Inception's crops and distortions",
        ),
    ),
    Recipe(
        name="nasnet_cifar",
        source="Zoph et al. (2017), appendix A.7; figures from the released nasnet.py",
        epochs=600,
        batch=32,
        lr=0.025,
        weight_decay=5e-4,
        schedule="cosine",
        augment=("pad_crop", "flip"),
        aux_weight=0.4,
        published="test error 3.41% (6 @ 768), 2.97% (7 @ 2304), Table 1",
        departures=(
            "no gradient clipping (released code: at norm 5)",
            "drop-path at its whole rate from the start (paper: growing over the training)",
            "no cutout, with which the paper reaches 2.65% and 2.40%",
        ),
    ),
)
