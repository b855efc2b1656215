"""Feature maps of a network's stages, for other tasks: detection, segmentation, retrieval."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..accounting.resolve import resolve
from ..catalogue import Variant
from ..errors import UserError, unknown
from ..layers import ConvNet, eval_mode, stack
from ..runs.folder import Run
from ..weights.model import Model, load
from .dense import keep_stride, together

if TYPE_CHECKING:
    Given = nn.Module | Variant | Model | Run | str | Path


class FeatureExtractor(nn.Module):
    """Images (N, channels, H, W) in, a list of maps (N, C, H / stride, W / stride) out; `feature_info` describes them.

    `net` is the network up to the last of the maps.
    """

    def __init__(self, net: ConvNet, picked: Sequence[int], stride: int | None, name: str):
        super().__init__()
        info = net.feature_info
        without = {id(net.head): nn.Identity(), **({id(net.aux): None} if net.has_aux else {})}
        self.net: ConvNet = deepcopy(net, without)
        self.net.stages = stack(**dict(list(self.net.stages.named_children())[: max(picked, default=-1) + 1]))
        self.picked = tuple(picked)
        kept = [[]] * len(info) if stride is None else keep_stride(self.net, stride, name)
        self.kept = tuple(tuple(kept[i]) for i in picked)
        self.feature_info = tuple(
            info[i]._replace(stride=info[i].stride if stride is None else min(info[i].stride, stride)) for i in picked
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.net.features(x)
        return [together(maps[i], kept) for i, kept in zip(self.picked, self.kept, strict=True)]


def feature_extractor(
    network: Given, stages: Sequence[int | str] | None = None, stride: int | None = None
) -> FeatureExtractor:
    """A module that gives the maps of a network's stages, as a copy without classifiers that can be trained further.

    `network` is a ConvNet, a catalogue name or Variant, which is built with fresh weights, or a MODEL as `load` takes
    it: a run, a weights file, NAME@SOURCE. `stages` are names or numbers, as timm's out_indices (-1 is the last); by
    default all. With `stride`, later maps keep that stride, as with dilated convolutions: every k-th position of a map
    holds what the network itself makes there. `feature_info` has each map's name, channels and stride (reduction).

    Raises UserError for a network that is not a ConvNet, for unknown stages and for a stride that it cannot keep.
    """
    net, name = _network(network)
    return FeatureExtractor(net, _picked(net, stages, name), stride, name)


@torch.no_grad()
def features(
    network: Given, images: Tensor, stages: Sequence[int | str] | None = None, stride: int | None = None
) -> dict[str, Tensor]:
    """The maps (N, C, H, W) of a network's stages for normalised images (N, channels, H, W), by name; in eval mode.

    The arguments and errors are those of `feature_extractor`; a network by name is built for the size of the images.
    """
    net, name = _network(network, tuple(images.shape[1:]))
    extractor = FeatureExtractor(net, _picked(net, stages, name), stride, name)
    with eval_mode(extractor):
        maps = extractor(images)
    return {feature.name: y for feature, y in zip(extractor.feature_info, maps, strict=True)}


def _network(network: Given, input: tuple[int, ...] | None = None) -> tuple[ConvNet, str]:
    """The network and what to call it."""
    if isinstance(network, Run | Path) or (isinstance(network, str) and ("@" in network or Path(network).exists())):
        network = load(network)
    if isinstance(network, Model):
        network = network.net
    net, name, _, _ = resolve(network, input, meta=False, needs_input=False)
    if not isinstance(net, ConvNet):
        raise UserError(f"{name} is not a ConvNet, so its stages are not known", "give a network of the catalogue")
    return net, name


def _picked(net: ConvNet, stages: Sequence[int | str] | None, name: str) -> list[int]:
    """The numbers of the stages."""
    names = [stage for stage, _ in net.stages.named_children()]
    if stages is None:
        return list(range(len(names)))
    if isinstance(stages, str) or not isinstance(stages, Sequence) or not stages:
        raise UserError(f"stages={stages!r} is not a list of stages", f"give some of {names}, or their numbers")
    return [_number(stage, names, name) for stage in stages]


def _number(stage: int | str, names: list[str], name: str) -> int:
    if isinstance(stage, str):
        if stage not in names:
            raise unknown(f"stage of {name}", stage, names)
        return names.index(stage)
    if isinstance(stage, bool) or not isinstance(stage, int) or not -len(names) <= stage < len(names):
        raise UserError(f"{name} has no stage {stage!r}", f"give one of {names}, or its number")
    return stage % len(names)
