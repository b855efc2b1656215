"""The network of the first architecture search on CIFAR-10, Zoph and Le (2016), section 4.1.

    convatlas train nas_v1 --data cifar10:DIR

Expected: 5.50% test error (Table 1), by the paper's schedule.
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
            "300 epochs, batches of 128 and drops at a half and three quarters of training are our choice (paper: not "
            "given; learning rate, weight decay and the epoch of the drop from a grid search)",
            "random crops of padded images (paper: of upsampled images)",
            "channels normalised by the training set's mean and standard deviation (paper: whitening)",
        ),
    ),
)
