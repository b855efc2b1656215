"""ILSVRC's validation images: each has the class that its list, or its name, gives it, whatever the list's form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from convatlas.cli import main
from convatlas.data.names import class_names
from convatlas.data.sources import load_data
from convatlas.data.sources.imagenet import DEVKIT, SOLUTION
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate
from convatlas.weights.model import load
from convatlas.weights.published import preset

SYNSETS = [name.split()[0] for name in class_names("imagenet")]
CLASSES = [7, 0, 999, 7]  # of the images, in the order of their names


def images(folder: Path, names: list[str]) -> Path:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        Image.new("RGB", (20, 16), (40 * i, 0, 0)).save(folder / name)
    return folder


def flat(tmp_path: Path, place: str = "val") -> Path:
    images(tmp_path / "set" / place, [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 5)])
    return tmp_path / "set"


def labels(folder: Path) -> list[int]:
    data = load_data(f"imagenet:{folder}")
    assert data.val is not None
    assert (len(data.train), data.test, data.classes) == (0, None, class_names("imagenet"))
    return data.val.labels.tolist()


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("val.txt", [f"ILSVRC2012_val_{i:08d}.JPEG {c}" for i, c in enumerate(CLASSES, 1)][::-1]),
        ("val.txt", [f"ILSVRC2012_val_{i:08d}.JPEG {SYNSETS[c]}" for i, c in enumerate(CLASSES, 1)]),
        ("imagenet_2012_validation_synset_labels.txt", [SYNSETS[c] for c in CLASSES]),
        (SOLUTION, ["ImageId,PredictionString"]
         + [f"ILSVRC2012_val_{i:08d},{SYNSETS[c]} 1 2 3 4 " for i, c in enumerate(CLASSES, 1)]),
    ],
    ids=["numbers", "synsets", "without names", "solution"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["", "val", "ILSVRC2012_img_val"])
def test_lists(tmp_path: Path, name: str, lines: list[str], place: str) -> None:
    folder = flat(tmp_path, place)
    (folder / name).write_text("\n".join(lines) + "\n")
    assert labels(folder) == CLASSES


def test_the_devkits_numbers_need_its_key(tmp_path: Path) -> None:
    """ILSVRC2012_ID is not the order of the synsets: here it is the reverse."""
    folder = flat(tmp_path)
    (folder / DEVKIT).write_text("\n".join(str(1000 - c) for c in CLASSES))
    with pytest.raises(UserError, match=r"numbers classes in the devkit's own order, and its meta\.mat is not there"):
        labels(folder)
    rows = [(i + 1, SYNSETS[999 - i], "words") for i in range(1000)]
    synsets = np.array(rows, dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    savemat(folder / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    assert labels(folder) == CLASSES


def test_names_with_synsets_need_no_list(tmp_path: Path) -> None:
    folder = images(tmp_path / "set", [f"{SYNSETS[5]}_sting_ray.jpg", f"{SYNSETS[2]}_10026.JPEG"])
    assert labels(folder) == [2, 5]
    data = load_data(str(folder))  # recognised
    assert data.val is not None
    assert data.val.labels.tolist() == [2, 5]


def test_synset_words_give_the_order(tmp_path: Path) -> None:
    folder = images(tmp_path / "set", [f"{SYNSETS[5]}_a.jpg", f"{SYNSETS[2]}_b.jpg"])
    (folder / "synset_words.txt").write_text(f"{SYNSETS[5]} five\n{SYNSETS[2]} two\n")
    data = load_data(f"imagenet:{folder}")
    assert data.val is not None
    assert data.val.labels.tolist() == [1, 0]
    (folder / "synset_words.txt").write_text("five\ntwo\n")
    with pytest.raises(UserError, match="does not begin each line with a synset of its own"):
        load_data(f"imagenet:{folder}")


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("", [], "does not say which image has which class; add one of val.txt"),
        ("val.txt", ["ILSVRC2012_val_00000001.JPEG 3"], "val.txt does not give a class of ILSVRC2012_val_00000002"),
        ("val.txt", [f"ILSVRC2012_val_{i:08d}.JPEG 1000" for i in range(1, 5)], "does not give a class of"),
        ("val.txt", ["1", "2", "3"], "has 3 lines, and there are 4 images"),
        ("val.txt", ["a 1", "2"], "has lines with one word and lines with more"),
    ],
)
def test_what_is_missing_is_named(tmp_path: Path, name: str, lines: list[str], message: str) -> None:
    folder = flat(tmp_path)
    if name:
        (folder / name).write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        load_data(f"imagenet:{folder}")


def test_nothing_is_trained_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = images(tmp_path / "set", [f"{SYNSETS[5]}_a.jpg"])
    assert main(["train", "squeezenet1_1", "--data", f"imagenet:{folder}", "--out", str(tmp_path / "run")]) == 2
    assert "the data has no training images, only some to evaluate on" in capsys.readouterr().err


@pytest.mark.slow
def test_real_weights_on_real_images(real_data: Path, real_packs: Path) -> None:
    """SqueezeNet 1.1 for Caffe on one training image per class: another program measured 62.3 and 83.8% on the centre
    of images with a short side of 256; Caffe scales both sides to 256."""
    file = real_packs / "weights" / "squeezenet1_1_caffe" / "squeezenet1_1.npz"
    cropped = replace(preset("caffe", "squeezenet1_1"), resize_mode="crop")
    scores = evaluate(load(file, preprocess=cropped), load_data(f"imagenet:{real_data / 'imagenet1000'}"))
    assert abs(scores.top1 - 0.623) < 0.005
    assert abs(scores.top(5) - 0.838) < 0.005
