"""Every engine gives torch's logits, at the precision that was asked for, on the threads that were asked for."""

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import convatlas
from convatlas.cli import engine, main
from convatlas.engines import judged, kept, on_openvino
from convatlas.engines.net import EngineNet
from convatlas.engines.on_torch import TorchNet
from convatlas.engines.sessions import ENGINES, on
from convatlas.errors import UserError
from convatlas.recipe import with_epochs, with_settings
from tests.engines import nets

pytestmark = pytest.mark.usefixtures("exports")


@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_fp32_is_torchs(engine: str) -> None:
    model = nets.model("resnet20", input=(3, 16, 16))
    found = on(model, engine)
    assert isinstance(found.net, EngineNet)
    assert (found.classes, found.preprocess) == (model.classes, model.preprocess)
    for n in (3, 1):
        x = nets.images(model, n)
        assert nets.error(found.net(x), model.net(x)) <= 1e-4


@pytest.mark.parametrize(
    ("engine", "precision", "threads", "message"),
    [
        ("tensorrt", "fp32", 1, "no engine named 'tensorrt'; choose from torch, onnxruntime, openvino, auto"),
        ("torch", "fp16", 1, "no precision named 'fp16'; did you mean bf16"),
        ("torch", "fp32", 0, "0 threads are too few; give at least 1"),
        ("onnxruntime", "bf16", 1, "ONNX Runtime has no bf16 arithmetic on CPUs; give --engine torch or openvino"),
        (
            "torch",
            "int8",
            1,
            "int8 networks are made for ONNX Runtime and OpenVINO; give --engine onnxruntime or openv",
        ),
        ("openvino", "int8", 1, "int8 needs images to calibrate on; give them with --calibrate DATA"),
    ],
)
def test_refusals(engine: str, precision: str, threads: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        on(nets.model("lenet5"), engine, precision, threads)


@pytest.mark.parametrize(("engine", "name"), [("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")])
def test_an_engine_that_is_not_installed(engine: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, engine, None)
    monkeypatch.setattr(on_openvino, "core", on_openvino.core.__wrapped__)
    with pytest.raises(UserError, match=rf"{name} is not installed; pip install 'convatlas\[deploy\]'"):
        on(nets.model("lenet5"), engine)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_damaged_file_in_the_cache(engine: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    model = nets.model("lenet5")
    file = kept.onnx_of(model.net, model.preprocess.input)
    file.write_bytes(file.read_bytes()[:5000])
    told = rf"{engine} cannot run {file} \(.+\); delete it, in case it is damaged"
    with pytest.raises(UserError, match=told) as found:
        on(model, engine)
    assert "\n" not in str(found.value)
    file.unlink()
    assert on(model, engine).net(nets.images(model, 1)).shape == (1, 10)


def test_bf16_on_openvino_only_where_it_is_asked_for() -> None:
    """By itself OpenVINO computes in bf16 where the processor can: its errors are hundreds of times as large."""
    model = nets.model("resnet20", input=(3, 16, 16))
    x = nets.images(model, 4)
    with torch.no_grad():
        exact = model.net(x)
        assert nets.error(on(model, "openvino").net(x), exact) <= 1e-4
        assert 1e-3 < nets.error(on(model, "openvino", "bf16").net(x), exact) < 0.1


def test_bf16_on_torch_with_local_response_normalisation() -> None:
    """torch has no LRN in bf16 on CPUs; the atlas's own is made of operators that there are."""
    model = nets.model("alexnet", input=(3, 67, 67), classes=10)
    x = nets.images(model, 2)
    with torch.no_grad():
        found, exact = on(model, "torch", "bf16").net(x), model.net(x)
    assert found.dtype == torch.float32
    assert 1e-4 < nets.error(found, exact) < 0.1


def test_openvino_leaves_its_one_thread_to_the_system() -> None:
    """Pinned, the caller's thread moves to another core and back at each call: up to 0.5 ms where cores are busy."""
    model = nets.model("lenet5")
    for threads in (1, 2):
        net = on(model, "openvino", "fp32", threads).net
        assert isinstance(net, on_openvino.OpenVinoNet)
        assert net.requests[1].get_compiled_model().get_property("ENABLE_CPU_PINNING") is (threads > 1)


def test_openvino_sessions_end_in_any_order_and_signals_still_arrive() -> None:
    """Each of several cores would put back the stack for signals that it found, even one that is gone by then."""
    program = """
import signal
from convatlas.engines.sessions import on
from tests.engines import nets

model = nets.model("lenet5")
first, second = (on(model, "openvino", "fp32", threads) for threads in (1, 2))
del first
del second
signal.signal(signal.SIGINT, lambda *_: print("arrived"))
signal.raise_signal(signal.SIGINT)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "arrived\n"), ran.stderr


def test_torch_uses_the_threads_asked_for_and_gives_them_back() -> None:
    class Counts(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 1), torch.get_num_threads())

    net = TorchNet(Counts(), "fp32", 2)
    assert torch.get_num_threads() == 1
    assert net(torch.zeros(3, 1, 1, 1)).tolist() == [[2.0]] * 3
    assert torch.get_num_threads() == 1


def test_the_model_itself_stays_as_it_was() -> None:
    model = nets.model("lenet5")
    before = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    on(model, "torch", "bf16").net(nets.images(model, 1))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.net.state_dict().items())


def test_an_export_is_kept_by_weights_and_structure() -> None:
    net, other = nets.model("lenet5").net, nets.model("lenet5").net
    assert kept.digest_of(net, (1, 32, 32)) == kept.digest_of(other, (1, 32, 32))
    assert kept.digest_of(net, (1, 32, 32)) != kept.digest_of(net, (1, 36, 36))
    assert kept.digest_of(net, (1, 32, 32)) != kept.digest_of(nets.model("lenet5_tanh").net, (1, 32, 32))
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1e-6
    assert kept.digest_of(net, (1, 32, 32)) != kept.digest_of(other, (1, 32, 32))


def test_an_export_that_is_cut_short_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    net, save, tries = nets.model("lenet5").net, torch.onnx.ONNXProgram.save, []

    def interrupted(program: torch.onnx.ONNXProgram, file: str, **options: object) -> None:
        save(program, file, **options)
        tries.append(file)
        if len(tries) == 1:
            raise KeyboardInterrupt

    program = kept.onnx_export.onnx_program(net, torch.zeros(2, 1, 32, 32))
    monkeypatch.setattr(kept.onnx_export, "onnx_program", lambda net, x: program)
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.onnx_of(net, (1, 32, 32))
    assert not list((tmp_path / "engines").iterdir())
    assert kept.onnx_of(net, (1, 32, 32)) == kept.onnx_of(net, (1, 32, 32))
    assert len(tries) == 2


def test_a_graph_that_computes_something_else_is_not_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    net, other = nets.model("lenet5").net, nets.model("lenet5_tanh").net
    export = kept.onnx_export.export_onnx
    monkeypatch.setattr(kept.onnx_export, "export_onnx", lambda _, input, file: export(other, input, file))
    with pytest.raises(UserError, match=r"as an ONNX graph, LeNet5 differs from torch by \d+ standard deviations"):
        kept.onnx_of(net, (1, 32, 32))
    assert not list((tmp_path / "engines").iterdir())


def test_openvino_that_computes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on processors without bf16, where it falls back to f32."""
    monkeypatch.setitem(on_openvino.HINTS, "bf16", "f16")
    with pytest.raises(UserError, match=r"on this processor OpenVINO computes in \w+ where bf16 is asked for; give"):
        on(nets.model("lenet5"), "openvino", "bf16")


def test_evaluate_and_predict_take_an_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(judged, "SECONDS", 0.1)
    recipe = with_settings(with_epochs(convatlas.find_recipe("digits"), 1), ["net.widths=[4]", "batch=256"])
    folder = str(tmp_path / "run")
    convatlas.fit("chain_n1_m1_k0", convatlas.load_data("digits"), recipe, input=(1, 8, 8), out=folder)
    capsys.readouterr()
    top1 = []
    for options in ([], ["--engine", "openvino", "--threads", "1"], ["--precision", "int8", "--engine", "onnxruntime"]):
        more = [*options, *(["--calibrate", "digits"] if "int8" in options else [])]
        assert main(["evaluate", folder, "--data", "digits", "--json", *more]) == 0
        out, err = capsys.readouterr()
        top1.append(json.loads(out)["top1"])
        told = err.splitlines()
        if "int8" in options:
            assert told[0] == "convatlas: calibrated on 300 training images of digits"
            assert re.match(
                r"convatlas: int8 on onnxruntime: top-1 [\d.]+%, .* in fp32 .* of 355 images of test; ", told[1]
            )
        assert len(told) == 2 * ("int8" in options)
    assert top1[0] == top1[1] == pytest.approx(top1[2], abs=0.02)
    photo = tmp_path / "digit.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(photo)
    assert main(["predict", folder, str(photo), "--engine", "onnxruntime", "--threads", "2"]) == 0


def test_threads_alone_leave_the_network_as_it_is() -> None:
    """So it still runs on images of all sizes, which some protocols show it."""
    model = nets.model("lenet5")
    asked = argparse.Namespace(engine="torch", precision="fp32", threads=2, calibrate=None, batch=1, device="auto")
    try:
        assert engine.on(asked, model) is model
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert engine.device(asked) == "cpu"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "onnx"], "no engine named 'onnx'; choose from torch, onnxruntime"),
        (["--precision", "int4"], "no precision named 'int4'; did you mean int8"),
        (["--threads", "0"], "--threads 0 is too small; give at least 1"),
        (
            ["--precision", "int8"],
            "int8 needs images to calibrate on; give data with training images: --calibrate SOURCE",
        ),
        (["--calibrate", "digits"], "--calibrate is for int8; give --precision int8, or leave it out"),
        (["--engine", "auto", "--device", "cuda"], "engines run on the CPU, not on cuda; leave out --device"),
    ],
)
def test_options_that_do_not_go_together(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.pt").touch()
    (tmp_path / "a.png").touch()
    net = str(tmp_path / "net.pt")
    for words in (["evaluate", net, "--data", "digits"], ["predict", net, str(tmp_path / "a.png")]):
        assert main([*words, *options]) == 2
        assert message in capsys.readouterr().err


def test_nothing_is_reported_to_the_makers() -> None:
    """OpenVINO and NNCF report their use where a package for it is installed, as it is with OpenVINO."""
    code = """
import sys
from convatlas.engines.on_openvino import openvino, without_telemetry
openvino()
with without_telemetry():
    import nncf
assert "openvino.tools.ovc.telemetry_stub" in sys.modules
print("openvino_telemetry" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
