"""ONNX: the initialisers of a graph, by the nodes that read them, in the order in which these run.

The messages are those of onnx.proto; no graph is run. Batch norms may be folded into the convolutions before them.
Data outside the file are read only from plain files in its own folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...errors import UserError
from ..types import Weights
from .collect import Tensors, one_line, reading, shaped
from .protobuf import Message

TYPES = {  # of a TensorProto: of its bytes, and where else its numbers may be
    1: ("<f4", 4),
    2: ("u1", 5),
    3: ("i1", 5),
    6: ("<i4", 5),
    7: ("<i8", 7),
    10: ("<f2", 5),
    11: ("<f8", 10),
    16: ("<u2", 5),
}
BFLOAT16 = 16
EXTERNAL = 1
ROLES = {  # of the inputs of a node, from the second on
    "Conv": ("weight", "bias"),
    "ConvTranspose": ("weight", "bias"),
    "Gemm": ("weight", "bias"),
    "MatMul": ("weight",),
    "BatchNormalization": ("weight", "bias", "running_mean", "running_var"),
    "PRelu": ("weight",),
}
EPS = 1e-5  # ONNX's default
MOST_TIMES = 8  # what weights may be of their files' size: integers become floats, and nodes may share


@dataclass
class Node:
    type: str
    inputs: list[str]
    outputs: list[str]
    name: str
    attributes: dict[str, Message] = field(default_factory=dict)

    def integer(self, name: str, default: int) -> int:
        return self.attributes[name].integer(3) if name in self.attributes else default

    def real(self, name: str, default: float) -> float:
        return self.attributes[name].real(2, default) if name in self.attributes else default


def read(path: Path, max_bytes: int) -> Weights:
    with reading(path, ".onnx file"):
        content = memoryview(path.read_bytes())
        beside = sum(file.stat().st_size for file in path.parent.glob("*") if file.is_file())
        tensors, eps = Tensors(path, min(max_bytes, MOST_TIMES * beside)), {}
        for name, node, held in layers(Graph(Message(content).message(7), path)):
            if node.type == "BatchNormalization":
                eps[name] = node.real("epsilon", EPS)
            for role, values in held.items():
                tensors.add(name, role, values)
        return Weights(tensors.all(), format="onnx", folded=True, eps=eps)


class Graph:
    """Nodes in order, and the constants that they read."""

    def __init__(self, it: Message, path: Path):
        self.path = path
        self.held = {tensor.text(8): tensor for tensor in it.messages(5)}
        self.nodes = [parsed(view) for view in it.messages(1)]
        self.made = {out: node for node in self.nodes for out in node.outputs}
        self.readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for i in node.inputs:
                self.readers.setdefault(i, []).append(node)
            if node.type == "Constant" and "value" in node.attributes and node.outputs:
                self.held[node.outputs[0]] = node.attributes["value"].message(5)
            if node.type == "Identity" and node.inputs and node.inputs[0] in self.held and node.outputs:
                self.held[node.outputs[0]] = self.held[node.inputs[0]]

    def constant(self, name: str) -> np.ndarray | None:
        """A constant's values, dequantised in float32 where a DequantizeLinear makes it; None if it is not one."""
        if name in self.held:
            return values(self.held[name], self.path)
        node = self.made.get(name)
        if node is None or node.type != "DequantizeLinear":
            return None
        whole, scale, *zero = [values(self.held[i], self.path) if i in self.held else None for i in node.inputs]
        if whole is None or scale is None:
            return None
        sides = [1] * whole.ndim
        if scale.size > 1:
            sides[node.integer("axis", 1)] = -1
        moved = whole.astype(np.float32)
        if zero and zero[0] is not None:
            moved = moved - zero[0].astype(np.float32).reshape(sides)
        return moved * scale.astype(np.float32).reshape(sides)


