"""How a network is tuned to few images: our own defaults, from no paper, and a line on each choice."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from torch import nn

from ..preprocess import Preprocess
from ..recipe import SGD, AdamW, Cosine, LinearWarmup, Recipe, Tuning
from ..train.job import steps_in_epoch
from ..train.learning import parts_of
from .classifier import options_of
from .probed import Probed

BATCHES = (32, 16, 8)  # the largest that leaves an epoch FEWEST_STEPS
FEWEST_STEPS = 10
STEPS = 150  # of training, at least
EPOCHS = (10, 30)  # fewest and most
SMALL_PX = 64  # images stored smaller are shifted instead of cropped
RATES = {"head": SGD(0.01), "finetune": AdamW(3e-4, clip=1.0), "gradual": AdamW(3e-4, clip=1.0)}
DECAY = 0.7


def recipe_of(mode: str, found: Probed) -> Recipe:
    """The recipe of mode "head", "finetune" or "gradual" for these images. It starts from the probe's classifier."""
    images = len(found.data.train)
    batch = next((n for n in BATCHES if images >= n * FEWEST_STEPS), BATCHES[-1])
    steps = steps_in_epoch(images, batch)
    epochs = min(max(EPOCHS[0], ceil(STEPS / steps)), EPOCHS[1])
    parts = parts_of(found.net)
    tuning = {
        "head": Tuning(frozen=tuple(all_but(found.net, found.net.logits_layers[0])), norm="frozen"),
        "finetune": Tuning(decay=DECAY, norm="frozen"),
        "gradual": Tuning(decay=DECAY, norm="frozen", unfreeze=epochs / (2 * len(parts))),
    }[mode]
    return Recipe(
        name=mode,
        source="our own choice; its parts: Howard and Ruder (2018), section 3.2 (rates by layer, unfreezing); "
        "Goyal et al. (2017), section 2.2 (warm-up)",
        ladder="own",
        epochs=epochs,
        batch=batch,
        optimizer=RATES[mode],
        schedule=Cosine(),
        warmup=LinearWarmup(epochs=1),
        augment=augment_of(found),
        balance=found.balance,
        tuning=tuning,
        net=tuple(options_of(found.model, len(found.data.classes)).items()),
        departures=("not a paper's recipe, so there is no published figure",),
    )


def all_but(net: nn.Module, path: str) -> Iterator[str]:
    """The largest modules with parameters that are neither the module at `path` nor contain it."""
    for name, module in net.named_modules():
        parent = name.rpartition(".")[0]
        around = not parent or path.startswith(f"{parent}.")
        contains = f"{path}.".startswith(f"{name}.")
        if name and around and not contains and any(True for _ in module.parameters()):
            yield name


def augment_of(found: Probed) -> tuple[str, ...]:
    """Random crops, or shifts of small images, by an eighth; mirror images of colour ones: grey ones may be writing."""
    data, preprocess = found.data, found.model.preprocess
    flip = ("flip",) if len(data.mean) == 3 else ()
    if data.shape is not None and max(data.shape[1:]) < SMALL_PX:
        return (shift(preprocess), *flip)
    return ("area_crop:0.35:1", *flip)


def shift(preprocess: Preprocess) -> str:
    return f"pad_crop:{max(1, max(preprocess.input[1:]) // 8)}"


def choices(recipe: Recipe, images: int) -> Iterator[str]:
    """A line on each choice."""
    steps = steps_in_epoch(images, recipe.batch)
    yield f"{recipe.name}: {recipe.epochs} epochs of {steps} steps of {recipe.batch} images, from the probe on"
    tuning, optimizer = recipe.tuning or Tuning(), recipe.optimizer
    falling = f", times {tuning.decay:g} for each part further from the head" if tuning.decay < 1 else ""
    clipped = f"; gradients clipped to a norm of {optimizer.clip:g}" if optimizer.clip else ""
    yield f"rate: {optimizer.kind} at {optimizer.lr:g}{falling}, after a warm-up, down to 0 by a cosine{clipped}"
    which = f"; frozen: {', '.join(tuning.frozen)}" if tuning.frozen else ""
    turn = f"; one more part learns every {tuning.unfreeze:.2g} epochs" if tuning.unfreeze else ""
    yield f"batch norm: {tuning.norm}{which}{turn}"
    yield f"augmentation: {', '.join(recipe.augment) or 'none'}"
