"""Sources of labelled images, one file each; `load_data` tells them apart."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from ...errors import UserError
from ...files import archive
from ..check.bad import Progress
from ..decode.reference import MAX_PIXELS
from ..types import Data
from . import cifar, digits, folder, lists, mnist, pack, parquet, shards

SOURCES = (
    "digits",
    "mnist:DIR",
    "cifar10:DIR",
    "cifar100:DIR",
    "folder:DIR",
    "list:DIR",
    "shards:DIR",
    "parquet:DIR",
    "pack:DIR",
)
KINDS = [source.partition(":")[0] for source in SOURCES]


def load_data(
    source: str,
    *,
    seed: int = 0,
    bad: str = "fail",
    max_pixels: int = MAX_PIXELS,
    progress: Progress = lambda chunks: chunks,
) -> Data:
    """The set that `source` names: one of SOURCES, or the path of a folder, which is recognised by what is in it.

    `seed` matters where a set has no split of its own. To an image folder alone matter: `bad`, what is done about
    files that are no whole images (see bad.py), the largest size, and `progress`, which is given the chunks of files
    that are looked at. Raises UserError for a source that is not there, is not recognised, or is not whole.
    """
    kind, at = recognised(source)
    try:
        match kind:
            case "digits":
                return digits.load()
            case "mnist":
                return mnist.load(at)
            case "folder":
                return folder.load(at, seed=seed, bad=bad, max_pixels=max_pixels, progress=progress)
            case "list":
                return lists.load(at, max_pixels=max_pixels)
            case "shards":
                return shards.load(at, seed=seed)
            case "parquet":
                return parquet.load(at, seed=seed)
            case "pack":
                return pack.load(at)
            case _:
                return cifar.load(at, 10 if kind == "cifar10" else 100)
    except OSError as error:
        raise UserError(f"{error.filename or at} cannot be read ({error.strerror or error})") from error


def recognised(source: str) -> tuple[str, Path]:
    """What kind of source it is, as in SOURCES, and the folder that holds it. Raises UserError as `load_data` does."""
    kind, _, place = source.partition(":")
    if source == "digits":
        return kind, Path()
    if place and kind in KINDS[1:]:
        return kind, existing(Path(place))
    if not Path(source).expanduser().exists():
        near = get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {SOURCES[KINDS.index(near[0])]}?" if near else f"give {', '.join(SOURCES)}, or a folder"
        raise UserError(f"no data source {source!r}, and no folder of that name", f"{hint}")
    at = existing(Path(source))
    for kind, found in (
        ("cifar10", cifar.find(at, 10)),
        ("cifar100", cifar.find(at, 100)),
        ("mnist", mnist.find(at)),
        ("pack", pack.find(at)),
        ("shards", shards.find(at)),
        ("parquet", parquet.find(at)),
        ("list", lists.find(at)),
        ("folder", folder.find(at)),
    ):
        if found is not None:
            return kind, found
    raise UserError(
        f"{at} holds neither CIFAR batches (data_batch_1, data_batch_1.bin, train.bin, cifar-10-batches-py/ ...), "
        "nor IDX files (train-images-idx3-ubyte, .gz or not), nor images (train/ and val/, or a folder for each "
        "class), nor lists of images (train.txt), nor shards (.tar), Parquet files or a pack"
    )


def existing(place: Path) -> Path:
    at = place.expanduser()
    if not at.exists():
        raise UserError(f"there is no data folder {at}")
    if at.is_file() and (suffix := next((s for s in archive.SUFFIXES if at.name.lower().endswith(s)), "")):
        beside = at.with_name(at.name[: -len(suffix)])  # unpacked once
        return (beside if beside.is_dir() else archive.unpack(at, beside)).absolute()
    if not at.is_dir():
        raise UserError(f"{at} is a file", "give the folder that it is in, or that it unpacks to")
    return at.absolute()