def layers(graph: Graph) -> Iterator[tuple[str, Node, dict[str, np.ndarray]]]:
    """(name, node, values by role) of each node that reads weights; one of each name."""
    names: dict[str, int] = {}
    for node in graph.nodes:
        roles = ROLES.get(node.type, ())
        found = {
            role: constant
            for role, name in zip(roles, node.inputs[1:])
            if (constant := graph.constant(name)) is not None
        }
        if "weight" not in found and "running_mean" not in found:
            continue
        if node.type in ("Gemm", "MatMul"):
            if found["weight"].ndim != 2:
                continue
            found = linear(node, found, graph)
        if node.type == "PRelu":
            found["weight"] = found["weight"].reshape(-1)
        called = layer_name(node)
        again = names[called] = names.get(called, -1) + 1
        yield f"{called}_{again}" if again else called, node, found


def parsed(it: Message) -> Node:
    attributes = {attribute.text(1): attribute for attribute in it.messages(5)}
    return Node(it.text(4), it.texts(1), it.texts(2), it.text(3), attributes)


def layer_name(node: Node) -> str:
    """That of the weights, where they are called LAYER.weight as torch does, else the node's."""
    weights = node.inputs[1]
    if weights.endswith(".weight"):
        return weights.removesuffix(".weight")
    return node.name or (node.outputs or [""])[0]


def linear(node: Node, found: dict[str, np.ndarray], graph: Graph) -> dict[str, np.ndarray]:
    """(out, in), with the factors of a Gemm, and with the bias that is added to what a MatMul makes."""
    if node.type == "Gemm":
        found["weight"] = found["weight"] if node.integer("transB", 0) else found["weight"].T
        if "bias" in found:
            found["bias"] = found["bias"].reshape(-1)
        for role, factor in (("weight", node.real("alpha", 1.0)), ("bias", node.real("beta", 1.0))):
            if role in found and factor != 1:
                found[role] = found[role] * np.asarray(factor, found[role].dtype)
        return found
    weight = found["weight"].T
    after = graph.readers.get(node.outputs[0], []) if node.outputs else []
    if len(after) == 1 and after[0].type == "Add":
        for name in after[0].inputs:
            bias = graph.constant(name)
            if bias is not None and bias.size == len(weight):
                return {"weight": weight, "bias": bias.reshape(-1)}
    return {"weight": weight}


def values(it: Message, path: Path) -> np.ndarray | None:
    """A TensorProto's numbers in their shape; None for other types."""
    kind, shape = it.integer(2), it.ints(1)
    if kind not in TYPES:
        return None
    dtype, at = TYPES[kind]
    if it.integer(14) == EXTERNAL:
        numbers = outside(it, np.dtype(dtype), shape, path)
    elif 9 in it.fields:
        numbers = it.array(9, dtype)
    elif at in (4, 10):
        numbers = it.array(at, dtype)
    else:
        numbers = np.array(it.ints(at), np.int64).astype("<u2" if dtype == "<f2" else dtype).view(dtype)
    if kind == BFLOAT16:
        numbers = (numbers.astype("<u4") << 16).view("<f4")
    return shaped(numbers, shape)


def outside(it: Message, dtype: np.dtype, shape: list[int], path: Path) -> np.ndarray:
    """What lies in a file beside: named without a way elsewhere, and no link."""
    where = {entry.text(1): entry.text(2) for entry in it.messages(13)}
    name = where.get("location", "")
    file = path.parent / name
    if not name or Path(name).is_absolute() or ".." in Path(name).parts or "\\" in name:
        raise UserError(f"{path} refers to {one_line(name)!r}, which is outside its folder", "give another file")
    if not file.is_file() or not file.resolve().is_relative_to(path.parent.resolve()):
        raise UserError(f"{path} has its weights in {one_line(name)!r}, which is not there", "put it beside the file")
    size = math.prod(shape) * dtype.itemsize
    offset, length = int(where.get("offset", 0)), int(where.get("length", size))
    if any(n < 0 for n in shape) or offset < 0 or length != size or offset + size > file.stat().st_size:
        raise ValueError(f"{one_line(name)} is cut short")
    return np.fromfile(file, dtype, math.prod(shape), offset=offset)
