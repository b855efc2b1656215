"""EfficientNet on ImageNet, Tan and Le (2019), section 5.2, as its authors released it.

    convatlas train efficientnet_b0 --data folder:IMAGENET

Expected: 77.1% top-1 and 93.3% top-5 accuracy for B0 (Table 2, with AutoAugment). Dropout, which grows from 0.2 to
0.5, is set by the networks.
"""

from __future__ import annotations

from ..recipe import EMA, Exponential, LinearWarmup, Recipe, RMSProp

RECIPES = (
    Recipe(
        name="efficientnet",
        source="Tan and Le (2019), section 5.2, and the authors' tensorflow/tpu (efficientnet/main.py, utils.py)",
        epochs=350,
        batch=2048,
        # lr is 0.016 per 256 images; the paper prints 0.256
        optimizer=RMSProp(lr=0.128, rho=0.9, eps=0.001, momentum=0.9, weight_decay=1e-5, decay_scope="not_norm"),
        schedule=Exponential(gamma=0.97, every=2.4, staircase=True),
        warmup=LinearWarmup(epochs=5),
        ema=EMA(0.9999),
        augment=("area_crop:0.08:1", "flip", "autoaugment"),
        label_smoothing=0.1,
        published="top-1 / top-5 accuracy 77.1 / 93.3% (B0), 79.1 / 94.4% (B1), 80.1 / 94.9% (B2), 81.6 / 95.7% (B3), "
        "82.9 / 96.4% (B4), 83.6 / 96.7% (B5), 84.0 / 96.8% (B6), 84.3 / 97.0% (B7), Table 2",
        departures=(
            "the epoch is chosen on ImageNet's validation set, on which the results are measured (paper: on 25,022 "
            "training images that are held out)",
            "images are resized bilinearly (released code: bicubically)",
            "batch norm statistics are over all 2,048 images (released code: over groups of TPU cores, on 8 or on "
            "64 and more over 256 images each)",
        ),
    ),
)
