"""What multiprocessing's forkserver runs once for all processes of tests/train/faults.py: the slow imports."""

import tempfile
from pathlib import Path

import torch

from convatlas.catalogue import find
from convatlas.layers import on_meta
from convatlas.runs.curves import curves
from tests.train.faults import MOMENTUM, NETWORK
from tests.trained import digits

torch.set_num_threads(1)
digits(2, 2)
with on_meta():
    find(NETWORK).build(input=(1, 8, 8), classes=10, **dict(MOMENTUM.net))
with tempfile.TemporaryDirectory() as here:
    line = {"epoch": 1, "train": {"loss": 1.0, "top1": 0.5}, "test": {"loss": 1.0, "top1": 0.5}}
    curves([line], Path(here) / "x.png")
