"""ONNX files that convatlas has not written, as MODELs: what they say is taken, what they do not say is asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor

from convatlas.cli import main
from convatlas.engines.onnx_model import opened
from convatlas.errors import UserError

WEIGHT = np.random.default_rng(0).normal(0, 1, (7, 3)).astype(np.float32)


def written(
    file: Path,
    input: tuple[int | str, ...] = ("n", 3, 8, 10),
    type: int = TensorProto.FLOAT,
    softmax: bool = False,
    inputs: int = 1,
) -> Path:
    """The mean of each channel, times WEIGHT."""
    nodes = [
        helper.make_node("Cast", ["x0"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"], transB=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    out = "probabilities" if softmax else "logits"
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(f"x{i}", type, input) for i in range(inputs)],
        [helper.make_tensor_value_info(out, TensorProto.FLOAT, [input[0], 7])],
        [numpy_helper.from_array(np.resize(WEIGHT, (7, int(input[1]))), "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    return file


def expected(x: Tensor) -> Tensor:
    return x.mean((2, 3)) @ torch.from_numpy(WEIGHT).T


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("softmax", [False, True])
def test_files_of_others_run_in_batches_of_any_size(batch: int | str, softmax: bool, tmp_path: Path) -> None:
    model = opened(written(tmp_path / "net.onnx", (batch, 3, 8, 10), softmax=softmax), preprocess="imagenet")
    assert (model.network, model.classes[0], len(model.classes)) == ("net", "output 0", 7)
    assert model.preprocess.input == (3, 8, 10)
    assert any("probabilities" in note for note in model.notes) == softmax
    for n in (1, 3, 5):
        x = torch.randn(n, 3, 8, 10)
        logits = expected(x)
        torch.testing.assert_close(model.net(x), logits.log_softmax(1) if softmax else logits, rtol=1e-5, atol=1e-5)


def test_a_size_that_is_left_open_is_that_of_the_named_network(tmp_path: Path) -> None:
    file = written(tmp_path / "net.onnx", ("n", 3, "h", "w"))
    with pytest.raises(
        UserError, match=r"net\.onnx takes images of any size, and does not say of which; say it with --net"
    ):
        opened(file, preprocess="imagenet")
    model = opened(file, network="resnet20", preprocess="imagenet")
    assert (model.network, model.preprocess.input) == ("resnet20", (3, 32, 32))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"input": ("n", 8, 10, 3)}, r"takes images of 8x10x3; export it for images \(n, C, H, W\)"),
        ({"input": ("n", 3, 8)}, r"takes x0 tensor\(float\) \['n', 3, 8\], not float32 images"),
        ({"inputs": 2}, r"takes x0 tensor\(float\) .*, x1 tensor\(float\) .*, not float32 images"),
        ({"type": TensorProto.DOUBLE}, r"takes x0 tensor\(double\) .*, not float32 images"),
        ({"type": TensorProto.UINT8}, "takes uint8 images, and does not say in which order"),
    ],
)
def test_other_inputs_are_refused(how: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        opened(written(tmp_path / "net.onnx", **how), preprocess="imagenet")  # type: ignore[arg-type]


def test_what_is_missing_or_damaged_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "net.onnx")
    for words, message in (
        ([file], r"does not say how its images were prepared; say it with --preprocess"),
        ([file, "--preprocess", "imagenett"], "no preprocessing named 'imagenett'"),
        ([file, "--preprocess", "imagenet", "--which", "best"], "has one set of weights; leave out --which"),
        ([file, "--preprocess", "imagenet", "--engine", "openvino"], "is run as it is, by ONNX Runtime; leave out"),
        ([tmp_path / "none.onnx"], "there is no model"),
        ([damaged(file)], "damaged.onnx is no ONNX file that ONNX Runtime runs"),
        ([strange(file)], "the metadata of .*strange.onnx are damaged; export the network again"),
    ):
        assert main(["evaluate", *map(str, words), "--data", "digits"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message.split(".*")[0] in line
        assert message.split(".*")[-1] in line


def damaged(file: Path) -> Path:
    content = file.read_bytes()
    other = file.with_name("damaged.onnx")
    other.write_bytes(content[: len(content) // 2])
    return other


def strange(file: Path) -> Path:
    """With metadata as ours, and of another kind."""
    model = onnx.load(file)
    helper.set_model_props(model, {"convatlas": "1", "preprocess": "[]", "classes": "3"})
    other = file.with_name("strange.onnx")
    onnx.save(model, other)
    return other


def test_predict_runs_files_of_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path / "net.onnx", (2, 3, 8, 8))
    Image.fromarray(np.full((8, 8, 3), (255, 0, 128), np.uint8)).save(tmp_path / "plain.png")
    assert (
        main(["predict", str(file), "--preprocess", "half", str(tmp_path / "plain.png"), "--top", "7", "--json"]) == 0
    )
    [prediction] = json.loads(capsys.readouterr().out)["predictions"]
    found = {it["class"]: it["probability"] for it in prediction["ranked"]}
    logits = expected(torch.tensor([1.0, -1.0, 128 / 127.5 - 1]).view(1, 3, 1, 1))[0]
    assert [found[f"output {i}"] for i in range(7)] == pytest.approx(logits.double().softmax(0).tolist(), rel=1e-4)
