"""FractalNet on CIFAR-10, CIFAR-100, SVHN and ImageNet, Larsson et al. (2016), section 4.

    convatlas train fractalnet_20 --data cifar10:DIR
    convatlas train fractalnet_20 --data cifar10:DIR --recipe fractalnet_no_drop
    convatlas train fractalnet_20 --data svhn:DIR --recipe fractalnet_svhn
    convatlas train fractalnet_20 --data svhn:DIR --recipe fractalnet_svhn_no_drop
    convatlas train fractalnet_34 --data folder:IMAGENET

Expected: 4.60% test error on CIFAR-10 and 23.73% on CIFAR-100, augmented, with dropout and drop-path, 5.22% and 23.30%
without; 1.87% and 2.01% on SVHN (Table 1); 24.12% top-1 error by ten crops on ImageNet (Table 2).
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import SGD, Recipe, Step

DROPS = "the rate drops four times (paper: whenever the remaining epochs halve, without saying how often)"
PLAN = "drop-path is drawn once for each batch: local for half of the batches, global for the other half"
NO_DROP = (("dropouts", (0.0,) * 5), ("drop_path", 0.0))


def halving(epochs: int, times: int) -> tuple[float, ...]:
    """The epochs at which a half of training is left, a quarter, and so on."""
    return tuple(epochs * (1 - 0.5**n) for n in range(1, times + 1))


CIFAR = Recipe(
    name="fractalnet",
    source="Larsson et al. (2016), section 4; rate and decay of biases from the authors' generator (globals.crox)",
    epochs=400,
    batch=100,
    optimizer=SGD(lr=0.02, decay_scope="weights", bias_rate=2.0),
    schedule=Step(milestones=halving(400, 4)),
    augment=("pad_crop", "flip"),
    published="CIFAR-10 / 100 test error, augmented, 4.60 / 23.73% (20 layers, dropout and drop-path, Table 1)",
    departures=(DROPS, PLAN),
)
SVHN = replace(
    CIFAR,
    name="fractalnet_svhn",
    epochs=20,
    schedule=Step(milestones=halving(20, 4)),
    augment=(),
    published="SVHN test error 1.87% (20 layers, dropout and drop-path, Table 1)",
)

RECIPES = (
    CIFAR,
    replace(
        CIFAR,
        name="fractalnet_no_drop",
        net=NO_DROP,
        published="CIFAR-10 / 100 test error, augmented, 5.22 / 23.30% (20 layers, no dropout, no drop-path, Table 1)",
        departures=(DROPS,),
    ),
    SVHN,
    replace(
        SVHN,
        name="fractalnet_svhn_no_drop",
        net=NO_DROP,
        published="SVHN test error 2.01% (20 layers, no dropout, no drop-path, Table 1)",
        departures=(DROPS,),
    ),
    Recipe(
        name="fractalnet_imagenet",
        source="Larsson et al. (2016), section 4",
        epochs=70,
        batch=32,
        optimizer=SGD(lr=0.001),
        schedule=Step(milestones=halving(70, 4)),
        augment=("scale_crop:256", "flip"),
        published="top-1 / top-5 error by ten crops 24.12 / 7.39% (34 layers, Table 2)",
        departures=(
            DROPS,
            "augmentation, which the paper does not give, is random crops from images resized to 256 pixels, and flips",
        ),
    ),
)
