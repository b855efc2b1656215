"""Small models with random weights, and a folder of photographs that are easy to tell apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from convatlas.catalogue import find
from convatlas.data.names import unnamed
from convatlas.data.normalise import Normalizer
from convatlas.layers import shape_after
from convatlas.preprocess import Preprocess
from convatlas.weights.model import Model


def model_of(name: str, options: dict[str, Any], seed: int = 0, **more: Any) -> Model:
    """A Model with random weights, its batch norms away from their start."""
    torch.manual_seed(seed)
    shape = (1, 28, 28) if name.startswith("lenet") else (3, 32, 32)
    net = find(name).build(input=shape, **options).eval()
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 2)
    preprocess = Preprocess(shape, (0.5,) * shape[0], (0.3,) * shape[0])
    (outputs,) = shape_after(net, shape)
    return Model(net, Normalizer(preprocess), unnamed(outputs), name, "random", options=options, **more)


def small(seed: int = 0) -> Model:
    """A model for grey images of 8 pixels, in which every class of digits leaves its trace."""
    torch.manual_seed(seed)
    options = {"widths": (16, 16), "hidden": (64,), "classes": 10}
    net = find("chain_n1_m2_k1").build(input=(1, 8, 8), **options).eval()
    preprocess = Preprocess((1, 8, 8), (0.3,), (0.35,))
    classes = tuple("0123456789")
    return Model(net, Normalizer(preprocess), classes, "chain_n1_m2_k1", "random", options=options)


def photos(folder: Path, each: int = 6) -> Path:
    """A folder of two classes, split by convatlas: dark and bright noise."""
    random = np.random.default_rng(0)
    for name, level in (("bright", 200), ("dark", 50)):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = random.integers(level - 40, level + 40, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder
