"""Layers of a weights file and of a network paired by order and shape, where that leaves only one way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from ..errors import UserError
from .slots import Key, Layer, Network

NAMED = 3  # layers named in an error
SHORTCUT = re.compile(r"shortcut|downsample|skip|branch1(?!\d)|_0_(?:conv|bn)\b|\bproj\b", re.IGNORECASE)
REMEDY = "give the network that it was made for"

Pair = tuple[Layer, Layer]  # of the file, of the network


class Misfit(UserError):
    """A file and a network that do not go together."""


def by_order(theirs: Sequence[Layer], network: Network, name: str, source: str) -> list[Pair]:
    """Layers of one shape pair up in the order of the file and of the network's run.

    That is the only way where, in the network, those of one shape run one after the other; batch norms go with the
    layers beside them. Layers sorted by name are taken with block2 before block10. Raises Misfit, naming the layers.
    """
    names = [layer.name for layer in theirs]
    by_number = sorted(theirs, key=lambda layer: natural(layer.name))
    if names == sorted(names):
        theirs = by_number
    pairs = weights_paired(theirs, network, name, source)
    contradiction = out_of_order(theirs, pairs, network)
    if contradiction and theirs is not by_number and weights_paired(by_number, network, name, source) != pairs:
        raise Misfit(f"{source} has {' before '.join(contradiction)}, which run the other way round in {name}", REMEDY)
    return pairs + norms_paired(theirs, network, pairs, source)


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers in names as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def weights_paired(theirs: Sequence[Layer], network: Network, name: str, source: str) -> list[Pair]:
    """The pairs of all layers but batch norms. Raises Misfit also where there are not as many norms of a size."""
    theirs_by_key, ours_by_key = grouped(theirs, same_kernels(theirs, network.layers)), grouped(network.layers, {})
    for key in {**theirs_by_key, **ours_by_key}:
        a, b = theirs_by_key.get(key, []), ours_by_key.get(key, [])
        if len(a) != len(b):
            raise Misfit(
                f"{source} does not fit {name}: it has {counted(len(a), key)}, the network has {len(b)} "
                f"({some(a or b)})",
                REMEDY,
            )
    return [
        pair
        for key, ours in ours_by_key.items()
        if not ours[0].is_norm
        for pair in ordered_pairs(theirs_by_key[key], ours, network, source)
    ]


def norms_paired(theirs: Sequence[Layer], network: Network, pairs: Sequence[Pair], source: str) -> list[Pair]:
    """Batch norms by the layer that each follows, or in order."""
    found = beside(theirs, network, pairs)
    if found is None:
        norms = [[layer for layer in layers if layer.is_norm] for layers in (theirs, network.layers)]
        of_theirs, of_ours = (grouped(layers, {}) for layers in norms)
        found = [p for key in of_ours for p in ordered_pairs(of_theirs[key], of_ours[key], network, source)]
    return found


def same_kernels(theirs: Iterable[Layer], ours: Iterable[Layer]) -> dict[str, Key]:
    """For layers of the file that are convolutions where ours are linear, or the reverse: the key of ours."""
    known = {layer.key for layer in ours}
    by_size = {(layer.key[1], layer.tensors["weight"].numel()): layer.key for layer in ours if layer.key[0] == "weight"}
    found = {}
    for layer in theirs:
        if layer.key[0] == "weight" and layer.key not in known:
            match = by_size.get((layer.key[1], layer.tensors["weight"].numel()))
            if match is not None and 3 in (len(match), len(layer.key)):
                found[layer.name] = match
    return found


def grouped(layers: Iterable[Layer], keys: Mapping[str, Key]) -> dict[Key, list[Layer]]:
    found: dict[Key, list[Layer]] = {}
    for layer in layers:
        found.setdefault(keys.get(layer.name, layer.key), []).append(layer)
    return found


def ordered_pairs(theirs: Sequence[Layer], ours: Sequence[Layer], network: Network, source: str) -> list[Pair]:
    """Layers of one shape in order. Raises Misfit if two of them run side by side, unless one of them is a shortcut."""
    if side_by_side(ours, network):
        parts = [
            [[layer for layer in layers if bool(SHORTCUT.search(layer.name)) == flag] for layers in (theirs, ours)]
            for flag in (False, True)
        ]
        if any(len(a) != len(b) for a, b in parts) or any(side_by_side(b, network) for _, b in parts):
            a, b = side_by_side(ours, network) or ("", "")
            raise Misfit(
                f"{source} cannot be matched by order and shape: {a} and {b} have the same shapes and run side by side",
                "give it with the names of convatlas, torchvision or timm",
            )
        return [pair for a, b in parts for pair in zip(a, b, strict=True)]
    return list(zip(theirs, ours, strict=True))


def side_by_side(layers: Sequence[Layer], network: Network) -> tuple[str, str] | None:
    """Two layers of which neither feeds the other, if there are any; the layers are in running order."""
    for a, b in pairwise(layers):
        if not network.one_after_the_other(a.name, b.name):
            return a.name, b.name
    return None


def out_of_order(theirs: Sequence[Layer], pairs: Iterable[Pair], network: Network) -> tuple[str, str] | None:
    """Two layers of the file of which the second feeds the first in the network."""
    at = {layer.name: i for i, layer in enumerate(theirs)}
    file_name = {own.name: layer.name for layer, own in pairs}
    for own, name in file_name.items():
        for earlier in network.before[own]:
            if earlier in file_name and at[file_name[earlier]] > at[name]:
                return name, file_name[earlier]
    return None


def beside(theirs: Sequence[Layer], network: Network, pairs: Iterable[Pair]) -> list[Pair] | None:
    """Batch norms paired by the layer that each follows; None if that does not settle it for all of them."""
    ours_of = {layer.name: own.name for layer, own in pairs}
    after: dict[str, Layer] = {}  # our weighted layer: the file's norm after it
    latest: Layer | None = None
    norms = [layer for layer in theirs if layer.is_norm]
    for layer in theirs:
        if not layer.is_norm:
            latest = layer
        elif latest is not None and latest.tensors["weight"].shape[0] == layer.key[1]:
            after[ours_of[latest.name]] = layer
            latest = None
    found = []
    for own in network.layers:
        if own.is_norm:
            fed_by = network.feeds[own.name]
            norm = after.pop(next(iter(fed_by)), None) if len(fed_by) == 1 else None
            if norm is None or norm.key != own.key:
                return None
            found.append((norm, own))
    return found if len(found) == len(norms) else None


def counted(many: int, key: Key) -> str:
    """Such as "1 weight of 7x7x3x3", "2 batch norms of 16 channels"."""
    end = "" if many == 1 else "s"
    if key[0] == "norm":
        return f"{many} batch norm{end} of {key[1]} channel{'' if key[1] == 1 else 's'}"
    if key[0] == "weight":
        return f"{many} weight{end} of {'x'.join(map(str, key[1:]))}"
    return f"{many} layer{end} of {key}"


def some(layers: Sequence[Layer]) -> str:
    more = f" and {len(layers) - NAMED} more" if len(layers) > NAMED else ""
    return ", ".join(layer.name for layer in layers[:NAMED]) + more
