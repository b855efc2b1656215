"""Sources of labelled images, one file each; `load_data` recognises which one to use."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ...errors import UserError
from ...files import archive
from ...files.unpacked import unpacked_once
from ..check.bad import Progress
from ..decode.reference import MAX_PIXELS, SUFFIXES, UNREAD
from ..kinds import located
from ..types import Data
from . import cifar, digits, folder, imagenet, lists, mnist, pack, parquet, shards, svhn
from .labels import without_images
from .walk import Walk


def load_data(
    source: str,
    *,
    seed: int = 0,
    val: float | None = None,
    bad: str = "fail",
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda chunks: chunks,
) -> Data:
    """Loads the data set `source`: one of kinds.SOURCES, or a folder, whose kind is recognised from its contents.

    `val` is the share of each class of the training images to hold out for validation, drawn with `seed`: by default
    0.1 for an image folder without val images, otherwise 0. `seed` also splits a data set that has no splits. Image
    folders only: `bad`, the policy for files that are not complete images (see check/bad.py), `max_pixels`, and
    `progress`, which wraps the chunks of files being checked. Raises UserError for a source that does not exist, is
    not recognised, or is incomplete.
    """
    share, at = val or 0.0, None
    try:
        kind, at = recognised(source)
        match kind:
            case "digits":
                data = digits.load(seed=seed, val=share)
            case "mnist":
                data = mnist.load(at, seed=seed, val=share)
            case "folder":
                data = folder.load(at, seed=seed, val=val, bad=bad, max_pixels=max_pixels, progress=progress)
            case "imagenet":
                data = imagenet.load(at, max_pixels=max_pixels)
            case "list":
                data = lists.load(at, seed=seed, val=share, max_pixels=max_pixels)
            case "shards":
                data = shards.load(at, seed=seed, val=share)
            case "parquet":
                data = parquet.load(at, seed=seed, val=share)
            case "svhn":
                data = svhn.load(at, seed=seed, val=share)
            case "pack":
                data = pack.load(at, seed=seed, val=share)
            case _:
                data = cifar.load(at, 10 if kind == "cifar10" else 100, seed=seed, val=share)
    except OSError as error:
        raise UserError(f"{error.filename or at or source} cannot be read ({error.strerror or error})") from error
    return replace(data, notes=(*data.notes, *(without_images(data.train) if len(data.train) else ())))


def recognised(source: str) -> tuple[str, Path]:
    """The kind of source (one of `kinds.KINDS`) and the folder that holds it. Raises as `load_data` does."""
    kind, at = located(source)
    if kind == "digits":
        return kind, at
    at = unpacked(at)
    if kind:
        return kind, at
    for kind, found in (
        ("cifar10", cifar.find(at, 10)),
        ("cifar100", cifar.find(at, 100)),
        ("mnist", mnist.find(at)),
        ("svhn", svhn.find(at)),
        ("pack", pack.find(at)),
        ("shards", shards.find(at)),
        ("parquet", parquet.find(at)),
        ("list", lists.find(at)),
        ("folder", folder.find(at)),
        ("imagenet", imagenet.find(at)),
    ):
        if found is not None:
            return kind, found
    if os.path.lexists(at / "train.txt"):  # a list after all: reading it says what is wrong
        return "list", at
    raise unrecognised(at)


def unrecognised(at: Path) -> UserError:
    """Why a folder is not a data set: images without class folders, unsupported formats, or something else."""
    if not any(at.iterdir()):
        return UserError(f"{at} is empty", "give a folder with a sub-folder of images for each class")
    for place in (at, at / "train", at / "val", at / "test"):
        others = Walk().listed(place)[1] if place.is_dir() else []
        if flat := [file for file in others if file.suffix.lower() in SUFFIXES]:
            return UserError(
                f"{place} holds {len(flat)} {'images' if len(flat) > 1 else 'image'} but no class folders",
                f"move the images of each class to a sub-folder, as in {place.name}/CLASS/{flat[0].name}, or list them "
                "with their classes in train.txt and val.txt",
            )
    formats = sorted({file.suffix.lower() for file in Walk().files(at)} & {*UNREAD})
    if formats:
        return UserError(
            f"the images in {at} are {' and '.join(formats)} files, which are not supported",
            f"convert them to one of {', '.join(SUFFIXES)}",
        )
    return UserError(
        f"{at} is not a data set that convatlas recognises",
        "give CIFAR batches (data_batch_1, data_batch_1.bin, train.bin, cifar-10-batches-py/ ...), IDX files "
        "(train-images-idx3-ubyte, .gz or not), SVHN's digits (train_32x32.mat), images (train/ and val/, or a folder "
        "for each class), lists of images (train.txt), shards (.tar), Parquet files or a pack",
    )


def unpacked(at: Path) -> Path:
    """The absolute folder; an archive is unpacked to a folder beside it, once."""
    if at.is_file() and (suffix := next((s for s in archive.SUFFIXES if at.name.lower().endswith(s)), "")):
        return unpacked_once(at, at.with_name(at.name[: -len(suffix)])).absolute()
    if not at.is_dir():
        raise UserError(f"{at} is a file", "give its folder, or the folder it unpacks to")
    return at.absolute()
