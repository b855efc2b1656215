"""An int8 file: what it costs is said first, and it is a MODEL with all that an export has."""

import json
from pathlib import Path

import onnx
import pytest

import convatlas
from convatlas.cli import main
from convatlas.engines import judged
from convatlas.recipe import with_epochs, with_settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    recipe = with_settings(with_epochs(convatlas.find_recipe("digits"), 2), ["net.widths=[8]", "batch=64"])
    folder = tmp_path_factory.mktemp("digits") / "run"
    convatlas.fit("chain_n1_m1_k0", convatlas.load_data("digits"), recipe, input=(1, 8, 8), out=folder)
    return str(folder)


@pytest.mark.usefixtures("exports")
@pytest.mark.parametrize(
    ("to", "name", "engine"), [("onnx", "net.onnx", "onnxruntime"), ("openvino", "net.xml", "openvino")]
)
def test_a_run_in_int8(
    to: str,
    name: str,
    engine: str,
    run: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(judged, "SECONDS", 0.1)
    file = tmp_path / name
    assert (
        main(["export", run, "--to", to, "-o", str(file), "--precision", "int8", "--calibrate", "digits", "--json"])
        == 0
    )
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err.startswith(f"convatlas: int8 on {engine}: top-1 ")
    assert {Path(path).name for path in found["files"]} == {path.name for path in tmp_path.iterdir()}
    card = (tmp_path / f"{name}.md").read_text()
    assert f"- int8 on {engine}: top-1 " in card
    assert "calibrated on 300 training images" in card
    if to == "onnx":
        assert any(node.op_type == "QuantizeLinear" for node in onnx.load(file).graph.node)
        assert main(["evaluate", str(file), "--data", "digits", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["top1"] == pytest.approx(found["int8"]["int8"]["top1"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "int8"], "int8 needs images to calibrate on; give data with training images: --calibrate"),
        (["--calibrate", "digits"], "--calibrate is for int8; give --precision int8, or leave it out"),
        (["--precision", "int8", "--calibrate", "digits", "--uint8"], "--uint8 does not go with --precision int8"),
        (["--precision", "int8", "--calibrate", "digits", "--to", "torch"], "int8 is not for torch; give --to onnx or"),
    ],
)
def test_what_does_not_go_together(
    options: list[str], message: str, run: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", run, "--to", "onnx", "-o", str(tmp_path / "net.onnx"), *options]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
