"""GoogLeNet on ImageNet, Szegedy et al. (2014), section 6.

    convatlas train googlenet --data folder:IMAGENET
    convatlas train googlenet_caffe --data folder:IMAGENET

Expected: 10.07% top-5 error at one crop (Table 3); Caffe's, 68.7% top-1 and 88.9% top-5 accuracy.
"""

from __future__ import annotations

from ..recipe import EMA, SGD, Exponential, Poly, Recipe

RECIPES = (
    Recipe(
        name="googlenet",
        source="Szegedy et al. (2014), sections 5 and 6; learning rate, batch size and weight decay from Caffe's "
        "bvlc_googlenet",
        epochs=250,
        batch=32,
        optimizer=SGD(lr=0.01, weight_decay=2e-4),
        schedule=Exponential(gamma=0.96, every=8, staircase=True),
        ema=EMA(0.9999),
        augment=("area_crop:0.08:1", "flip", "photometric:0.4"),
        whiten="mean",
        aux_weight=0.3,
        published="top-5 error 10.07% at one crop, 9.15% at ten, 7.89% at 144 (one network, Table 3)",
        departures=(
            "one machine (paper: asynchronous SGD on many)",
            "an EMA of the weights with decay 0.9999 (paper: Polyak averaging, the number of steps not given)",
            "learning rate, batch size, weight decay and number of epochs, which the paper does not give, are Caffe's",
            "the strength of the photometric distortions, which the paper does not give, is 0.4",
        ),
    ),
    Recipe(
        name="googlenet_caffe",
        source="Szegedy et al. (2014), section 6, as in Caffe's bvlc_googlenet (quick_solver)",
        epochs=60,  # 2,400,000 iterations
        batch=32,
        optimizer=SGD(lr=0.01, weight_decay=2e-4, decay_scope="weights", bias_rate=2.0),
        schedule=Poly(power=0.5),
        augment=("warp_crop:256", "flip"),
        whiten="mean",
        aux_weight=0.3,
        published="top-1 / top-5 accuracy 68.7 / 88.9%, centre crop",
    ),
)
