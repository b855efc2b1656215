"""The index of a pack's shard: each image's offset, bytes, height and width, its class, and the shard's checksum.

It is an .npz file of three arrays, none compressed; pack.json has the checksum of their members. What it holds is read
by the number of its images, so that no header decides how much is allocated.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...errors import UserError, pass_on
from ...files.regular import attentive, regular
from ..decode.reference import MAX_PIXELS, most_bytes

MEMBERS = {"places.npy": 4 * 8, "labels.npy": 8}  # bytes an image; the third, sha256.npy, is of the shard
DIGITS = 4 * 64  # bytes of the sha256, in UTF-32
HEADER = 1024  # bytes of an array's header, at most
AGAIN = "pack the data set again"


class Index(NamedTuple):
    places: np.ndarray  # int64 (n, 4)
    labels: np.ndarray  # int64 (n,)
    shard_sha256: str
    sha256: str  # its own


def index_bytes(places: Sequence[tuple[int, ...]], labels: Sequence[int], shard_sha256: str) -> bytes:
    """The content of the file."""
    arrays = io.BytesIO()
    digits = np.array(shard_sha256, "<U64")
    np.savez(arrays, places=np.array(places, "<i8").reshape(-1, 4), labels=np.array(labels, "<i8"), sha256=digits)
    return arrays.getvalue()


def read_index(path: Path, images: int) -> Index:
    """The index of a shard of so many images. Raises UserError if it is damaged, or of another number of images."""
    most = images * sum(MEMBERS.values()) + 4 * HEADER + DIGITS
    try:
        regular(path, most, AGAIN)
        with attentive(path) as opened:
            content = opened.read(most)
        members = {}
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            for info in file.infolist():
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(content):
                    raise ValueError("it is compressed")
                members[info.filename] = file.read(info)
        places, labels = (tail(members[name], images * size) for name, size in MEMBERS.items())
        digits = tail(members["sha256.npy"], DIGITS).decode("utf-32-le")
    except UserError:
        raise
    except Exception as error:  # damaged files make the reader raise anything
        pass_on(path, error)
        raise UserError(f"{path} is missing or damaged ({error})", AGAIN) from error
    own = hashlib.sha256(b"".join(members[name] for name in (*MEMBERS, "sha256.npy"))).hexdigest()
    return Index(np.frombuffer(places, "<i8").reshape(images, 4), np.frombuffer(labels, "<i8"), digits, own)


def tail(member: bytes, size: int) -> bytes:
    """The last bytes of an array's file: its values. Raises ValueError for another number of them."""
    if not 0 < len(member) - size <= HEADER:
        raise ValueError("it is of another number of images")
    return member[-size:]


def check_index(path: Path, index: Index, shard: dict[str, Any], record: dict[str, Any]) -> None:
    """Raises UserError for an index that is not the one in pack.json, or cannot belong to its shard."""
    places, labels = index.places, index.labels
    fits = index.sha256 == shard["index_sha256"] and index.shard_sha256 == shard["sha256"]
    fits = fits and places.min() >= 0 and (places[:, 0] + places[:, 1]).max() <= shard["bytes"]
    fits = fits and labels.min() >= 0 and labels.max() < len(record["classes"])
    fits = fits and places[:, 1].max() <= most_bytes(MAX_PIXELS) and places[:, 2:].max() < 1 << 24
    if record["format"] == "raw":
        fits = fits and (places[:, 1] == 3 * places[:, 2] * places[:, 3]).all()
    if not fits:
        raise UserError(f"{path} does not match its shard", AGAIN)
