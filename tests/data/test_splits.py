"""Train, val and test: who is drawn for val, by what, and what training does with it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.data.sources import load_data
from convatlas.data.sources.pack import pack
from convatlas.data.types import Data, MemorySplit
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate
from convatlas.preprocess import Preprocess
from convatlas.recipe import SGD, Constant, Recipe
from convatlas.train.fit import fit

AS_IS = Preprocess((3, 4, 4), (0.0,) * 3, (1.0,) * 3)
RECIPE = Recipe("two", "a test", epochs=3, batch=256, optimizer=SGD(0.05), schedule=Constant())


def write_images(folder: Path, counts: dict[str, int]) -> None:
    for n, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = np.full((4, 4, 3), (n, i, 7), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03}.png")


def colours(data: Data) -> dict[str, set[tuple[int, ...]]]:
    """The images of each split, each known by its one colour."""
    return {s.name: {tuple(x[:, 0, 0].tolist()) for x in s.fetch(range(len(s)), AS_IS)} for s in data.splits}


def test_a_folder_without_val_gets_a_tenth_of_each_class(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", {"ants": 50, "bees": 25})
    data = load_data(str(tmp_path / "photos"))
    assert {s.name: Counter(s.labels.tolist()) for s in data.splits} == {
        "train": {0: 36, 1: 18},
        "val": {0: 4, 1: 2},
        "test": {0: 10, 1: 5},
    }
    images = colours(data)
    assert len(images["train"] | images["val"] | images["test"]) == 75, "each image is in one split"
    assert all(int(data.val.fetch([i], AS_IS)[0, 0, 0, 0]) == data.val.labels[i] for i in range(6))
    assert colours(load_data(str(tmp_path / "photos"))) == images
    assert colours(load_data(str(tmp_path / "photos"), seed=1))["val"] != images["val"]
    assert load_data(str(tmp_path / "photos"), val=0).val is None
    moved = (tmp_path / "photos").rename(tmp_path / "elsewhere")
    assert colours(load_data(str(moved))) == images, "the draw does not depend on where the set lies"


def test_added_images_move_few_others(tmp_path: Path) -> None:
    write_images(tmp_path, {"ants": 100, "bees": 100})
    before = colours(load_data(str(tmp_path)))["val"]
    write_images(tmp_path, {"ants": 103})
    assert len(before & colours(load_data(str(tmp_path)))["val"]) >= len(before) - 2


@pytest.mark.parametrize("parts", [("train", "val"), ("train", "test"), ("train", "valid", "test")])
def test_folders_as_laid_out(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        write_images(tmp_path / part, {"ants": 20, "bees": 20})
    data = load_data(str(tmp_path))
    assert (data.test is None) == ("test" not in parts)
    assert data.val is not None
    assert len(data.val) == (4 if parts == ("train", "test") else 40)
    assert data.held_out is data.val
    if parts != ("train", "test"):
        with pytest.raises(UserError, match="the data already have a val split; leave out --val"):
            load_data(str(tmp_path), val=0.2)


def test_a_set_in_memory_on_request() -> None:
    whole, data = load_data("digits"), load_data("digits", val=0.1, seed=3)
    assert whole.val is None
    assert isinstance(data.train, MemorySplit)
    assert isinstance(data.val, MemorySplit)
    assert (len(data.train), len(data.val), len(data.test)) == (1299, 143, 355)
    shares = torch.bincount(data.val.labels) / torch.bincount(whole.train.labels)
    assert (shares - 0.1).abs().max() < 0.01
    both = torch.cat([data.train.images, data.val.images]).flatten(1)
    assert torch.equal(both.unique(dim=0), whole.train.images.flatten(1).unique(dim=0))
    assert data.mean != whole.mean, "the statistics are those of the images that are trained on"
    assert data.train.provenance["part"].startswith("all but 0.1 of each class")
    with pytest.raises(UserError, match=r"val=1\.0 is not a share"):
        load_data("digits", val=1.0)


@pytest.mark.parametrize(
    ("val", "message"),
    [
        (0.01, r"val=0\.01 draws no image: no class has enough of them; give a larger share"),
        (0.95, r"val=0\.95 leaves no training images of class 'ants'; give less"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_no_split_is_left_without_images(tmp_path: Path, val: float, message: str, packed: bool) -> None:
    write_images(tmp_path / "photos", {"ants": 4, "bees": 20})
    source = str(tmp_path / "photos")
    data = load_data(source, val=0)
    assert data.val is None
    if packed:
        source = str(tmp_path / "pack")
        pack(data, source, size=4, format="raw", workers=0)
    with pytest.raises(UserError, match=message):
        load_data(source, val=val)


def test_the_best_epoch_is_chosen_on_val_and_kept_only_then(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    with_val = fit("lenet5", load_data("digits", val=0.1), RECIPE, out=tmp_path / "a", device="cpu")
    lines = with_val.epochs()
    assert all("test" not in line for line in lines)
    assert with_val.checkpoint().name == "best.safetensors"
    best = max(line["val"]["top1"] for line in lines)
    assert evaluate(with_val, load_data("digits", val=0.1), split="val").top1 == best
    without = fit("lenet5", load_data("digits"), RECIPE, out=tmp_path / "b", device="cpu")
    assert all("val" not in line for line in without.epochs())
    assert not (tmp_path / "b" / "best.safetensors").exists()
    assert without.checkpoint().name == "last.safetensors"
    with pytest.raises(UserError, match="different settings: "):
        fit("lenet5", load_data("digits"), RECIPE, out=tmp_path / "a", device="cpu", resume=True)


def test_evaluation_takes_test_or_else_val() -> None:
    data = load_data("digits", val=0.1)
    assert data.split() is data.test
    assert replace(data, test=None).split() is data.val
    with pytest.raises(UserError, match="digits has no val split; give train or test"):
        load_data("digits").split("val")
