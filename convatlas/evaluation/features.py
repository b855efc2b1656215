"""Feature maps of a network's stages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..accounting.resolve import resolve
from ..catalogue import Variant
from ..errors import UserError
from ..layers import ConvNet, eval_mode


@torch.no_grad()
def features(network: nn.Module | Variant | str, images: Tensor) -> dict[str, Tensor]:
    """Each stage's feature map (N, C, H, W) for normalised images (N, channels, H, W), by stage name; in eval mode.

    `network` is a ConvNet, or a catalogue name or Variant, which is built with fresh weights. `net.feature_info`
    describes a ConvNet's stages. Raises UserError for a network that is not a ConvNet.
    """
    net, name, _, _ = resolve(network, tuple(images.shape[1:]), meta=False)
    if not isinstance(net, ConvNet):
        raise UserError(f"{name} is not a ConvNet, so its stages are not known", "give a network of the catalogue")
    with eval_mode(net):
        maps = net.features(images)
    return dict(zip((stage for stage, _ in net.stages.named_children()), maps, strict=True))
