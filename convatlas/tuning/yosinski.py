"""How transferable the features of each layer are: the protocol of Yosinski et al. (2014), section 3,
https://arxiv.org/abs/1411.1792

The classes are divided into halves A and B. A network baseB is trained on B. Then, for each n, networks whose first n
layers are copied and whose others start anew are trained on B:

    BnB    copied from baseB and frozen: what is lost where layers that were trained together are parted
    AnB    copied from baseA and frozen: how general the first n layers are
    BnB+   copied from baseB, all layers learn
    AnB+   copied from baseA, all layers learn: what a start from another task leaves behind
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..catalogue import Shape, Variant, find
from ..data.types import Data, Split
from ..errors import UserError
from ..layers import ConvNet, on_meta
from ..recipe import Recipe, Tuning
from ..runs.folder import Run, open_run
from ..runs.record import FILE
from ..train.events import OnEvent, note, quiet
from ..train.fit import fit

WAYS = ("BnB", "AnB", "BnB+", "AnB+")


@dataclass(frozen=True)
class Treatment:
    """A network of the protocol, trained on B and judged on the held-out images of B."""

    name: str  # "baseB", "A3B+"
    layers: int  # how many are copied
    source: str  # "A", "B", or none for baseB
    frozen: bool  # whether the copied layers are
    top1: float
    run: Run


def transferability(
    network: str | Variant,
    data: Data,
    recipe: Recipe,
    *,
    out: str | Path,
    layers: Sequence[int] | None = None,
    ways: Sequence[str] = WAYS,
    seed: int = 0,
    device: str = "auto",
    input: Shape | None = None,
    on_event: OnEvent = quiet,
) -> list[Treatment]:
    """Trains baseA and baseB, then the network of each of `ways` for each of `layers` (all but the last by default).

    `seed` draws the halves and is that of every training. Each run has its folder below `out`, "baseA", "A3B+" ...;
    one that is there already is not trained again, or resumed. Raises UserError for data with fewer than 4 classes, for
    layers that the network does not have, and as `fit` does.
    """
    variant = find(network) if isinstance(network, str) else network
    a, b = halves(data, seed)
    with on_meta():
        paths = layers_of(variant.build(input=input, classes=len(b.classes), **dict(recipe.net)))
    chosen = list(range(1, len(paths))) if layers is None else list(layers)
    if wrong := [n for n in chosen if not 0 < n < len(paths)]:
        raise UserError(f"{variant.name} has no {wrong[0]} layers to copy", f"give 1 to {len(paths) - 1}")
    if strange := [way for way in ways if way not in WAYS]:
        raise UserError(f"{strange[0]!r} is not one of the protocol's networks", f"give some of {', '.join(WAYS)}")
    shared: dict[str, Any] = {"seed": seed, "device": device, "input": input, "on_event": on_event}
    data_of = {"A": a, "B": b}
    bases = {x: trained(variant, data_of[x], recipe, Path(out) / f"base{x}", None, **shared) for x in data_of}
    found = [Treatment("baseB", 0, "", False, judged(bases["B"]), bases["B"])]
    for n in chosen:
        for way in ways:
            source, frozen = way[0], not way.endswith("+")
            name = way.replace("n", str(n))
            then = "frozen" if frozen else "learning"
            on_event(note(f"{name}: the first {n} of {len(paths)} layers from base{source}, {then}"))
            run = trained(variant, b, treated(recipe, paths[:n], frozen), Path(out) / name, bases[source], **shared)
            found.append(Treatment(name, n, source, frozen, judged(run), run))
    return found


def treated(recipe: Recipe, copied: Sequence[str], frozen: bool) -> Recipe:
    """The recipe that copies these layers from the weights that it starts from, and freezes them or not."""
    tuning = replace(recipe.tuning or Tuning(), frozen=tuple(copied)) if frozen else recipe.tuning
    return replace(recipe, init=tuple(f"{path}.*" for path in copied), tuning=tuning)


def layers_of(net: ConvNet) -> list[str]:
    """The paths of the layers with parameters, in order: the stem, each stage, and those of the head.

    AlexNet's are its conv1 to conv5 and fc6 to fc8; a ResNet's stages count as one layer each.
    """
    paths = ["stem", *(f"stages.{name}" for name, _ in net.stages.named_children())]
    paths += [f"head.{name}" for name, _ in net.head.named_children()]
    return [path for path in paths if any(True for _ in net.get_submodule(path).parameters())]


def halves(data: Data, seed: int) -> tuple[Data, Data]:
    """The data of a half of the classes each, drawn with the seed; of an odd number B has one more."""
    count = len(data.classes)
    if count < 4:
        raise UserError(f"{data.name} has {count} classes, too few for halves of two", "give data with at least 4")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return of_classes(data, sorted(order[: count // 2])), of_classes(data, sorted(order[count // 2 :]))


def of_classes(data: Data, classes: Sequence[int]) -> Data:
    """The images of some classes, which are numbered anew."""
    train, val, test = (split and part_of(split, classes) for split in (data.train, data.val, data.test))
    assert train is not None
    return replace(data, train=train, val=val, test=test)


def part_of(split: Split, classes: Sequence[int]) -> Split:
    """The images of some classes, with labels counted from 0."""
    labels = torch.as_tensor(split.labels, device="cpu")
    at = torch.isin(labels, torch.tensor(classes)).nonzero()[:, 0]
    part = split.part(at, split.name, {**split.provenance, "of_classes": list(classes)})
    part.classes = tuple(split.classes[c] for c in classes)
    part.labels = torch.tensor([classes.index(c) for c in labels[at].tolist()])
    return part


def trained(variant: Variant, data: Data, recipe: Recipe, out: Path, source: Run | None, **more: Any) -> Run:
    """The run in `out`, trained unless it is there; one that was stopped is resumed."""
    begun = (out / FILE).exists()
    if begun and len(open_run(out).epochs()) == recipe.epochs:
        return open_run(out)
    return fit(variant, data, recipe, out=out, init=None if begun else source, resume=begun, **more)


def judged(run: Run) -> float:
    """The accuracy after the last epoch, on the held-out images."""
    last = run.epochs()[-1]
    return float(last["test" if "test" in last else "val"]["top1"])
