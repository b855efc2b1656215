"""Keras: `.keras`, `.weights.h5` and `.h5`, of Keras 3, 2 and 1.

The older `.h5` files name layers and variables. `.weights.h5` files, and the one within a `.keras` archive, name
variables by position and layers by class. Where a file has the model's configuration, it tells the order of the
layers, their classes and batch norm's epsilon; the optimizer's variables are skipped.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from ...errors import UserError
from ...files.regular import attentive
from ..types import Weights
from .collect import Tensors, from_hwim, from_hwio, one_line, reading
from .hdf5 import Group, check, groups, names, variables

ROLES = {
    "depthwise_kernel": "weight",
    "pointwise_kernel": "weight",
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "alpha": "weight",  # PReLU's
    "W": "weight",  # Keras 1
    "b": "bias",
    "running_mean": "running_mean",
    "running_std": "running_var",  # it has variances
}
VARIABLE = re.compile(rf"(?:^|_)({'|'.join(ROLES)})(?:_\d+)?$")
BY_POSITION = {  # by class: the names of its variables; of others, kernel and bias
    "depthwise_conv2d": ("kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "sync_batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "layer_normalization": ("gamma", "beta"),
    "group_normalization": ("gamma", "beta"),
    "p_re_lu": ("alpha",),
    "normalization": ("mean", "variance", "count"),  # of the images
}
DEPTHWISE = re.compile(r"depthwise|dwconv|conv_dw|(^|_)dw(_|$)")  # in a layer's name, where its class is not known
DEEPEST = 20  # of models within models


@dataclass
class Layer:
    name: str
    kind: str = ""  # its class as a variable would be called: "conv2d"; empty if the file does not say
    config: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, np.ndarray] = field(default_factory=dict)


def read(path: Path, max_bytes: int) -> Weights:
    try:
        import h5py
    except ImportError as error:
        raise UserError("reading Keras files needs h5py", "pip install 'convatlas[formats]'") from error
    with reading(path, "Keras file"):
        tensors, eps = Tensors(path, max_bytes), {}
        model: dict[str, Any] = {}
        with attentive(path) as raw, NamedTemporaryFile(suffix=".h5") as held:
            file = path
            if zipfile.is_zipfile(raw):
                archive = zipfile.ZipFile(raw)
                model, file = json.loads(part(archive, "config.json")), Path(held.name)
                file.write_bytes(part(archive, "model.weights.h5"))
            check(file)
            with h5py.File(file) as h:
                if "model_config" in h.attrs:
                    model = json.loads(h.attrs["model_config"])
                if str(names(h, "backend")[:1]).find("theano") >= 0:
                    raise UserError(f"{path} was written by Keras on Theano, which flips kernels", "give another file")
                root = h.get("model_weights", h)
                by_name = "layer_names" in root.attrs or "layer_names0" in root.attrs
                layers = list(named(root, model) if by_name else positioned(root, model))
        for layer in layers:
            if "epsilon" in layer.config and "moving_mean" in layer.variables:
                eps[layer.name] = float(layer.config["epsilon"])
            for name, role, values in laid_out(layer):
                tensors.add(name, role, values)
        return Weights(tensors.all(), format="keras", channels_last=True, eps=eps, network=called(model))


def part(archive: zipfile.ZipFile, name: str) -> bytes:
    """Keras does not compress: what is written is no longer than the archive."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed, which Keras does not do")
    return archive.read(name)


def layers_of(model: dict[str, Any], depth: int = 0) -> list[dict[str, Any]]:
    """A model's layers, in order; none for a layer. Older Sequential models have the list as their configuration."""
    config = model.get("config", {})
    found = config if isinstance(config, list) else config.get("layers", []) if isinstance(config, dict) else []
    if depth > DEEPEST:
        raise ValueError("its models are nested too deeply")
    return [layer for layer in found if isinstance(layer, dict)]


def flat(model: dict[str, Any], depth: int = 0) -> Iterator[Layer]:
    """All layers in order, those of models within included."""
    for layer in layers_of(model, depth):
        if layers_of(layer):
            yield from flat(layer, depth + 1)
        else:
            config = layer.get("config", {})
            yield Layer(str(config.get("name", layer.get("name"))), snake(layer), config)


def called(model: dict[str, Any]) -> str:
    """The model's name; where Keras chose it, that of the only model within."""
    config = model.get("config", {})
    name = str(config.get("name", "")) if isinstance(config, dict) else ""
    inner = [layer for layer in layers_of(model) if layers_of(layer)]
    if re.fullmatch(r"(functional|model|sequential)(_\d+)?|", name):
        return called(inner[0]) if len(inner) == 1 else ""
    return one_line(name)


