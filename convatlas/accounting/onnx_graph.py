"""An ONNX file's graph as a trace, so that it is counted as a module is. Nothing in the file is run.

Constants of floating-point numbers and of at most 8-bit integers are parameters, unless an operator takes them as
settings (scales to resize by) or statistics (batch norm's). Weights are not read: their sizes are in the graph, and
files that it refers to are never opened.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .operators import READ_VIEW, named
from .trace import Call, Factor, Node, Trace

MOST_BYTES = 2**31 - 1  # protobuf's limit
MOST_NODES = 100_000
MOST_VALUES = 1024  # of a constant whose values are read: shapes, axes
MOST_SCALES = 16  # the same, of floating-point numbers
MOST_WORK = 2**36  # bits of receptive fields, which a graph of absurd kernels and strides would have

FOLDED = named("""
    Add Cast Ceil Concat ConstantOfShape Div Equal Floor Gather Identity Max Min Mod Mul Neg Range Reshape Slice Squeeze
    Sub Transpose Unsqueeze Where
""")  # what is computed of small constants

POINTWISE = named("""
    Abs Acos Acosh Asin Asinh Atan Atanh Celu Ceil Clip Cos Cosh DequantizeLinear Div Elu Erf Exp Floor Gelu HardSigmoid
    HardSwish LeakyRelu Log Max Min Mish Neg PRelu Pow QuantizeLinear Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin
    Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where
