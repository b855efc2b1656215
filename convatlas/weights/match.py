"""The layers of a weights file on those of a network: by name, by a known library's names, or by order and shape where
only one way is possible.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..runs.checkpoint import as_type, by, misfit, type_name
from .files import read_weights
from .names import renamed
from .order import REMEDY, Misfit, Pair, by_order, some
from .slots import COUNTER, Layer, Network, layers_of, network_of
from .types import MAX_BYTES, Weights

AUXILIARY = re.compile(r"aux|^loss[12]\b|side_?head", re.IGNORECASE)  # heads for training alone
IMAGES = {"mean", "variance"}  # of Keras' Normalization: what prepares images is told by the source

Values = dict[str, Tensor]  # of one layer, by role


@dataclass(frozen=True)
class Fit:
    """How a file's tensors go into a network, and what had to be done for it."""

    tensors: dict[str, Tensor]  # the network's state dict, complete
    how: str  # "by name", "by the names of torchvision AlexNet", "by order and shape"
    layers: tuple[tuple[str, str], ...]  # of the file, of the network
    eps: dict[str, float]  # of batch norms whose epsilon the file gives, by layer of the network
    notes: tuple[str, ...]  # what differs, and what was done about it
    left_out: tuple[str, ...] = ()  # layers of the file that only training needs, or that prepare images

    def load(self, net: nn.Module) -> None:
        """Puts the tensors, and the epsilons that belong to them, into the network."""
        net.load_state_dict(self.tensors)
        set_eps(net, self.eps)


def set_eps(net: nn.Module, eps: Mapping[str, float]) -> None:
    """Gives batch norms, by layer, the epsilons that belong to their weights."""
    for layer, value in eps.items():
        norm = net.get_submodule(layer)
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm), layer
        norm.eps = value


def load_weights(path: str | Path, net: nn.Module, max_bytes: int = MAX_BYTES) -> Fit:
    """Loads the file's tensors into the network, whatever library named them; says how, and what had to be done.

    Raises UserError as `read_weights` and `fit` do, and for a checkpoint of another network.
    """
    weights = read_weights(path, max_bytes)
    variant = getattr(net, "variant", None)
    if variant is not None and weights.about.get("network", variant) != variant:
        raise UserError(f"{path} has weights of {weights.about['network']}", f"give weights of {variant}")
    found = fit(weights, net, str(path))
    found.load(net)
    return found


def fit(weights: Weights, net: nn.Module, source: str) -> Fit:
    """Every tensor of the file in its place in the network: by its own names, a known library's, or by order and shape.

    Nothing keeps its random start, and every layer of the file is used, or is one of `left_out`. Raises UserError,
    naming the layers, where they do not agree, or where order and shape leave more than one way.
    """
    tensors = plain_names(weights.tensors)
    theirs, own = layers_of(tensors), layers_of(net.state_dict())
    known = {layer.name: layer for layer in own}
    named = [(layer, known[layer.name]) for layer in theirs if layer.name in known]
    shape = getattr(net, "input", None)
    if len(named) == len(theirs) == len(own):
        return fitted(named, weights, net, None, "by name", source)
    kept = [layer for layer in theirs if not AUXILIARY.search(layer.name) and set(layer.tensors) != IMAGES]
    for used in (theirs, kept):
        found = renamed([layer.name for layer in used], known)
        if found and len(used) == len(own):
            pairs = [(layer, known[found.layers[layer.name]]) for layer in used]
            made = fitted(pairs, weights, net, None, f"by the names of {found.table}", source)
            return replace(made, left_out=tuple(layer.name for layer in theirs if layer not in used))
    names = {layer.name for layer, _ in named}
    lacks = [layer for layer in own if layer.name not in names]
    if shape is not None and weights.folded and len(named) == len(theirs) and all(layer.is_norm for layer in lacks):
        return fitted(named, weights, net, network_of(net, shape), "by name", source)
    if shape is None or 2 * len(named) > len(own):
        raise Misfit(*misfit(net, tensors, source).args)
    network = network_of(net, shape)
    if network.untraced:
        raise Misfit(
            f"{source} has other names than {name_of(net)}, whose {some(network.untraced)} run in training only",
            "build the network with aux=False",
        )
    if not any(layer.is_norm for layer in kept):
        network = without_norms(network)
    made = fitted(by_order(kept, network, name_of(net), source), weights, net, network, "by order and shape", source)
    return replace(made, left_out=tuple(layer.name for layer in theirs if layer not in kept))


