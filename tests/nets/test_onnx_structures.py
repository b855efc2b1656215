"""Eight graphs of the ONNX project's test data, converted from Caffe and Caffe2 by people who did not know this atlas:
our rows have their parameters and, layer by layer in the order of running, their weights, strides, paddings and sizes.

The graphs lie in the folder that CONVATLAS_PACKS names. Its ninth, ShuffleNet, is no network of the atlas. They take
224 pixels, and so do ours here. Where a graph differs from our row, `Graph.why` says so and `Graph.adapt` does as it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convatlas.catalogue import find
from convatlas.layers import LRN, ConvNet, on_meta

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `oracles`)")

SIDE = 224
Layer = tuple[str, dict[str, Any]]


def rounding_down(net: ConvNet) -> None:
    for m in net.modules():
        if isinstance(m, nn.MaxPool2d):
            m.ceil_mode = False


def last_pool_rounding_up(net: ConvNet) -> None:
    [*_, last] = (m for m in net.modules() if isinstance(m, nn.MaxPool2d))
    last.ceil_mode = True


@dataclass(frozen=True)
class Graph:
    file: str
    ours: str
    params: int
    why: str = ""
    adapt: Callable[[ConvNet], None] = lambda net: None


GRAPHS = [
    Graph(
        "bvlc_alexnet",
        "alexnet_caffe",
        60_965_224,
        "converted for 224 pixels, where Caffe takes 227: maps of 54, 26 and 12, and pool5 pads to reach Caffe's 6x6",
        last_pool_rounding_up,
    ),
    Graph("densenet121", "densenet121", 7_978_856),
    Graph(
        "inception_v1",
        "googlenet_caffe",
        6_998_552,
        "Caffe's pooling rounds sizes up; the converter rounded them down, and patched the last pool with padding",
        rounding_down,
    ),
    Graph("inception_v2", "bn_inception", 11_194_984),
    Graph("resnet50", "resnet50_v1_5", 25_557_032),  # Caffe2's has the stride on the 3x3 convolution
    Graph("squeezenet", "squeezenet1_1", 1_235_496),
    Graph("vgg19", "vgg19", 143_667_240),
    Graph("zfnet512", "zfnet_512_onnx", 87_250_536),
]


def graph_layers(path: Path) -> Iterator[Layer]:
    """What the graph's nodes with weights, its pools and its normalisations say, with the sizes that onnx infers."""
    model = onnx.load(path)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    shapes |= {name: value.shape for name, value in constants.items()}
    for node in model.graph.node:
        if node.op_type == "ConstantOfShape":  # where the trained weights were
            shapes[node.output[0]] = tuple(constants[node.input[0]].tolist())
    for node in model.graph.node:
        has = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        out = {"out": shapes[node.output[0]][1:]}
        weights = [shapes[name] for name in node.input[1:]]
        if node.op_type == "Conv" and out["out"][1:] == (1, 1):  # a linear layer on pooled maps
            yield "linear", {"weight": weights[0][:2], "bias": len(weights) > 1, "out": out["out"][:1]}
        elif node.op_type == "Conv":
            conv = {"weight": weights[0], "bias": len(weights) > 1, "groups": has.get("group", 1)}
            yield "conv", conv | {"stride": tuple(has["strides"]), "padding": tuple(has.get("pads", (0,) * 4))} | out
        elif node.op_type == "Gemm":
            assert has["transB"] == 1
            yield "linear", {"weight": weights[0], "bias": len(weights) > 1} | out
        elif node.op_type == "BatchNormalization":
            yield "norm", {"eps": pytest.approx(has.get("epsilon", 1e-5))} | out
        elif node.op_type == "LRN":
            constant = {"n": has["size"], "k": has["bias"]}
            yield "lrn", constant | {x: pytest.approx(has[x]) for x in ("alpha", "beta")} | out
        elif node.op_type in ("MaxPool", "AveragePool", "GlobalAveragePool"):
            kind = "max" if node.op_type == "MaxPool" else "average"
            whole = kind == "average" and out["out"][1:] == (1, 1)
            window = {} if whole else {"kernel": tuple(has["kernel_shape"]), "stride": tuple(has["strides"])}
            yield kind, window | out


def pair(x: int | tuple[int, ...]) -> tuple[int, ...]:
    return (x, x) if isinstance(x, int) else tuple(x)


def our_layers(net: ConvNet) -> list[Layer]:
    found: list[Layer] = []

    def note(m: nn.Module, _: object, y: torch.Tensor) -> None:
        out = {"out": tuple(y.shape[1:])}
        if isinstance(m, nn.Conv2d):
            conv = {"weight": tuple(m.weight.shape), "bias": m.bias is not None, "groups": m.groups}
            found.append(("conv", conv | {"stride": m.stride, "padding": pair(m.padding) * 2} | out))
        elif isinstance(m, nn.Linear):
            found.append(("linear", {"weight": tuple(m.weight.shape), "bias": m.bias is not None} | out))
        elif isinstance(m, nn.BatchNorm2d):
            found.append(("norm", {"eps": m.eps} | out))
        elif isinstance(m, LRN):  # onnx divides alpha by n, as torch does
            alpha = m.alpha if m.divided else m.alpha * m.n
            found.append(("lrn", {"n": m.n, "k": m.k, "alpha": alpha, "beta": m.beta} | out))
        elif isinstance(m, nn.AdaptiveAvgPool2d):
            found.append(("average", out))
        elif isinstance(m, nn.MaxPool2d | nn.AvgPool2d):
            kind = "max" if isinstance(m, nn.MaxPool2d) else "average"
            found.append((kind, {"kernel": pair(m.kernel_size), "stride": pair(m.stride)} | out))

    hooks = [m.register_forward_hook(note) for m in net.modules()]
    with torch.no_grad():
        net.eval()(torch.empty(1, 3, SIDE, SIDE, device="meta"))
    for hook in hooks:
        hook.remove()
    return found


def params(layers: list[Layer]) -> int:
    counted = 0
    for kind, layer in layers:
        if kind in ("conv", "linear"):
            counted += torch.Size(layer["weight"]).numel() + layer["weight"][0] * layer["bias"]
        elif kind == "norm":
            counted += 2 * layer["out"][0]
    return counted


def theirs(file: str, packs: Path) -> list[Layer]:
    return list(graph_layers(packs / "reference" / "onnx_light" / f"light_{file}.onnx"))


def built(name: str) -> ConvNet:
    variant = find(name)
    with on_meta():
        return variant.build(**({"aux": False} if "aux" in variant.options else {}))


@pytest.mark.oracles
@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.file)
def test_a_graph_and_our_row_are_the_same_layers(graph: Graph, real_packs: Path) -> None:
    net, other = built(graph.ours), theirs(graph.file, real_packs)
    graph.adapt(net)
    ours = our_layers(net)
    assert params(other) == params(ours) == sum(p.numel() for p in net.parameters()) == graph.params
    assert [kind for kind, _ in ours] == [kind for kind, _ in other]
    for number, (mine, its) in enumerate(zip(ours, other, strict=True)):
        assert mine == its, f"layer {number}"


@pytest.mark.oracles
@pytest.mark.parametrize(
    ("file", "ours"), [("inception_v1", "googlenet_caffe"), ("inception_v1", "googlenet"), ("resnet50", "resnet50")]
)
def test_a_size_a_constant_or_a_stride_that_differs_is_noticed(file: str, ours: str, real_packs: Path) -> None:
    net, other = built(ours), theirs(file, real_packs)
    assert params(our_layers(net)) == params(other)
    assert our_layers(net) != other
