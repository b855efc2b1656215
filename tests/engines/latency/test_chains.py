"""Random chains: graphs that engines take, and that have everything that the networks of the atlas have."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convatlas import account
from convatlas.engines.latency.chains import LARGE, MOST_MACS, chain, reference
from convatlas.engines.latency.features import features
from convatlas.engines.latency.graph import Graph
from convatlas.engines.latency.work import works
from convatlas.tables import index, load

onnx = pytest.importorskip("onnx")


def counted(file: Path, seed: int, int8: str = ""):
    made = chain(np.random.default_rng(seed), int8)
    file.write_bytes(made.bytes())
    return made, account(str(file), batch=1)


def test_the_same_seed_gives_the_same_chain() -> None:
    one, same, other = (chain(np.random.default_rng(seed)).bytes() for seed in (5, 5, 6))
    assert one == same != other


def test_chains_are_graphs_that_are_counted_in_full(tmp_path: Path) -> None:
    for seed in range(5):
        made, found = counted(tmp_path / "chain.onnx", seed)
        onnx.checker.check_model(onnx.load_from_string(made.bytes()), full_check=True)
        assert found.uncounted == ()
        assert found.input == made.input
        assert found.totals.macs < 1.5 * max(MOST_MACS)


def test_chains_begin_as_networks_do() -> None:
    for seed in range(8):
        made = chain(np.random.default_rng(seed))
        assert made.input[0] == 3
        assert made.nodes[0].op_type == "Conv"


def test_chains_show_every_feature_of_each_family(tmp_path: Path) -> None:
    shown = {
        name
        for seed in range(30)
        for made, found in [counted(tmp_path / "chain.onnx", seed)]
        for name, amount in features(found.rows, made.input).items()
        if amount
    }
    for name in {entry["family"]: name for name, entry in index().items()}.values():
        network = load(name)
        missing = {key for key, amount in features(network.rows, network.input).items() if amount} - shown
        assert not missing, f"{name}: {missing}"


@pytest.mark.parametrize("int8", ["", "onnxruntime", "openvino"])
def test_an_engine_runs_them(int8: str) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    for seed in range(2):
        made = chain(np.random.default_rng(seed), int8)
        session = onnxruntime.InferenceSession(made.bytes(), providers=["CPUExecutionProvider"])
        images = np.random.default_rng(0).standard_normal((2, *made.input)).astype(np.float32)
        (logits,) = session.run(None, {"images": images})
        assert logits.shape == (2, made.channels)
        assert np.isfinite(logits).all()


def test_a_quantized_chain_has_the_features_of_the_chain(tmp_path: Path) -> None:
    for seed in range(4):
        made, plain = counted(tmp_path / "chain.onnx", seed)
        _, quantized = counted(tmp_path / "quantized.onnx", seed, int8="onnxruntime")
        expected = features(plain.rows, made.input)
        assert features(quantized.rows, made.input) == pytest.approx(expected)


def test_an_engine_computes_quantized_chains_in_int8(tmp_path: Path) -> None:
    """ONNX Runtime's own graph has its integer operators, and no convolution in floating point."""
    onnxruntime = pytest.importorskip("onnxruntime")
    ops = optimized(onnxruntime, reference(int8="onnxruntime"), tmp_path / "optimized.onnx")
    assert ops["QLinearConv"]
    assert not ops.keys() & {"Conv", "FusedConv", "Gemm", "Relu"}


def test_maxima_and_norms_of_quantized_values_are_those_of_a_quantized_network(tmp_path: Path) -> None:
    """In ONNX Runtime's own layout, from integers to integers, and no activation beside them."""
    onnxruntime = pytest.importorskip("onnxruntime")
    made = Graph(3, 32, np.random.default_rng(0), int8="onnxruntime")
    made.conv(32)
    made.relu()
    made.pool()
    made.batch_norm()
    made.relu()
    made.conv(32)
    made.mean()
    made.flatten()
    ops = optimized(onnxruntime, made, tmp_path / "optimized.onnx")
    assert (ops["NhwcMaxPool"], ops["BatchNormalization"]) == (1, 1)
    assert not ops["MaxPool"] + ops["Relu"] + ops["ReorderInput"]


@pytest.mark.parametrize("groups", [2, 32])
def test_openvino_computes_groups_as_of_a_quantized_network(groups: int, tmp_path: Path) -> None:
    """In float32, and the others in int8: so it runs MobileNetV2 and AlexNet that NNCF has quantized."""
    openvino = pytest.importorskip("openvino")
    made = Graph(3, 16, np.random.default_rng(0), int8="openvino")
    made.conv(32)
    made.relu()
    made.conv(32, 3, groups=groups)
    made.relu()
    made.conv(64)
    made.mean()
    made.flatten()
    (tmp_path / "chain.onnx").write_bytes(made.bytes())
    core = openvino.Core()
    model = core.read_model(tmp_path / "chain.onnx")
    model.reshape([1, *made.input])
    graph = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}).get_runtime_model()
    told = [op.get_rt_info() for op in graph.get_ordered_ops()]
    how = [one["runtimePrecision"].astype(str) for one in told if one["layerType"].astype(str) == "Convolution"]
    assert how == ["u8", "f32", "u8"]


def test_what_is_concatenated_is_quantized_as_in_a_quantized_network() -> None:
    """By ONNX Runtime before and after, by NNCF before."""
    for int8, ops in (("onnxruntime", ["QuantizeLinear"]), ("openvino", ["BatchNormalization"])):
        made = Graph(3, 8, np.random.default_rng(0), int8)
        made.conv(16)
        made.relu()
        made.concatenate([made.at, made.at], 32)
        joined = made.at
        made.batch_norm()
        assert [node.op_type for node in made.nodes if joined in node.input] == ops


def test_chains_have_no_norms_or_concatenations_at_sides_where_networks_have_none(tmp_path: Path) -> None:
    for seed in range(12):
        made, found = counted(tmp_path / "chain.onnx", seed)
        sides = [work.height for work in works(found.rows, made.input) if work.kind in ("norm", "copy")]
        assert max(sides, default=0) <= LARGE


def optimized(onnxruntime: Any, made: Graph, file: Path) -> Counter[str]:
    """The operators of ONNX Runtime's own graph."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(file), 3
    onnxruntime.InferenceSession(made.bytes(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(file).graph.node)


def test_local_response_normalisation_has_the_integer_operators_of_a_quantized_network(tmp_path: Path) -> None:
    """Those that GoogLeNet has in ONNX Runtime once its own quantizer is done: squares, sums, both constants."""
    onnxruntime = pytest.importorskip("onnxruntime")
    made = Graph(3, 16, np.random.default_rng(0), int8="onnxruntime")
    made.conv(32)
    made.lrn()
    made.conv(32)
    made.mean()
    made.flatten()
    ops = optimized(onnxruntime, made, tmp_path / "optimized.onnx")
    assert (ops["QLinearMul"], ops["QLinearAdd"], ops["Div"], ops["Pow"]) == (2, 5, 2, 1)
    assert not ops["Mul"] + ops["Add"]
