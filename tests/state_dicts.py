"""The names and shapes in every variant's state dict, as goldens: weights that people have saved go on loading.

`goldens/state_dicts.txt` has a digest for every variant; of some, which between them have every kind of name of their
family, it has each module that owns tensors, with their shapes. `python -m tests.state_dicts` (part of `make tables`)
writes it afresh, and its diff is to be reviewed.
"""

from __future__ import annotations

import re
from difflib import unified_diff
from functools import cache
from hashlib import sha256
from pathlib import Path

from torch import nn

from convatlas.catalogue import Variant, variants
from convatlas.layers import on_meta

FILE = Path(__file__).parent / "goldens" / "state_dicts.txt"
BATCH_NORM = r"weight (\d+), bias \1, running_mean \1, running_var \1, num_batches_tracked"
UNSCALED = r"bias (\d+), running_mean \1, running_var \1, num_batches_tracked"


def lines(net: nn.Module) -> list[str]:
    """A line for each module that owns tensors, in order: "stem.conv1: weight 64x3x7x7", "stem.bn1: norm 64".

    A batch norm without its scale is "shift 64".
    """
    owners: dict[str, list[str]] = {}
    for name, tensor in net.state_dict().items():
        path, _, own = name.rpartition(".")
        owners.setdefault(path, []).append(" ".join((own, "x".join(map(str, tensor.shape)))).rstrip())
    listed = [f"{path}: {', '.join(tensors)}" for path, tensors in owners.items()]
    return [re.sub(UNSCALED, r"shift \1", re.sub(BATCH_NORM, r"norm \1", line)) for line in listed]


def digest(listed: list[str]) -> str:
    return sha256("\n".join(listed).encode()).hexdigest()[:16]


def kinds(listed: list[str]) -> set[str]:
    """The names without their numbers and shapes."""
    return {re.sub(r"\d+", "#", re.sub(r" [\dx]+(?=,|$)", "", line)) for line in listed}


def covering(listed: dict[str, list[str]]) -> set[str]:
    """Few variants of a family that have all its kinds of names between them."""
    chosen: set[str] = set()
    missing = set().union(*map(kinds, listed.values()))
    while missing:
        chosen.add(best := max(listed, key=lambda name: (len(kinds(listed[name]) & missing), -len(listed[name]))))
        missing -= kinds(listed[best])
    return chosen


@cache
def goldens() -> dict[str, tuple[str, list[str]]]:
    """By variant: the digest, and the lines where the file has them."""
    found: dict[str, tuple[str, list[str]]] = {}
    name = ""
    for line in FILE.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            found[name][1].append(line.strip())
        else:
            name, its = line.split()
            found[name] = its, []
    return found


def differences(variant: Variant, net: nn.Module) -> str:
    """Nothing where the names and shapes of a variant are the golden ones, otherwise what has changed."""
    listed = lines(net)
    if variant.name not in goldens():
        return f"{variant.name} has no golden: run `make tables`"
    its, full = goldens()[variant.name]
    if digest(listed) == its:
        return ""
    if full:
        shown = [*unified_diff(full, listed, "golden", "now", lineterm="", n=0)]
    else:
        family = [name for name, other in variants().items() if other.family == variant.family and name in goldens()]
        known = set().union(*(kinds(goldens()[name][1]) for name in family))
        shown = [f"+{kind}" for kind in sorted(kinds(listed) - known)] or [
            "its names are of the kinds that its family has: the numbers in them, or shapes, are others"
        ]
    return "\n".join([f"{variant.name}: not the golden state dict, so that saved weights would not load", *shown])


def main() -> None:
    families: dict[str, dict[str, list[str]]] = {}
    for name, variant in variants().items():
        with on_meta():
            families.setdefault(variant.family, {})[name] = lines(variant.build())
    text = ""
    for listed in families.values():
        full = covering(listed)
        for name, its in listed.items():
            text += f"{name} {digest(its)}\n" + "".join(f"    {line}\n" for line in its if name in full)
    FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
