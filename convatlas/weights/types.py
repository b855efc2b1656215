"""Weights: what a weights file holds, whichever framework wrote it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

MAX_BYTES = 8 << 30  # for a file, and for all tensors in it; the largest network here has 0.6 GB


@dataclass(frozen=True)
class Weights:
    """What a weights file holds, whichever framework wrote it, as torch would name and lay it out.

    `tensors` are on the CPU, in the file's order, named LAYER.ROLE: roles are weight, bias, running_mean and
    running_var; a convolution's weight is (out, in / groups, height, width), a linear layer's (out, in).
    """

    tensors: dict[str, Tensor]
    # for a convatlas checkpoint: its network, options, preprocessing and classes, and the normalizer's tensors
    about: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Tensor] = field(default_factory=dict)
    format: str = "torch"  # one of weights/formats/, torch or safetensors
    channels_last: bool = False  # maps are flattened as (height, width, channels): Keras and TensorFlow do
    folded: bool = False  # batch norms may be folded into the convolutions before them: ONNX and TFLite files
    eps: dict[str, float] = field(default_factory=dict)  # of batch norms, by layer, where the file gives it
    network: str = ""  # what the file calls its network
    classes: tuple[str, ...] = ()  # where the file names them
