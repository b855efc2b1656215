"""load_data and preprocess_for: which source it is, and how its images reach a network."""

import json
import tarfile
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.data.kinds import SOURCES
from convatlas.data.normalise import Normalizer, normalise, preprocess_for
from convatlas.data.pixels import recolour
from convatlas.data.sources import load_data
from convatlas.data.types import Data, MemorySplit
from convatlas.errors import UserError
from convatlas.preprocess import Preprocess


def test_digits_are_scikit_learns_split_once_for_all() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    data = load_data("digits", seed=5)
    assert (data.name, data.shape, data.classes) == ("digits", (1, 8, 8), tuple("0123456789"))
    assert (len(data.train), len(data.test)) == (1442, 355)
    share = data.test.labels.bincount() / torch.from_numpy(bunch.target).bincount()
    assert ((share > 0.19) & (share < 0.205)).all()  # stratified
    images = torch.cat([data.train.images, data.test.images])[:, 0]
    ours = sorted(zip(images.flatten(1).tolist(), torch.cat([data.train.labels, data.test.labels]).tolist()))
    theirs = sorted(zip(np.floor(bunch.data * 255 / 16 + 0.5).astype(int).tolist(), bunch.target.tolist()))
    assert ours == theirs
    assert (images.min(), images.max()) == (0, 255)
    assert torch.equal(load_data("digits", seed=6).test.images, data.test.images)
    # the split never changes: accuracies are compared across versions
    whole = data.test.images.numpy().tobytes() + data.test.labels.numpy().tobytes()
    assert sha256(whole).hexdigest() == "c828ed8d66d4999368244a654a4bd17850508763dc9ee33f20f139ab0bb00a7d"


def test_statistics_normalise_the_training_images() -> None:
    data = load_data("digits")
    record = preprocess_for(data, (1, 8, 8))
    pixels = normalise(data.train.fetch(range(len(data.train)), record), Normalizer(record))
    assert pixels.mean().item() == pytest.approx(0, abs=1e-5)
    assert pixels.std(correction=0).item() == pytest.approx(1, abs=1e-5)


def test_provenance_says_what_was_loaded() -> None:
    provenance = load_data("digits").provenance
    assert provenance["name"] == "digits"
    assert provenance["classes"] == 10
    assert provenance["train"]["images"] == 1442
    assert provenance["test"]["source"] == "scikit-learn load_digits"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digit", "no data source 'digit', and no folder of that name; did you mean digits?"),
        ("minst:/data", r"no data source 'minst:/data', and no folder of that name; did you mean mnist:DIR\?"),
        ("mnist", r"did you mean mnist:DIR\?"),
        ("cifar:x", r"did you mean cifar10(0)?:DIR\?"),
        ("cifar100:", r"did you mean cifar100:DIR\?"),
        ("", "is empty; give a folder with a sub-folder of images for each class"),
        (
            "no/such/place",
            "give digits, mnist:DIR, cifar10:DIR, cifar100:DIR, svhn:DIR, imagenet:DIR, folder:DIR, list:DIR, .*, or a",
        ),
        ("folder:no/such/place", "there is no data folder no/such/place"),
        ("mnist:~/no/such/place", r"there is no data folder /.*/no/such/place"),
    ],
)
def test_a_source_that_is_not_there_gets_one_clear_line(source: str, message: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        load_data(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["{}", "folder:{}", "mnist:{}", "cifar10:{}"])
def test_a_file_is_no_folder(tmp_path: Path, source: str) -> None:
    path = tmp_path / "cifar.bin"
    path.touch()
    with pytest.raises(UserError, match=r"cifar\.bin is a file; give its folder, or the folder it unpacks to"):
        load_data(source.format(path))


def test_a_folder_of_something_else_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.c").touch()
    with pytest.raises(
        UserError,
        match=r"not a data set that convatlas recognises; give CIFAR batches .* IDX files .* images \(train/ and val/",
    ):
        load_data(str(tmp_path))


@pytest.mark.parametrize("below", ["", "train"])
def test_images_without_class_folders(tmp_path: Path, below: str) -> None:
    folder = tmp_path / "photos" / below
    folder.mkdir(parents=True)
    for name in ("b.JPG", "a.png", "notes.txt"):
        (folder / name).touch()
    expected = (
        rf"{folder.name} holds 2 images but no class folders; move .*, as in {folder.name}/CLASS/a\.png, or list "
    )
    with pytest.raises(UserError, match=expected):
        load_data(str(tmp_path / "photos"))


def test_images_of_a_format_that_is_not_read(tmp_path: Path) -> None:
    for label in ("ants", "bees"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.TIF").touch()
        (tmp_path / label / "2.tiff").touch()
    expected = r"are \.tif and \.tiff files, which are not supported; convert them to one of \.jpg, \.jpeg, \.png"
    with pytest.raises(UserError, match=expected):
        load_data(str(tmp_path))


def test_a_folder_may_bear_the_name_of_a_source(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mnist").mkdir()
    with pytest.raises(UserError, match="mnist is empty"):
        load_data("mnist")
    assert load_data("digits").name == "digits"


def colour_data(resize_mode: str = "crop", shape: tuple[int, int, int] | None = (3, 32, 32)) -> Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, *(shape or (3, 32, 32))), dtype=torch.uint8, generator=generator)
    split = MemorySplit("train", images, torch.zeros(40, dtype=torch.int64), ("a",))
    c = images.shape[1]
    return Data("x", split, None, split, shape, (0.25,) * c, (0.5,) * c, resize_mode)


def test_a_network_of_the_sets_own_size_takes_its_images_as_they_are() -> None:
    for resize_mode, shape in (("crop", (3, 32, 32)), ("pad", (1, 28, 28)), ("stretch", (1, 8, 8))):
        data = colour_data(resize_mode, shape)
        record = preprocess_for(data, shape)
        assert torch.equal(data.train.fetch(range(40), record), data.train.images)
        assert (record.mean, record.std) == (data.mean, data.std)


@pytest.mark.parametrize(
    ("side", "resize_mode"), [(28, "pad"), (32, "pad"), (55, "pad"), (56, "stretch"), (224, "stretch")]
)
def test_mnist_is_padded_a_little_and_stretched_a_lot(side: int, resize_mode: str) -> None:
    assert preprocess_for(colour_data("pad", (1, 28, 28)), (1, side, side)).resize_mode == resize_mode


def test_digits_are_stretched() -> None:
    data = load_data("digits")
    record = preprocess_for(data, (1, 32, 32))
    assert record.resize_mode == "stretch"
    out = data.test.fetch([0], record)[0, 0].float()
    back = out.unflatten(0, (8, 4)).unflatten(2, (8, 4)).mean((1, 3))
    pair = torch.stack([back.flatten(), data.test.images[0].flatten().float()])
    assert torch.corrcoef(pair)[0, 1] > 0.95  # the same digit, larger


@pytest.mark.parametrize(
    ("size", "resize"), [((224, 224), 256), ((227, 227), 259), ((299, 299), 342), ((128, 160), 183), ((32, 32), 37)]
)
def test_photographs_are_scaled_by_256_to_224_and_cropped(size: tuple[int, int], resize: int) -> None:
    record = preprocess_for(colour_data(shape=None), (3, *size))
    assert (record.resize_mode, record.resize) == ("crop", resize)


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        ("scale_crop:256", ("crop", 259)),
        ("square_crop:256", ("crop", 256)),
        ("warp_crop:256", ("stretch", 256)),
        ("flip", ("crop", 259)),
    ],
)
def test_the_centre_crop_is_of_the_square_that_the_random_crop_is_of(op: str, expected: tuple[str, int]) -> None:
    record = preprocess_for(colour_data(shape=None), (3, 227, 227), augment=(op,))
    assert (record.resize_mode, record.resize) == expected


