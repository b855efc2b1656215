"""Image folders: what is found in them, how they are split, and what stops a run before it starts."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.data.decode.reference import read_image
from convatlas.data.normalise import preprocess_for
from convatlas.data.pixels import to_input_size
from convatlas.data.sources import load_data
from convatlas.data.statistics import statistics
from convatlas.errors import UserError
from convatlas.preprocess import Preprocess

COLOURS = {"bees": (250, 220, 20), "ants": (20, 10, 5), "Cats": (128, 128, 128)}
SIXTEEN = Preprocess((3, 16, 16), (0.0,) * 3, (1.0,) * 3, resize_mode="crop")


def paint(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (20, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, "PNG" if path.suffix not in (".jpg", ".webp", ".bmp") else None)
    return path


def write_classes(folder: Path, n: int, classes: tuple[str, ...] = ("ants", "bees")) -> Path:
    """`n` images for each class, the i-th with red = i, so that each image tells which it is."""
    for name in classes:
        for i in range(n):
            paint(folder / name / f"{i:03}.png", (i, *COLOURS[name][1:]))
    return folder


def write_split(folder: Path, held_out: str = "val") -> Path:
    write_classes(folder / "train", 5)
    write_classes(folder / held_out, 2)
    return folder


@pytest.mark.parametrize("source", ["folder:{}", "{}"])
@pytest.mark.parametrize("held_out", ["val", "valid", "validation", "test"])
def test_train_and_val_are_taken_as_laid_out(tmp_path: Path, held_out: str, source: str) -> None:
    data = load_data(source.format(write_split(tmp_path / "insects", held_out)))
    assert (data.name, data.shape, data.classes) == ("insects", None, ("ants", "bees"))
    judged = data.test if held_out == "test" else data.val
    assert judged.name == ("test" if held_out == "test" else "val")
    assert data.train.labels.tolist() == [0] * 5 + [1] * 5
    assert judged.labels.tolist() == [0, 0, 1, 1]
    assert data.train.labels.dtype == torch.int64
    images = data.train.fetch([0, 3, 9], SIXTEEN)
    assert images[:, 0, 0, 0].tolist() == [0, 3, 4]
    assert images[:, 1, 0, 0].tolist() == [10, 10, 220]
    assert data.provenance["train"]["split"] == "as laid out"
    assert data.provenance["train"]["images"] == 10


def test_one_folder_is_split_class_by_class(tmp_path: Path) -> None:
    write_classes(tmp_path, 20, ("ants", "bees", "Cats"))
    data = load_data(str(tmp_path), seed=3, val=0)
    assert data.classes == ("Cats", "ants", "bees")  # by code point, the same on every machine
    assert data.train.labels.bincount().tolist() == [16, 16, 16]
    assert data.test.labels.bincount().tolist() == [4, 4, 4]
    assert not {*data.train.files} & {*data.test.files}
    assert len({*data.train.files} | {*data.test.files}) == 60
    assert data.provenance["test"]["split"] == "one in five of each class held out by seed 3"


def test_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    write_classes(tmp_path / "a", 30)
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    def held_out(name: str, seed: int) -> set[str]:
        return {
            file.relative_to(tmp_path / name).as_posix()
            for file in load_data(str(tmp_path / name), seed=seed).test.files
        }

    assert held_out("a", 0) == held_out("b", 0)
    assert held_out("a", 0) != held_out("a", 1)
    paint(tmp_path / "b/ants/000b.png", (1, 2, 3))
    assert len(held_out("a", 0) ^ held_out("b", 0)) <= 2  # one more image does not shuffle the others


@pytest.mark.parametrize(("n", "test"), [(2, 1), (3, 1), (7, 1), (8, 2), (10, 2)])
def test_small_classes_keep_an_image_on_either_side(tmp_path: Path, n: int, test: int) -> None:
    data = load_data(str(write_classes(tmp_path, n)), val=0)
    assert data.test.labels.bincount().tolist() == [test, test]
    assert data.train.labels.bincount().tolist() == [n - test, n - test]


def test_every_suffix_in_any_case_and_below_sub_folders(tmp_path: Path) -> None:
    write_split(tmp_path)
    names = ["a.jpg", "b.JPG", "c.jpeg", "d.PNG", "e.webp", "f.bmp", "g.Jpeg", "deeper/still/h.png", "i"]
    for name in names:
        paint(tmp_path / "train/ants" / name, (1, 2, 3))
    split = load_data(str(tmp_path)).train
    assert {file.relative_to(tmp_path / "train/ants").as_posix() for file in split.files[:14]} >= {*names}
    assert len(split) == 10 + len(names)
    assert split.fetch(range(len(split)), SIXTEEN).shape == (19, 3, 16, 16)


def test_hidden_files_and_litter_are_left_out(tmp_path: Path) -> None:
    write_split(tmp_path)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", ".hidden/x.png", "._000.png"):
        path = tmp_path / "train/ants" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no image")
    (tmp_path / "train/.ipynb_checkpoints").mkdir()
    (tmp_path / "train/README.txt").write_text("beside the classes, not in one")
    assert len(load_data(str(tmp_path)).train) == 10


def test_a_class_may_be_a_link(tmp_path: Path) -> None:
    write_split(tmp_path / "real")
    (tmp_path / "set/train").mkdir(parents=True)
    for name in ("ants", "bees"):
        (tmp_path / "set/train" / name).symlink_to(tmp_path / "real/train" / name)
    (tmp_path / "set/val").symlink_to(tmp_path / "real/val")
    assert len(load_data(str(tmp_path / "set")).train) == 10


@pytest.mark.parametrize(
    ("name", "content"), [("notes.txt", b"hello"), ("x.jpg", b"<html>404</html>"), ("y.png", b""), ("z.tif", b"II*\0")]
)
@pytest.mark.parametrize("where", ["train/bees", "val/ants"])
def test_a_file_that_is_no_image_stops_the_run_before_it_starts(
    tmp_path, where: str, name: str, content: bytes
) -> None:
    (write_split(tmp_path) / where / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{where}/{name} is not a JPEG, PNG, WebP") as caught:
        load_data(f"folder:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_of_several_bad_files_the_first_is_named_and_the_others_counted(tmp_path: Path) -> None:
    write_split(tmp_path)
    for name in ("b.png", "a.png", "c.png"):
        (tmp_path / "train/ants" / name).write_bytes(b"no image")
    (tmp_path / "val/ants/gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(UserError, match=r"ants/a\.png is not .* \(3 more bad files\); "):
        load_data(str(tmp_path))


def test_a_bomb_stops_the_run_before_it_starts(tmp_path: Path) -> None:
    path = paint(write_split(tmp_path) / "train/ants/bomb.bmp", (1, 2, 3))
    content = bytearray(path.read_bytes())
    content[18:26] = (8000).to_bytes(4, "little") * 2
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"bomb\.bmp has more than 50 megapixels"):
        load_data(str(tmp_path))


def test_an_image_cut_short_is_named_when_it_is_fetched(tmp_path: Path) -> None:
    write_split(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = load_data(str(tmp_path))
    Image.fromarray(noise).save(data.train.files[3])
    data.train.files[3].write_bytes(data.train.files[3].read_bytes()[:5000])
    with pytest.raises(UserError, match=r"ants/003\.png is a broken image"):
        data.train.fetch(range(10), SIXTEEN)
    assert data.train.fetch([0, 1], SIXTEEN).shape == (2, 3, 16, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: shutil.rmtree(d / "val"), r"has a train/ but no val/ or test/; add one, or give folder:.*/train to"),
        (lambda d: shutil.rmtree(d / "val/bees"), r"val has only the sub-folder 'ants'; give a folder with"),
        (
            lambda d: write_classes(d / "val", 1, ("Cats",)),
            r"class 'Cats' is only in .*val; train/ and val/ need",
        ),
        (lambda d: (d / "val/bees").rename(d / "val/bee"), r"class 'bee' \(and 1 more\) is only in .*val; train/ and"),
        (lambda d: (d / "train/new").mkdir(), r"the class folder .*train/new is empty; fill it or remove it"),
        (lambda d: [f.unlink() for f in (d / "val/ants").iterdir()], r"the class folder .*val/ants is empty"),
        (
            lambda d: [shutil.rmtree(d / "train" / c) for c in ("ants", "bees")],
            "train has no sub-folders; give a folder",
        ),
    ],
)
def test_classes_that_do_not_fit_are_refused(tmp_path: Path, change, message: str) -> None:
    change(write_split(tmp_path))
    with pytest.raises(UserError, match=message):
        load_data(f"folder:{tmp_path}")


def test_a_folder_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no sub-folders"):
        load_data(f"folder:{tmp_path}")
    write_classes(tmp_path, 3)
    paint(tmp_path / "dogs/only.png", (1, 2, 3))
    with pytest.raises(UserError, match="class 'dogs' has only one image; a class needs at least two to be split"):
        load_data(f"folder:{tmp_path}")


def test_mean_and_std_are_those_of_a_fixed_sample(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("convatlas.data.statistics.SAMPLE", 4)
    data = load_data(str(write_classes(tmp_path / "x", 50)), val=0)
    seen = [data.train.files[i] for i in (0, 26, 53, 79)]  # evenly spaced over 80
    record = Preprocess((3, 224, 224), (0.0,) * 3, (1.0,) * 3, resize_mode="crop", resize=256)
    images = torch.cat([to_input_size(read_image(file, 3)[None], record) for file in seen])
    assert (data.mean, data.std) == statistics(images)
    assert "512 training images" in data.provenance["train"]["mean_and_std"]


def test_images_come_in_the_order_asked_for_and_no_other(tmp_path: Path) -> None:
    """Large images first, so that the threads finish in another order."""
    for i in range(24):
        size = (900, 900) if i % 5 == 0 else (8, 8)
        paint(tmp_path / "train/a" / f"{i:02}.png", (i, 0, 0), size)
    paint(tmp_path / "train/b/0.png", (99, 0, 0))
    for name in "ab":
        paint(tmp_path / "val" / name / "0.png", (0, 0, 0))
    split = load_data(str(tmp_path)).train
    for _ in range(3):
        indices = random.choices(range(25), k=40)
        reds = split.fetch(torch.tensor(indices), SIXTEEN)[:, 0, 0, 0].tolist()
        assert reds == [99 if i == 24 else i for i in indices]


def test_provenance_tells_when_the_files_have_changed(tmp_path: Path) -> None:
    key = "sha256_of_contents"
    before = load_data(str(write_split(tmp_path))).provenance
    again = load_data(str(tmp_path)).provenance
    paint(tmp_path / "train/ants/000.png", (7, 7, 7), (100, 77))
    after = load_data(str(tmp_path)).provenance
    assert before == again
    assert before["train"][key] != after["train"][key]
    assert before["val"][key] == after["val"][key]


def test_the_real_ants_and_bees(real_data: Path) -> None:
    data = load_data(str(real_data / "hymenoptera"))
    assert data.classes == ("ants", "bees")
    assert data.train.labels.bincount().tolist() == [124, 121]
    assert data.val.labels.bincount().tolist() == [70, 83]
    assert data.test is None
    # the figures that everyone normalises photographs with, to which any photographs come near
    assert data.mean == pytest.approx((0.485, 0.456, 0.406), abs=0.06)
    assert data.std == pytest.approx((0.229, 0.224, 0.225), abs=0.06)
    record = preprocess_for(data, (3, 224, 224))
    assert (record.resize_mode, record.resize, record.input) == ("crop", 256, (3, 224, 224))
    image = Image.open(data.val.files[100])
    w, h = image.size  # the short side is 256 already
    left, top = round((w - 224) / 2), round((h - 224) / 2)
    expected = np.asarray(image.crop((left, top, left + 224, top + 224)))
    assert np.array_equal(data.val.fetch([100], record)[0].permute(1, 2, 0), expected)
