"""Our own defaults for a folder of a few hundred images and a small network trained from scratch; from no paper.

    convatlas train resnet20 --data folder:DIR --input 3x64x64 --set net.depth=8 --recipe small

Expected: that network, of 75,000 parameters, trained on 245 photographs of ants and bees (hymenoptera), gets 75.5% of
153 others right after the last epoch (75.2 and 75.8%, n=2), and without TrivialAugment 74.8% (73.2 and 76.5%, n=2) at a
higher loss; 2.4 minutes on one core with bfloat16 (benchmarks/small_folder.py).

Batches of 32 give an epoch of few images enough steps. An average of the weights was not tried.
"""

from __future__ import annotations

from ..recipe import AdamW, Cosine, LinearWarmup, Recipe

RECIPES = (
    Recipe(
        name="small",
        source="our own choice; its parts: Loshchilov and Hutter (2017), section 2 (AdamW), and (2016), section 3 "
        "(cosine); Müller and Hutter (2021), section 3 (TrivialAugment)",
        ladder="own",
        epochs=100,
        batch=32,
        optimizer=AdamW(lr=0.002, weight_decay=0.05, decay_scope="weights"),
        schedule=Cosine(),
        warmup=LinearWarmup(epochs=5),
        augment=("area_crop:0.25:1", "flip", "trivialaugment"),
        label_smoothing=0.1,
        departures=(
            "not a paper's recipe, so there is no published figure. One run each on 1,000 training images of CIFAR-10 "
            "(that network, 40 epochs, 1,000 others held out): 44.8%; with half the learning rate 42.4%; without "
            "TrivialAugment 47.2%, at a training accuracy of 57% instead of 39%: for short training leave it out",
        ),
    ),
)
