"""Networks as ONNX files: one file each, any number of images, nothing of this machine in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from convatlas.catalogue import find
from convatlas.engines.onnx_export import export_onnx, needed
from convatlas.errors import UserError


def test_a_file_gives_the_logits_of_any_number_of_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = find("chain_n1_m1_k0").build(input=(3, 16, 20), classes=10).train()
    file = tmp_path / "net.onnx"
    export_onnx(net, (3, 16, 20), file, {"licence": "mine"})
    assert net.training
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]
    assert not any(word in file.read_bytes() for word in (b"pkg.torch", b"layers.py", str(Path.cwd()).encode()))
    session = onnxruntime.InferenceSession(file)
    assert session.get_modelmeta().custom_metadata_map == {"licence": "mine"}
    for n in (1, 2, 5):
        x = torch.randn(n, 3, 16, 20)
        with torch.no_grad():
            expected = net.eval()(x).numpy()
        (logits,) = session.run(["logits"], {"images": x.numpy()})
        np.testing.assert_allclose(logits, expected, atol=1e-4 * expected.std())


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convatlas.engines.onnx_export.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx; pip install 'convatlas\[deploy\]'"):
        needed("onnx")
