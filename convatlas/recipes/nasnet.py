"""NASNet-A on ImageNet and on CIFAR-10, Zoph et al. (2017), appendices A.2 to A.7.

    convatlas train nasnet_a_mobile --data folder:IMAGENET
    convatlas train nasnet_a_large --data folder:IMAGENET
    convatlas train nasnet_a_6_768 --data cifar10:DIR
    convatlas train nasnet_a_7_2304 --data cifar10:DIR --recipe nasnet_cifar_cutout

Expected: 74.0% top-1 for the mobile network (Table 3), 82.7% for the large one (Table 2); on CIFAR-10, 3.41%
test error, and 2.40% by the last (Table 1).
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import EMA, SGD, Cosine, Exponential, Recipe, RMSProp

MOBILE = Recipe(
    name="nasnet_mobile",
    source="Zoph et al. (2017), appendix A.2; figures from the released nasnet.py",
    epochs=312,  # 250,000 iterations
    batch=1600,  # 50 synchronous replicas with 32 each
    # lr is 50 x 0.04
    optimizer=RMSProp(lr=2.0, rho=0.9, eps=1.0, momentum=0.9, weight_decay=4e-5, decay_scope="weights", clip=10.0),
    schedule=Exponential(gamma=0.97, every=2.4, staircase=True),
    ema=EMA(0.9999),
    augment=("area_crop:0.05:1", "flip", "photometric:0.4"),
    label_smoothing=0.1,
    aux_weight=0.4,
    published="top-1 / top-5 accuracy 74.0 / 91.6% (4 @ 1056), Table 3",
    departures=(
        "one machine (paper: 50 synchronous replicas, with batch norm statistics over the 32 images of each)",
        "channels normalised by the training set's mean and standard deviation (release: pixels scaled to [-1, 1])",
        "photometric distortions of brightness, contrast and saturation (Inception's: hue as well)",
    ),
)
CIFAR = Recipe(
    name="nasnet_cifar",
    source="Zoph et al. (2017), appendix A.7; figures from the released nasnet.py",
    epochs=600,
    batch=32,
    optimizer=SGD(lr=0.025, weight_decay=5e-4, clip=5.0),
    schedule=Cosine(),
    augment=("pad_crop", "flip"),
    aux_weight=0.4,
    published="test error 3.41% (6 @ 768), 2.97% (7 @ 2304), Table 1",
    departures=("momentum 0.9 (given by neither paper nor release)",),
)

RECIPES = (
    MOBILE,
    replace(
        MOBILE,
        name="nasnet_large",
        batch=1600,  # 100 synchronous replicas with 16 each
        optimizer=replace(MOBILE.optimizer, lr=1.5, weight_decay=5e-5),  # 100 x 0.015
        published="top-1 / top-5 accuracy 82.7 / 96.2% (6 @ 4032), 80.8 / 95.3% (7 @ 1920), 78.6 / 94.2% (5 @ 1538), "
        "Table 2",
        departures=(
            "one machine (paper: 100 synchronous replicas, with batch norm statistics over the 16 images of each)",
            *MOBILE.departures[1:],
        ),
    ),
    CIFAR,
    replace(
        CIFAR,
        name="nasnet_cifar_cutout",
        augment=("pad_crop", "flip", "cutout:16"),
        published="test error with cutout 2.65% (6 @ 768), 2.40% (7 @ 2304, mean of 5), Table 1",
    ),
)
