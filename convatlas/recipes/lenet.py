"""LeNet-5 on handwritten digits, LeCun et al. (1998), section III.

    convatlas train lenet5 --data mnist:DIR
    convatlas train lenet5 --data digits --recipe digits

Expected: 0.95% test error on MNIST (section III, without distortions); by the second, 98% top-1 on
the digits held out.
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import SGD, Cosine, Recipe

LENET = Recipe(
    name="lenet",
    source="LeCun et al. (1998), section III",
    epochs=20,
    batch=32,
    optimizer=SGD(lr=0.005),
    schedule=Cosine(),
    published="MNIST test error 0.95%, without distortions of the training images",
    departures=(
        "SGD with momentum in batches of 32 on a cosine schedule (paper: stochastic diagonal Levenberg-Marquardt, one "
        "image at a time, the rate dropping in steps from 0.0005 to 0.00001)",
        "cross-entropy over the negated penalties: the paper's MAP criterion without its rubbish class",
        "pixels are normalised to the training set's mean and standard deviation (paper: background -0.1, ink 1.175)",
    ),
)

RECIPES = (
    LENET,
    replace(
        LENET,
        name="digits",
        ladder="demo",
        epochs=60,
        optimizer=SGD(lr=0.002),
        augment=("pad_crop:2",),
        published="",
        departures=(
            *LENET.departures,
            "scikit-learn's 8 x 8 digits instead of MNIST, resized to 32 x 32 and shifted by up to 2 pixels",
        ),
    ),
)
