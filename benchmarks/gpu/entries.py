"""The queue: every measurement, in the order in which they are run.

The faults, which take minutes, come before the schedules that take hours.
"""

from __future__ import annotations

from functools import partial

import airbench
import gpu_faults
import speed
from schedules import schedule
from session import Entry, Session

HOURS = 2.0  # minutes that a session must have left for a part of a long training run to be worth it


def training(network: str, seed: int) -> Entry:
    what = f"{network} by its paper's recipe, all epochs, seed {seed}"
    return Entry(f"schedule_{network}_seed{seed}", what, HOURS, partial(schedule, network, seed), resumable=True)


def airbench94(session: Session) -> dict:
    return airbench.versus("airbench94", "airbench94", session.airbench, "--airbench", session)


def airbench94_muon(session: Session) -> dict:
    return airbench.versus("airbench94", "airbench94_muon", session.airbench_muon, "--airbench-muon", session)


FIRST = ("resnet20", "plain20")
THEN = (
    "resnet32",
    "resnet56",
    "resnet110",
    "plain56",
    "wrn16_8",
    "densenet_40_12",
    "preact_resnet164",
    "stochastic_depth_resnet110",
)

ENTRIES = (
    Entry("resnet20_images_per_s", "ResNet-20, 32 px, batch 128: fit and a hand-written loop", 7, speed.resnet20),
    Entry("resnet50_images_per_s", "ResNet-50, 224 px, batch 256, bfloat16: fit and timm's network", 9, speed.resnet50),
    Entry("resnet50_augmented", "the same with resnet_torch's augmentation", 8, speed.resnet50_augmented),
    Entry("airbench94", "airbench94's recipe and its program: seconds, accuracy of 10 seeds", 5, airbench94),
    Entry("airbench94_muon", "the Muon recipe and its program: seconds, accuracy of 10 seeds", 6, airbench94_muon),
    *(training(network, 0) for network in FIRST),
    Entry("out_of_memory", "a batch that does not fit in the GPU's memory", 2, gpu_faults.out_of_memory),
    Entry("nan_image", "an image that becomes NaN is found and named", 1, gpu_faults.nan_image),
    Entry("equal_bits", "repeated runs with deterministic algorithms", 2, gpu_faults.equal_bits),
    Entry("sigterm", "SIGTERM within training, then resumed", 4, gpu_faults.sigterm),
    Entry("kill", "SIGKILL within training, then resumed", 4, gpu_faults.kill),
    Entry("tests_for_a_gpu", "the tests that are skipped without a GPU", 4, gpu_faults.tests_for_a_gpu),
    *(training(network, 0) for network in THEN),
    *(training(network, seed) for seed in (1, 2) for network in (*FIRST, *THEN)),
)
