"""Weights files of every format that were changed anyhow: tensors or one clear error, no other exception, no hang."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from convatlas import tables
from convatlas.weights.files import read_weights
from convatlas.weights.types import Weights
from tests.damages import mangled, read_or_refused
from tests.weights.formats.messages import classes
from tests.weights.formats.tiny import WRITTEN

NEEDS = {".h5": "h5py", ".keras": "h5py", ".tflite": "tflite", ".onnx": "onnx"}
FILES = sorted(file.name for file in WRITTEN.iterdir() if file.suffix not in (".py", ".data-00000-of-00001"))
FILES += ["w.caffemodel", "w.onnx", "w.net"]


def content(name: str) -> bytes:
    """What a framework wrote; for Caffe and ONNX, a convolution and a batch norm; a `.net` with a weight a layer."""
    if find_spec(NEEDS.get(Path(name).suffix, "numpy")) is None:
        pytest.skip(f"{NEEDS[Path(name).suffix]} is not installed")
    rng = np.random.default_rng(0)
    kernel, vector = rng.normal(size=(4, 3, 1, 1)).astype("f4"), rng.normal(size=4).astype("f4")
    if name == "w.caffemodel":
        caffe = classes(
            "small",
            """
            Shape: dim int64+ 1
            Blob: data float+ 5, shape Shape 7
            Layer: name string 1, type string 2, bottom string* 3, top string* 4, blobs Blob* 7
            Net: name string 1, layer Layer* 100
            """,
        )
        net = caffe["Net"](name="x")
        for kind, blobs in (("Convolution", [kernel, vector]), ("BatchNorm", [vector, vector, vector[:1]])):
            layer = net.layer.add(name=kind, type=kind, bottom=["x"], top=["x"])
            for values in blobs:
                layer.blobs.add(data=values.reshape(-1).tolist(), shape=caffe["Shape"](dim=values.shape))
        return bytes(net.SerializeToString())
    if name == "w.onnx":
        from onnx import helper, numpy_helper

        held = [numpy_helper.from_array(values, n) for n, values in (("w", kernel), ("b", vector), ("v", vector))]
        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["h"], name="conv"),
            helper.make_node("BatchNormalization", ["h", "b", "b", "v", "v"], ["y"], name="norm"),
        ]
        return bytes(helper.make_model(helper.make_graph(nodes, "g", [], [], held)).SerializeToString())
    if name == "w.net":
        rows = [row for row in tables.load("squeezenet1_0").rows if row.weights]
        layers = [rng.normal(size=256 + row.biases).astype("<f4").tobytes() + bytes([7, 3]) for row in rows]
        return np.ones(len(rows), "<u4").tobytes() + b"".join(layers)
    return (WRITTEN / name).read_bytes()


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def change(whole: bytes, rng: random.Random) -> bytes:
    kinds = ["set", "set", "cut", "drop", "insert"]
    return mangled(whole, [(rng.choice(kinds), rng.random(), rng.randrange(256)) for _ in range(rng.randrange(1, 6))])


def read_changed(folder: Path, name: str, times: int) -> int:
    """How many of so many changed files are read; the others are refused in one line."""
    whole, rng, read = content(name), random.Random(name), 0
    for file in WRITTEN.glob(f"{Path(name).stem}.data*"):
        shutil.copy(file, folder)
    path = folder / name
    for _ in range(times):
        path.write_bytes(change(whole, rng))
        signal.alarm(60)
        found = read_or_refused(lambda: read_weights(path))
        if found is not None:
            assert isinstance(found, Weights)
            assert found.tensors
            assert all(isinstance(t, Tensor) and "\n" not in name for name, t in found.tensors.items())
            read += 1
    return read


def fewer(name: str, times: int) -> int:
    """HDF5 files are first read in a process of their own, which takes half a second."""
    return times // 8 if NEEDS.get(Path(name).suffix) == "h5py" else times


@pytest.mark.parametrize("name", FILES)
def test_files_with_a_few_changes(tmp_path: Path, name: str) -> None:
    times = fewer(name, 40)
    assert read_changed(tmp_path, name, times) <= times - (times == 40)


@pytest.mark.faults
@pytest.mark.parametrize("name", FILES)
def test_files_with_many_changes(tmp_path: Path, name: str) -> None:
    times = fewer(name, 2000)
    assert read_changed(tmp_path, name, times) < times


@pytest.mark.parametrize("name", FILES)
def test_files_that_end_early(tmp_path: Path, name: str) -> None:
    whole, path = content(name), tmp_path / name
    for file in WRITTEN.glob(f"{Path(name).stem}.data*"):
        shutil.copy(file, tmp_path)
    for i in range(0, 12, 12 // max(fewer(name, 12), 3)):
        path.write_bytes(whole[: len(whole) * i // 12])
        signal.alarm(60)
        found = read_or_refused(lambda: read_weights(path))
        assert found is None or path.suffix in (".caffemodel", ".tflite", ".onnx")  # whose ends may be left out
