"""What multiprocessing's forkserver runs once for all processes of tests/train/faults.py: the slow imports."""

import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure

from convatlas.catalogue import find
from convatlas.files.figure import write
from convatlas.layers import on_meta
from tests.train.faults import MOMENTUM, NETWORK
from tests.trained import digits

torch.set_num_threads(1)
digits(2, 2)
with on_meta():
    find(NETWORK).build(input=(1, 8, 8), classes=10, **dict(MOMENTUM.net))
with tempfile.TemporaryDirectory() as here:
    write(Figure(), Path(here) / "x.png")
