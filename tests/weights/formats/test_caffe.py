"""Caffe's weights, written by Google's protocol buffers as caffe.proto describes them; a released LeNet."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.weights.files import read_weights
from tests.weights.formats.messages import classes

CAFFE = """
    Shape: dim int64+ 1
    Blob: num int32 1, channels int32 2, height int32 3, width int32 4, data float+ 5, shape Shape 7, more double+ 8
    Norm: eps float 3
    Layer: name string 1, type string 2, bottom string* 3, top string* 4, blobs Blob* 7, batch_norm_param Norm 139
    V1: bottom string* 2, top string* 3, name string 4, type int32 5, blobs Blob* 6
    Net: name string 1, layers V1* 2, layer Layer* 100
"""
PROTO = classes("caffe", CAFFE)
UNPACKED = classes("caffe", CAFFE.replace("+", "*"))


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def blob(array: np.ndarray, old: bool = False, double: bool = False) -> Any:
    it = PROTO["Blob"]()
    getattr(it, "more" if double else "data").extend(array.reshape(-1).tolist())
    if old:
        it.num, it.channels, it.height, it.width = (1,) * (4 - array.ndim) + array.shape
    else:
        it.shape.dim.extend(array.shape)
    return it


def layer(name: str, kind: str, *blobs: np.ndarray, bottom: str = "", top: str = "", **more: Any) -> Any:
    it = PROTO["Layer"](name=name, type=kind, bottom=[bottom] if bottom else [], top=[top] if top else [], **more)
    it.blobs.extend(blob(b) for b in blobs)
    return it


def saved(path: Path, **net: Any) -> Path:
    path.write_bytes(PROTO["Net"](**net).SerializeToString())
    return path


def test_layers_of_both_generations(tmp_path: Path) -> None:
    conv, bias, fc, fc_bias = values(8, 2, 3, 2), values(8), values(5, 24), values(5)
    new = saved(
        tmp_path / "new.caffemodel",
        name="tiny",
        layer=[
            layer("data", "Input", top="data"),
            layer("conv", "Convolution", conv, bias, bottom="data", top="conv"),
            layer("fc", "InnerProduct", fc, fc_bias, bottom="conv", top="fc"),
        ],
    )
    old = saved(
        tmp_path / "old.caffemodel",
        name="tiny",
        layers=[
            PROTO["V1"](name="data", type=5),
            PROTO["V1"](name="conv", type=4, blobs=[blob(conv, old=True), blob(bias, old=True)]),
            PROTO["V1"](name="fc", type=14, blobs=[blob(fc, old=True, double=True), blob(fc_bias, old=True)]),
        ],
    )
    for path in (new, old):
        weights = read_weights(path)
        assert (weights.format, weights.network) == ("caffe", "tiny")
        assert (weights.channels_last, weights.folded) == (False, False)
        wanted = {"conv.weight": conv, "conv.bias": bias, "fc.weight": fc, "fc.bias": fc_bias}
        assert list(weights.tensors) == list(wanted)
        for name, array in wanted.items():
            assert torch.equal(weights.tensors[name].float(), torch.from_numpy(array)), name


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("factor", [999.5, 1.0, 0.0])
def test_batch_norm_and_scale_become_one_layer(tmp_path: Path, in_place: bool, factor: float) -> None:
    """y = (x - mean / f) / sqrt(variance / f + eps), and then scaled, as Caffe computes it."""
    mean, variance, gamma, beta = values(4), values(4) ** 2, values(4) + 1, values(4)
    tops = ("c", "c") if in_place else ("n", "s")
    path = saved(
        tmp_path / "w",
        name="x",
        layer=[
            layer("c", "Convolution", values(4, 3, 1, 1), bottom="data", top="c"),
            layer(
                "norm",
                "BatchNorm",
                mean,
                variance,
                np.array([factor], np.float32),
                bottom="c",
                top=tops[0],
                batch_norm_param=PROTO["Norm"](eps=0.01),
            ),
            layer("scale", "Scale", gamma, beta, bottom=tops[0], top=tops[1]),
            layer("alone", "Scale", gamma, beta, bottom=tops[1], top="z"),
        ],
    )
    found = read_weights(path)
    ours = torch.nn.BatchNorm2d(4, eps=found.eps["norm"]).eval()
    ours.load_state_dict({k.removeprefix("norm."): t for k, t in found.tensors.items() if "norm." in k}, strict=False)
    x = values(2, 4, 3, 3)
    f = 1 / factor if factor else 0
    wanted = (x - mean[:, None, None] * f) / np.sqrt(variance * f + 0.01)[:, None, None]
    wanted = wanted * gamma[:, None, None] + beta[:, None, None]
    with torch.inference_mode():
        np.testing.assert_allclose(ours(torch.from_numpy(x)).numpy(), wanted, rtol=1e-4, atol=1e-5)
    assert list(found.tensors)[-2:] == ["alone.weight", "alone.bias"]
    assert "scale.weight" not in found.tensors


def test_values_that_are_not_packed(tmp_path: Path) -> None:
    array = values(2, 3)
    packed = PROTO["Net"](name="x", layer=[layer("fc", "InnerProduct", array)]).SerializeToString()
    whole = UNPACKED["Net"].FromString(packed).SerializeToString()
    assert len(whole) > len(packed)
    (tmp_path / "w.caffemodel").write_bytes(whole)
    assert torch.equal(read_weights(tmp_path / "w.caffemodel").tensors["fc.weight"], torch.from_numpy(array))


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (dict(layer=[layer("n", "BatchNorm", values(4), values(4))]), "batch norm n has 2 blobs, and Caffe's has 3"),
        (dict(layer=[layer("a", "Convolution", values(2))] * 2), r"there are two tensors a\.weight"),
        (dict(layer=[layer("a", "Input")]), "contains no weights"),
        (dict(layer=[]), "contains no weights"),
    ],
)
def test_what_caffe_does_not_write(tmp_path: Path, net: dict[str, Any], message: str) -> None:
    path = saved(tmp_path / "w.caffemodel", name="x", **net)
    with pytest.raises(UserError, match=rf"w\.caffemodel .*{message}"):
        read_weights(path)


def test_a_shape_that_the_values_do_not_have(tmp_path: Path) -> None:
    for shape in ((3, 3), (-1, -4), (1 << 62, 1 << 62)):
        bad = blob(values(4))
        bad.shape.dim[:] = shape
        it = PROTO["Layer"](name="a", type="InnerProduct", blobs=[bad])
        with pytest.raises(UserError, match=r"is not an intact \.caffemodel \(4 values are not"):
            read_weights(saved(tmp_path / "w.caffemodel", name="x", layer=[it]))


def test_a_released_lenet_scores_as_published(real_packs: Path, real_data: Path) -> None:
    weights = read_weights(real_packs / "weights" / "lenet_caffe" / "lenet_iter_10000.caffemodel")
    net = find("lenet_caffe").build().eval()
    own = net.state_dict()
    assert [t.shape for t in own.values()] == [t.shape for t in weights.tensors.values()]
    net.load_state_dict(dict(zip(own, weights.tensors.values(), strict=True)))

    def idx(part: str) -> bytes:
        file = next((real_data / "mnist").glob(f"t10k-{part}*"))
        return gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()

    images = torch.frombuffer(bytearray(idx("images")[16:]), dtype=torch.uint8).view(-1, 1, 28, 28) / 256
    labels = torch.frombuffer(bytearray(idx("labels")[8:]), dtype=torch.uint8)
    with torch.inference_mode():
        right = sum((net(x).argmax(1) == y).sum().item() for x, y in zip(images.split(1000), labels.split(1000)))
    assert right == 9905  # of 10,000
