"""GoogLeNet on ImageNet, Szegedy et al. (2014), section 6.

    convatlas train googlenet --data folder:IMAGENET

To expect: 10.07% top-5 error at one crop (Table 3), by the paper's own augmentation and averaging.
"""

from __future__ import annotations

from ..recipe import Recipe

EPOCHS = 250

RECIPES = (
    Recipe(
        name="googlenet",
        source="Szegedy et al. (2014), section 6; rate, batch and weight decay from Caffe's bvlc_googlenet",
        epochs=EPOCHS,
        batch=32,
        lr=0.01,
        weight_decay=2e-4,
        schedule="step",
        milestones=tuple(range(8, EPOCHS, 8)),
        gamma=0.96,
        augment=("pad_crop:16", "flip"),
        aux_weight=0.3,
        published="top-5 error 10.07% at one crop, 9.15% at ten, 7.89% at 144 (one network, Table 3)",
        departures=(
            "one machine (paper: asynchronous SGD on many); no Polyak averaging of the weights",
            "crops shifted by up to 16 pixels, not 8 ... 100% of the area at aspects 3/4 ... 4/3; no photometric "
            "distortion",
            "rate, batch, weight decay and number of epochs, which the paper does not tell, are ours or Caffe's",
        ),
    ),
)
