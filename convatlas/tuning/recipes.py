"""How a network is tuned to few images: our own defaults, from no paper, and a line on each choice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

from torch import nn

from ..recipe import SGD, AdamW, Cosine, LinearWarmup, Recipe, Tuning
from ..train.job import steps_in_epoch
from ..train.learning import parts_of
from .classifier import final_layer, gain_of, options_of
from .probe import scales
from .probed import Probed

BATCHES = (32, 16, 8)  # the largest that leaves an epoch FEWEST_STEPS
FEWEST_STEPS = 10
STEPS = 150  # of training, at least
EPOCHS = (10, 30)  # fewest and most
TUNED = AdamW(3e-4, clip=1.0)
DECAY = 0.7
STEP = 0.1  # the most by which a step of TUNED moves a logit through the classifier's weights


def recipe_of(mode: str, found: Probed, augment: Sequence[str] = ()) -> Recipe:
    """The recipe of mode "head", "finetune" or "gradual" for these images. It starts from the probe's classifier."""
    images = len(found.data.train)
    batch = next((n for n in BATCHES if images >= n * FEWEST_STEPS), BATCHES[-1])
    steps = steps_in_epoch(images, batch)
    epochs = min(max(EPOCHS[0], ceil(STEPS / steps)), EPOCHS[1])
    parts, classifier = parts_of(found.net), found.net.logits_layers[0]
    tuning = {
        "head": Tuning(frozen=tuple(all_but(found.net, classifier)), norm="frozen"),
        "finetune": Tuning(decay=DECAY, rates=slower(found, classifier), norm="frozen"),
        "gradual": Tuning(
            decay=DECAY, rates=slower(found, classifier), norm="frozen", unfreeze=epochs / (2 * len(parts))
        ),
    }[mode]
    return Recipe(
        name=mode,
        source="our own choice; its parts: Howard and Ruder (2018), section 3.2 (rates by layer, unfreezing); "
        "Goyal et al. (2017), section 2.2 (warm-up)",
        ladder="own",
        epochs=epochs,
        batch=batch,
        optimizer=as_the_probe(found) if mode == "head" else TUNED,
        schedule=Cosine(),
        warmup=LinearWarmup(epochs=1),
        augment=tuple(augment),
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


def slower(found: Probed, classifier: str) -> tuple[str, ...]:
    """The classifier's rate where features are large: AdamW moves each weight by the rate, whatever it multiplies."""
    gain = gain_of(found.net, final_layer(found.net))
    moved = TUNED.lr * gain * float(found.train.values.abs().sum(1).mean())
    return (f"{classifier}:{rounded(STEP / moved):g}",) if moved > STEP else ()


def as_the_probe(found: Probed) -> SGD:
    """SGD with the penalty by which the probe was fitted, at a rate that is stable for features of this size.

    The probe's loss is mean cross-entropy + |weight * deviation|^2 / (2 C N). The curvature of cross-entropy is at most
    half the square of the features' norm.
    """
    values, layer = found.train.values, final_layer(found.net)
    gain = gain_of(found.net, layer)
    deviation = scales(values)[1]
    penalty = gain**2 * float(deviation.square().mean()) / (found.probe.strength * len(values))
    lr = 1 / (gain**2 * float(values.square().sum(1).mean()) + 1 + penalty)  # 1: the bias's
    return SGD(rounded(lr), weight_decay=rounded(penalty), decay_scope="weights")


def rounded(value: float) -> float:
    return float(f"{value:.2g}")


def choices(recipe: Recipe, images: int) -> Iterator[str]:
    """A line on each choice."""
    steps = steps_in_epoch(images, recipe.batch)
    yield f"{recipe.name}: {recipe.epochs} epochs of {steps} steps of {recipe.batch} images, from the probe on"
    tuning, optimizer = recipe.tuning or Tuning(), recipe.optimizer
    falling = f", times {tuning.decay:g} for each part further from the head" if tuning.decay < 1 else ""
    clipped = f"; gradients clipped to a norm of {optimizer.clip:g}" if optimizer.clip else ""
    also = "".join(f", {name} times {times}" for name, _, times in (it.rpartition(":") for it in tuning.rates))
    decayed = f", weight decay {optimizer.weight_decay:g}" if optimizer.weight_decay else ""
    rate = f"{optimizer.kind} at {optimizer.lr:g}{decayed}{falling}{also}"
    yield f"rate: {rate}, after a warm-up, down to 0 by a cosine{clipped}"
    which = f"; frozen: {', '.join(tuning.frozen)}" if tuning.frozen else ""
    turn = f"; one more part learns every {tuning.unfreeze:.2g} epochs" if tuning.unfreeze else ""
    yield f"batch norm: {tuning.norm}{which}{turn}"
    yield f"augmentation: {', '.join(recipe.augment) or 'none'}"
