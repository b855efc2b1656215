"""SVHN's MATLAB files, small ones written by SciPy: what comes out is what was written, and what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from convatlas.cli import main
from convatlas.data.sources import load_data, svhn
from convatlas.errors import UserError


def write(path: Path, n: int, seed: int, **other: Any) -> tuple[np.ndarray, np.ndarray]:
    """Writes n images and labels as SVHN does, with `other` variables in place of or beside them."""
    g = np.random.default_rng(seed)
    x = g.integers(0, 256, (32, 32, 3, n), np.uint8)
    y = (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"X": x, "y": y} | other, do_compression=True)
    return x, y


def write_all(folder: Path, extra: int = 0) -> Path:
    write(folder / "train_32x32.mat", 20, 0)
    write(folder / "test_32x32.mat", 10, 1)
    if extra:
        write(folder / "extra_32x32.mat", extra, 2)
    return folder


@pytest.mark.parametrize("source", ["svhn:{}", "{}"])
@pytest.mark.parametrize("labels", [np.uint8, np.float64])
def test_images_are_upright_and_10_is_the_digit_0(tmp_path: Path, source: str, labels: type) -> None:
    x, y = write(tmp_path / "train_32x32.mat", 20, 0, y=(np.arange(20) % 10 + 1).astype(labels)[:, None])
    write(tmp_path / "test_32x32.mat", 10, 1)
    data = load_data(source.format(tmp_path))
    assert (data.name, data.classes, data.shape) == ("svhn", tuple("0123456789"), (3, 32, 32))
    assert data.val is None
    for i in (0, 9, 19):
        for row, column, channel in ((0, 0, 0), (3, 30, 1), (31, 2, 2)):
            assert data.train.images[i, channel, row, column] == x[row, column, channel, i]
    assert data.train.labels.tolist() == [*range(1, 10), 0, *range(1, 10), 0]
    assert y[9, 0] == 10
    assert data.test is not None
    assert len(data.test) == 10


def test_extra_images_follow_the_training_images(tmp_path: Path) -> None:
    data = load_data(f"svhn:{write_all(tmp_path, extra=13)}")
    extra = svhn.read_mat(tmp_path / "extra_32x32.mat")[0]
    assert len(data.train) == 33
    assert (data.train.images[20:] == extra).all()
    assert data.train.provenance["source"] == "SVHN, cropped digits, with the extra training images"
    (tmp_path / "extra_32x32.mat").unlink()
    assert "without extra" in load_data(str(tmp_path)).train.provenance["source"]


def test_some_training_images_can_be_held_out(tmp_path: Path) -> None:
    data = load_data(f"svhn:{write_all(tmp_path)}", val=0.5)
    assert data.val is not None
    assert (len(data.train), len(data.val)) == (10, 10)


def test_one_image_is_enough(tmp_path: Path) -> None:
    write(tmp_path / "train_32x32.mat", 1, 0)
    assert svhn.read_mat(tmp_path / "train_32x32.mat")[0].shape == (1, 3, 32, 32)


def test_other_variables_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "train_32x32.mat", 3, 0, names=np.array(["a", {"b": 1}], object))
    assert len(svhn.read_mat(tmp_path / "train_32x32.mat")[1]) == 3


@pytest.mark.parametrize("missing", ["train_32x32.mat", "test_32x32.mat"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write_all(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=f"does not hold SVHN's cropped digits: no {missing}; give the folder"):
        load_data(f"svhn:{tmp_path}")


@pytest.mark.parametrize(
    "other",
    [
        {"X": np.zeros((32, 32, 3, 4), np.float64)},
        {"X": np.zeros((32, 32, 1, 4), np.uint8)},
        {"X": np.zeros((28, 28, 3, 4), np.uint8)},
        {"X": np.zeros((32, 32, 3, 5), np.uint8)},
        {"X": np.zeros((4, 3, 32, 32), np.uint8)},
        {"X": np.zeros((32, 32, 3, 0), np.uint8), "y": np.zeros((0, 1), np.uint8)},
        {"X": "a"},
        {"y": np.ones((4, 2), np.uint8)},
        {"y": "abcd"},
        {"y": {"a": 1}},
        {"y": np.array([[1, "a", 2, 3]], object)},
    ],
)
def test_other_arrays_are_refused_in_one_sentence(tmp_path: Path, other: dict) -> None:
    path = tmp_path / "train_32x32.mat"
    write(path, 4, 0, **other)
    with pytest.raises(UserError, match=r"does not hold X, uint8 images of 32 x 32 x 3 x N, and y, their N labels"):
        svhn.read_mat(path)


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"X": np.zeros((32, 32, 3, 4), np.uint8)})
    with pytest.raises(UserError, match="does not hold X"):
        svhn.read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("wrong", [0, 11, 1.5, np.nan, np.inf, -1])
def test_labels_are_1_to_10(tmp_path: Path, wrong: float) -> None:
    write(tmp_path / "a.mat", 4, 0, y=np.array([[1.0], [2.0], [wrong], [3.0]]))
    with pytest.raises(UserError, match="has labels other than 1 to 10; SVHN's are 1 to 9, and 10 for the digit 0"):
        svhn.read_mat(tmp_path / "a.mat")


def test_other_formats_are_refused(tmp_path: Path) -> None:
    for i, content in enumerate((b"", b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM", b"\x89HDF\r\n\x1a\n" * 40)):
        (tmp_path / f"{i}.mat").write_bytes(content)
        with pytest.raises(UserError, match="is not a MATLAB file of format 5"):
            svhn.read_mat(tmp_path / f"{i}.mat")


def test_a_file_cut_anywhere_or_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.mat", 3, 0)
    whole = (tmp_path / "a.mat").read_bytes()
    path = tmp_path / "b.mat"
    for cut in range(0, len(whole), 997):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError):
            svhn.read_mat(path)
    g = np.random.default_rng(0)
    for at in [*range(100, 200), *g.integers(0, len(whole), 100)]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << int(at) % 8]) + whole[at + 1 :])
        try:
            images, labels = svhn.read_mat(path)
        except UserError:
            continue
        assert images.shape[1:] == (3, 32, 32)
        assert len(images) == len(labels)


def test_what_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(svhn, "MOST_BYTES", 1 << 22)
    savemat(tmp_path / "small.mat", {"X": np.zeros((32, 32, 3, 4), np.uint8)})
    bomb = zlib.compress(bytes(1 << 26))
    header = (tmp_path / "small.mat").read_bytes()[:128]
    path = tmp_path / "bomb.mat"
    path.write_bytes(header + struct.pack("<II", svhn.COMPRESSED, len(bomb)) + bomb)
    with pytest.raises(UserError, match="holds more than X and y"):
        svhn.read_mat(path)


def test_a_misspelt_kind_is_corrected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean svhn:DIR"):
        load_data(f"svnh:{tmp_path}")


def test_a_network_trains_on_it_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source = f"svhn:{write_all(tmp_path / 'data')}"
    run = tmp_path / "run"
    command = ["train", "lenet5", "--data", source, "--epochs", "1", "--device", "cpu", "--out", str(run)]
    assert main(command) == 0
    assert (run / "run.json").is_file()
