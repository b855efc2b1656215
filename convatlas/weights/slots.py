"""Layers with tensors: those of a network, with what feeds what, and those of a weights file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..accounting import account
from ..accounting.layer_graph import layer_graph

COUNTER = "num_batches_tracked"  # of training: evaluation does not read it

Key = tuple[object, ...]


@dataclass(frozen=True)
class Layer:
    """One layer's tensors by role (weight, bias, running_mean, running_var)."""

    name: str
    tensors: Mapping[str, Tensor]

    @property
    def is_norm(self) -> bool:
        return "running_mean" in self.tensors

    @property
    def key(self) -> Key:
        """What layers must agree in to be the same one: a norm's channels, or the weight's shape without trailing 1s.

        Whether there is a bias does not count: a batch norm may have taken it in.
        """
        if self.is_norm:
            return "norm", self.tensors["running_mean"].numel()
        if "weight" not in self.tensors:
            return tuple(sorted((role, tuple(t.shape)) for role, t in self.tensors.items()))
        shape = tuple(self.tensors["weight"].shape)
        while len(shape) > 2 and shape[-1] == 1:
            shape = shape[:-1]
        return "weight", *shape


@dataclass(frozen=True)
class Network:
    """The layers of a network in the order in which they run, and how they depend on each other."""

    layers: tuple[Layer, ...]
    before: Mapping[str, frozenset[str]]  # by layer: all layers that its input depends on
    feeds: Mapping[str, frozenset[str]]  # by layer: those that feed it directly, through layers without tensors
    untraced: tuple[Layer, ...] = ()  # heads for training alone

    def one_after_the_other(self, a: str, b: str) -> bool:
        return a in self.before[b] or b in self.before[a]


def layers_of(tensors: Mapping[str, Tensor]) -> tuple[Layer, ...]:
    """The layers of a state dict, in the order of their first tensors; counters of training are left out."""
    found: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        layer, _, role = name.rpartition(".")
        if role != COUNTER:
            found.setdefault(layer, {})[role] = tensor
    return tuple(Layer(name, roles) for name, roles in found.items())


def network_of(net: nn.Module, shape: tuple[int, ...]) -> Network:
    """The layers of a network for images of that C x H x W."""
    layers = {layer.name: layer for layer in layers_of(net.state_dict())}
    graph = layer_graph(account(net, input=shape), "leaf")
    sources: dict[int, list[int]] = {}
    for edge in graph.edges:
        sources.setdefault(edge.target, []).append(edge.source)
    owners = {i: owner for i, row in enumerate(graph.rows) if (owner := owner_of(row.path, layers)) is not None}
    feeds: dict[str, frozenset[str]] = {}
    before: dict[str, frozenset[str]] = {}
    reached: dict[int, frozenset[str]] = {}  # by row without tensors: the layers that feed it
    for i in graph.drawn:
        direct = frozenset().union(
            *(reached[s] if s not in owners else {owners[s]} for s in sources.get(i, ()) if s >= 0)
        )
        if i not in owners:
            reached[i] = direct
            continue
        own = owners[i]
        feeds[own] = feeds.get(own, frozenset()) | (direct - {own})
        before[own] = before.get(own, frozenset()) | direct.union(*(before[d] for d in direct)) - {own}
    ran = [layers[name] for name in before]
    rest = tuple(layer for name, layer in layers.items() if name not in before)
    return Network(tuple(ran), before, feeds, rest)


def owner_of(path: str, layers: Mapping[str, Layer]) -> str | None:
    """The layer that a row of the account belongs to: the row's module, or the module whose parameter it uses."""
    while path and path not in layers:
        path = path.rpartition(".")[0]
    return path or None
