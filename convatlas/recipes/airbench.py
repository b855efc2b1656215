"""airbench94 and airbench95 on CIFAR-10, trained fast, Jordan (2024), https://arxiv.org/abs/2404.00498, section 3.

    convatlas train airbench94 --data cifar10:DIR
    convatlas train airbench94 --data cifar10:DIR --recipe airbench94_muon
    convatlas evaluate RUN --data cifar10:DIR --which last --protocol airbench6

Expected: 94% top-1 (airbench94) and 95% (airbench95) averaged over 6 views of each image; 1 point less with one view.
airbench94 takes 35 minutes on one core with bfloat16 (benchmarks/results/cifar10_airbench94.json).

Learning rates are for the mean loss. The paper's, 11.5 and 10, are for the sum over a batch of 1,024 and exclude the
effect of momentum: here they are divided by 1 + 1 / (1 - momentum).

airbench94_muon is the author's later program, which trains the same network in 8 epochs: its rates are for the sum over
2,000 images, and its head has weights of 256 / 9 times the size, whose output it divides by 256 instead of 9.
"""

from __future__ import annotations

from dataclasses import replace

from ..recipe import SGD, LinearWarmup, Lookahead, Muon, Poly, Recipe

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

MUON_LR = 0.24
AIRBENCH94_MUON = Recipe(
    name="airbench94_muon",
    source="Jordan (2024), section 3, and airbench94_muon.py of https://github.com/KellerJordan/cifar10-airbench",
    ladder="speed",
    epochs=8,
    batch=2000,
    optimizer=Muon(
        lr=MUON_LR,
        momentum=0.6,
        ns_steps=3,
        normalize=True,
        sgd_rate=0.67 * 2000 * (9 / 256) ** 2 / MUON_LR,
        sgd_momentum=0.85,
        bias_rate=0.053 * 2000 / MUON_LR,
        weight_decay=2e-6 * 2000 / MUON_LR,
    ),
    schedule=Poly(),
    augment=("reflect_crop:2", "alternate_flip"),
    label_smoothing=0.2,
    net=(("bias_share", 3 / 8),),
    published="94.01% top-1 (mean of 200 runs), 6 views of each image",
    departures=(
        "the rate of the first layer's biases falls as the others', over 8 epochs (program: to 0 within their 3)",
        "the first layer's biases start at 0 (program: uniformly drawn, up to 0.29)",
        "the head's first weights have a standard deviation of 1 / sqrt(768) (program: 9 / 256 here, 2.6% less)",
        "weights in float32 (program: float16), and on a CPU the Newton-Schulz iteration, too (program: bfloat16)",
    ),
)

RECIPES = (
    AIRBENCH94,
    AIRBENCH94_MUON,
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