def snake(layer: dict[str, Any]) -> str:
    """A layer's class as Keras writes it in names: DepthwiseConv2D, depthwise_conv2d."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", str(layer.get("class_name", ""))))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def named(root: Group, model: dict[str, Any]) -> list[Layer]:
    """Layers of a file that names them, in the order of the configuration, else in that of their names."""
    known = {layer.name: layer for layer in flat(model)}
    found: dict[str, Layer] = {}
    for outer in names(root, "layer_names"):
        here = root[outer]
        held = variables(here)
        listed = [name for name in names(here, "weight_names") if name in held]
        scopes = {name.rpartition("/")[0] for name in listed}
        for name in listed:
            scope, _, leaf = name.rpartition("/")
            base = scope.rpartition("/")[2]
            inner = outer if outer in known else base if base in known else outer if len(scopes) == 1 else scope
            layer = found.setdefault(inner, known.get(inner) or Layer(inner))
            leaf = leaf.partition(":")[0]
            match = VARIABLE.search(leaf)
            layer.variables[match[1] if match else leaf] = held[name]
    order = {name: i for i, name in enumerate(known)}
    return sorted(found.values(), key=lambda layer: order.get(layer.name, len(order)))


def positioned(root: Group, model: dict[str, Any]) -> list[Layer]:
    """Layers of a `.weights.h5`, in the order in which they were written, which is the model's."""
    known = dict(keys(model))
    found: list[tuple[int, Layer]] = []
    for path, place, written_as, values in groups(root):
        if path.split("/")[0] == "optimizer" or not values:
            continue
        key = path.rpartition("/")[2]
        layer = known.get(path) or Layer(written_as or path, re.sub(r"_\d+$", "", key))
        layer.variables = dict(zip(variable_names(layer, values), values))
        found.append((place, layer))
    order = {id(layer): i for i, layer in enumerate(known.values())}
    return [layer for _, layer in sorted(found, key=lambda it: (order.get(id(it[1]), len(order)), it[0]))]


def keys(model: dict[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Layer]]:
    """The path of each layer in a `.weights.h5`: its class, numbered where there are several."""
    count: dict[str, int] = {}
    for layer in layers_of(model, depth):
        kind = snake(layer)
        n = count[kind] = count.get(kind, -1) + 1
        path = f"{prefix}layers/{kind}_{n}" if n else f"{prefix}layers/{kind}"
        if layers_of(layer):
            yield from keys(layer, f"{path}/", depth + 1)
        else:
            config = layer.get("config", {})
            yield path, Layer(str(config.get("name", path)), kind, config)


def variable_names(layer: Layer, values: list[np.ndarray]) -> tuple[str, ...]:
    """By class; where that is not known, four vectors of one length are a batch norm's.

    A batch norm with three has no gamma, unless its configuration says that it has.
    """
    kind, n = layer.kind, len(values)
    if n == 4 and len({v.shape for v in values}) == 1 and values[0].ndim == 1:
        kind = "batch_normalization"
    if kind.endswith("batch_normalization"):
        absent = {"gamma"} if n < 4 and layer.config.get("scale") is not True else set()
        absent |= {"beta"} if n < 3 or (n == 3 and not absent) else set()
        return tuple(name for name in BY_POSITION["batch_normalization"] if name not in absent)
    usual = BY_POSITION.get(kind, ("kernel", "bias"))
    return (*usual, *map(str, range(len(usual), n)))[:n]


def laid_out(layer: Layer) -> Iterator[tuple[str, str, np.ndarray]]:
    """(layer, role, values) as torch has them; a separable convolution is two layers."""
    held = layer.variables
    separable = "pointwise_kernel" in held
    depthwise = "depthwise_conv" in layer.kind or (not layer.kind and DEPTHWISE.search(layer.name.lower()))
    for variable, values in held.items():
        if values.dtype.kind != "f":  # counts, and seeds of dropout
            continue
        name, role = layer.name, ROLES.get(variable, variable)
        if separable:
            name = f"{name}.{'depthwise' if variable == 'depthwise_kernel' else 'pointwise'}"
        if role == "weight" and values.ndim > 1:
            if variable == "alpha":
                values = values.reshape(-1)
            elif values.ndim == 4 and (variable == "depthwise_kernel" or (depthwise and variable == "kernel")):
                values = from_hwim(values)
            else:
                values = from_hwio(values)
        yield name, role, values
