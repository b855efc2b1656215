"""Random chains: graphs that engines take, and that have everything that the networks of the atlas have."""

from pathlib import Path

import numpy as np
import pytest

from convatlas import account
from convatlas.engines.latency.chains import MOST_MACS, chain, reference
from convatlas.engines.latency.features import features
from convatlas.tables import index, load

onnx = pytest.importorskip("onnx")


def counted(file: Path, seed: int, int8: bool = False):
    made = chain(np.random.default_rng(seed), int8)
    file.write_bytes(made.bytes())
    return made, account(str(file), batch=1)


def test_the_same_seed_gives_the_same_chain() -> None:
    one, same, other = (chain(np.random.default_rng(seed)).bytes() for seed in (5, 5, 6))
    assert one == same != other


def test_chains_are_graphs_that_are_counted_in_full(tmp_path: Path) -> None:
    for seed in range(10):
        made, found = counted(tmp_path / "chain.onnx", seed)
        onnx.checker.check_model(onnx.load_from_string(made.bytes()), full_check=True)
        assert found.uncounted == ()
        assert found.input == made.input
        assert found.totals.macs < 1.5 * max(MOST_MACS)


def test_chains_show_every_feature_of_each_family(tmp_path: Path) -> None:
    shown = {
        name
        for seed in range(40)
        for made, found in [counted(tmp_path / "chain.onnx", seed)]
        for name, amount in features(found.rows, made.input).items()
        if amount
    }
    for name in {entry["family"]: name for name, entry in index().items()}.values():
        network = load(name)
        missing = {key for key, amount in features(network.rows, network.input).items() if amount} - shown
        assert not missing, f"{name}: {missing}"


@pytest.mark.parametrize("int8", [False, True])
def test_an_engine_runs_them(int8: bool) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    for seed in range(4):
        made = chain(np.random.default_rng(seed), int8)
        session = onnxruntime.InferenceSession(made.bytes(), providers=["CPUExecutionProvider"])
        images = np.random.default_rng(0).standard_normal((2, *made.input)).astype(np.float32)
        (logits,) = session.run(None, {"images": images})
        assert logits.shape == (2, made.channels)
        assert np.isfinite(logits).all()


def test_a_quantized_chain_has_the_features_of_the_chain(tmp_path: Path) -> None:
    for seed in range(8):
        made, plain = counted(tmp_path / "chain.onnx", seed)
        _, quantized = counted(tmp_path / "quantized.onnx", seed, int8=True)
        expected = features(plain.rows, made.input)
        assert features(quantized.rows, made.input) == pytest.approx(expected)


def test_an_engine_computes_quantized_chains_in_int8(tmp_path: Path) -> None:
    """ONNX Runtime's own graph has its integer operators, and no convolution in floating point."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    onnxruntime.InferenceSession(reference(int8=True).bytes(), options, providers=["CPUExecutionProvider"])
    ops = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert "QLinearConv" in ops
    assert not ops & {"Conv", "FusedConv", "Gemm", "Relu"}
