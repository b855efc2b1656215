"""ResNet and plain networks on ImageNet, He et al. (2015), section 3.4; and Facebook's recipe, used by later papers.

    convatlas train resnet50 --data folder:IMAGENET
    convatlas train resnet50_v1_5 --data folder:IMAGENET

Expected: ResNet-50, 22.85% top-1 and 6.71% top-5 error by ten crops (Table 3); by the second recipe, 24.01% and 7.02%
at the centre crop.
"""

from __future__ import annotations

from ..recipe import SGD, Plateau, Recipe, Step

RECIPES = (
    Recipe(
        name="resnet",
        source="He et al. (2015), section 3.4",
        epochs=120,  # 600,000 iterations of 256 images
        batch=256,
        optimizer=SGD(lr=0.1, weight_decay=1e-4),
        schedule=Plateau(),
        augment=("scale_crop:256:480", "flip", "lighting:0.1"),
        whiten="pixel",
        published="top-1 / top-5 error (10-crop) 22.85 / 6.71% (ResNet-50), 21.75 / 6.05% (101), 21.43 / 5.71% (152), "
        "Table 3",
        departures=(
            "the mean image is taken over centre crops (paper: over whole images, and cropped with each)",
            "batch norm's statistics for evaluation are moving averages (release: averages over a large batch, after "
            "training)",
            "the rate drops after 5 epochs without a better top-1 on ImageNet's validation set, on which the "
            "results are measured (paper: when the error plateaus)",
        ),
    ),
    Recipe(
        name="resnet_torch",
        source="Gross and Wilber (2016), fb.resnet.torch (opts.lua, datasets/imagenet.lua); section 3.4 of He et al.",
        epochs=90,
        batch=256,
        optimizer=SGD(lr=0.1, nesterov=True, weight_decay=1e-4),
        schedule=Step(milestones=(30, 60)),
        augment=("area_crop:0.08:1", "photometric:0.4", "lighting:0.1", "flip"),
        published="top-1 / top-5 error at the centre crop 24.01 / 7.02% (ResNet-50), 22.44 / 6.21% (101), "
        "22.16 / 6.16% (152)",
        departures=("batch norm statistics are over all 256 images (release: per GPU)",),
    ),
)
