"""What other libraries call the layers of our networks.

`name_tables.py` and `keras_names.py` have the tables: lists of rows (theirs, ours), each a whole name; the first row
that matches counts. {n} stands for a number, with or without a letter ("3a"); on our side {n+1} is one more, and
{blocks[n]} the block of that index, from 0, in our network, for libraries that count all blocks through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from . import keras_names, name_tables

TABLES = name_tables.TABLES | keras_names.TABLES


@dataclass(frozen=True)
class Renamed:
    table: str  # whose names they are: "torchvision MobileNetV2"
    layers: dict[str, str]  # theirs: ours


def renamed(theirs: Iterable[str], ours: Iterable[str]) -> Renamed | None:
    """Our name for each layer of theirs, if a table knows them all and gives each another one of `ours`.

    Some of ours may be left without a counterpart, and shapes may differ: both are for the caller to check.
    """
    theirs, ours = list(theirs), list(ours)
    known, blocks = set(ours), blocks_of(ours)
    for table in TABLES:
        found: dict[str, str] = {}
        for layer in theirs:
            name = rename(layer, table, blocks)
            if name is None or name not in known:
                break
            found[layer] = name
        if len(theirs) == len(found) == len(set(found.values())) > 0:
            return Renamed(table, found)
    return numbered(theirs, ours)


AUTOMATIC = re.compile(r"(conv2d|batch_normalization)(?:_(\d+))?")  # Keras' names of layers that have none


def numbered(theirs: Sequence[str], ours: Sequence[str]) -> Renamed | None:
    """Keras' Inceptions: most layers have automatic names, numbered as they were made: in the order of our definition.

    Their last layer is called `predictions`. Files that number layers by their place in the graph have no such name.
    """
    named = {layer: name for layer in theirs if (name := rename(layer, keras_names.INCEPTION)) in set(ours)}
    if "predictions" not in named:
        return None
    found: dict[str, str] = {layer: name for layer, name in named.items() if name}
    for kind, end in (("conv2d", ".conv"), ("batch_normalization", ".bn")):
        layers = [m for layer in theirs if layer not in named and (m := AUTOMATIC.fullmatch(layer)) and m[1] == kind]
        free = [name for name in ours if name.endswith(end) and name not in found.values()]
        if len(layers) != len(free):
            return None
        layers.sort(key=lambda m: int(m[2] or 0))
        found |= {m[0]: name for m, name in zip(layers, free, strict=True)}
    return Renamed(keras_names.INCEPTION, found) if len(found) == len(theirs) else None


def rename(layer: str, table: str, blocks: Sequence[str] = ()) -> str | None:
    """Our name for a layer of theirs by that table, in a network with these blocks; None if it has no row for it."""
    for pattern, ours in compiled(table):
        if match := pattern.fullmatch(layer):
            return filled(ours, match.groupdict(), blocks)
    return None


NUMBER = re.compile(r"\\{(\w+)\\}")  # as re.escape leaves it
PLACE = re.compile(r"\{(blocks\[)?([a-z]+)([+-]\d+)?\]?\}")
BLOCK = re.compile(r"stages\.\w+?\d+\.(?:block|cell)\d+(?=\.)")  # NASNet's reduction cells are not counted


@cache
def compiled(table: str) -> list[tuple[re.Pattern[str], str]]:
    return [(re.compile(NUMBER.sub(r"(?P<\1>\\d+[a-z]?)", re.escape(theirs))), ours) for theirs, ours in TABLES[table]]


def filled(ours: str, numbers: dict[str, str], blocks: Sequence[str]) -> str | None:
    """Our name with its places filled; None for a block that the network has not."""
    out = ours
    for place, block, name, plus in ((p[0], *p.groups()) for p in PLACE.finditer(ours)):
        value = numbers[name]
        if not value.isdecimal() and (plus or block):
            return None
        if plus:
            value = str(int(value) + int(plus))
        if block and not 0 <= int(value) < len(blocks):
            return None
        out = out.replace(place, blocks[int(value)] if block else value)
    return out


def blocks_of(layers: Iterable[str]) -> list[str]:
    """The paths of a network's blocks, in their order."""
    return list(dict.fromkeys(match[0] for layer in layers if (match := BLOCK.match(layer))))
