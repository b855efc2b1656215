"""int8 networks: made of the images given, by both libraries, in silence, and about as exact as eight bits allow."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from convatlas.data.types import Data, MemorySplit
from convatlas.engines import int8, kept
from convatlas.engines.calibration import calibration_images
from convatlas.engines.sessions import on
from convatlas.errors import UserError
from tests.engines import nets

pytestmark = pytest.mark.usefixtures("exports")
MADE_FOR = ("onnxruntime", "openvino")


@pytest.mark.parametrize("engine", MADE_FOR)
def test_the_error_is_that_of_eight_bits(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    model = nets.model("resnet20", input=(3, 16, 16))
    x = nets.images(model, 40)
    with torch.no_grad():
        found, exact = on(model, engine, "int8", calibrate=x).net(x), model.net(x)
    assert capfd.readouterr() == ("", "")
    assert 1e-3 < float((found - exact).std() / exact.std()) < 0.2
    assert found.shape == exact.shape


def test_onnxruntimes_file_has_a_scale_for_each_channel() -> None:
    model = nets.model("resnet20", input=(3, 16, 16))
    file = int8.int8_of(kept.onnx_of(model.net, model.preprocess.input), "onnxruntime", nets.images(model, 40))
    graph = onnx.load(file).graph
    held = {it.name: numpy_helper.to_array(it) for it in graph.initializer}
    made = {node.output[0]: node for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 19
    for node in convolutions:
        weights, scales = (held[name] for name in made[node.input[1]].input[:2])
        assert (weights.dtype, scales.shape) == (np.int8, (len(weights),))
        assert made[node.input[0]].op_type == "DequantizeLinear"


def test_weights_take_seven_bits_where_eight_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nets.model("lenet5")
    file, x = kept.onnx_of(model.net, model.preprocess.input), nets.images(model, 20)

    def largest() -> int:
        graph = onnx.load(int8.int8_of(file, "onnxruntime", x)).graph
        arrays = [numpy_helper.to_array(it) for it in graph.initializer]
        return max(np.abs(a.astype(int)).max() for a in arrays if a.dtype == np.int8 and a.ndim > 1)

    monkeypatch.setattr(int8.platform, "machine", lambda: "x86_64")
    for names, most in ((("avx2",), 64), (("avx2", "avx512_vnni"), 127), (("avx2", "avx_vnni"), 127)):
        monkeypatch.setattr(int8, "flags", lambda names=names: names)
        assert largest() == most
    monkeypatch.setattr(int8.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(int8, "flags", lambda: ("asimd",))
    assert not int8.reduced()


def test_it_is_made_once_for_the_same_images(monkeypatch: pytest.MonkeyPatch, exports: Path) -> None:
    model = nets.model("lenet5")
    file, x = kept.onnx_of(model.net, model.preprocess.input), nets.images(model, 20)
    first = int8.int8_of(file, "onnxruntime", x)
    with monkeypatch.context() as patch:
        patch.setitem(int8.MAKERS, "onnxruntime", (".onnx", "onnxruntime", None))
        assert int8.int8_of(file, "onnxruntime", x) == first
    assert int8.int8_of(file, "onnxruntime", nets.images(model, 20, seed=2)) != first
    assert not [path for path in (exports / "engines").iterdir() if path.name.endswith(".new") or path.is_dir()]


def test_without_nncf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def version(library: str) -> str:
        raise int8.importlib.metadata.PackageNotFoundError(library)

    monkeypatch.setattr(int8.importlib.metadata, "version", version)
    with pytest.raises(UserError, match=r"int8 needs nncf, which is not installed; pip install 'convatlas\[deploy\]'"):
        int8.int8_of(tmp_path, "openvino", torch.zeros(1))


def test_fresh_weights_are_refused() -> None:
    model = nets.model("lenet5", trained=False)
    with pytest.raises(UserError, match="lenet5 is not trained, and int8 takes its ranges from trained weights"):
        on(model, "onnxruntime", "int8", calibrate=nets.images(model, 4))


def split(name: str, first: int, n: int) -> MemorySplit:
    """Images of one level each: `first`, `first` + 1, ..."""
    images = torch.arange(first, first + n).byte()[:, None, None, None].expand(n, 1, 32, 32).contiguous()
    return MemorySplit(name, images, torch.zeros(n, dtype=torch.int64), ("any",))


def test_what_is_scored_is_not_calibrated_on() -> None:
    model = nets.model("lenet5")
    data = Data("levels", split("train", 0, 100), None, split("test", 90, 40), (1, 32, 32), (0.5,), (0.25,))
    test = data.test
    levels = (calibration_images(model, data, test)[:, 0, 0, 0] * 0.25 + 0.5) * 255
    assert levels.round().int().tolist() == list(range(90))
    assert len(calibration_images(model, data)) == 100
    few = (calibration_images(model, data, images=3)[:, 0, 0, 0] * 0.25 + 0.5) * 255
    assert few.round().int().tolist() == [0, 50, 99]
    with pytest.raises(UserError, match="every image to calibrate on is one of those that are scored; give other data"):
        calibration_images(model, data, data.train)
    none = Data("none", split("train", 0, 0), None, test, (1, 32, 32), (0.5,), (0.25,))
    with pytest.raises(UserError, match="none has no training images to calibrate on; give other data to --calibrate"):
        calibration_images(model, none, test)