def plain_names(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state dict without a prefix that every name has: DataParallel's "module.", torch.compile's "_orig_mod."."""
    while (first := next(iter(tensors), "").partition(".")[0]) in ("module", "_orig_mod", "model", "net"):
        prefix = f"{first}."
        if not all(name.startswith(prefix) for name in tensors):
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def without_norms(network: Network) -> Network:
    """The network as exporters leave it: each batch norm that follows one layer is part of it."""
    return replace(network, layers=tuple(layer for layer in network.layers if not layer.is_norm))


def fitted(
    pairs: Sequence[Pair], weights: Weights, net: nn.Module, network: Network | None, how: str, source: str
) -> Fit:
    """The state dict that the pairs make, each tensor in the shape that the network has."""
    values = {own.name: dict(layer.tensors) for layer, own in pairs}
    file_name = {own.name: layer.name for layer, own in pairs}
    own_layers = {layer.name: layer for layer in layers_of(net.state_dict())}
    notes: Counter[str] = Counter()
    if network is not None:
        biases_into_norms(values, own_layers, network, net, notes)
    completed(values, own_layers, notes)
    made: dict[str, Tensor] = {}
    for name, tensor in net.state_dict().items():
        layer, _, role = name.rpartition(".")
        if role == COUNTER:
            made[name] = torch.zeros((), dtype=tensor.dtype)
            continue
        value = values.get(layer, {}).pop(role, None)
        if value is None:
            raise Misfit(f"{source} has nothing for {name} of {name_of(net)}", REMEDY)
        channels = channels_before(layer, own_layers, network) if network and weights.channels_last else None
        shaped = as_shaped(value, tensor.shape, channels)
        if shaped is None:
            raise Misfit(
                f"{source} does not fit {name_of(net)}: size mismatch: {name} ({by(value)} in the file, where it is "
                f"{file_name[layer]}.{role}, {by(tensor)} in the network)",
                REMEDY,
            )
        if value.dtype != tensor.dtype:
            notes[f"{type_name(value.dtype)} made {type_name(tensor.dtype)}"] += 1
        made[name] = as_type(name, shaped, tensor.dtype, source)
    for layer, rest in values.items():
        for role in rest:
            raise Misfit(
                f"{source} has {file_name[layer]}.{role}, and {layer} of {name_of(net)} has no {role}",
                REMEDY,
            )
    eps = {own.name: weights.eps[layer.name] for layer, own in pairs if layer.name in weights.eps}
    said = tuple(f"{text} ({count} times)" if count > 1 else text for text, count in notes.items())
    return Fit(made, how, tuple((a.name, b.name) for a, b in pairs), eps, said)


def biases_into_norms(
    values: dict[str, Values], own: Mapping[str, Layer], network: Network, net: nn.Module, notes: Counter[str]
) -> None:
    """Gives the bias of a layer that has none in the network to the batch norm after it.

    That norm's mean takes it in; a norm that the file lacks was folded into the layer, and then only adds the bias.
    """
    for name, norm in own.items():
        if not norm.is_norm or len(network.feeds.get(name, ())) != 1:
            continue
        (before,) = network.feeds[name]
        if before not in values or own[before].is_norm or "bias" in own[before].tensors:
            continue
        if name not in values:
            values[name] = only_bias(norm, values[before].pop("bias", None), float(net.get_submodule(name).eps))  # type: ignore[arg-type]
            notes["batch norm folded into the layer before it: left to add the bias"] += 1
        elif "bias" in values[before]:
            values[name]["running_mean"] = values[name]["running_mean"] - values[before].pop("bias")
            notes["bias before a batch norm: taken into its mean"] += 1


def only_bias(norm: Layer, bias: Tensor | None, eps: float) -> Values:
    """What makes a batch norm add a bias and change nothing else."""
    mean = norm.tensors["running_mean"]
    zeros = torch.zeros(mean.shape, dtype=mean.dtype)
    made = {"running_mean": zeros, "running_var": zeros + (1 - eps)}
    if "weight" in norm.tensors:
        made["weight"] = zeros + 1
    if "bias" in norm.tensors:
        made["bias"] = zeros if bias is None else bias
    return made


def completed(values: Mapping[str, Values], own: Mapping[str, Layer], notes: Counter[str]) -> None:
    """A scale of 1 or a bias of 0 for batch norms, where none in the file has one; those that ours lack are dropped."""
    norms = {name: given for name, given in values.items() if own[name].is_norm}
    for role, neutral, what in (("weight", 1.0, "scale"), ("bias", 0.0, "bias")):
        lacking = {name: given for name, given in norms.items() if role in own[name].tensors and role not in given}
        if lacking and not any(role in given for given in norms.values()):
            for name, given in lacking.items():
                given[role] = torch.full(own[name].tensors[role].shape, neutral)
            notes[f"batch norms without a {what}: {neutral:g}"] += 1
        surplus = [given for name, given in norms.items() if role in given and role not in own[name].tensors]
        if surplus and all(bool((given[role] == neutral).all()) for given in surplus):
            for given in surplus:
                del given[role]
            notes[f"batch norms with a {what} of {neutral:g} only, which the network has not: dropped"] += 1


def channels_before(name: str, own: Mapping[str, Layer], network: Network) -> int | None:
    """The channels of the map that feeds a layer, if one layer makes it."""
    if len(network.feeds.get(name, ())) != 1:
        return None
    (before,) = network.feeds[name]
    return int(own[before].tensors["running_mean" if own[before].is_norm else "weight"].shape[0])


def as_shaped(value: Tensor, shape: torch.Size, channels: int | None) -> Tensor | None:
    """The tensor in the network's shape: 1x1 convolutions are linear layers, and those of a flattened map convolutions.

    `channels` are those of a map that the file flattens as (height, width, channels). None if the sizes differ.
    """
    if value.numel() != shape.numel() or value.shape[:1] != shape[:1]:
        return None
    if value.dim() == 4 and len(shape) == 4 and value.shape != shape:
        return None
    if value.dim() == 2 and channels and value.shape[1] > channels and value.shape[1] % channels == 0:
        value = value.reshape(value.shape[0], -1, channels).transpose(1, 2)
    return value.reshape(shape)


def name_of(net: nn.Module) -> str:
    return getattr(net, "variant", None) or type(net).__name__
