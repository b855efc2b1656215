"""TensorFlow Lite: `.tflite`, the operators that have weights, in the order in which they run.

Quantised weights are dequantised, in float32: (integer - zero point) * scale, for a whole tensor or by channel. Batch
norms are folded into the weights before them. Layers have the names of what the operators make.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import UserError
from ..types import Weights
from .collect import Tensors, reading, shaped

CONVOLUTION, DEPTHWISE, FULL, DEQUANTISE, TRANSPOSED = 3, 4, 9, 6, 67  # BuiltinOperator
WEIGHTS = {CONVOLUTION: 1, DEPTHWISE: 1, FULL: 1, TRANSPOSED: 1}  # which input has them; a bias follows, or is the last
AXES = {CONVOLUTION: (0, 3, 1, 2), DEPTHWISE: (3, 0, 1, 2), TRANSPOSED: (3, 0, 1, 2)}  # from (out, height, width, in)
TYPES = {0: "<f4", 1: "<f2", 2: "<i4", 3: "u1", 4: "<i8", 7: "<i2", 9: "i1", 10: "<f8"}  # TensorType
MOST = 1 << 20  # operators, tensors, sides: more than any network has


def read(path: Path, max_bytes: int) -> Weights:
    try:
        import tflite
    except ImportError as error:
        raise UserError("reading .tflite files needs tflite", "pip install 'convatlas[formats]'") from error
    with reading(path, ".tflite file"):
        model = tflite.Model.GetRootAs(path.read_bytes(), 0)
        tensors = Tensors(path, max_bytes)
        names: dict[str, int] = {}
        for name, operator, held in layers(model, path, tensors):
            again = names[name] = names.get(name, -1) + 1
            for role, values in zip(("weight", "bias"), held):
                if values is None:
                    continue
                if role == "weight" and operator in AXES:
                    values = values.transpose(AXES[operator])
                tensors.add(f"{name}_{again}" if again else name, role, values)
        return Weights(tensors.all(), format="tflite", channels_last=True, folded=True)


def layers(model: Any, path: Path, tensors: Tensors) -> Iterator[tuple[str, int, list[np.ndarray | None]]]:
    """(name, operator, [weights, bias or None]) of each operator that has weights in the file."""
    graph = model.Subgraphs(0)
    made: dict[int, int] = {}  # by tensor: what it is dequantised from
    for i in range(count(graph.OperatorsLength())):
        it = graph.Operators(i)
        code = model.OperatorCodes(it.OpcodeIndex())
        operator = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        inputs = [it.Inputs(j) for j in range(count(it.InputsLength()))]
        if operator == DEQUANTISE and inputs:
            made[it.Outputs(0)] = inputs[0]
        if operator not in WEIGHTS:
            continue
        at = WEIGHTS[operator]
        sources = [inputs[at], inputs[-1] if len(inputs) > at + 1 + (operator == TRANSPOSED) else -1]
        held = [constant(model, graph, made.get(n, n), path, tensors) if n >= 0 else None for n in sources]
        if held[0] is not None:
            name = graph.Tensors(it.Outputs(0)).Name() or b""
            yield name.decode(errors="replace"), operator, held


def count(claimed: int) -> int:
    if not 0 <= claimed <= MOST:
        raise ValueError(f"it claims to have {claimed} of something")
    return claimed


def constant(model: Any, graph: Any, n: int, path: Path, tensors: Tensors) -> np.ndarray | None:
    """A tensor's values, if they are in the file."""
    it = graph.Tensors(n)
    buffer = model.Buffers(it.Buffer())
    held = buffer.DataAsNumpy()
    if buffer.Offset() > 1 or it.Sparsity() is not None:
        raise UserError(f"{path} has sparse weights, or weights outside its tables", "give one with plain weights")
    if not isinstance(held, np.ndarray) or not held.size:
        return None
    if it.Type() not in TYPES:
        raise UserError(f"{path} has weights of an unknown type ({it.Type()})", "give one of floats or 8-bit integers")
    values = held.view(TYPES[it.Type()])
    shape = [it.Shape(j) for j in range(count(it.ShapeLength()))]
    values = shaped(values, shape)
    if values.dtype.kind == "f":
        return values
    quantised = it.Quantization()
    if quantised is None or not quantised.ScaleLength():
        raise ValueError("an integer tensor has no scale")
    tensors.take(values.size * 4 - values.nbytes)  # what it is longer as floats
    scale, zero = quantised.ScaleAsNumpy(), quantised.ZeroPointAsNumpy()
    zero = np.zeros_like(scale) if isinstance(zero, int) else zero.astype(np.float32)
    axis = quantised.QuantizedDimension()
    if not 0 <= axis < max(values.ndim, 1) or scale.size not in (1, values.shape[axis]) or zero.size != scale.size:
        raise ValueError("a tensor has scales for other channels")
    sides = [1] * values.ndim
    if scale.size > 1:
        sides[axis] = -1
    return (values.astype(np.float32) - zero.reshape(sides)) * scale.astype(np.float32).reshape(sides)
