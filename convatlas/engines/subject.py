"""What is measured of a model on whichever engine: accuracy, size on disk, computation, memory predicted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ..accounting import Account, account
from ..accounting.memory.figures import Memory
from ..accounting.memory.predict import memory
from ..data.types import Data
from ..errors import UserError
from ..evaluation.scoring import evaluate
from ..layers import ConvNet
from ..weights.model import Model, locate
from .calibration import calibration_images
from .job import Job
from .results import Accuracy


@dataclass(frozen=True)
class Asked:
    """What is wanted of every job."""

    batches: tuple[int, ...]
    seconds: float  # of rounds, a record
    data: Data | None = None  # to measure the accuracy on
    data_name: str = ""
    calibrate: Data | None = None  # whose training images int8 is calibrated on


class Subject:
    """A model that is measured, on whichever engine: what does not depend on that."""

    def __init__(self, job: Job, asked: Asked):
        self.job, self.model, self.asked = job, job.load(), asked

    @cached_property
    def calibration(self) -> Tensor | None:
        """Images for int8, of which none is scored."""
        if self.asked.calibrate is None:
            return None
        scored = self.asked.data.split(None) if self.asked.data else None
        return calibration_images(self.model, self.asked.calibrate, scored)

    @cached_property
    def account(self) -> Account:
        net = self.model.net
        return account(net, self.model.preprocess.input) if isinstance(net, ConvNet) else account(self.job.model)

    @cached_property
    def memory(self) -> Memory | None:
        """What accounting predicts; None for what it cannot trace."""
        if not isinstance(self.model.net, ConvNet):
            return None
        try:
            return memory(self.model.net, self.model.preprocess.input)
        except UserError:
            return None

    def disk_bytes(self) -> int:
        """Of the weights file; of a run, or a network without weights, those of its tensors."""
        if self.job.trained and not Path(self.job.model).is_dir():
            return locate(self.job.model).stat().st_size
        return sum(tensor.nbytes for tensor in self.model.net.state_dict().values())


def accuracy(job: Job, model: Model, data: Data | None, data_name: str) -> Accuracy:
    """Measured on the data; else the published one, if what runs is what was published: the weights in fp32."""
    if not job.trained:
        return Accuracy("untrained")
    if data is not None:
        scores = evaluate(model, data, device=job.device)
        low, high = (100 * end for end in scores.interval())
        top5 = 100 * scores.top(5) if len(scores.classes) > 5 else None
        return Accuracy("measured", 100 * scores.top1, top5, scores.n, low, high, data_name, "center")
    row = model.published
    if row is None or not row.top1 or job.precision != "fp32":
        return Accuracy("unknown")
    top5 = float(row.top5) if row.top5 else None
    return Accuracy("published", float(row.top1), top5, source=row.name, protocol=row.protocol)


def size_on_disk(file: Path) -> int:
    """Of an engine's file; of model.xml with model.bin."""
    parts = [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]
    return sum(part.stat().st_size for part in parts)
