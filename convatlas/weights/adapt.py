"""A network with weights, made to read images of another number of channels."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from ..errors import UserError
from ..layers import ConvNet
from ..preprocess import Preprocess


def with_channels(preprocess: Preprocess, channels: int) -> Preprocess:
    """The same preparation for images of 1 or 3 channels: a grey image gets the average mean and deviation."""
    if channels not in (1, 3):
        raise UserError(f"channels={channels} is not 1 or 3", "give 1 for grey images, 3 for colour ones")
    if preprocess.whiten not in ("channel", "mean"):
        raise UserError(f"whiten={preprocess.whiten} has statistics of {preprocess.input[0]}-channel images only")
    mean, std = (sum(values) / len(values) for values in (preprocess.mean, preprocess.std))
    return replace(
        preprocess,
        input=(channels, *preprocess.input[1:]),
        mean=(mean,) * channels,
        std=(std,) * channels,
        order="RGB",
    )


@torch.no_grad()
def read_channels(net: ConvNet, channels: int) -> str:
    """Changes the first convolution so that a grey image gives the same as that image in three channels; says how."""
    name, conv = next((name, m) for name, m in net.named_modules() if isinstance(m, nn.Conv2d))
    if conv.groups > 1:
        raise UserError(f"{name} reads each channel by itself", f"give {conv.in_channels}-channel images")
    weight = conv.weight.sum(1, keepdim=True)
    conv.weight = nn.Parameter(weight if channels == 1 else weight.repeat(1, channels, 1, 1) / channels)
    conv.in_channels = channels
    assert net.input is not None
    net.input = (channels, *net.input[1:])
    how = "summed over its channels" if channels == 1 else "repeated for each channel and divided by their number"
    return f"first convolution {how}, to read images of {channels} {'channel' if channels == 1 else 'channels'}"
