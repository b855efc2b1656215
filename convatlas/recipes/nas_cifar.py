"""The network of the first architecture search on CIFAR-10, Zoph and Le (2016), section 4.1.

    convatlas train nas_v1 --data cifar10:DIR

To expect: 5.50% test error (Table 1), by the paper's own schedule.
"""

from __future__ import annotations

from ..recipe import SGD, Recipe, Step

RECIPES = (
    Recipe(
        name="nas_cifar",
        source="Zoph and Le (2016), section 4.1",
        epochs=300,
        batch=128,
        optimizer=SGD(lr=0.1, nesterov=True, weight_decay=1e-4),
        schedule=Step(milestones=(150, 225)),
        augment=("pad_crop", "flip"),
        published="test error 5.50% (Table 1)",
        departures=(
            "300 epochs in batches of 128, the rate falling at half and three quarters, are ours (paper: not told; "
            "rate, weight decay and the epoch of the drop searched on a grid)",
            "crops of padded images, not of images scaled up",
            "the mean and standard deviation of each channel are taken out (paper: whitening)",
        ),
    ),
)
