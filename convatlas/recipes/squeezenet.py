"""SqueezeNet on ImageNet, Iandola et al. (2016), section 4, as its authors released it.

    convatlas train squeezenet1_0 --data folder:IMAGENET

Expected: 57.5% top-1 and 80.3% top-5 accuracy at the centre crop (Table 2).
"""

from __future__ import annotations

from ..recipe import SGD, Poly, Recipe

RECIPES = (
    Recipe(
        name="squeezenet",
        source="Iandola et al. (2016), section 4, and the authors' solver.prototxt and train_val.prototxt (v1.0)",
        epochs=68,  # 170,000 iterations
        batch=512,
        optimizer=SGD(lr=0.04, weight_decay=2e-4),
        schedule=Poly(),
        augment=("warp_crop:256",),
        whiten="mean",
        published="top-1 / top-5 accuracy 57.5 / 80.3% (1.0), 60.4 / 82.5% (simple bypass), 58.8 / 82.0% (complex "
        "bypass), Tables 2 and 3",
        departures=("the channel means are the training set's (release: 104, 117 and 123 for blue, green and red)",),
    ),
)
