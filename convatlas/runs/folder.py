"""Reading a run folder: what was trained, on what, how it went, and the weights.

run.json            the settings: network, recipe, data, preprocessing, seed, machine; written once
log.jsonl           the progress: a line every few steps and one every epoch
log.csv             the log's epochs as a table
last.safetensors    the latest checkpoint (see checkpoint.py); previous.safetensors, the one before it
skipped.jsonl       the files that were skipped, if any, each with the reason
best.safetensors    the weights of the epoch with the highest top-1 on the val images, if the data has any
preprocess.safetensors  statistics of the training images for normalisation, if the recipe needs them
curves.png          the learning curves
start.safetensors, suspects.csv  of a transfer: what training starts from, and labels that look wrong
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
from .log import held_out, read_log
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
        """How an image is turned into the network's input."""
        return self.record.preprocess

    @property
    def recipe(self) -> Recipe:
        return self.record.recipe

    @cached_property
    def normalizer(self) -> Normalizer:
        """The preprocessing with the statistics that were measured on the training images; read once."""
        if self.preprocess.whiten not in MEASURED:
            return Normalizer(self.preprocess)
        paths = [self.folder / f"{name}.safetensors" for name in ("preprocess", *WHICH)]
        there = next((path for path in paths if path.exists()), paths[0])
        return Normalizer(self.preprocess, measured(checkpoint.load(there)[0]))

    def log(self) -> list[dict[str, Any]]:
        """The lines of log.jsonl except damaged ones; empty before the first is written."""
        return read_log(self.folder / "log.jsonl")

    def epochs(self) -> list[dict[str, Any]]:
        """The log's lines about completed epochs: lr, training loss and top-1, held-out scores, images/s."""
        judged = "val" if "val" in self.record.data else "test"
        return [line for line in self.log() if line["kind"] == "epoch" and held_out(line) == judged]

    def chosen(self) -> dict[str, Any] | None:
        """The log's line of the epoch with the highest top-1 on the val images, or, as test images choose nothing, of
        the last; None before the end of the first."""
        epochs = self.epochs()
        if epochs and held_out(epochs[-1]) == "val":
            return max(epochs, key=lambda line: line["val"]["top1"])
        return epochs[-1] if epochs else None

    @property
    def seconds(self) -> float:
        """What the logged epochs took to train, by the images a second that their lines have."""
        images = self.record.data["train"]["images"]
        return sum(images / line["images_per_s"] for line in self.epochs() if line["images_per_s"])

    def load(self, which: str | None = None, device: str | torch.device = "cpu") -> ConvNet:
        """The network in eval mode with the "best" or the "last" weights; averaged weights if the run kept them.

        By default the best if there is one (runs with val images keep it), else the last. Raises UserError when there
        is no such checkpoint yet, or when it does not fit the network exactly.
        """
        net = rebuild(self.network, self.record.options, self.preprocess, self.folder / FILE)
        load_tensors(net, self.weights(which), str(self.checkpoint(which)))
        return net.to(device).eval()

    def checkpoint(self, which: str | None = None) -> Path:
        """The file that `load` reads. Raises UserError unless `which` is one of WHICH or None."""
        if which not in (*WHICH, None):
            raise unknown("checkpoint", str(which), WHICH)
        best = self.folder / checkpoint.BEST
        return best if which == "best" or (which is None and best.exists()) else self.folder / checkpoint.LAST

    def weights(self, which: str | None = None) -> dict[str, Tensor]:
        """The tensors that `load` puts into the network, by state dict key, on the CPU."""
        path = self.checkpoint(which)
        tensors = checkpoint.load(path)[0]
        if not same(measured(tensors), self.normalizer.tensors):
            raise UserError(
                f"{path} was trained with other normalisation statistics than those in preprocess.safetensors",
                "restore the preprocess.safetensors of this run",
            )
        return averaged(tensors)


def runs_below(folder: str | Path) -> list[Run]:
    """The runs in a folder, at any depth, sorted by name. Raises UserError if there are none, and for a damaged one."""
    found = [open_run(file.parent) for file in sorted(Path(folder).rglob(FILE))]
    if not found:
        raise UserError(f"{folder} has no runs", "give a folder that holds run folders")
    return found


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(t, b[name]) for name, t in a.items())


def open_run(folder: str | Path) -> Run:
    """Opens the run in that folder. Raises UserError when it is not a run folder, saying what is missing."""
    return Run(Path(folder), read_record(folder))
