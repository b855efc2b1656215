"""DenseNet on ImageNet, CIFAR and SVHN, Huang et al. (2016), section 4.2.

    convatlas train densenet121 --data folder:IMAGENET
    convatlas train densenet161 --data folder:IMAGENET
    convatlas train densenet_bc_100_12 --data cifar10:DIR
    convatlas train densenet_bc_100_12 --data cifar10:DIR --recipe densenet_cifar_plain
    convatlas train densenet_bc_100_12 --data svhn:DIR --val 0.01 --recipe densenet_svhn

Expected: 25.02% top-1 and 7.71% top-5 error at the centre crop for DenseNet-121 (Table 3), 22.2% top-1 for DenseNet-161
(README); on CIFAR-10, 4.51% for DenseNet-BC (L=100, k=12) and 5.92% without augmentation; 1.76% on SVHN (Table 2).
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import SGD, Recipe, Step

CIFAR = Recipe(
    name="densenet_cifar",
    source="Huang et al. (2016), section 4.2",
    epochs=300,
    batch=64,
    optimizer=SGD(lr=0.1, nesterov=True, weight_decay=1e-4),
    schedule=Step(milestones=(150, 225)),
    augment=("pad_crop", "flip"),
    published="CIFAR-10 / 100 test error 4.51 / 22.27% (BC, L=100, k=12), 3.62 / 17.60% (BC, L=250, k=24), Table 2",
)

IMAGENET = Recipe(
    name="densenet",
    source="Huang et al. (2016), section 4.2, with the augmentation of fb.resnet.torch",
    epochs=90,
    batch=256,
    optimizer=SGD(lr=0.1, nesterov=True, weight_decay=1e-4),
    schedule=Step(milestones=(30, 60)),
    augment=("area_crop:0.08:1", "photometric:0.4", "lighting:0.1", "flip"),
    published="top-1 / top-5 error at the centre crop 25.02 / 7.71% (121 layers), 23.80 / 6.85% (169), "
    "22.58 / 6.34% (201), 22.15 / 6.12% (264), Table 3",
    departures=("batch norm statistics are over all 256 images (paper: per GPU)",),
)

RECIPES = (
    IMAGENET,
    replace(
        IMAGENET,
        name="densenet161",
        source="Huang et al. (2016), section 4.2 of the versions that have this network",
        epochs=100,  # to make up for the batch, which was limited by the GPUs' memory
        batch=128,
        schedule=Step(milestones=(30, 60, 90)),
        published="top-1 error at the centre crop 22.2% (README)",
        departures=("batch norm statistics are over all 128 images (paper: per GPU)",),
    ),
    CIFAR,
    replace(
        CIFAR,
        name="densenet_cifar_plain",
        augment=(),
        net=(("dropout", 0.2),),
        published="CIFAR-10 / 100 test error without augmentation 5.92 / 24.15% (BC, L=100, k=12), "
        "5.19 / 19.64% (BC, L=250, k=24), Table 2",
    ),
    replace(
        CIFAR,
        name="densenet_svhn",
        epochs=40,
        schedule=Step(milestones=(20, 30)),
        augment=(),
        net=(("dropout", 0.2),),
        published="SVHN test error 1.76% (BC, L=100, k=12), 1.74% (BC, L=250, k=24), 1.59% (L=100, k=24), Table 2",
        departures=(
            "the epoch is chosen on a hundredth of the training images, which are held out (paper: on 6,000 of them)",
            "channels normalised by the training set's mean and standard deviation (paper: pixels are divided by 255)",
        ),
    ),
)
