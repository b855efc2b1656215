"""NiN with batch norm on ImageNet, as trained for Canziani et al. (2016), section 3, with soumith's trainer.

    convatlas train bn_nin --data folder:IMAGENET

Expected: 62.6% top-1 accuracy at the centre crop.
"""

from __future__ import annotations

from ..recipe import SGD, Recipe, Step

RECIPES = (
    Recipe(
        name="bn_nin",
        source="Canziani et al. (2016), section 3; figures from imagenet-multiGPU.torch (models/ninbn.lua, opts.lua)",
        epochs=30,
        batch=128,
        optimizer=SGD(lr=0.1, weight_decay=5e-4),
        schedule=Step(milestones=(9, 19, 25)),
        augment=("scale_crop:256", "flip"),
        published="top-1 accuracy 62.6%, centre crop (ninbn.lua)",
        departures=(
            "30 epochs, which the release gives learning rates for (its accuracy is reported after 35)",
            "weight decay throughout (release: none from epoch 20 on)",
        ),
    ),
)
