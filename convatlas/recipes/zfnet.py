"""ZFNet on ImageNet, Zeiler and Fergus (2013), section 3.1.

    convatlas train zfnet --data folder:IMAGENET

Expected: 38.4% top-1 and 16.5% top-5 error by ten crops, one network (Table 2).
"""

from __future__ import annotations

from ..recipe import SGD, Plateau, Recipe

RECIPES = (
    Recipe(
        name="zfnet",
        source="Zeiler and Fergus (2013), section 3.1",
        epochs=70,
        batch=128,
        optimizer=SGD(lr=0.01),
        schedule=Plateau(),
        augment=("square_crop:256", "flip"),
        whiten="pixel",
        published="top-1 / top-5 error 38.4 / 16.5% (one network, a), 37.5 / 16.0% (one network, b), Table 2",
        departures=(
            "random crops (paper: the four corners and the centre)",
            "filters are not renormalised (paper: convolution filters, to a root mean square of 0.1)",
            "the mean image is taken over centre crops (paper: over whole images, and cropped with each)",
            "the rate drops after 5 epochs without a better top-1 on ImageNet's validation set, on which the "
            "results are measured (paper: by hand, when the validation error plateaus)",
        ),
    ),
)
