"""Network in network on CIFAR-10 and on ImageNet, Lin et al. (2013), section 4.

    convatlas train nin_cifar --data cifar10:DIR
    convatlas train nin_cifar --data cifar10:DIR --recipe nin_cifar_augmented
    convatlas train nin --data folder:IMAGENET

Expected: 10.41% test error on CIFAR-10, 8.81% with translation and flips (Table 1); 59.36% top-1 accuracy on ImageNet.
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import SGD, Plateau, Recipe, Step

STEPS = 391  # an epoch of all 50,000 training images at batch 128

CIFAR = Recipe(
    name="nin_cifar",
    source="Lin et al. (2013), section 4.1; learning rate and weight decay from the author's release for Caffe",
    epochs=307,  # 120,000 iterations
    batch=128,
    optimizer=SGD(lr=0.1, weight_decay=1e-4, decay_scope="weights", bias_rate=2.0),
    schedule=Plateau(patience=10, drops=2, watch="train"),
    whiten="gcn_zca",
    published="CIFAR-10 test error 10.41% (Table 1), CIFAR-100 35.68% (Table 2)",
    departures=(
        "the rate drops after 10 epochs without a better top-1 on the training images (paper: when it stops improving)",
        "the last layer has the same learning rate as the others (release: a tenth of it)",
        "trained on all training images from the start (paper: first without the last 10,000, to tune it)",
    ),
)

RECIPES = (
    CIFAR,
    replace(
        CIFAR,
        name="nin_cifar_augmented",
        augment=("pad_crop:4", "flip"),
        published="CIFAR-10 test error 8.81% (Table 1)",
        departures=(*CIFAR.departures, "images are shifted by up to 4 pixels (paper: not given)"),
    ),
    Recipe(
        name="nin",
        source="Lin et al. (2013), section 4, and the Caffe model zoo's NIN-ImageNet (solver)",
        epochs=22,  # 450,000 iterations
        batch=64,
        optimizer=SGD(lr=0.01, weight_decay=5e-4, decay_scope="weights", bias_rate=2.0),
        schedule=Step(milestones=tuple(n * 200_000 * 64 / 1_281_167 for n in (1, 2))),
        augment=("warp_crop:256", "flip"),
        whiten="pixel",
        published="top-1 accuracy 59.36%, centre crop (Caffe model zoo)",
        departures=(
            "the paper does not train on ImageNet: network and recipe are the zoo's",
            "images are warped to 256x256, as Caffe's tutorial does (the zoo's entry does not say)",
            "the mean image is taken over centre crops (release: over whole images, and cropped with each)",
        ),
    ),
)
