"""BN-Inception on ImageNet, Ioffe and Szegedy (2015), section 4.2.

    convatlas train bn_inception --data folder:IMAGENET

Expected: 25.2% top-1 and 7.82% top-5 error at one crop (Figure 4, BN-x30).
"""

from __future__ import annotations

from ..recipe import EMA, SGD, Exponential, Recipe

RECIPES = (
    Recipe(
        name="bn_inception",
        source="Ioffe and Szegedy (2015), section 4.2 (BN-x30)",
        epochs=150,  # 6,000,000 iterations
        batch=32,
        optimizer=SGD(lr=0.045, weight_decay=4e-5),
        schedule=Exponential(gamma=0.96, every=8 / 6, staircase=True),
        ema=EMA(0.9999),
        augment=("area_crop:0.08:1", "flip"),
        published="top-1 / top-5 error 25.2 / 7.82% at one crop, 21.99 / 5.82% at 144 (BN-x30, Figure 4)",
        departures=(
            "one machine (paper: asynchronous SGD on many)",
            "weight decay is a fifth of Caffe's for GoogLeNet (paper: a fifth of Inception's, which is not given); the "
            "average of the weights and the learning-rate decay are GoogLeNet's, the latter six times as fast",
            "no photometric distortions (paper: weaker than GoogLeNet's)",
            "images are shuffled over the whole training set (paper: within shards)",
        ),
    ),
)
