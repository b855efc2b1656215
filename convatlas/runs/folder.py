"""A run folder, read: what was trained, on what, how it went, and the weights.

run.json            what was asked for: network, recipe, data, preprocessing, seed, machine; written once
log.jsonl           what happened: a line every so many steps and every epoch
log.csv             its epochs as a table
last.safetensors    where training stands (see checkpoint.py); previous.safetensors, where it stood one save before
skipped.jsonl       the files that were left out, if any, each with the reason
best.safetensors    the weights of the epoch with the highest top-1 on the test images
preprocess.safetensors  what was measured on the training images to normalise pixels by, where the recipe asks for it
curves.png
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..catalogue import find
from ..data.normalise import Normalizer
from ..errors import UserError, unknown
from ..files.atomic import other_version
from ..layers import ConvNet
from ..preprocess import MEASURED, Preprocess
from ..recipe import Recipe
from . import checkpoint
from .checkpoint import averaged
from .log import read_log

SCHEMA = 2
READS = (1, SCHEMA)  # 1 has no engine: such a run is read, but not gone on with
WHICH = ("best", "last")
PARTS = {"network": str, "build": dict, "recipe": dict, "data": dict, "preprocess": dict, "classes": list, "seed": int}
NORMALIZER = "preprocess/"  # before the names of its tensors in checkpoints


@dataclass(frozen=True)
class Run:
    folder: Path
    record: dict[str, Any]  # run.json

    @property
    def network(self) -> str:
        return self.record["network"]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.record["classes"])

    @property
    def preprocess(self) -> Preprocess:
        """How images become the network's input."""
        return Preprocess.from_json(self.record["preprocess"])

    @cached_property
    def normalizer(self) -> Normalizer:
        """The preprocessing with what was measured for it on the training images; read once."""
        if self.preprocess.whiten not in MEASURED:
            return Normalizer(self.preprocess)
        paths = [self.folder / f"{name}.safetensors" for name in ("preprocess", *WHICH)]
        there = next((path for path in paths if path.exists()), paths[0])
        return Normalizer(self.preprocess, measured(checkpoint.load(there)[0]))

    @property
    def recipe(self) -> Recipe:
        return Recipe.from_json(self.record["recipe"])

    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl, but for damaged ones; none before the first is written."""
        return read_log(self.folder / "log.jsonl")

    def epochs(self) -> list[dict[str, Any]]:
        """The log's lines about whole epochs: rate, loss and top-1 in training, the test's scores, images/s."""
        return [line for line in self.log() if line["kind"] == "epoch"]

    def load(self, which: str = "best", device: str | torch.device = "cpu") -> ConvNet:
        """The network in eval mode, with the weights of its `best` epoch or of the `last`; averaged, if the run did so.

        Raises UserError when there is no such checkpoint yet, or when it does not fit the network exactly.
        """
        try:
            net = build(self.record)
        except UserError:
            raise
        except Exception as error:  # a record that was changed by hand makes constructors raise anything
            path = self.folder / "run.json"
            raise UserError(
                f"{path} does not describe a network that can be built ({error!r})", "restore it"
            ) from error
        try:
            net.load_state_dict(self.weights(which), strict=True)
        except RuntimeError as error:
            path = self.folder / f"{which}.safetensors"
            raise UserError(f"{path} does not fit {self.network}: {' '.join(str(error).split())}") from error
        return net.to(device).eval()

    def weights(self, which: str = "best") -> dict[str, Tensor]:
        """The tensors that `load` gives the network, by their names in its state dict, on the CPU."""
        if which not in WHICH:
            raise unknown("checkpoint", which, WHICH)
        path = self.folder / f"{which}.safetensors"
        tensors = checkpoint.load(path)[0]
        if not same(measured(tensors), self.normalizer.tensors):
            raise UserError(
                f"{path} was trained on images that were normalised by other tensors than preprocess.safetensors has",
                "put back the one that belongs to it",
            )
        return averaged(tensors)


def measured(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The normalizer's tensors among a checkpoint's, by the normalizer's names."""
    return {name.removeprefix(NORMALIZER): t for name, t in tensors.items() if name.startswith(NORMALIZER)}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[name]) for name, t in a.items())


def build(record: dict[str, Any]) -> ConvNet:
    """The network that run.json describes, freshly initialised."""
    options = {name: tuple(v) if isinstance(v, list) else v for name, v in record["build"].items()}
    return find(record["network"]).build(**options)


def open_run(folder: str | Path) -> Run:
    """The run in that folder. Raises UserError when it is no run folder, naming what is missing."""
    folder = Path(folder)
    path = folder / "run.json"
    if not folder.exists():
        raise UserError(f"there is no run folder {folder}", "`convatlas train` makes one")
    if not path.is_file():
        raise UserError(
            f"{folder} is no run folder: it has no run.json", "give the folder that `convatlas train` wrote"
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        schema = record["schema"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path} is not what `convatlas train` writes ({error!r})", "restore it, or train again"
        ) from error
    if schema not in READS:
        raise other_version(path, schema, READS)
    for name, kind in PARTS.items():
        if not isinstance(record.get(name), kind):
            fault = "lacks" if name not in record else "has something else as"
            raise UserError(f"{path} {fault} {name!r}", "restore it, or train again")
    classes = record["classes"]
    if not all(isinstance(name, str) for name in classes) or len(classes) != record["build"].get("classes"):
        raise UserError(
            f"{path} does not name as many classes as its network tells apart", "restore it, or train again"
        )
    return Run(folder, record)
