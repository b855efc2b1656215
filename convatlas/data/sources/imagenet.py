"""ILSVRC's validation images (Russakovsky et al., 2015): a flat folder, and a file with the class of each image.

The file is one of TRUTHS, beside the images or in the folder above them. Images whose names begin with a synset
(n01440764_tench.jpg) need none. `synset_words.txt` in the folder gives the classes another order than ImageNet's usual
one, by synset. There are no training images: such data are for evaluation.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...errors import UserError, pass_on
from ...files.text import read_lines
from ...limits import whole_number
from ..check.bad import find_bad, refuse
from ..decode.reference import MAX_PIXELS, SUFFIXES
from ..names import SYNSET, class_names
from ..types import Data
from .folder import FolderSplit
from .walk import Walk

PLACES = ("", "val", "ILSVRC2012_img_val")  # of the images, within the folder
WORDS = "synset_words.txt"
DEVKIT, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"  # numbers of the devkit's own; the key to them
SOLUTION = "LOC_val_solution.csv"  # of the competition's later hosts
TRUTHS = ("val.txt", "ILSVRC2012_val.txt", "imagenet_2012_validation_synset_labels.txt", SOLUTION, DEVKIT)
MOST = 1 << 24  # bytes of these files
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's training images, as torchvision has them
VALIDATION = re.compile(r"ILSVRC2012_val_[0-9]{8}$")


def find(folder: Path) -> Path | None:
    """`folder`, if it or its val/ holds images named as ILSVRC names them, or by synset, and no class folders."""
    for place in PLACES:
        at = folder / place
        if at.is_dir():
            images = flat_images(at)
            if images and all(VALIDATION.match(file.stem) or SYNSET.match(file.name) for file in images):
                return folder
    return None


def load(folder: Path, *, max_pixels: int = MAX_PIXELS) -> Data:
    """The validation images of a folder. Raises UserError for images of unknown class, and for lists of others."""
    images = next((found for place in PLACES if (found := flat_images(folder / place))), None)
    if images is None:
        raise UserError(f"{folder} holds no images, nor does its val/", "give the folder with the validation images")
    refuse(find_bad(images, decode=False, max_pixels=max_pixels))
    classes = classes_of(folder)
    labels = torch.tensor(labels_of(folder, images, [number_of(name) for name in classes]))
    splits = {part: split_of(folder, part, its, classes, at, max_pixels) for part, its, at in (
        ("train", (), labels[:0]), ("val", tuple(images), labels),
    )}  # fmt: skip
    return Data(folder.resolve().name, splits["train"], splits["val"], None, None, MEAN, STD)


def flat_images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [file for file in Walk().listed(folder)[1] if file.suffix.lower() in SUFFIXES]


def split_of(
    folder: Path, name: str, images: tuple[Path, ...], classes: tuple[str, ...], labels: Tensor, max_pixels: int
) -> FolderSplit:
    provenance = {
        "source": "ILSVRC validation images",
        "path": str(folder),
        "split": "as laid out",
        "images": len(images),
    }
    return FolderSplit(name, images, labels.long(), classes, provenance, max_pixels)


def classes_of(folder: Path) -> tuple[str, ...]:
    """The classes in the order of their numbers: those of synset_words.txt, or ImageNet's 1000."""
    if not (folder / WORDS).is_file():
        return class_names("imagenet")
    classes = tuple(line.strip() for line in read_lines(folder / WORDS, MOST) if line.strip())
    synsets = [number_of(name) for name in classes]
    if "" in synsets or len(set(synsets)) < len(synsets):
        raise UserError(f"{folder / WORDS} does not begin each line with a synset of its own", "write n01440764 tench")
    return classes


def number_of(name: str) -> str:
    """The synset of a class: "n01440764 tench" -> "n01440764"; empty if it has none."""
    found = SYNSET.match(name)
    return found[0] if found else ""


def labels_of(folder: Path, images: Sequence[Path], synsets: Sequence[str]) -> list[int]:
    """The class of each image, by its name or by the list of the true classes."""
    number = {synset: i for i, synset in enumerate(synsets)}
    by_name = [number_of(file.name) for file in images]
    if all(by_name):
        truth, found = None, dict(zip((file.name for file in images), by_name, strict=True))
    else:
        truth = truth_of(folder, images[0].parent)
        found = synsets_in(truth, images, synsets)
    for file in images:
        if found.get(file.name, found.get(file.stem)) not in number:
            where = truth or file
            raise UserError(f"{where} does not give a class of {file.name}", f"give one of the {len(synsets)} synsets")
    return [number[found[file.name if file.name in found else file.stem]] for file in images]


def truth_of(folder: Path, images: Path) -> Path:
    for place in (images, folder, folder.parent):
        for name in TRUTHS:
            if (place / name).is_file():
                return place / name
    raise UserError(f"{folder} does not say which image has which class", f"add one of {', '.join(TRUTHS)}")


def synsets_in(truth: Path, images: Sequence[Path], synsets: Sequence[str]) -> dict[str, str]:
    """The synset of each image by its name, or its name without the suffix."""
    lines = [line.strip() for line in read_lines(truth, MOST) if line.strip()]
    if truth.name == SOLUTION:
        return {row[0]: row[1].split()[0] for row in csv.reader(lines[1:]) if len(row) > 1 and row[1].strip()}
    if truth.name == DEVKIT:
        return in_order(truth, images, lines, devkit_synsets(truth, images[0].parent), first=1)
    if all(len(line.split()) == 1 for line in lines):
        return in_order(truth, images, lines, synsets)
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    if any(len(pair) != 2 for pair in pairs):
        raise UserError(f"{truth} has lines with one word and lines with more", "write NAME CLASS on each")
    return {name: synset_of(label, synsets, 0) for name, label in pairs}


def in_order(
    truth: Path, images: Sequence[Path], lines: Sequence[str], synsets: Sequence[str], first: int = 0
) -> dict[str, str]:
    """The classes of a list without names, which are those of the images sorted by name."""
    if len(lines) != len(images):
        raise UserError(
            f"{truth} has {len(lines):,} lines, and there are {len(images):,} images",
            "a list without names needs all of the images: give one of NAME CLASS",
        )
    return {file.name: synset_of(line, synsets, first) for file, line in zip(images, lines, strict=True)}


def synset_of(label: str, synsets: Sequence[str], first: int) -> str:
    """The synset that a label is, or numbers; empty for a number that none has."""
    number = whole_number(label)
    if number is None:
        return label
    return synsets[number - first] if 0 <= number - first < len(synsets) else ""


def devkit_synsets(truth: Path, images: Path) -> list[str]:
    """The synsets in the devkit's order, ILSVRC2012_ID 1 to 1000, from its meta.mat."""
    from scipy.io import loadmat

    places = [at / META for at in (truth.parent, images) if (at / META).is_file()]
    if not places:
        raise UserError(
            f"{truth} numbers classes in the devkit's own order, and its {META} is not there", f"put {META} beside it"
        )
    try:
        rows = loadmat(places[0], squeeze_me=True)["synsets"]
        known = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
        return [known[i] for i in range(1, 1001)]
    except Exception as error:  # damaged files make the reader raise anything
        pass_on(places[0], error)
        raise UserError(f"{places[0]} is not the devkit's {META} ({error})", "copy it again") from error
