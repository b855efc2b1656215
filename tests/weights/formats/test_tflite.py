"""TensorFlow Lite's files, which its converter wrote (tests/goldens/weights/make.py), and a released one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from convatlas.errors import UserError
from convatlas.weights.files import read_weights
from tests.budget import within
from tests.weights.formats.tiny import CONVOLUTIONS, WRITTEN, computed, expected

tflite = pytest.importorskip("tflite", reason="tflite is not installed (extra `formats`)")


@pytest.mark.parametrize(("name", "share"), [("float", 1e-5), ("float16", 0.005), ("int8", 0.05)])
def test_a_network_computes_what_it_does_in_tensorflow(name: str, share: float) -> None:
    weights = read_weights(WRITTEN / f"{name}.tflite")
    assert (weights.format, weights.channels_last, weights.folded) == ("tflite", True, True)
    layers = list(dict.fromkeys(t.rpartition(".")[0] for t in weights.tensors))
    assert len(layers) == len(CONVOLUTIONS)
    assert {t.dtype for t in weights.tensors.values()} <= {torch.float32, torch.float16}
    whole = {n: t.float() for n, t in weights.tensors.items()}
    weights.tensors.update(whole)
    found = computed(weights, dict(zip(CONVOLUTIONS, layers)), 0.002)
    torch.testing.assert_close(found, expected(), rtol=0, atol=share * expected().std().item())


def test_a_released_mobilenet_of_integers(real_packs: Path) -> None:
    """Its values were dequantised by another program."""
    folder = real_packs / "weights" / "coral"
    weights = read_weights(folder / "mobilenet_v1_0.25_128_quant.tflite")
    with np.load(folder / "dq_mobilenet_v1_0.25_128_quant.npz") as file:
        theirs = [torch.from_numpy(file[name]) for name in sorted(file)]
    operators = json.loads((folder / "dq_mobilenet_v1_0.25_128_quant.json").read_text())
    names = list(dict.fromkeys(name.rpartition(".")[0] for name in weights.tensors))
    assert len(names) == sum("w" in it for it in operators)
    ours = [weights.tensors[f"{name}.{role}"] for name in names for role in ("bias", "weight")]
    assert len(ours) == len(theirs) == 56
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)
        assert a.dtype == torch.float32


def test_what_is_claimed_is_not_believed(tmp_path: Path) -> None:
    """Every word of a file in turn says that there is much more."""
    whole = (WRITTEN / "float.tflite").read_bytes()
    path = tmp_path / "w.tflite"
    for at in range(0, len(whole) - 4, 4 * 41):
        path.write_bytes(whole[:at] + b"\xff\xff\xff\x7f" + whole[at + 4 :])
        assert len(within(lambda: read_weights(path), mb=64).splitlines()) <= 1


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(UserError, match=r"reading \.tflite files needs tflite; pip install 'convatlas\[formats\]'"):
        read_weights(WRITTEN / "float.tflite")
