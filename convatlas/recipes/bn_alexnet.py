"""AlexNet with batch norm on ImageNet, as trained for Canziani et al. (2016), section 3, with soumith's trainer.

    convatlas train bn_alexnet --data folder:IMAGENET

Expected: about 57% top-1 accuracy at the centre crop.
"""

from __future__ import annotations

from ..recipe import SGD, Recipe, Step

RECIPES = (
    Recipe(
        name="bn_alexnet",
        source="Canziani et al. (2016), section 3; figures from imagenet-multiGPU.torch (train.lua, opts.lua)",
        epochs=55,
        batch=128,
        optimizer=SGD(lr=0.01, weight_decay=5e-4),
        schedule=Step(milestones=(18, 29, 43, 52), gamma=0.1**0.5),
        augment=("scale_crop:256", "flip"),
        published="top-1 accuracy 57%, centre crop (alexnetowtbn)",
        departures=(
            "each drop divides the rate by the square root of ten: 0.01, 0.0032, 0.001, 0.00032, 0.0001 (release: "
            "0.01, 0.005, 0.001, 0.0005, 0.0001)",
            "weight decay throughout (release: none from epoch 30 on)",
        ),
    ),
)
