"""ONNX files that torch and the onnx package write; what they compute is what onnx's own evaluator says."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from convatlas.errors import UserError
from convatlas.weights.files import read_weights

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `oracles`)")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def saved(path: Path, nodes: list[Any], **held: Any) -> Path:
    """A graph from x to y."""
    initialisers = [v if isinstance(v, TensorProto) else numpy_helper.from_array(v, n) for n, v in held.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "graph", ends[:1], ends[1:], initialisers))
    onnx.save(model, path)
    return path


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(4, 6, (2, 3), groups=2, bias=False)
        self.norm = nn.BatchNorm2d(6, eps=0.003)
        self.first = nn.Conv2d(3, 4, (3, 2))
        self.head = nn.Linear(6, 5)
        nn.init.normal_(self.norm.weight)
        self.norm.running_mean.normal_()  # type: ignore[union-attr, operator]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.second(self.first(x)).relu())
        return self.head(x.mean((2, 3)))


def exported(path: Path, net: nn.Module, **options: Any) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.zeros(1, 3, 8, 8),), str(path), dynamo=False, **options)
    return path


def test_what_torch_exports(tmp_path: Path) -> None:
    net = Net().eval()
    weights = read_weights(exported(tmp_path / "w.onnx", net))
    assert (weights.format, weights.channels_last, weights.folded) == ("onnx", False, True)
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in weights.tensors))
    assert layers == ["first", "second", "norm", "head"]  # as they run
    assert {n: pytest.approx(e) for n, e in weights.eps.items()} == {"norm": 0.003}
    own = {n: t for n, t in net.state_dict().items() if "num_batches" not in n}
    assert set(weights.tensors) == set(own)
    assert all(torch.equal(weights.tensors[name], own[name]) for name in own)


def test_batch_norms_that_are_folded_and_layers_that_share_a_name(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3)).eval()
    found = read_weights(exported(tmp_path / "w.onnx", net)).tensors
    assert len(found) == 4
    conv, norm = net[0], net[1]
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    x = torch.randn(1, 3, 8, 8)
    weight, bias, *_ = found.values()
    torch.testing.assert_close(F.conv2d(x, weight, bias), norm(conv(x)))
    shared = [helper.make_node("Conv", [a, "w"], [b], name="c") for a, b in (("x", "h"), ("h", "y"))]
    assert list(read_weights(saved(tmp_path / "s.onnx", shared, w=values(3, 3, 1, 1))).tensors) == [
        "c.weight",
        "c_1.weight",
    ]


@pytest.mark.parametrize("kind", ["plain", "transposed", "scaled", "matmul", "constant", "integers"])
def test_linear_layers(tmp_path: Path, kind: str) -> None:
    from onnx.reference import ReferenceEvaluator

    w, b, x = values(4, 5), values(5), values(2, 4)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc")]
    held: dict[str, Any] = {"w": w, "b": b}
    if kind == "transposed":
        nodes, held["w"] = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc", transB=1)], w.T.copy()
    if kind == "scaled":
        nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="fc", alpha=0.5, beta=3.0)]
    if kind == "matmul":
        nodes = [helper.make_node("MatMul", ["x", "w"], ["h"], name="fc"), helper.make_node("Add", ["b", "h"], ["y"])]
    if kind == "constant":
        held.pop("w")
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(w)))
    if kind == "integers":
        held |= {
            "q": (w * 9).astype(np.int8),
            "s": np.linspace(0.1, 0.2, 5, dtype="f4"),
            "z": np.arange(5, dtype=np.int8),
        }
        held.pop("w")
        nodes.insert(0, helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=1))
    path = saved(tmp_path / "w.onnx", nodes, **held)
    found = read_weights(path).tensors
    assert list(found) == ["fc.weight", "fc.bias"]
    assert {t.dtype for t in found.values()} == {torch.float32}
    wanted = ReferenceEvaluator(onnx.load(path)).run(None, {"x": x})[0]
    y = F.linear(torch.from_numpy(x), found["fc.weight"], found["fc.bias"])
    np.testing.assert_allclose(y.numpy(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
@pytest.mark.parametrize("raw", [True, False])
def test_types_of_numbers(tmp_path: Path, kind: int, raw: bool) -> None:
    w = np.array([[1.0, -2.5], [0.375, 100.0]])
    held = helper.make_tensor("w", kind, (2, 2), w.astype("f4") if kind == TensorProto.BFLOAT16 or not raw else w)
    if raw:
        array = numpy_helper.to_array(held)
        held = helper.make_tensor("w", kind, (2, 2), array.tobytes(), raw=True)
    path = saved(tmp_path / "w.onnx", [helper.make_node("Conv", ["x", "w"], ["y"], name="c")], w=held)
    assert torch.equal(read_weights(path).tensors["c.weight"].double(), torch.from_numpy(w))


def external(path: Path, location: str, **more: str) -> Path:
    held = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 2], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **more}.items():
        held.external_data.add(key=key, value=value)
    model = helper.make_model(
        helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], name="c")], "g", [], [], [held])
    )
    path.write_bytes(model.SerializeToString())
    return path


def test_data_beside_the_file_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    w = values(2, 2)
    for name in (folder / "w.bin", tmp_path / "secret.bin"):
        name.write_bytes(bytes(8) + w.tobytes())
    os.symlink("../secret.bin", folder / "link.bin")
    os.symlink("..", folder / "up")
    found = read_weights(external(folder / "w.onnx", "w.bin", offset="8", length="16")).tensors
    assert torch.equal(found["c.weight"], torch.from_numpy(w))
    for location in ("../secret.bin", str(tmp_path / "secret.bin"), "a/../../secret.bin", "..\\secret.bin", ""):
        with pytest.raises(UserError, match=r"w\.onnx refers to .*, which is outside its folder"):
            read_weights(external(folder / "w.onnx", location))
    for location in ("link.bin", "up/secret.bin", "none.bin", "up"):
        with pytest.raises(UserError, match=r"w\.onnx has its weights in .*, which is not there"):
            read_weights(external(folder / "w.onnx", location))
    for more in ({"offset": "9"}, {"offset": "-8"}, {"length": "99"}, {"offset": "x"}):
        with pytest.raises(UserError, match=r"w\.onnx is not an intact \.onnx file"):
            read_weights(external(folder / "w.onnx", "w.bin", **more))


def test_one_initialiser_is_not_read_without_end(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"]) for _ in range(1000)]
    with pytest.raises(UserError, match=r"w\.onnx contains tensors of more than the"):
        read_weights(saved(tmp_path / "w.onnx", nodes, w=values(100, 100, 1, 1)))
