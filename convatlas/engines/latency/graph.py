"""ONNX graphs of convolutions written operator by operator, in float32 or with quantized values, without torch."""

from __future__ import annotations

from typing import Any

import numpy as np

SCALE = 0.02  # of quantized values; whatever it is, the time is the same
OPSET, IR = 20, 10


class Graph:
    """A graph while it is written. `at` is the tensor that comes next, of `channels` x `side` x `side`.

    With `int8`, the name of an engine, every operator reads dequantized 8-bit values, and its weights are int8, by
    channel, as the engine's static quantizer leaves a graph: NNCF leaves convolutions in groups in float32, has signed
    values where they may be negative, and quantizes what is concatenated before it, not once more after.
    """

    def __init__(self, channels: int, side: int, rng: np.random.Generator, int8: str = ""):
        self.input = (channels, side, side)
        self.channels, self.side, self.at = channels, side, "images"
        self.int8 = int8
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self._pool = rng.standard_normal(1 << 16).astype(np.float32) * 0.05
        self._dequantized: dict[str, str] = {}
        self._positive: set[str] = set()  # tensors that quantizing clips at zero
        self._consts: dict[tuple[str, float], str] = {}

    def bytes(self) -> bytes:
        """The file, which ends in a classifier."""
        from onnx import TensorProto, helper

        self.at = self._read(self.at)
        sizes: list[str | int | None] = ["batch", *self.input]
        entry = helper.make_tensor_value_info("images", TensorProto.FLOAT, sizes)
        exit = helper.make_tensor_value_info(self.at, TensorProto.FLOAT, ["batch", self.channels])
        graph = helper.make_graph(self.nodes, "chain", [entry], [exit], self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        return bytes(model.SerializeToString())

    # Operators, each of which moves `at`.

    def conv(self, cout: int, kernel: int = 1, stride: int = 1, groups: int = 1, pad: int | None = None) -> None:
        pad = kernel // 2 if pad is None else pad
        weights = (cout, self.channels // groups, kernel, kernel)
        if self.int8 == "openvino" and groups > 1:
            inputs = [self.at, self._constant(np.resize(self._pool, weights))]
        else:
            inputs = [self._read(self.at), self._weights(weights), self._bias(cout)]
        sizes = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups)
        self._node("Conv", inputs, **sizes)
        self.channels, self.side = cout, (self.side + 2 * pad - kernel) // stride + 1

    def linear(self, cout: int) -> None:
        """After `flatten`."""
        inputs = [self._read(self.at), self._weights((cout, self.channels)), self._bias(cout)]
        self._node("Gemm", inputs, transB=1)
        self.channels = cout

    def relu(self) -> None:
        if not self._clips():
            self._node("Relu", [self.at])
            self._positive.add(self.at)

    def relu6(self) -> None:
        if not self._clips():
            self._node("Clip", [self.at, self._scalar("low", 0.0), self._scalar("high", 6.0)])

    def silu(self) -> None:
        x = self.at
        self.sigmoid()
        self.multiply(x)

    def batch_norm(self) -> None:
        ones = self._constant(np.ones(self.channels, np.float32))
        zeros = self._constant(np.zeros(self.channels, np.float32))
        scale, bias = ones, zeros
        if self.int8 == "onnxruntime":
            scale, bias = self._dequantized_vector(127), self._dequantized_vector(0)
        self._node("BatchNormalization", [self._read(self.at), scale, bias, zeros, ones])

    def pool(self, op: str = "MaxPool", kernel: int = 3, stride: int = 2, pad: int | None = None) -> None:
        pad = kernel // 2 if pad is None else pad
        sizes = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4)
        x = self.at
        self._node(op, [self._read(x)], **sizes)
        self._same_range([x])  # else a maximum of quantized values is taken in floating point
        if op == "MaxPool":
            self._is_quantized()
        self.side = (self.side + 2 * pad - kernel) // stride + 1

    def mean(self) -> None:
        """The mean of each channel."""
        axes, x = self._constant(np.array([2, 3], np.int64)), self.at
        self._node("ReduceMean", [self._read(x), axes], keepdims=1)
        self._same_range([x])
        self.side = 1

    def flatten(self) -> None:
        x = self.at
        self._node("Flatten", [self._read(x)])
        self._same_range([x])
        self._is_quantized()
        self.channels, self.side = self.channels * self.side**2, 1

    def lrn(self) -> None:
        """Local response normalisation over 5 channels, in the steps that an exported network has."""
        x, ints = self.at, np.array
        self._node("Mul", [self._read(x), self._read(x)])
        self._positive.add(self.at)
        self._node("Pad", [self._read(self.at), self._constant(ints([0, 2, 0, 0, 0, 2, 0, 0], np.int64))])
        self._positive.add(self.at)
        padded, parts = self.at, []
        for at in range(5):
            ends = (self._constant(ints([n], np.int64)) for n in (at, self.channels + at, 1))
            self._node("Slice", [self._read(padded), *ends])
            self._positive.add(self.at)
            parts.append(self.at)
        for part in parts[:-1]:
            self.add(part)
            self._positive.add(self.at)
        self._node("Div", [self._read(self.at), self._scalar("five", 5.0)])
        self._node("Mul", [self._read(self.at), self._factor(1e-4)])
        self._node("Add", [self._read(self.at), self._factor(2.0)])
        self._node("Pow", [self._read(self.at), self._scalar("beta", 0.75)])
        self._node("Div", [self._read(x), self.at])

    def sigmoid(self) -> None:
        self._node("Sigmoid", [self._read(self.at)])
        self._positive.add(self.at)

    def halve(self) -> None:
        """Divides by two, as a join of two paths does."""
        self._node("Div", [self._read(self.at), self._scalar("two", 2.0)])

    def add(self, other: str) -> None:
        self._node("Add", [self._read(self.at), self._read(other)])

    def multiply(self, other: str) -> None:
        """By another tensor, which may be one value a channel."""
        gate = self.at
        self._node("Mul", [self._read(other), self._read(gate)])
        self._same_range([other, gate])

    def concatenate(self, parts: list[str], channels: int) -> None:
        self._node("Concat", [self._read(p) for p in parts], axis=1)
        self._same_range(parts)
        self._is_quantized()
        self.channels = channels

    def _same_range(self, tensors: list[str]) -> None:
        """What comes next is positive if these are."""
        if self._positive.issuperset(tensors):
            self._positive.add(self.at)

    def _is_quantized(self) -> None:
        """NNCF leaves what comes next as it is, for what it was made of is quantized."""
        if self.int8 == "openvino":
            self._dequantized[self.at] = self.at

    def _clips(self) -> bool:
        """Whether quantizing clips what comes next, as a quantizer has it after a convolution, product, norm or sum."""
        before = ("Conv", "Gemm", "BatchNormalization", "Add")
        clips = bool(self.int8 and self.nodes) and self.nodes[-1].op_type in before
        if clips:
            self._positive.add(self.at)
        return clips

    def _node(self, op: str, inputs: list[str], **attributes: Any) -> None:
        from onnx import helper

        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"{op.lower()}{len(self.nodes)}", **attributes))
        self.at = name

    def _constant(self, values: np.ndarray) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def _scalar(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        key = (name, float(value))
        if key not in self._consts:
            self._consts[key] = self._constant(np.array(value, dtype))
        return self._consts[key]

    def _factor(self, value: float) -> str:
        """A constant beside which an operator reads quantized values: with int8, it is one of them."""
        if not self.int8:
            return self._scalar("factor", value)
        marks = [self._scalar("scale of a factor", value / 127), self._scalar("zero of a factor", 0, np.uint8)]
        return self._dequantize(self._scalar("of a factor", 127, np.uint8), *marks)

    def _read(self, tensor: str) -> str:
        """The tensor as an operator reads it: with int8, quantized and dequantized once."""
        if not self.int8:
            return tensor
        if tensor not in self._dequantized:
            at, zero = self.at, 0 if tensor in self._positive else 128
            marks = [self._scalar("scale", SCALE), self._scalar("zero", zero, np.uint8)]
            if zero and self.int8 == "openvino":
                marks[1] = self._scalar("signed zero", 0, np.int8)
            self._node("QuantizeLinear", [tensor, *marks])
            self._node("DequantizeLinear", [self.at, *marks])
            self._dequantized[tensor], self.at = self.at, at
        return self._dequantized[tensor]

    def _weights(self, shape: tuple[int, ...]) -> str:
        values = np.resize(self._pool, shape)
        if not self.int8:
            return self._constant(values)
        scales = self._constant(np.full(shape[0], SCALE / 10, np.float32))
        zeros = self._constant(np.zeros(shape[0], np.int8))
        q = self._constant(np.clip(np.rint(values * 500), -127, 127).astype(np.int8))
        return self._dequantize(q, scales, zeros)

    def _bias(self, cout: int) -> str:
        if not self.int8:
            return self._constant(np.zeros(cout, np.float32))
        scales = self._constant(np.full(cout, SCALE * SCALE / 10, np.float32))
        return self._dequantize(
            self._constant(np.zeros(cout, np.int32)), scales, self._constant(np.zeros(cout, np.int32))
        )

    def _dequantized_vector(self, value: int) -> str:
        """One value for each channel."""
        marks = [self._scalar("scale of a vector", 1 / 127), self._scalar("zero of a vector", 0, np.int8)]
        return self._dequantize(self._constant(np.full(self.channels, value, np.int8)), *marks)

    def _dequantize(self, q: str, scales: str, zeros: str) -> str:
        at = self.at
        self._node("DequantizeLinear", [q, scales, zeros], axis=0)
        made, self.at = self.at, at
        return made
