"""The network that a transfer starts from: the model's weights, and a new classifier that holds a linear model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..catalogue import Shape, find
from ..data.normalise import Normalizer
from ..data.types import Data
from ..errors import UserError
from ..layers import ConvNet, on_meta
from ..runs.checkpoint import load_tensors
from ..weights.model import Model, adapted
from .probe import Probe


def suited(model: Model, data: Data, input: Shape | None = None) -> Model:
    """The model as these images need it: a first convolution for grey ones, images of one size whole, another `input`.

    Raises UserError for a network that is not a ConvNet, and for an `input` that it cannot take.
    """
    net, preprocess = model.net, model.preprocess
    if not isinstance(net, ConvNet):
        raise UserError(f"{model.network} is not a ConvNet, and cannot be transferred", "give a network of the atlas")
    if len(data.mean) == 1 and preprocess.input[0] == 3 and preprocess.whiten in ("channel", "mean"):
        model = adapted(model, None, 1)
        preprocess = model.preprocess
    if input and input != preprocess.input:
        if preprocess.whiten not in ("channel", "mean") or input[0] != preprocess.input[0]:
            size = "x".join(map(str, preprocess.input))
            raise UserError(f"these weights are for images of {size}", "leave out --input")
        resize = preprocess.resize and round(preprocess.resize * max(input[1:]) / max(preprocess.input[1:]))
        preprocess = replace(preprocess, input=input, resize=resize and max(resize, *input[1:]))
        resized = find(model.network).build(input=preprocess.input, **options_of(model))
        load_tensors(resized, model.net.state_dict(), model.source)
        model = replace(model, net=resized.eval())
    if data.shape is not None and preprocess.resize_mode == "crop":
        preprocess = replace(preprocess, resize=max(preprocess.input[1:]))
    if preprocess != model.preprocess:
        model = replace(model, normalizer=Normalizer(preprocess, model.normalizer.tensors))
    return model


def options_of(model: Model, classes: int | None = None) -> dict[str, Any]:
    """The options with which its network is built: its own; for other `classes`, with a classifier that tunes."""
    own = {name: value for name, value in model.options.items() if name not in ("channels", "input")}
    if classes is None:
        return own
    signed = {"signed": True} if "signed" in find(model.network).options else {}
    return {name: value for name, value in own.items() if name != "classes"} | signed


@torch.no_grad()
def with_probe(model: Model, probe: Probe) -> ConvNet:
    """The network with the model's weights, in eval mode, and the probe as its classifier: its logits are the probe's.

    Auxiliary classifiers are new. Raises UserError for a network whose classifier is not linear.
    """
    classes = len(probe.bias)
    shape = model.preprocess.input
    net = find(model.network).build(input=shape, classes=classes, **options_of(model, classes)).eval()
    final = tuple(f"{path}." for path in net.logits_layers)
    theirs = model.net.state_dict()
    net.load_state_dict({name: t if name.startswith(final) else theirs[name] for name, t in net.state_dict().items()})
    take_eps(net, model.eps)
    write(net, probe)
    return net


def take_eps(net: nn.Module, eps: Mapping[str, float]) -> None:
    """Moves what the weights' epsilons of batch norms, by layer, differ from the network's into the variances."""
    for layer, value in eps.items():
        norm: Any = net.get_submodule(layer)
        norm.running_var += value - norm.eps


def write(net: ConvNet, probe: Probe) -> None:
    """Writes the probe into the network's last layer."""
    layer = final_layer(net)
    layer.weight.copy_((probe.weight / gain_of(net, layer)).view_as(layer.weight))
    if layer.bias is not None:
        layer.bias.copy_(probe.bias)


def has_bias(model: Model, classes: int) -> bool:
    """Whether the new classifier has one. Raises UserError for a network whose classifier is not linear."""
    with on_meta():
        net = find(model.network).build(input=model.preprocess.input, classes=classes, **options_of(model, classes))
    return final_layer(net).bias is not None


def final_layer(net: ConvNet) -> nn.Linear | nn.Conv2d:
    """The layer that gives the logits. Raises UserError unless it, and what follows it, is linear."""
    path = net.logits_layers[0]
    layer = net.get_submodule(path)
    children = list(layer.children())
    if len(children) == 1:
        (layer,) = children
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise UserError(
            f"{net.variant or type(net).__name__} ends in {type(layer).__name__}, which is not a linear layer",
            "transfer another network",
        )
    return layer


@torch.no_grad()
def gain_of(net: ConvNet, layer: nn.Linear | nn.Conv2d) -> float:
    """What the network multiplies features @ weight.T by: a ninth in airbench; less than 1 where positions of padding
    are averaged too. Raises UserError where its logits are no such multiple."""
    assert net.input is not None
    read: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    logits = net(torch.rand(2, *net.input, generator=torch.Generator().manual_seed(0)))
    hook.remove()
    features = read[0].flatten(2).mean(2) if read[0].dim() == 4 else read[0]
    linear = features @ layer.weight.flatten(1).T
    if layer.bias is not None:
        logits = logits - layer.bias
    gain = float((logits * linear).sum() / linear.square().sum())
    if not torch.allclose(logits, gain * linear, rtol=1e-3, atol=1e-3 * float(linear.abs().max())):
        raise UserError(f"the logits of {net.variant} are not linear in its features", "transfer another network")
    return gain
