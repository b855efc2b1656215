"""VGG on ImageNet, Simonyan and Zisserman (2014), section 3.

    convatlas train vgg11 --data folder:IMAGENET --out runs/a
    convatlas train vgg16 --data folder:IMAGENET --init runs/a

The second starts, as the paper's deeper networks do, from layers of the first (section 3.1): four convolutions and
the three fully connected layers. Without --init it starts from a random initialisation.

Expected: 25.6% top-1 and 8.1% top-5 error for D (vgg16) at one test scale (Table 3).
"""

from __future__ import annotations

from ..recipe import SGD, Plateau, Recipe

RECIPES = (
    Recipe(
        name="vgg",
        source="Simonyan and Zisserman (2014), section 3",
        epochs=74,  # 370,000 iterations
        batch=256,
        optimizer=SGD(lr=0.01, weight_decay=5e-4),
        schedule=Plateau(),
        augment=("scale_crop:256:512", "flip", "lighting:0.1"),
        whiten="mean",
        init=(*(f"stages.block{block}.conv{i}.*" for block, i in ((1, 1), (2, 1), (3, 1), (3, 2))), "head.fc*"),
        published="top-1 / top-5 error 25.6 / 8.1% (D, one test scale, Table 3)",
        departures=(
            "the rate drops after 5 epochs without a better top-1 on ImageNet's validation set, on which the "
            "results are measured (paper: when the accuracy on that set stops improving)",
            "scale jittering from the start (paper: fine-tuned from a network trained at scale 384)",
        ),
    ),
)
