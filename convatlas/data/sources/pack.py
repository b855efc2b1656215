"""Packs: a data set with its images resized once, so that training reads less: JPEG WebDataset shards or raw pixels.

pack.json           what the pack was made from, and every shard with its size and sha256, and that of its index and
                    its own; written last, so a folder without it is an unfinished pack, which `pack` resumes
NAME-00000.tar      JPEG files with their classes (.cls); or
NAME-00000.raw      uint8 pixels, height x width x 3, one image after another
NAME-00000.npz      each image's offset, size and class; written when its shard is complete (see pack_index.py)
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...checked import accepts
from ...errors import Unreadable, UserError, unknown, unread
from ...files.atomic import clean, is_temporary, other_version, replacing
from ...files.lock import NAME as LOCK
from ...files.lock import locked
from ...files.plain import from_json, utf8
from ...files.regular import read_bytes, regular, stamp, unchanged
from ...preprocess import Preprocess
from ...version import VERSION
from ..decode.fast import Crop, chw, crop_into, plain_pixels
from ..decode.orientation import turn
from ..decode.reference import Content, open_image, read_image
from ..digests import digest_of
from ..loading import in_order, usual_workers
from ..pixels import recolour, resize, to_input_size
from ..statistics import sample_statistics
from ..streamed import EncodedSplit, StreamedSplit
from ..types import Data, Split
from .labels import val_from_train
from .pack_index import AGAIN, check_index, index_bytes, read_index
from .shards import ShardSplit

SCHEMA = 1
FORMATS = {"jpeg": "tar", "raw": "raw"}  # format: extension of its shards
PER_SHARD = 2000  # images
PART = 32  # images per job
RECORD, PLAN = "pack.json", "plan.json"
MOST_RECORD = 1 << 28  # bytes of either

Progress = Callable[[Sequence[int]], Iterable[int]]


@dataclass(frozen=True)
class Plan:
    """What determines a pack: the same plan gives the same files."""

    format: str
    size: int  # short side, in pixels; smaller images are not enlarged
    quality: int  # of JPEG, 1 to 95
    source: dict[str, Any]  # the provenance of the data set
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise unknown("pack format", self.format, FORMATS)
        if self.size < 1:
            raise UserError(f"size {self.size} is not a number of pixels", "give at least 1")
        if not 1 <= self.quality <= 95:
            raise UserError(f"quality {self.quality} is out of range", "give 1 to 95")


def pack(
    data: Data,
    out: str | Path,
    *,
    size: int = 256,
    format: str = "jpeg",
    quality: int = 90,
    workers: int | None = None,
    progress: Progress = iter,
    on_note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Packs a data set into the folder `out` and returns its pack.json; resumes an interrupted pack.

    The short side of larger images is scaled to `size`, as in evaluation, so a raw pack of the `size` that a network is
    evaluated at (256 for 224) gives identical pixels. JPEG files that are small enough are copied byte for byte.
    `progress` wraps the range of the parts left to do; `on_note` is told where the file system has no locks. Raises
    UserError for a data set in memory, for a folder that holds another pack or anything else, and for an image that
    cannot be read.
    """
    out = Path(out)
    plan = Plan(format, size, quality, json.loads(json.dumps(data.provenance)), data.classes)
    for split in data.splits:
        if not isinstance(split, EncodedSplit):
            raise UserError(f"{data.name} is not a set of image files, or is already packed", "train on it as it is")
    check_place(out, plan)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror})", "give another --out") from error
    with locked(out, "packing into") as doubt:
        check_place(out, plan)
        if doubt:
            on_note(doubt)
        else:
            clean(out)
        write(out / PLAN, content_of(plan))
        return packed(data, out, plan, workers, progress)


