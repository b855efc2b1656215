"""AlexNet on ImageNet, Krizhevsky et al. (2012), sections 4 and 5.

    convatlas train alexnet --data folder:IMAGENET
    convatlas train caffenet --data folder:IMAGENET

Expected: 40.7% top-1 and 18.2% top-5 error by ten crops (Table 2); Caffe's networks, 57.1 to 57.4% top-1 accuracy at
the centre crop.
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import SGD, Plateau, Recipe, Step

STEPS = 1_281_167 / 256  # an epoch of ImageNet in Caffe's batches

ALEXNET = Recipe(
    name="alexnet",
    source="Krizhevsky et al. (2012), sections 4 and 5",
    epochs=90,
    batch=128,
    optimizer=SGD(lr=0.01, weight_decay=5e-4),
    schedule=Plateau(),
    augment=("square_crop:256", "flip", "lighting:0.1"),
    whiten="pixel",
    published="top-1 / top-5 error 40.7 / 18.2% by ten crops, one network",
    departures=(
        "the mean image is taken over centre crops (paper: over whole images, and cropped with each)",
        "the rate drops after 5 epochs without a better top-1 on ImageNet's validation set, on which the "
        "results are measured (paper: by hand, when the validation error stops improving)",
    ),
)

RECIPES = (
    ALEXNET,
    replace(
        ALEXNET,
        name="alexnet_caffe",
        source="Krizhevsky et al. (2012), section 5, as in Caffe's bvlc_alexnet and bvlc_reference_caffenet (solver)",
        batch=256,
        optimizer=SGD(lr=0.01, weight_decay=5e-4, decay_scope="weights", bias_rate=2.0),
        schedule=Step(milestones=tuple(n * 100_000 / STEPS for n in (1, 2, 3, 4))),
        augment=("warp_crop:256", "flip"),
        published="top-1 accuracy 57.1% (bvlc_alexnet), 57.4% (bvlc_reference_caffenet), centre crop",
        departures=(
            "the mean image is taken over centre crops (release: over whole warped images, and cropped with each)",
        ),
    ),
)
