"""IDX files, written here as their format's page describes them."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from convatlas.data.sources import load_data
from convatlas.data.sources.mnist import read_idx
from convatlas.errors import UserError
from tests.data.sources.written import CODES, IMAGES, LABELS, idx, write_set

SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(
    st.sampled_from(list(CODES)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=4, max_side=5, min_side=0))
    ),
    st.booleans(),
)
@SAME_FOLDER
def test_every_type_and_shape_comes_back(tmp_path: Path, array: np.ndarray, zipped: bool) -> None:
    path = tmp_path / ("x.gz" if zipped else "x")
    path.write_bytes(gzip.compress(idx(array), 0) if zipped else idx(array))
    out = read_idx(path)
    assert out.dtype == array.dtype
    assert out.dtype.isnative
    assert out.shape == array.shape
    assert out.tobytes() == array.tobytes()  # NaNs too


@given(st.binary(max_size=40), st.booleans())
@SAME_FOLDER
def test_anything_else_is_refused_or_an_array(tmp_path: Path, content: bytes, headed: bool) -> None:
    path = tmp_path / "x"
    path.write_bytes((b"\0\0\x08" if headed else b"") + content)
    array, message = None, ""
    try:
        array = read_idx(path)
    except UserError as error:
        message = str(error)
    assert isinstance(array, np.ndarray) or str(path) in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is truncated or damaged"),
        (b"\0\0\x08", "is truncated or damaged"),
        (b"\0\0\x08\x03\0\0\0\x02\0\0", "is truncated or damaged"),
        (b"\x1f\x8b\x08\x00", "begins with 1f8b0800; give an IDX file"),  # gzip without .gz
        (b"\0\0\x0a\x01\0\0\0\0", "begins with 00000a01"),
        (b"\0\0\x08\x00", "begins with 00000800"),
        (b"\0\0\x08\xff" + b"\0\0\0\x01" * 255 + b"x", "begins with 000008ff"),
        (idx(IMAGES)[:-1], "declares 6 x 28 x 28 values but holds only 4,703 bytes"),
        (idx(IMAGES) + b"x", "declares 6 x 28 x 28 values but holds more"),
        (b"\0\0\x0e\x04" + b"\xff" * 16 + b"x" * 9, "declares .* values but holds only 9 bytes"),
    ],
)
def test_a_broken_file_is_named_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x-ubyte").write_bytes(content)
    with pytest.raises(UserError, match=f"x-ubyte {message}"):
        read_idx(tmp_path / "x-ubyte")


@pytest.mark.parametrize(
    "damage",
    [
        lambda z: z[:-9],
        lambda z: z[:5],
        lambda z: b"",
        lambda z: b"plain text",
        lambda z: z[:20] + b"\xff" * 9 + z[29:],
    ],
)
def test_a_broken_gzip_is_named(tmp_path: Path, damage) -> None:
    (tmp_path / "x.gz").write_bytes(damage(gzip.compress(idx(IMAGES))))
    with pytest.raises(UserError, match=r"x\.gz is truncated or damaged"):
        read_idx(tmp_path / "x.gz")


def test_a_gzip_bomb_is_not_inflated_beyond_its_header(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(idx(LABELS) + bytes(50_000_000), 9))
    with pytest.raises(UserError, match="declares 6 values but holds more"):
        read_idx(tmp_path / "x.gz")


@pytest.mark.parametrize("spelling", ["{0}-{1}", "{0}.{1}", "{0}-{1}.gz", "{0}.{1}.gz"])
@pytest.mark.parametrize("where", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize("source", ["mnist:{}", "{}"])
def test_a_set_is_found_in_every_spelling(tmp_path: Path, spelling: str, where: str, source: str) -> None:
    for file in write_set(tmp_path / where).iterdir():
        stem, _, kind = file.name.rpartition("-idx")
        renamed = file.with_name(spelling.format(stem, f"idx{kind}"))
        content = file.read_bytes()
        file.unlink()
        renamed.write_bytes(gzip.compress(content) if renamed.suffix == ".gz" else content)
    data = load_data(source.format(tmp_path))
    assert data.name == "mnist"
    assert data.shape == (1, 28, 28)
    assert data.classes == ("0", "1", "2")
    assert torch.equal(data.train.images[:, 0], torch.from_numpy(IMAGES))
    assert data.train.labels.tolist() == LABELS.tolist()
    assert data.test.labels.tolist() == [0, 1, 2]
    assert data.mean == pytest.approx((IMAGES.mean() / 255,))


def test_labels_may_be_wider_whole_numbers(tmp_path: Path) -> None:
    data = load_data(f"mnist:{write_set(tmp_path, train_labels=idx(LABELS.astype(np.int32)))}")
    assert data.train.labels.dtype == torch.int64
    assert data.train.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_images": idx(IMAGES.astype(np.int16))},
            "train-images.* holds int16 of shape 6 x 28 x 28; give uint8 images",
        ),
        ({"train_images": idx(IMAGES[0])}, "holds uint8 of shape 28 x 28; give uint8 images"),
        ({"train_images": idx(IMAGES[:0])}, "holds uint8 of shape 0 x 28 x 28; give uint8 images"),
        (
            {"t10k_labels": idx(LABELS[:3].astype(np.float32))},
            "t10k-labels.* holds float32 of shape 3; give integer labels",
        ),
        ({"t10k_labels": idx(LABELS[:3, None])}, "holds uint8 of shape 3 x 1; give integer labels"),
        ({"train_labels": idx(-LABELS.astype(np.int8))}, "give integer labels from 0"),
        ({"train_labels": idx(LABELS[:5])}, "holds 6 images, train-labels-idx1-ubyte 5 labels; give matching files"),
        ({"t10k_labels": idx(LABELS[:3] + 1)}, "test labels .* go up to 3, the training labels to 2"),
        ({"t10k_images": idx(IMAGES[:3, :9])}, "differ in size"),
    ],
)
def test_files_that_do_not_make_a_set_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_data(f"mnist:{write_set(tmp_path, **changes)}")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (write_set(tmp_path) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match="holds no t10k-labels-idx"):
        load_data(f"mnist:{tmp_path}")
    with pytest.raises(UserError, match="holds no train-images-idx3-ubyte"):
        load_data(f"mnist:{tmp_path.parent}")


def test_the_real_mnist(real_data: Path) -> None:
    """The published mean .1307 and spread .3081; labels by class as LeCun et al. and everyone since count them."""
    data = load_data(f"mnist:{real_data / 'mnist'}")
    assert (len(data.train), len(data.test), data.shape) == (60_000, 10_000, (1, 28, 28))
    assert data.mean == pytest.approx((0.1307,), abs=5e-5)
    assert data.std == pytest.approx((0.3081,), abs=5e-5)
    assert data.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    with gzip.open(real_data / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        pixels = file.read()[16:]
    sizes = np.tile((1, 28, 28), (10_000, 1)).tobytes()
    assert data.provenance["test"]["sha256_of_contents"] == hashlib.sha256(sizes + pixels).hexdigest()
