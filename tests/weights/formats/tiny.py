"""The network of tests/goldens/weights, which Keras and TensorFlow wrote there with what it computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convatlas.weights.types import Weights

WRITTEN = Path(__file__).parents[2] / "goldens" / "weights"
CONVOLUTIONS = ("first", "deep", "sep.depthwise", "sep.pointwise", "grouped", "head")


def computed(weights: Weights, layers: dict[str, str], eps: float) -> Tensor:
    """Its logits, from the tensors of these layers: `layers` maps its names to those in the file."""
    with np.load(WRITTEN / "expected.npz") as file:
        x = torch.from_numpy(file["x"]).permute(0, 3, 1, 2)

    def tensor(layer: str, role: str) -> Tensor | None:
        return weights.tensors.get(f"{layers[layer]}.{role}")

    def convolved(x: Tensor, layer: str, groups: int = 1) -> Tensor:
        weight = tensor(layer, "weight")
        assert weight is not None
        return F.conv2d(x, weight, tensor(layer, "bias"), groups=groups)

    x = convolved(F.pad(x, (0, 1, 1, 1)), "first")  # what SAME means for a kernel of 3 x 2
    if "norm" in layers:
        mean, variance = tensor("norm", "running_mean"), tensor("norm", "running_var")
        x = F.batch_norm(x, mean, variance, tensor("norm", "weight"), tensor("norm", "bias"), eps=eps)
    x = convolved(x.relu(), "deep", 4)
    x = convolved(convolved(x, "sep.depthwise", 8), "sep.pointwise")
    x = convolved(x, "grouped", 2)
    weight = tensor("head", "weight")
    assert weights.channels_last
    assert weight is not None
    return F.linear(x.permute(0, 2, 3, 1).flatten(1), weight, tensor("head", "bias"))


def expected() -> Tensor:
    with np.load(WRITTEN / "expected.npz") as file:
        return torch.from_numpy(file["y"])


def named(**others: str) -> dict[str, str]:
    return {name: name for name in ("norm", *CONVOLUTIONS)} | others