def packed(data: Data, out: Path, plan: Plan, workers: int | None, progress: Progress) -> dict[str, Any]:
    """Writes the shards that are still missing, then pack.json, which it returns."""
    splits = data.splits
    todo = [
        (split, f"{split.name}-{number:05}", range(start, min(start + PER_SHARD, len(split))))
        for split in splits
        for number, start in enumerate(range(0, len(split), PER_SHARD))
    ]
    left = [it for it in todo if not finished(out, it[1], plan)]
    steps = iter(progress(range(sum(-(-len(indices) // PART) for *_, indices in left))))
    for split, name, indices in left:
        count = usual_workers(split) if workers is None else workers
        jobs = ([(split, i, plan) for i in indices[at : at + PART]] for at in range(0, len(indices), PART))
        images = (image for some, _ in zip(in_order(converted, jobs, count), steps) for image in some)
        write_shard(out, name, plan, split, indices, images)
    for _ in steps:
        pass
    record = {
        "schema": SCHEMA,
        "convatlas": VERSION,
        **asdict(plan),
        "name": data.name,
        "mean": data.mean,
        "std": data.std,
        "splits": {
            split.name: {
                "images": len(split),
                "shards": [described(out, name, plan, len(its)) for of, name, its in todo if of is split],
            }
            for split in splits
        },
    }
    record["sha256"] = digest_of_record(record)
    write(out / RECORD, utf8(json.dumps(record, indent=1, ensure_ascii=False)))
    (out / PLAN).unlink()
    return record


def digest_of_record(record: dict[str, Any]) -> str:
    """sha256 of what pack.json says, but for this."""
    said = {name: value for name, value in record.items() if name != "sha256"}
    return digest_of([json.dumps(said, sort_keys=True)])


def check_place(out: Path, plan: Plan) -> None:
    """Raises UserError for a folder that holds anything but an unfinished pack of the same plan.

    A pack is unfinished until its plan is gone.
    """
    if (out / PLAN).exists():
        if read_bytes(out / PLAN, MOST_RECORD) != content_of(plan):
            raise UserError(f"{out} holds another unfinished pack", "give the same options, or another --out")
    elif (out / RECORD).exists():
        raise UserError(f"{out} already holds a pack", "give it to train --data, or give another --out")
    elif out.exists() and any(path.name != LOCK and not is_temporary(path.name) for path in out.iterdir()):
        raise UserError(f"{out} is not empty and holds no pack", "give another --out")


def content_of(plan: Plan) -> bytes:
    return json.dumps(asdict(plan), sort_keys=True).encode()


def converted(split: EncodedSplit, i: int, plan: Plan) -> tuple[bytes, int, int]:
    """The packed image (JPEG or raw pixels), its height and its width."""
    made = packed_image(split, split.content(i), plan)
    split.check(i)
    return made


def packed_image(split: EncodedSplit, content: Content, plan: Plan) -> tuple[bytes, int, int]:
    if plan.format == "jpeg" and (size := small_enough(content, plan.size)):
        return content, *size
    whole = plain_pixels(content, split.max_pixels)
    pixels = shrunk(read_image(content, 3, split.max_pixels) if whole is None else chw(whole), plan.size)
    image = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    if plan.format == "raw":
        return image.tobytes(), *image.shape[:2]
    encoded = io.BytesIO()
    Image.fromarray(image).save(encoded, "JPEG", quality=plan.quality)
    return encoded.getvalue(), *image.shape[:2]


def small_enough(content: Content, size: int) -> tuple[int, int] | None:
    """Height and width of a plain JPEG file with a short side of at most `size` pixels; None for any other."""
    with open_image(content) as image:
        plain = image.format == "JPEG" and image.mode == "RGB" and turn(image) is None
        if not plain or min(image.size) > size:
            return None
        image.load()  # raises if it is broken
        return image.height, image.width


def shrunk(image: Tensor, size: int) -> Tensor:
    """uint8 (3, h, w) with its short side scaled to `size`, as `geometry` does; smaller images unchanged."""
    h, w = image.shape[1:]
    if min(h, w) <= size:
        return image
    return resize(image[None], (size, size * w // h) if h <= w else (size * h // w, size), "bilinear")[0]


def write_shard(
    out: Path, name: str, plan: Plan, split: Split, indices: range, images: Iterator[tuple[bytes, int, int]]
) -> None:
    """Writes one shard, then its index: the index marks the shard as complete."""
    path = out / f"{name}.{FORMATS[plan.format]}"
    labels = split.labels[indices.start : indices.stop].tolist()
    places, names = [], []
    with replacing(path) as new, new.open("wb") as file:
        if plan.format == "raw":
            for raw, height, width in images:
                places.append((file.tell(), len(raw), height, width))
                file.write(raw)
        else:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                for i, (encoded, height, width) in zip(indices, images):
                    names.append(f"{i:09}.jpg")
                    places.append((archive.offset + tarfile.BLOCKSIZE, len(encoded), height, width))
                    add(archive, names[-1], encoded)
                    add(archive, f"{i:09}.cls", str(labels[i - indices.start]).encode())
    write(out / f"{name}.npz", index_bytes(places, labels, str(checksum(path))))


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def finished(out: Path, name: str, plan: Plan) -> bool:
    return (out / f"{name}.npz").is_file() and (out / f"{name}.{FORMATS[plan.format]}").is_file()


def described(out: Path, name: str, plan: Plan, images: int) -> dict[str, Any]:
    path = out / f"{name}.{FORMATS[plan.format]}"
    index = read_index(out / f"{name}.npz", images)
    return {
        "file": path.name,
        "images": images,
        "bytes": path.stat().st_size,
        "sha256": index.shard_sha256,
        "index_sha256": index.sha256,
    }


def write(path: Path, content: bytes) -> None:
    with replacing(path) as new:
        new.write_bytes(content)


# reading a pack


@dataclass(eq=False)
class RawSplit(StreamedSplit):
    """A split of raw pixels in memory-mapped files."""

    name: str
    shards: tuple[Path, ...]
    places: np.ndarray  # int64 (N, 4): shard, offset, height, width
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        self._stamps = [stamp(shard) for shard in self.shards]
        maps = (np.memmap(shard, np.uint8, "r") for shard in self.shards)
        self.maps = tuple(np.asarray(it) for it in maps)  # slices twice as fast

    def where(self, i: int) -> str:
        return f"{self.provenance['path']}: image {i} of {self.name}"

    def key(self, i: int) -> str:
        return str(i)

    def sizes(self) -> np.ndarray:
        return np.concatenate([np.full((len(self), 1), 3), self.places[:, 2:]], 1)

    def stored(self, i: int) -> np.ndarray:
        return self.pixels(i)

    def pixels(self, i: int) -> np.ndarray:
        """uint8 (h, w, 3), a view of the file."""
        shard, offset, height, width = self.places[i].tolist()
        unchanged(self.shards[shard], self._stamps[shard])
        return self.maps[shard][offset : offset + 3 * height * width].reshape(height, width, 3)

    def whole(self, i: int, channels: int) -> Tensor:
        return recolour(chw(self.pixels(i).copy())[None], channels)[0]

    def put(self, out: np.ndarray, i: int, preprocess: Preprocess, crop: Crop | None) -> None:
        pixels = self.pixels(i)
        if crop is None:
            chw(out).copy_(to_input_size(chw(pixels.copy())[None], preprocess)[0])
        else:
            crop_into(out, pixels, crop, preprocess)


def find(folder: Path) -> Path | None:
    return folder if (folder / RECORD).exists() or (folder / PLAN).exists() else None


def load(folder: Path, *, seed: int = 0, val: float = 0.0) -> Data:
    """The pack in a folder, with the statistics of its original data set, or of the training images that `val` leaves.

    Raises UserError for an unfinished pack, for one of another version, and for a shard that is missing or has the
    wrong size or an index with a wrong checksum. Those of the shards are left to `verify`: reading every byte would
    take as long as an epoch.
    """
    record = read_record(folder)
    with as_written(folder):
        data = opened(folder, record)
    if not val:
        return data
    parts = val_from_train({split.name: split for split in data.splits}, val, seed)
    mean, std = sample_statistics(parts["train"], 3)
    return replace(data, train=parts["train"], val=parts["val"], mean=mean, std=std)


@contextmanager
def as_written(folder: Path) -> Iterator[None]:
    """Raises UserError if pack.json turns out to be malformed."""
    try:
        yield
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{folder / RECORD} was not written by `convatlas data pack` ({error!r})", "pack the data set again"
        ) from error


def opened(folder: Path, record: dict[str, Any]) -> Data:
    splits: dict[str, Split] = {}
    classes, mean, std = tuple(record["classes"]), tuple(record["mean"]), tuple(record["std"])
    if not accepts(
        (record["name"], classes, mean, std), tuple[str, tuple[str, ...], tuple[float, ...], tuple[float, ...]]
    ):
        raise TypeError("names that are not text, or statistics that are not numbers")
    if not record["splits"].keys() & {"val", "test"}:
        raise ValueError("no val or test images")
    for name, part in record["splits"].items():
        paths = tuple(folder / shard["file"] for shard in part["shards"])
        for path, shard in zip(paths, part["shards"]):
            if not path.exists() or regular(path, remedy=AGAIN).st_size != shard["bytes"]:
                raise UserError(f"{path} is missing or incomplete", "pack the data set again")
        indices = [read_index(path.with_suffix(".npz"), shard["images"]) for path, shard in zip(paths, part["shards"])]
        for path, shard, index in zip(paths, part["shards"], indices):
            check_index(path.with_suffix(".npz"), index, shard, record)
        shard_of = np.repeat(np.arange(len(paths)), [len(index.labels) for index in indices])
        places, labels = np.concatenate([it.places for it in indices]), np.concatenate([it.labels for it in indices])
        provenance = {
            "source": f"pack, {record['format']}",
            "path": str(folder),
            "size": record["size"],
            "quality": record["quality"],
            "images": part["images"],
            "sha256_of_shards": digest_of(shard["sha256"] for shard in part["shards"]),
            "of": record["source"].get(name),
        }
        tensor = torch.from_numpy(labels)
        if record["format"] == "raw":
            at = np.stack([shard_of, places[:, 0], places[:, 2], places[:, 3]], 1)
            splits[name] = RawSplit(name, paths, at, tensor, classes, provenance)
        else:
            at = np.stack([shard_of, places[:, 0], places[:, 1]], 1)
            names = tuple(f"{i:09}.jpg" for i in range(len(labels)))
            splits[name] = ShardSplit(name, paths, at, names, tensor, classes, provenance)
    return Data(record["name"], splits["train"], splits.get("val"), splits.get("test"), None, mean, std)


def read_record(folder: Path) -> dict[str, Any]:
    """pack.json. Raises UserError as `load` does."""
    path = folder / RECORD
    if not path.exists():
        raise UserError(f"the pack in {folder} is not finished", "run the same `convatlas data pack` again to resume")
    try:
        record = from_json(read_bytes(path, MOST_RECORD, AGAIN))
        schema = record["schema"]
    except OSError as error:
        raise unread(path, error) from error
    except UserError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} was not written by `convatlas data pack` ({error!r})", "pack the data set again"
        ) from error
    if schema != SCHEMA:
        raise other_version(path, schema, (SCHEMA,))
    if record.get("sha256") != digest_of_record(record):
        raise UserError(f"{path} is not as it was written by `convatlas data pack`: its checksum does not match", AGAIN)
    return record


def verify(folder: Path, progress: Callable[[Sequence[Any]], Iterable[Any]] = iter) -> list[str]:
    """The shards and indices whose checksum does not match; empty if all do."""
    record = read_record(folder)
    wrong = []
    with as_written(folder):
        shards = [shard for part in record["splits"].values() for shard in part["shards"]]
        for shard in progress(shards):
            path = folder / shard["file"]
            if checksum(path) != shard["sha256"]:
                wrong.append(path.name)
            index = path.with_suffix(".npz")
            try:
                check_index(index, read_index(index, shard["images"]), shard, record)
            except Unreadable:  # which is not its fault
                raise
            except UserError:
                wrong.append(index.name)
    return wrong


def checksum(path: Path) -> str | None:
    """The sha256 of a file; None if there is none. Raises UserError if it cannot be read."""
    try:
        regular(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unread(path, error) from error
