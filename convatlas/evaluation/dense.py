"""Maps denser than a network makes them: a stride is kept, and the layers behind it see each of the finer grids.

That is what dilated convolutions compute, in another order. Instead of spreading the taps of a layer by k, the k x k
grids of positions that belong together are put into the batch, where each layer runs as it is: average pools and
TensorFlow's padding, too. The grid from the corner is the network's own map. Squeeze-and-excitation sees a grid alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..layers import GROWTH_PX, ConvNet, FeaturesOf, meta_output


class EveryOffset(nn.Module):
    """A layer of stride s, at each of the s x s offsets: (N, C, H, W) -> (N * s * s, C, H / s, W / s)."""

    def __init__(self, layer: nn.Module, stride: int):
        super().__init__()
        self.layer, self.stride = layer, stride

    def forward(self, x: Tensor) -> Tensor:
        offsets = product(range(self.stride), repeat=2)
        return torch.stack([self.shifted(x, top, left) for top, left in offsets], 1).flatten(0, 1)

    def shifted(self, x: Tensor, top: int, left: int) -> Tensor:
        """The layer's output for windows that begin `top` and `left` pixels later.

        The map is moved back by the rest of a stride, so that the pixels before the first window are still seen.
        """
        above, before = -top % self.stride, -left % self.stride
        if isinstance(self.layer, nn.Conv2d):
            x = F.pad(x, (before, left, above, top))
        else:  # what pools would take for a pixel
            x = F.pad(x, (before, left, above, top), mode="replicate")
        return self.layer(x)[..., top > 0 :, left > 0 :]


def together(x: Tensor, strides: Sequence[int]) -> Tensor:
    """The grids of each EveryOffset before, interleaved: (N * k * k, C, H, W) -> (N, C, k * H, k * W)."""
    for s in reversed(strides):
        grids = x.unflatten(0, (-1, s, s))  # N x s x s x C x H x W
        x = grids.permute(0, 3, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
    return x


def keep_stride(net: ConvNet, stride: int, name: str) -> list[list[int]]:
    """Changes `net` so that no layer makes maps of a larger stride; for each stage, what `together` needs.

    Raises UserError for a stride that the network cannot keep.
    """
    if isinstance(stride, bool) or not isinstance(stride, int) or stride < 1:
        raise UserError(f"stride={stride!r} is not a stride", "give a whole number of pixels, such as 8 or 16")
    info, layers = net.feature_info, strides(net)
    for before, s in layers.values():
        if before < stride < before * s:
            known = sorted({level for b, by in layers.values() for level in (b, b * by)})
            raise UserError(f"{name} has no map of stride {stride}", f"its strides are {', '.join(map(str, known))}")
    kept = {path: (before, s) for path, (before, s) in layers.items() if before >= stride}
    for path, (_, s) in kept.items():
        net.set_submodule(path, EveryOffset(net.get_submodule(path), s))
    levels = sorted(set(kept.values()))
    needed = [[s for before, s in levels if before * s <= feature.stride] for feature in info]
    if any(feature.stride != min(feature.stride, stride) * prod(n) for feature, n in zip(info, needed, strict=True)):
        raise UserError(f"{name} makes maps smaller outside of its layers", "leave out the stride")
    return needed


def strides(net: ConvNet) -> dict[str, tuple[int, int]]:
    """The layers that make the map smaller, by path: the stride of the map that they read, and their own."""
    assert net.input is not None
    c, h, w = net.input
    leaves = {path: m for path, m in net.named_modules() if path and not any(True for _ in m.children())}
    heights: dict[str, list[tuple[int, int]]] = {path: [] for path in leaves}

    def note(path: str, module: nn.Module, given: Any, made: Any) -> None:
        if all(isinstance(t, Tensor) and t.ndim == 4 for t in (given[0], made)):
            heights[path].append((given[0].shape[2], made.shape[2]))

    hooks = [m.register_forward_hook(partial(note, path)) for path, m in leaves.items()]
    for more in (0, GROWTH_PX):
        meta_output(FeaturesOf(net), (c, h + more, w + more))
    for hook in hooks:
        hook.remove()
    found: dict[str, tuple[int, int]] = {}
    for path, seen in heights.items():
        if seen:
            read, made = (large - small for small, large in zip(seen[0], seen[-1], strict=True))
            if made and read > made:
                found[path] = GROWTH_PX // read, read // made
    return found
