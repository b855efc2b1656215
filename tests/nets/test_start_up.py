"""Every network starts to train: its first loss is that of a guess, and twenty steps end in no number out of range.

With its own first weights, its recipe's loss, optimizer and rates (warm-up included), in training mode, on noise with
the mean and spread of photographs and on photographs; grey networks see digits in their place. Labels are random: a
start is tested, not what is learnt. EXPECTED has the networks whose published start is another, each with its reason,
and STALLED those that do not get through the steps.

Inputs are small. STARTS, a network for each distinct initialisation, is tested every time (of the large ones only the
first loss), the others in the slow group.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, isfinite, log, pi, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from convatlas import tables
from convatlas.catalogue import Shape, Variant, find, variants
from convatlas.data.normalise import Normalizer, measure_normalizer, normalise, preprocess_for
from convatlas.data.sources import load_data
from convatlas.data.statistics import statistics
from convatlas.data.types import Data, MemorySplit
from convatlas.preprocess import MEASURED
from convatlas.recipe import Recipe
from convatlas.recipes import find_recipe
from convatlas.train.loss import loss_of
from convatlas.train.optimizers import clip_, fill_gradients, make_optimizer
from convatlas.train.schedule import rate
from convatlas.train.setup import sized

STEPS = 20
DRAWS = 4  # of weights over which an expectation other than a guess's is averaged: ten logits are few draws
FACTOR = 1.5  # the first loss over the expected one, or the other way round
POOL = 128  # images that the batches are taken from, in turn, unless one takes more
BATCH = 16  # images a step: enough for batch norm even where maps have shrunk to one pixel
BATCHES = {  # where 16 images at a rate for hundreds end badly
    "SqueezeNet": 64, "nin_cifar": 64, "se_vgg16": 128,
}  # fmt: skip
IMAGES = {1: 60_000, 3: 50_000, 1000: 1_281_167}  # of an epoch: of MNIST, CIFAR and ImageNet, by channels or classes
HEAVY, COSTLY, LONG = 20e6, 1.2e9, 400  # parameters, multiply-adds and rows above which the steps are slow tests
STARTS = (  # the cheapest network of each initialisation, first those without batch norm
    "lenet5", "lenet5_two_fc", "alexnet", "alexnet_caffe", "caffenet", "nin_cifar", "nin", "zfnet", "googlenet",
    "squeezenet1_1", "se_vgg16", "chain_n1_m1_k0", "fractalnet_5_narrow", "plain20", "wrn40_1", "airbench94",
    "mobilenet_v1_0_25_224", "stochastic_depth_resnet110", "densenet_40_12", "nas_v1_none", "enet_encoder",
    "efficientnet_b0", "nasnet_a_mobile", "bn_alexnet", "googlenet_bn_3x3",
)  # fmt: skip
SAME = 1e-5  # of the largest logit: images whose logits differ by less are the same to the network

SIDES = {  # pixels: the smallest square that these take, or the smallest at which a start is like that at full size
    **dict.fromkeys(("InceptionV2", "InceptionV3", "InceptionV4", "InceptionResNet", "SEInceptionResNet"), 75),
    "AlexNet": 67, "AlexNetOWT": 63, "BNAlexNet": 63, "ZFNet": 59, "GoogLeNet": 79, "NASNet": 67, "nin": 39,
    "bn_nin_zoo": 39, "LeNet5": 32, "LeNetLike": 16, "FractalNet": 32, "Airbench": 9, "nasnet_a_6_768": 9,
    "nasnet_a_7_2304": 9,
    "MobileNetV2": 64,  # at 32 its last map is one pixel, and nothing is averaged before 1,280 or more inputs
}  # fmt: skip


def guess(std: float, classes: int) -> float:
    """The expected loss where logits are independent and normal: of one spread, and blind to the label."""
    draws = torch.randn(20_000, classes, generator=torch.Generator().manual_seed(0))
    return (std * draws).logsumexp(1).mean().item()


def residual_sum(form: str, *parts: tuple[float, float], classes: int = 10, places: int = 4) -> float:
    """The first loss of a residual network that normalises its branches but not their sum.

    A branch ends in batch norm: it adds values of mean 0 and variance 1. After n of them a channel has, with the ReLU
    "after" each addition, a random walk's distance from 0: its square is n on average, and its mean sqrt(2n / pi). With
    the ReLU "before" each addition, n halves of a normal: mean n / sqrt(2 pi), variance n (1 - 1 / pi) / 2. With "one"
    ReLU at the end, half of a normal of variance n: square n / 2, mean sqrt(n / 2 pi). Pooling over `places` keeps the
    mean and divides the variance; torch's classifier has weights of variance 1 / 3 cin. `parts` are (share of the
    channels, n): zero-padded shortcuts make later channels younger, and projections begin again, at 1.
    """
    square = 0.0
    for share, n in parts:
        mean, second = {
            "after": (sqrt(2 * n / pi), n),
            "before": (n / sqrt(2 * pi), n * n / (2 * pi) + n * (1 - 1 / pi) / 2),
            "one": (sqrt(n / (2 * pi)), n / 2),
        }[form]
        square += share * (mean**2 + (second - mean**2) / places)
    return guess(sqrt(square / 3), classes)


def padded(n: float) -> Sequence[tuple[float, float]]:
    """Of 64 final channels 16 are there from the start, 16 from the second stage of n units on, 32 from the third."""
    return (1 / 4, 3 * n), (1 / 4, 2 * n), (1 / 2, n)


def dropped(n: float) -> Sequence[tuple[float, float]]:
    """`padded` of the units that survive, the l-th of 3n with probability 1 - l / 6n; Torch7's scales, uniform in
    (0, 1), make their variance 1 / 3."""
    return (1 / 4, 2.25 * n / 3), (1 / 4, 4 / 3 * n / 3), (1 / 2, 7 / 12 * n / 3)


def nasnet(inputs: int, cells: float) -> float:
    """The first loss of a NASNet classifier for 10 classes: TensorFlow's variance scaling by fan-out, cut at two
    deviations, whose fan here is 10. Its inputs are the ReLU of sums of `cells` normalised maps."""
    variance = 1.3 * 2 / 10 * 0.8796**2
    return guess(sqrt(variance * inputs * cells / 2 * (1 / pi + (1 - 1 / pi) / (9 if cells > 1 else 1))), 10)


SUM = "nothing normalises the sum of its branches: residual_sum"
BYPASS = "nothing normalises the sum of branch and bypass, of pixels between -128 and 127; so in the released prototxt"
NAIVE = "its pools pass all maps of all sizes on; Fig. 2(a) is drawn, and was not trained"
EXPECTED: dict[str, tuple[float, str]] = {  # the first loss expected by something other than ln(classes), and why
    **{f"resnet{depth}": (residual_sum("after", *padded((depth - 2) // 6)), SUM) for depth in (44, 56, 110, 1202)},
    **{f"resnet{depth}_b": (residual_sum("after", (1, (depth - 2) // 6 + 1)), SUM) for depth in (44, 56, 110, 1202)},
    "stochastic_depth_resnet110": (residual_sum("after", *dropped(18)), SUM),
    "stochastic_depth_resnet152_svhn": (residual_sum("after", *dropped(25)), SUM),
    "stochastic_depth_resnet1202": (residual_sum("after", *dropped(200)), SUM),
    "preact_resnet164_original": (residual_sum("after", (1, 19)), SUM),
    "preact_resnet1001_original": (residual_sum("after", (1, 112)), SUM),
    "preact_resnet110_one_layer_original": (residual_sum("after", *padded(36)), SUM),
    "preact_resnet110_relu_before": (residual_sum("before", *padded(18)), SUM),
    "preact_resnet164_relu_before": (residual_sum("before", (1, 19)), SUM),
    "preact_resnet110_relu_only": (residual_sum("one", *padded(18)), SUM),
    "preact_resnet164_relu_only": (residual_sum("one", (1, 19)), SUM),
    "nasnet_a_6_768": (nasnet(768, 2), "variance scaling by a fan-out of 10"),
    "nasnet_a_7_2304": (nasnet(2304, 2), "variance scaling by a fan-out of 10"),
    "googlenet_naive": (4.5 * log(1000), NAIVE),
    "squeezenet1_0_simple_bypass": (2.2 * log(1000), BYPASS),
    "squeezenet1_0_complex_bypass": (34 * log(1000), f"{BYPASS}, whose filler the 1x1 bypasses have here, too"),
}
AUX: dict[str, float] = {  # of the auxiliary classifiers
    **dict.fromkeys(("nasnet_a_6_768", "nasnet_a_7_2304"), nasnet(768, 1)),
    "googlenet_naive": 3.2 * log(1000),
}
DEEPER = "the paper starts it from a trained vgg11: from 0.01 alone, what it sees has vanished before the logits"
STALLED = {  # networks that the steps leave without numbers, or blind, and why
    **dict.fromkeys(("vgg13", "vgg16_c", "vgg16", "vgg19"), DEEPER),
    "squeezenet1_0_simple_bypass": "no rate was published for it; at its kin's its last ReLUs can all die",
    "squeezenet1_0_complex_bypass": "neither its first weights nor its rate were published; at its kin's it diverges",
    "googlenet_naive": NAIVE,
}


@dataclass(frozen=True)
class Begun:
    """A network after its first steps."""

    first: float  # the first step's loss, of a label drawn from all classes
    aux: list[float]  # that of each auxiliary classifier
    losses: list[float]  # the recipe's, of each step
    logits: Tensor  # of the last batch, with nothing dropped


def begin(variant: Variant, kind: str, steps: int) -> Begun:
    assert variant.input is not None
    channels, own, _ = variant.input
    name, net_name, classes = variant.name, variant.net.__name__, variant.options["classes"]
    side = SIDES.get(name) or SIDES.get(net_name) or (8 if own <= 32 else 32)
    shape = (channels, side, side)
    recipe = sized(find_recipe(variant.recipe or "small"), variant, shape)
    size = (BATCHES.get(name) or BATCHES.get(net_name, BATCH)) if steps else BATCH
    x, labels = inputs(kind, max(size, POOL), shape, classes, recipe)
    wide = {"aux": False} if net_name == "InceptionV3" else {}  # its auxiliary classifier needs all of 299 pixels
    firsts: list[list[float]] = []
    for seed in reversed(range(DRAWS if name in EXPECTED else 1)):
        torch.manual_seed(seed)
        net = variant.build(input=shape, **dict(recipe.net), **wide).train()
        if net.init_images:
            net.init_from_data(x)
        net.set_progress(0.0)
        with torch.random.fork_rng(), torch.no_grad():
            logits, others = net.forward_aux(x[:size])
        firsts.append([any_label(of) for of in (logits, *others.values())])
    first, *aux = [sum(of) / len(of) for of in zip(*firsts, strict=True)]

    optimizer = make_optimizer(net, recipe.optimizer)
    epoch = ceil(IMAGES[1 if channels == 1 else 1000 if classes == 1000 else 3] / recipe.batch)
    losses: list[float] = []
    for step in range(steps):
        at = torch.arange(size * step, size * (step + 1)) % len(x)
        for group in optimizer.param_groups:
            group["lr"] = rate(recipe, step / epoch, steps=epoch, warm=False) * group["rate"]
        net.set_progress(step / epoch / recipe.epochs)
        optimizer.zero_grad()
        loss, _ = loss_of(net, x[at], labels[at], recipe)
        losses.append(loss.item())
        if not isfinite(losses[-1]):
            break
        loss.backward()
        fill_gradients(net)
        if recipe.optimizer.clip:
            clip_(optimizer, recipe.optimizer.clip)
        optimizer.step()
    for m in net.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    with torch.no_grad():
        last = net(x[:size])
    return Begun(first, aux, losses, last)


def any_label(logits: Tensor) -> float:
    """The cross-entropy averaged over all labels."""
    return (logits.logsumexp(1) - logits.mean(1)).mean().item()


def inputs(kind: str, n: int, shape: Shape, classes: int, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """`n` images, normalised as the recipe says, and random labels."""
    images = digits(n) if shape[0] == 1 else photographs(n)
    mean, std = statistics(images)
    random = torch.Generator().manual_seed(1)
    if kind == "noise":
        levels = [255 * m + 255 * s * torch.randn(n, *shape[1:], generator=random) for m, s in zip(mean, std)]
        images = torch.stack(levels, 1).round().clamp(0, 255).to(torch.uint8)
    labels = torch.randint(classes, (n,), generator=random)
    split = MemorySplit("train", images, labels, tuple(map(str, range(classes))))
    mean, std = statistics(images)
    data = Data(kind, split, None, split, tuple(images.shape[1:]), mean, std, resize_mode="stretch")  # type: ignore[arg-type]
    preprocess = preprocess_for(data, shape, recipe.whiten, recipe.augment)
    normalizer = measure_normalizer(preprocess, split) if recipe.whiten in MEASURED else Normalizer(preprocess)
    return normalise(split.fetch(torch.arange(n), preprocess), normalizer), labels


@cache
def photographs(n: int) -> Tensor:
    """uint8 (n, 3, 160, 160): ImageNet's where they are on this machine, otherwise crops of scikit-learn's two."""
    if os.environ.get("CONVATLAS_DATA"):
        files = sorted(Path(os.environ["CONVATLAS_DATA"], "imagenet1000").glob("*.jpg"))
        found = [Image.open(file).convert("RGB") for file in files[:: len(files) // n][:n]]
        images = [np.asarray(image.resize((160, 160))) for image in found]
    else:
        random, two = np.random.default_rng(0), load_sample_images().images
        corners = [(random.integers(two[0].shape[0] - 160), random.integers(two[0].shape[1] - 160)) for _ in range(n)]
        images = [two[i % 2][y : y + 160, x : x + 160] for i, (y, x) in enumerate(corners)]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


@cache
def digits(n: int) -> Tensor:
    train = load_data("digits").train
    assert isinstance(train, MemorySplit)
    return train.images[:n]


def distinct() -> dict[str, Variant]:
    """The networks, one for all rows that differ in their input alone."""
    first: dict[str, Variant] = {}
    for variant in variants().values():
        first.setdefault(f"{variant.net} {sorted(variant.args.items(), key=str)}", variant)
    return {v.name: v for v in first.values()}


def heavy(name: str) -> bool:
    """Whether the steps belong to the slow group."""
    counted = tables.load(name)
    return counted.totals.params > HEAVY or counted.totals.macs > COSTLY or len(counted.rows) > LONG


def cases() -> list[Any]:
    """Every network with its number of steps; slow unless it stands for a start, and is no longer than that allows."""
    quick = [pytest.param(name, 0 if heavy(name) else STEPS, id=name) for name in STARTS]
    rest = [name for name in distinct() if name not in STARTS or heavy(name)]
    return quick + [pytest.param(name, STEPS, id=f"{name}-all", marks=pytest.mark.slow) for name in rest]


@pytest.mark.parametrize("kind", ["noise", "photographs"])
@pytest.mark.parametrize(("name", "steps"), cases())
def test_a_network_starts_to_train(name: str, steps: int, kind: str) -> None:
    variant = find(name)
    begun = begin(variant, kind, steps)
    chance = log(variant.options["classes"])
    expected, why = EXPECTED.get(name, (chance, "that of a guess"))
    for first, about in ((begun.first, expected), *((aux, AUX.get(name, chance)) for aux in begun.aux)):
        assert about / FACTOR < first < about * FACTOR, why
    if steps and name not in STALLED:
        assert all(map(isfinite, begun.losses)), begun.losses
        assert sees(begun.logits), begun.losses


def sees(logits: Tensor) -> bool:
    """Whether logits are numbers, and not the same for all images."""
    return bool(logits.isfinite().all()) and bool(logits.std(0).max() > SAME * logits.abs().max())