def test_a_colour_network_sees_grey_statistics_three_times() -> None:
    record = preprocess_for(colour_data("pad", (1, 28, 28)), (3, 32, 32))
    assert (record.mean, record.std) == ((0.25,) * 3, (0.5,) * 3)


def test_a_grey_network_sees_the_statistics_of_the_luma() -> None:
    data = colour_data()
    record = preprocess_for(data, (1, 32, 32))
    luma = recolour(data.train.images, 1).numpy() / 255
    assert record.mean == pytest.approx((luma.mean(),))
    assert record.std == pytest.approx((luma.std(),))
    assert record.std[0] < 0.9 * 0.289  # independent colours: .587^2 + .299^2 + .114^2, not 1, times that of one


def test_the_real_sets_are_told_apart(real_data: Path) -> None:
    names = {place: load_data(str(real_data / place)).name for place in ("", "mnist", "hymenoptera")}
    assert names == {"": "cifar10", "mnist": "mnist", "hymenoptera": "hymenoptera"}


def test_provenance_tells_the_whole_path(tmp_path: Path, monkeypatch) -> None:
    """A run is evaluated from another folder than it was trained in."""
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / "x" / name)
    monkeypatch.chdir(tmp_path)
    provenance = load_data("folder:x").provenance
    assert provenance["train"]["path"] == str(tmp_path / "x")
    assert json.loads(json.dumps(provenance)) == provenance


def test_sources_are_what_the_help_shows() -> None:
    assert " ".join(SOURCES) == (
        "digits mnist:DIR cifar10:DIR cifar100:DIR svhn:DIR imagenet:DIR folder:DIR list:DIR shards:DIR "
        "parquet:DIR pack:DIR"
    )
    assert preprocess_for(colour_data(), (3, 32, 32)) == Preprocess(
        (3, 32, 32), (0.25,) * 3, (0.5,) * 3, resize_mode="crop"
    )


def test_an_archive_is_unpacked_beside_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    archive = tmp_path / "photos.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        for i in range(8):
            out = BytesIO()
            Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).save(out, "PNG")
            info = tarfile.TarInfo(f"{'ab'[i % 2]}/{i}.png")
            info.size = len(out.getvalue())
            out.seek(0)
            file.addfile(info, out)
    for source in (str(archive), f"folder:{archive}", str(archive)):
        assert (len((data := load_data(source, val=0)).train), len(data.test)) == (6, 2)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["photos", "photos.tar.gz"]
    (tmp_path / "broken.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"broken\.zip cannot be unpacked"):
        load_data(str(tmp_path / "broken.zip"))