""")

# Operators of ONNX as those of torch that do the same, for depth and receptive fields; one that is missing here and is
# known to onnx computes something without a matrix product.
SAME = {
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), "view"),
    **dict.fromkeys(("Identity", "Dropout", "Cast"), "alias"),
    **{"Transpose": "permute", "Expand": "expand", "Split": "split"},
    **{"Add": "add", "Mul": "mul", "Concat": "cat", "ReduceMean": "mean", "Pad": "constant_pad_nd"},
    **{"BatchNormalization": "native_batch_norm", "LayerNormalization": "native_layer_norm"},
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), "native_group_norm"),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LRN"), "_softmax"),
    **{"GlobalAveragePool": "_adaptive_avg_pool2d", "GlobalMaxPool": "adaptive_max_pool2d"},
    **{"Gemm": "addmm", "MatMul": "bmm", "MatMulInteger": "bmm", "QLinearMatMul": "bmm"},
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "QLinearConv"), "convolution"),
    **dict.fromkeys(POINTWISE, "relu"),
}
POOLS = {  # by the number of sides
    ("MaxPool", 2): "max_pool2d_with_indices",
    ("AveragePool", 2): "avg_pool2d",
    ("AveragePool", 3): "avg_pool3d",
}

# The positions of what is multiplied: of the image's tensor and of the weights.
PRODUCTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "ConvInteger", "DeformConv"), (0, 1)),
    **dict.fromkeys(("Gemm", "MatMul", "MatMulInteger", "Einsum"), (0, 1)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), (0, 3)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (0, 1, 2)),
}
BIASES = {**dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "BatchNormalization"), 2), "QLinearConv": 8}
WITHOUT_RULE = named(  # known to onnx, and may multiply matrices
    "Attention CausalConvWithState DFT Det If LinearAttention Loop MelWeightMatrix STFT Scan SequenceMap"
)
SETTINGS = {  # the first position of inputs that are no parameters
    **{"BatchNormalization": 3, "LSTM": 4, "GRU": 4, "RNN": 4},
    **dict.fromkeys(("Clip", "Dropout", "Expand", "OneHot", "Pad", "Reshape", "Resize", "TopK", "Upsample"), 1),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), 1),
}


def is_onnx(network: Any) -> bool:
    return isinstance(network, str | Path) and str(network).endswith(".onnx")


def onnx_trace(
    path: str | Path, input: Any = None, batch: int | None = None
) -> tuple[Trace, tuple[tuple[int, ...], ...], int]:
    """The trace of a file's graph, the sizes of its inputs (without the batch), and the number of images.

    `input` is one size, a list of sizes or a dict of them by name, for what the file leaves open. Raises UserError
    without onnx, for a file that is no graph, and for sizes that the file leaves open or does not take.
    """
    model, name = _read(Path(path)), Path(path).name
    graph = _Graph(name, model)
    sizes = graph.fix_inputs(input, batch)
    for node in model.graph.node:
        graph.note(node)
    return graph.trace(), tuple(tuple(s[1:]) for s in sizes), sizes[0][0] if sizes and sizes[0] else 1


def _read(file: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise UserError("counting an ONNX file needs onnx", "pip install 'convatlas[deploy]'") from error
    if not file.is_file():
        raise UserError(f"no file {file}", "give the path of an .onnx file")
    if file.stat().st_size > MOST_BYTES:
        raise UserError(f"{file.name} has more than 2 GiB", "export it with its weights in a file of their own")
    try:
        model = onnx.load_model_from_string(file.read_bytes())
    except Exception as error:  # protobuf's DecodeError, or one of onnx
        raise UserError(f"{file.name} is not an ONNX file") from error
    if not model.graph.node:
        raise UserError(f"{file.name} is not an ONNX file, or its graph is empty")
    if len(model.graph.node) > MOST_NODES:
        raise UserError(f"{file.name} has {len(model.graph.node):,} operators; at most {MOST_NODES:,} are counted")
    return model


class _Graph:
    """A graph while its operators are noted, one by one."""

    def __init__(self, name: str, model: Any):
        import onnx

        self.name, self.model, self.onnx = name, model, onnx
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.types: dict[str, int] = {}
        self.values: dict[str, np.ndarray] = {}  # of small constants
        self.constants: dict[str, int] = {}  # name: how many values, of those that may be parameters
        self.derived: dict[str, tuple[str, ...]] = {}  # constant tensor: the constants that it is made of
        self.made: dict[str, int] = {}  # tensor that depends on the image: its node
        self.extent: dict[str, tuple[int, int]] = {}  # its field's size, at most, and jump
        self.work = 0
        self.parameters: dict[str, int] = {}
        self.settings: set[str] = set()
        self.biases: set[str] = set()
        self.nodes: list[Node] = []
        self.calls = [Call("", "Graph", -1, leaf=False, container=True, geometry={})]
        self.events: list[tuple[str, int]] = []
        self.outputs: dict[int, tuple[int, ...]] = {}
        self.uncounted: dict[str, None] = {}
        self.inputs: list[str] = []
        self.versions = {o.domain: o.version for o in model.opset_import}
        self.unknown: set[str] = set()  # tensors whose sizes onnx cannot infer
        graph = model.graph
        for t in graph.initializer:
            self._constant(t.name, t)
        if graph.sparse_initializer:
            self.uncounted["sparse initialisers"] = None

    def _constant(self, name: str, tensor: Any) -> None:
        dims = self._checked(name, tuple(tensor.dims))
        self.shapes[name], self.types[name], self.derived[name] = dims, tensor.data_type, ()
        learnt = bool(dims) and self._learnt(tensor.data_type)
        if learnt:
            self.constants[name], self.derived[name] = prod(dims), (name,)
        if prod(dims) <= (MOST_SCALES if learnt else MOST_VALUES) and tensor.data_location != tensor.EXTERNAL:
            try:
                self.values[name] = self.onnx.numpy_helper.to_array(tensor)
            except Exception as error:
                raise UserError(
                    f"{self.name} is damaged: the values of {one_line(name)} are not as many as it says"
                ) from error

    def _learnt(self, data_type: int) -> bool:
        """Floating-point numbers, or quantized ones."""
        kinds = self.onnx.TensorProto
        return data_type not in (kinds.INT64, kinds.BOOL, kinds.STRING, kinds.INT32, kinds.UNDEFINED)

    def _checked(self, name: str, dims: tuple[int, ...]) -> tuple[int, ...]:
        if any(n < 0 for n in dims) or len(dims) > 64:
            raise UserError(f"{self.name} is damaged: {one_line(name)} has a size of {'x'.join(map(str, dims[:8]))}")
        return dims

    def fix_inputs(self, input: Any, batch: int | None) -> list[tuple[int, ...]]:
        """Puts the sizes that are asked for where the file leaves them open."""
        found = []
        inputs = [v for v in self.model.graph.input if v.name not in self.shapes]
        asked = _asked(input, [v.name for v in inputs], self.name)
        for value in inputs:
            dims = value.type.tensor_type.shape.dim
            own = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims]
            given = asked.get(value.name)
            wanted = own if given is None else [own[0] if own else None, *given]
            if given is not None and (
                len(own) != len(wanted)
                or any(a is not None and a != b for a, b in zip(own[1:], wanted[1:], strict=True))
            ):
                sizes = "x".join("?" if n is None else str(n) for n in own[1:])
                raise UserError(
                    f"{one_line(value.name)} of {self.name} is {sizes}, not {'x'.join(map(str, given))}",
                    "leave out the size, or export the network with dynamic axes",
                )
            if wanted and wanted[0] is None:
                wanted = [batch or 1, *wanted[1:]]
            if batch is not None and wanted and wanted[0] != batch:
                raise UserError(f"{self.name} takes batches of {wanted[0]}, not {batch}", "leave out the batch")
            size = [n for n in wanted if n is not None]
            if len(size) < len(wanted):
                raise UserError(
                    f"the size of {one_line(value.name)} of {self.name} is unknown",
                    "give input=(channels, height, width)",
                )
            for d, n in zip(dims, size, strict=True):
                d.dim_value = n
            found.append(self._checked(value.name, tuple(size)))
            self.shapes[value.name], self.types[value.name] = tuple(size), value.type.tensor_type.elem_type
            self.inputs.append(value.name)
            self.made[value.name], self.extent[value.name] = -1, (1, 1)
        return found

    def _infer(self, node: Any) -> None:
        """The sizes of what a node makes, by onnx's own rules, and values that sizes depend on."""
        onnx, helper = self.onnx, self.onnx.helper
        domain = "" if node.domain == "ai.onnx" else node.domain
        try:
            schema = onnx.defs.get_schema(node.op_type, self.versions.get(domain, 1), domain)
        except onnx.defs.SchemaError:
            return
        types = {
            i: helper.make_tensor_type_proto(self.types[i], self.shapes[i]) for i in node.input if i in self.shapes
        }
        data = {i: onnx.numpy_helper.from_array(self.values[i], i) for i in node.input if i in self.values}
        if any(a.name in _BODIES for a in node.attribute):
            return
        try:
            found = onnx.shape_inference.infer_node_outputs(schema, node, types, data)
        except Exception:  # of inputs that do not fit or have no known size: `note` says that its size is unknown
            return
        for name, made in found.items():
            tensor = made.tensor_type
            self.types[name] = tensor.elem_type
            if tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim):
                self.shapes[name] = self._checked(name, tuple(d.dim_value for d in tensor.shape.dim))
        self._fold(node)

    def _fold(self, node: Any) -> None:
        out = node.output[0]
        size = prod(self.shapes.get(out, (MOST_VALUES + 1,)))
        if node.op_type == "Shape" and node.input[0] in self.shapes:
            ends = {a.name: int(a.i) for a in node.attribute}
            self.values[out] = np.array(self.shapes[node.input[0]][ends.get("start", 0) : ends.get("end")], np.int64)
        elif node.op_type in FOLDED and size <= MOST_VALUES and not self._learnt(self.types.get(out, 0)):
            reads = {i: self.values[i] for i in node.input if i in self.values}
            if len(reads) == len(set(node.input)) and reads:
                from onnx.reference import ReferenceEvaluator

                try:
                    results: Any = ReferenceEvaluator(node).run(None, reads)
                    self.values[out] = np.asarray(results[0])
                except Exception as error:
                    raise UserError(f"{self.name} is damaged: {_path(node)} cannot be computed") from error

    def note(self, node: Any) -> None:
        op, outs = node.op_type, [o for o in node.output if o]
        if not outs:
            return
        for i in node.input:
            if i and i not in self.made and i not in self.derived:
                raise UserError(
                    f"{self.name} is not a graph in order: {_path(node)} reads {one_line(i)}, which is not made"
                )
        bodies = {a.name: a.g for a in node.attribute if a.name in _BODIES}
        condition = self._numbers(node, 0) if op == "If" and bodies else None
        if condition and len(bodies) == 2:
            self._note_branch(bodies["then_branch" if condition[0] else "else_branch"], outs)
            return
        self._infer(node)
        has = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute if a.name not in _BODIES}
        reads = [i for i in node.input if i in self.made]
        if bodies:  # which may read anything that was made before
            reads = reads or list(self.made)[-1:]
        if not reads or op in ("Shape", "Size"):
            self._note_constant(node, has, outs)
            return
        if outs[0] not in self.shapes:
            if op in PRODUCTS or self.unknown.isdisjoint(reads):
                self.uncounted[f"{_path(node)}: {op}, of unknown size"] = None
            self.unknown.update(outs)
            for o in outs:
                self.made[o], self.extent[o] = max(self.made[i] for i in reads), self.extent[reads[0]]
            return
        standard = node.domain in ("", "ai.onnx") and self.onnx.defs.has(op)
        if not standard or op in WITHOUT_RULE:
            self.uncounted[f"{_path(node)}: {op if standard or not node.domain else f'{node.domain}.{op}'}"] = None
        self._add(node, op if standard else f"{node.domain}.{op}", has, reads, outs)

    def _note_branch(self, branch: Any, outs: list[str]) -> None:
        """Of a condition that is known."""
        for node in branch.node:
            self.note(node)
        for out, own in zip(outs, branch.output, strict=False):
            of_tensors: list[dict[str, Any]] = [self.shapes, self.types, self.values]
            of_tensors += [self.derived, self.made, self.extent]
            for known in of_tensors:
                if own.name in known:
                    known[out] = known[own.name]

    def _note_constant(self, node: Any, has: dict[str, Any], outs: list[str]) -> None:
        """What is computed from constants alone, or from the sizes of other tensors."""
        if node.op_type == "Constant" and "value" in has:
            self._constant(outs[0], has["value"])
            return
        for o in outs:
            self.derived[o] = tuple(p for i in node.input for p in self.derived.get(i, ()))
        made = node.op_type == "ConstantOfShape" and self.shapes.get(outs[0])
        if made and self._learnt(self.types.get(outs[0], 0)):  # where a file has no weights
            self.constants[outs[0]], self.derived[outs[0]] = prod(made), (outs[0],)

    def _add(self, node: Any, op: str, has: dict[str, Any], reads: list[str], outs: list[str]) -> None:
        index, call, shape = len(self.nodes), len(self.calls), self.shapes[outs[0]]
        first, parameters = SETTINGS.get(op, len(node.input)), []
        for at, i in enumerate(node.input):
            for p in self.derived.get(i, ()):
                if at >= first:
                    self.settings.add(p)
                    continue
                self.parameters[p] = self.constants[p]
                parameters.append(p)
                if at == BIASES.get(op):
                    self.biases.add(p)
        window = self._window(node, op, has, shape)
        name, args = self._torch(node, op, has, window)
        self._guard(node, name, window, reads, outs)
        factors = [node.input[at] for at in PRODUCTS.get(op, ()) if at < len(node.input)]
        self.nodes.append(
            Node(
                op=name,
                call=call,
                inputs=tuple(self.made[i] for i in reads),
                parameters=tuple(parameters),
                args=args,
                shape=shape,
                itemsize=self._bytes(outs[0]),
                macs=self._macs(node, op, has, shape, factors),
                factors=tuple(
                    Factor(self.made.get(f), bool(self.derived.get(f)), bool(self.derived.get(f))) for f in factors
                ),
                trained=bool(parameters),
            )
        )
        self.calls.append(Call(_path(node), op, 0, leaf=True, container=False, geometry=window))
        self.events += [("node", index), ("call", call)]
        self.outputs[call] = shape
        for o in outs:
            self.made[o] = index

    def _macs(self, node: Any, op: str, has: dict[str, Any], shape: tuple[int, ...], factors: Sequence[str]) -> int:
        if op not in PRODUCTS:
            return 0
        sizes = [self.shapes.get(f) for f in factors]
        if None in sizes or len(sizes) < 2:
            self.uncounted[f"{_path(node)}: {op}, of unknown size"] = None
            return 0
        x, weight = sizes[0] or (), sizes[1] or ()
        if op == "ConvTranspose":
            return x[0] * prod(x[2:]) * prod(weight)
        if op in ("Conv", "ConvInteger", "QLinearConv", "DeformConv"):
            return shape[0] * prod(shape[2:]) * prod(weight)
        if op in ("LSTM", "GRU", "RNN"):
            return x[0] * x[1] * sum(prod(s or ()) for s in sizes[1:])
        if op == "Einsum":
            terms = has.get("equation", b"").decode(errors="replace").replace(" ", "").split("->")[0].split(",")
            if len(node.input) != 2 or [len(t) for t in terms] != [len(x), len(weight)]:
                self.uncounted[f"{_path(node)}: Einsum"] = None
                return 0
            return prod(
                {letter: n for t, s in zip(terms, (x, weight), strict=True) for letter, n in zip(t, s)}.values()
            )
        inner = x[0 if has.get("transA") else -1] if x else 1
        return prod(shape) * inner

    def _window(self, node: Any, op: str, has: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
        """Kernel, stride, padding (before the first pixel), dilation and groups, of what has them."""
        weight = self.shapes.get(node.input[PRODUCTS[op][1]], ()) if "Conv" in op and op in PRODUCTS else ()
        kernel = tuple(has.get("kernel_shape", weight[2:]))
        if not kernel or not (weight or op in ("MaxPool", "AveragePool")):
            return {}
        ones, x = (1,) * len(kernel), self.shapes.get(node.input[0], ())
        stride, dilation = tuple(has.get("strides", ones)), tuple(has.get("dilations", ones))
        pads = tuple(has.get("pads", (0,) * 2 * len(kernel)))
        auto = has.get("auto_pad", b"NOTSET")
        if auto in (b"SAME_UPPER", b"SAME_LOWER") and len(x) == len(kernel) + 2:
            sizes = zip(x[2:], shape[2:], kernel, stride, dilation, strict=True)
            total = [max((m - 1) * s + (k - 1) * d + 1 - n, 0) for n, m, k, s, d in sizes]
            pads = tuple((t + (auto == b"SAME_LOWER")) // 2 for t in total)
        sides = (kernel, stride, dilation)
        if any(len(v) != len(kernel) or min(v) < 1 for v in sides) or len(pads) < len(kernel) or min(pads) < 0:
            raise UserError(f"{self.name} is damaged: {_path(node)} has kernel {kernel}, strides {stride}, pads {pads}")
        groups = {"groups": has["group"]} if has.get("group", 1) > 1 else {}
        return {"kernel": kernel, "stride": stride, "padding": pads[: len(kernel)], "dilation": dilation, **groups}

    def _torch(self, node: Any, op: str, has: dict[str, Any], window: dict[str, Any]) -> tuple[str, tuple[Any, ...]]:
        """The operator of torch that does the same, with its arguments."""
        sizes = [self.shapes.get(i, ()) for i in node.input]
        x = sizes[0] if sizes else ()
        dilation = window.pop("dilation", ())
        kernel, stride, padding = (window.get(k, ()) for k in ("kernel", "stride", "padding"))
        name = SAME.get(op, op)
        args: tuple[Any, ...] = tuple(sizes)
        if name == "convolution" and window:
            weight = sizes[PRODUCTS[op][1]]
            args = (x, weight, (), stride, padding, dilation, op == "ConvTranspose", (), window.get("groups", 1))
        elif (op, len(kernel)) in POOLS:
            name, args = POOLS[op, len(kernel)], (x, kernel, stride, padding, *([dilation] if op == "MaxPool" else []))
        elif name == "native_batch_norm":
            args = (*(*sizes, (), (), (), (), ())[:5], False)
        elif name == "permute":
            args = (x, tuple(has.get("perm", range(len(x))[::-1])))
        elif name == "cat":
            args = ((), has.get("axis", 0))
        elif name == "_softmax":
            args = (x, 1 if op == "LRN" else has.get("axis", -1))
        elif name == "mean":
            axes = has.get("axes", self._numbers(node, 1) or ())
            args = (x, tuple(axes))
        elif op == "Slice" and (place := self._place(node, has, x)):
            name, args = READ_VIEW, (x, self.shapes[node.output[0]], place)
        elif name == "constant_pad_nd":
            pads = has.get("pads", self._numbers(node, 1))
            if pads is None or len(pads) != 2 * len(x) or len(x) < 2:
                return op, args
            args = (x, (pads[len(x) - 1], 0, pads[len(x) - 2], 0))
        return name, args

    def _place(self, node: Any, has: dict[str, Any], x: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
        """Where the rows and columns of a slice lie: the first one, and the step."""
        starts = has.get("starts", self._numbers(node, 1))
        if starts is None or len(x) < 2:
            return None
        axes = has.get("axes", self._numbers(node, 3) or list(range(len(starts))))
        steps = self._numbers(node, 4) or [1] * len(starts)
        found = {len(x) - 2: (0, 1), len(x) - 1: (0, 1)}
        for start, axis, step in zip(starts, axes, steps):
            if step < 1:
                return None
            if -len(x) <= axis < len(x):
                n = x[axis]
                found[axis % len(x)] = (min(max(start + n if start < 0 else start, 0), n), step)
        return found[len(x) - 2], found[len(x) - 1]

    def _numbers(self, node: Any, at: int) -> list[int] | None:
        """The values of an input that is a small constant."""
        value = self.values.get(node.input[at]) if len(node.input) > at else None
        return None if value is None else value.reshape(-1).tolist()

    def _guard(self, node: Any, name: str, window: dict[str, Any], reads: list[str], outs: list[str]) -> None:
        """Refuses graphs whose receptive fields would take more work than those of any network."""
        extent, jump = (max(self.extent[i][n] for i in reads) for n in (0, 1))
        side = max((n for i in reads for n in self.shapes.get(i, ())[2:]), default=1)
        taps = max(window.get("kernel", (1,)))
        if window:
            extent, jump = extent + (taps - 1) * max(1, *self.nodes_dilation(node)) * jump, jump * max(window["stride"])
        elif name not in ("relu", "add", "mul", "alias", "native_batch_norm"):
            taps, extent = side, extent + side * jump
        self.work += taps * extent
        if self.work > MOST_WORK:
            raise UserError(f"{self.name} has kernels or strides that no image is made for, at {_path(node)}")
        for o in outs:
            self.extent[o] = extent, jump

    @staticmethod
    def nodes_dilation(node: Any) -> tuple[int, ...]:
        return next((tuple(a.ints) for a in node.attribute if a.name == "dilations"), (1,)) or (1,)

    def _bytes(self, name: str) -> int:
        try:
            return int(self.onnx.helper.tensor_dtype_to_np_dtype(self.types[name]).itemsize)
        except (KeyError, TypeError):
            return 4

    def trace(self) -> Trace:
        """Constants that nothing reads are parameters of no layer."""
        read = {i for node in self.model.graph.node for i in node.input}
        unread = {p: n for p, n in self.constants.items() if p not in read}
        names = {
            p: f"{one_line(p)}.bias" if p in self.biases and not p.endswith("bias") else one_line(p)
            for p in self.constants
        }
        returned = {self.made[o.name] for o in self.model.graph.output if o.name in self.made}
        nodes = [n._replace(parameters=tuple(names[p] for p in n.parameters)) for n in self.nodes]
        return Trace(
            tuple(nodes),
            tuple(self.calls),
            tuple(self.events),
            tuple(self.shapes[i] for i in self.inputs),
            self.outputs,
            {call.call: i for i, call in enumerate(nodes)},
            tuple(sorted(returned)),
            {names[p]: n for p, n in (self.parameters | unread).items()},
            tuple(self.uncounted),
            {},
        )


_BODIES = frozenset({"body", "then_branch", "else_branch"})


def _asked(input: Any, names: list[str], file: str) -> dict[str, tuple[int, ...]]:
    """The sizes that are asked for, by the input's name."""
    if input is None:
        return {}
    if isinstance(input, dict):
        asked = dict(input)
    elif isinstance(input, tuple | list) and all(isinstance(n, int) for n in input):
        asked = dict.fromkeys(names[:1], input)
    else:
        asked = dict(zip(names, input))
    asked = {k: tuple(v.shape[1:]) if hasattr(v, "shape") else tuple(v) for k, v in asked.items()}
    if len(asked) != len(names) or set(asked) - set(names):
        raise UserError(f"{file} takes {len(names)} inputs: {', '.join(map(one_line, names))}", "give the size of each")
    return asked


def _path(node: Any) -> str:
    """As a module's path, where torch's exporter made the name: "/stem/stem.0/Conv" -> "stem.0"."""
    parts: list[str] = []
    for part in (node.name or node.output[0]).strip("/").split("/"):
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    if len(parts) > 1 and re.fullmatch(rf"{re.escape(node.op_type)}(_\d+)?", parts[-1]):
        parts.pop()
    return one_line(".".join(parts))


def one_line(text: Any) -> str:
    """Printable, and of a length that a line takes."""
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return "".join(c if c.isprintable() else "?" for c in text[:200])
