"""Inception-v2 and Inception-v3 on ImageNet, Szegedy et al. (2015), sections 7 and 8.

    convatlas train inception_v3 --data folder:IMAGENET
    convatlas train inception_v2 --data folder:IMAGENET

Expected: 21.2% top-1 and 5.6% top-5 error at one crop for v3, 23.4% top-1 for v2 (Table 3).
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import EMA, Exponential, Recipe, RMSProp

V3 = Recipe(
    name="inception_v3",
    source="Szegedy et al. (2015), sections 7 and 8; what they do not give from the authors' tensorflow/models",
    epochs=100,
    batch=32,
    optimizer=RMSProp(lr=0.045, rho=0.9, eps=1.0, momentum=0.9, weight_decay=4e-5, decay_scope="weights", clip=2.0),
    schedule=Exponential(gamma=0.94, every=2, staircase=True),
    ema=EMA(0.9999),
    augment=("area_crop:0.05:1", "flip", "photometric:0.4"),
    label_smoothing=0.1,
    aux_weight=0.4,
    published="top-1 / top-5 error 21.2 / 5.6% at one crop (Table 3), 18.77 / 4.2% at 144 (Table 4)",
    departures=(
        "one machine (paper: 50 replicas with batches of 32 each)",
        "channels normalised by the training set's mean and standard deviation (release: pixels scaled to [-1, 1])",
        "photometric distortions of brightness, contrast and saturation (release: hue as well)",
    ),
)

RECIPES = (
    V3,
    replace(
        V3,
        name="inception_v2",
        aux_weight=0.0,
        published="top-1 error 23.4% at one crop (Table 3)",
        departures=(*V3.departures, "no auxiliary classifier (the paper's table shows none)"),
    ),
)
