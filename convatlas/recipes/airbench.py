"""airbench94 and airbench95 on CIFAR-10, trained fast, Jordan (2024), https://arxiv.org/abs/2404.00498, section 3.

    convatlas train airbench94 --data cifar10:DIR
    convatlas evaluate RUN --data cifar10:DIR --which last --views 6

Expected: 94% top-1 (airbench94) and 95% (airbench95) averaged over 6 views of each image; 1 point less with one view.
airbench94 takes 35 minutes on one core with bfloat16 (benchmarks/results/cifar10_airbench94.json).

Learning rates are for the mean loss. The paper's, 11.5 and 10, are for the sum over a batch of 1,024 and exclude the
effect of momentum: here they are divided by 1 + 1 / (1 - momentum).
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import SGD, LinearWarmup, Lookahead, Poly, Recipe

EPOCHS = 10
WARMUP = 0.23  # fraction of training
SCALE = 1 + 1 / (1 - 0.85)  # by how much Nesterov momentum multiplies a learning rate

AIRBENCH94 = Recipe(
    name="airbench94",
    source="Jordan (2024), section 3, and airbench94.py",
    ladder="speed",
    epochs=EPOCHS,
    batch=1024,
    optimizer=SGD(lr=11.5 / SCALE, momentum=0.85, nesterov=True, weight_decay=0.0153 / 11.5, bias_rate=64.0),
    schedule=Poly(lr_end=0.07 * 11.5 / SCALE),
    warmup=LinearWarmup(lr=0.2 * 11.5 / SCALE, epochs=WARMUP * EPOCHS),
    lookahead=Lookahead(0.95**5),
    augment=("reflect_crop:2", "alternate_flip"),
    label_smoothing=0.2,
    published="94.01% top-1 (mean of 1,000 runs), 6 views of each image",
    departures=(
        "10 epochs (paper: 9.9), and the last, smaller batch of each epoch is kept (paper: dropped)",
        "the first layer's biases use the learning rate of batch norm's biases (paper: that of the weights)",
    ),
)

RECIPES = (
    AIRBENCH94,
    replace(
        AIRBENCH94,
        name="airbench95",
        source="Jordan (2024), section 3, and airbench95.py",
        epochs=15,
        optimizer=replace(AIRBENCH94.optimizer, lr=10 / SCALE, weight_decay=0.0153 / 10),
        schedule=Poly(lr_end=0.07 * 10 / SCALE),
        warmup=LinearWarmup(lr=0.2 * 10 / SCALE, epochs=WARMUP * 15),
        published="95.01% top-1 (mean of 200 runs), 6 views of each image",
        departures=(
            "the last, smaller batch of each epoch is kept (paper: dropped)",
            "the first layer's biases use the learning rate of batch norm's biases (paper: that of the weights)",
        ),
    ),
)
