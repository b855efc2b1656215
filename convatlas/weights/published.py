"""Published weights: which there are, where, whose, how to feed them, and what their source says of their accuracy.

The facts are in weights.toml. A row is named NETWORK@SOURCE, or NETWORK@SOURCE/TAG where a source has several.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UserError, unknown
from ..preprocess import Preprocess
from ..tables import entry, index
from .fetch import digests_of

FILE = Path(__file__).with_name("weights.toml")


@dataclass(frozen=True)
class Published:
    """Weights that somebody published, as weights.toml has them."""

    network: str  # the row of the atlas
    source: str  # who published them: torchvision, timm, keras ...
    called: str  # the network's name there
    tag: str  # tells those of one network and source apart; may be empty
    url: str
    digest: str  # as fetch.DIGEST has it; empty if none is published
    size: int | None  # bytes
    licence: str
    classes: str  # imagenet, imagenet_background, cifar10 ...
    preprocess: Preprocess
    top1: str  # percent, as printed; may be empty, as the next two
    top5: str
    protocol: str
    package: str = ""  # the Python package that holds the file, if one does

    @property
    def name(self) -> str:
        return f"{self.network}@{self.source}" + (f"/{self.tag}" if self.tag else "")

    @property
    def file(self) -> str:
        """Its file's name, which no other row's file has: on the hub, all are called model.safetensors."""
        name = self.url.rpartition("/")[2].removeprefix("#")
        return f"{self.called}.{self.tag}.safetensors" if name == "model.safetensors" else name


@cache
def facts() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


@cache
def published() -> dict[str, Published]:
    """All rows of weights.toml, by name."""
    rows = [row_of(name, source, row) for name, source in facts()["source"].items() for row in source["rows"]]
    found = {row.name: row for row in rows}
    assert len(found) == len(rows), "two rows of weights.toml have one name"
    return found


def row_of(name: str, source: Mapping[str, Any], row: Mapping[str, Any]) -> Published:
    """A row; what it does not say itself its source does."""
    said = {key: value for key, value in source.items() if key != "rows"} | dict(row)
    return Published(
        network=said["network"],
        source=name,
        called=said.get("called", said["network"]),
        tag=said.get("tag", ""),
        url=said["url"] if "url" in said else said["base"] + said["file"],
        digest=said.get("digest", ""),
        size=said.get("size"),
        licence=said.get("licence", ""),
        classes=said["classes"],
        preprocess=preset(said["preprocess"], said["network"], said.get("side"), said.get("resize")),
        top1=said.get("top1", ""),
        top5=said.get("top5", ""),
        protocol=said.get("protocol", ""),
        package=said.get("package", ""),
    )


def preset(name: str, network: str, side: int | None = None, resize: int | None = None) -> Preprocess:
    """The preparation of that name for a network's images, or for those of `side` pixels.

    Raises UserError for a name that is none, or does not suit the network's channels.
    """
    channels, *size = entry(network)["input"]
    return preset_for(name, (channels, *((side, side) if side else size)), resize)


@cache
def preset_for(name: str, input: tuple[int, ...], resize: int | None = None) -> Preprocess:
    """The preparation of that name for images of `input` C x H x W. Raises UserError as `preset` does."""
    presets = facts()["preprocess"]
    if name not in presets:
        raise unknown("preprocessing", name, presets)
    record = {**presets[name], "input": list(input)}
    if resize or "resize" in record:
        record["resize"] = max(resize or record["resize"], *input[1:])
    return Preprocess.from_json(record)


def recognised(file: Path) -> Published | None:
    """The published weights that a file holds, by its digest."""
    size = file.stat().st_size
    rows = [row for row in published().values() if row.digest and row.size in (None, size)]
    digests = digests_of(file, {row.digest.partition(":")[0] for row in rows})
    for row in rows:
        kind, _, digits = row.digest.partition(":")
        if digests[kind].startswith(digits):
            return row
    return None


def find_published(name: str) -> Published:
    """The row of that name: NETWORK@SOURCE, with /TAG where there are several; the network as here or as there.

    NETWORK alone is what a package has, or the only row. Raises UserError with the near names, or with the tags to
    choose from.
    """
    network, at, source = name.partition("@")
    where, _, tag = source.partition("/")
    if at and where not in {row.source for row in published().values()}:
        raise unknown("source of weights", where, sorted({row.source for row in published().values()}))
    rows = [row for row in published().values() if not at or row.source == where]
    there = [row for row in rows if at and row.called == network]
    if not there or network in index():
        known = entry(network)["name"]
        there += [row for row in rows if row.network == known and row not in there]
    if not there:
        raise UserError(f"no published weights {name!r} are known", "see `convatlas weights list`")
    if not at:
        there = [row for row in there if row.package] or there
    found = [row for row in there if row.tag == tag] if tag else there
    if not found:
        raise unknown(f"weights of {network}@{where}", tag, [row.tag for row in there])
    if len(found) > 1:
        raise UserError(f"there are several weights {name!r}", f"give {' or '.join(row.name for row in found)}")
    return found[0]
