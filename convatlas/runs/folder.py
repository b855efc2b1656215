"""A run folder, read: what was trained, on what, how it went, and the weights.

run.json            what was asked for: network, recipe, data, preprocessing, seed, machine; written once
log.jsonl           what happened: a line every so many steps and every epoch
log.csv             its epochs as a table
last.safetensors    where training stands (see checkpoint.py); previous.safetensors, where it stood one save before
skipped.jsonl       the files that were left out, if any, each with the reason
best.safetensors    the weights of the epoch with the highest top-1 on the val images, where the data has any
preprocess.safetensors  what was measured on the training images to normalise pixels by, where the recipe asks for it
curves.png
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.normalise import Normalizer
from ..errors import UserError, unknown
from ..layers import ConvNet
from ..preprocess import MEASURED, Preprocess
from ..recipe import Recipe
from . import checkpoint
from .checkpoint import averaged, load_tensors, measured
from .log import read_log
from .record import FILE, RunRecord, read_record, rebuild

WHICH = ("best", "last")


@dataclass(frozen=True)
class Run:
    folder: Path
    record: RunRecord

    @property
    def network(self) -> str:
        return self.record.network

    @property
    def classes(self) -> tuple[str, ...]:
        return self.record.classes

    @property
    def preprocess(self) -> Preprocess:
        """How images become the network's input."""
        return self.record.preprocess

    @property
    def recipe(self) -> Recipe:
        return self.record.recipe

    @cached_property
    def normalizer(self) -> Normalizer:
        """The preprocessing with what was measured for it on the training images; read once."""
        if self.preprocess.whiten not in MEASURED:
            return Normalizer(self.preprocess)
        paths = [self.folder / f"{name}.safetensors" for name in ("preprocess", *WHICH)]
        there = next((path for path in paths if path.exists()), paths[0])
        return Normalizer(self.preprocess, measured(checkpoint.load(there)[0]))

    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl, but for damaged ones; none before the first is written."""
        return read_log(self.folder / "log.jsonl")

    def epochs(self) -> list[dict[str, Any]]:
        """The log's lines about whole epochs: rate, loss and top-1 in training, the test's scores, images/s."""
        return [line for line in self.log() if line["kind"] == "epoch"]

    def load(self, which: str | None = None, device: str | torch.device = "cpu") -> ConvNet:
        """The network in eval mode, with the weights of its "best" epoch or of the "last"; averaged, if the run did so.

        By default the best where the run kept one (it does where it has images to choose by), else the last.

        Raises UserError when there is no such checkpoint yet, or when it does not fit the network exactly.
        """
        net = rebuild(self.network, self.record.options, self.folder / FILE)
        load_tensors(net, self.weights(which), str(self.checkpoint(which)))
        return net.to(device).eval()

    def checkpoint(self, which: str | None = None) -> Path:
        """The file that `load` reads. Raises UserError unless `which` is one of WHICH or None."""
        if which not in (*WHICH, None):
            raise unknown("checkpoint", str(which), WHICH)
        best = self.folder / checkpoint.BEST
        return best if which == "best" or (which is None and best.exists()) else self.folder / checkpoint.LAST

    def weights(self, which: str | None = None) -> dict[str, Tensor]:
        """The tensors that `load` gives the network, by their names in its state dict, on the CPU."""
        path = self.checkpoint(which)
        tensors = checkpoint.load(path)[0]
        if not same(measured(tensors), self.normalizer.tensors):
            raise UserError(
                f"{path} was trained on images that were normalised by other tensors than preprocess.safetensors has",
                "put back the one that belongs to it",
            )
        return averaged(tensors)


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[name]) for name, t in a.items())


def open_run(folder: str | Path) -> Run:
    """The run in that folder. Raises UserError when it is not a run folder, naming what is missing."""
    return Run(Path(folder), read_record(folder))
