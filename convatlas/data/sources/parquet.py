"""Hugging Face image data sets in Parquet files: a column of images (a struct with "bytes") and one of labels.

https://huggingface.co/docs/datasets/image_load; the schema's metadata names the classes. Needs pyarrow (extra `hub`).
Images are read one row group at a time: pack a data set larger than CACHE_BYTES first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import UserError
from ...files.plain import from_json
from ..decode.reference import Content
from ..statistics import HOW
from ..streamed import EncodedSplit
from ..types import Data
from .labels import Label, digest_of, hold_out, numbered, parts_of, split_how, streamed_data, val_from_train

CACHE_BYTES = 2 << 30  # of cached row groups
LABELS = ("label", "labels", "fine_label", "class")  # the first one present


@dataclass(frozen=True)
class Columns:
    """The columns of one file, and the class names if the metadata has them."""

    image: str  # Parquet's name for the bytes: "image.bytes"
    label: str
    names: tuple[str, ...]


@dataclass(eq=False)
class ParquetSplit(EncodedSplit):
    """A split of images in Parquet files."""

    name: str
    files: tuple[Path, ...]
    column: str
    places: np.ndarray  # int64 (N, 3): file, row group, row within it
    labels: Tensor
    classes: tuple[str, ...]
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        self._groups: OrderedDict[tuple[int, int], Any] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def content(self, i: int) -> Content:
        file, group, row = self.places[i].tolist()
        raw = self.group(file, group)[row].as_py()
        if raw is None:
            raise UserError(f"{self.where(i)} has no bytes, only a path", "download the set with its images embedded")
        content = Content(raw)
        content.name = self.where(i)
        return content

    def where(self, i: int) -> str:
        file, group, row = self.places[i].tolist()
        return f"{self.files[file]}: row {row} of group {group}"

    def key(self, i: int) -> str:
        file, group, row = self.places[i].tolist()
        return f"{self.files[file].name}/{group}/{row}"

    def group(self, file: int, group: int) -> Any:
        """The images of a row group (a pyarrow array); the latest CACHE_BYTES of them are cached."""
        with self._lock:
            key = file, group
            if key not in self._groups:
                table = opened(self.files[file]).read_row_group(group, columns=[self.column])
                array = table.column(0).combine_chunks()
                self._groups[key] = array.field("bytes") if self.column.endswith(".bytes") else array
                self._bytes += self._groups[key].nbytes
                while self._bytes > CACHE_BYTES and len(self._groups) > 1:
                    self._bytes -= self._groups.popitem(last=False)[1].nbytes
            self._groups.move_to_end(key)
            return self._groups[key]


def opened(file: Path) -> Any:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError("reading Parquet files needs pyarrow", "pip install 'convatlas[hub]'") from error
    try:
        return ParquetFile(file)
    except ArrowInvalid as error:
        raise UserError(f"{file} is not a complete Parquet file ({error})", "download it again") from error


def find(folder: Path) -> Path | None:
    """`folder`, if it or one of its sub-folders holds Parquet files."""
    return folder if any(folder.glob("*.parquet")) or any(folder.glob("*/*.parquet")) else None


def load(folder: Path, *, seed: int = 0, val: float = 0.0) -> Data:
    """The data set in a folder of Parquet files: see `splits`."""
    return streamed_data(folder, val_from_train(splits(folder, seed=seed), val, seed))


def splits(folder: Path, *, seed: int = 0) -> dict[str, ParquetSplit]:
    """The Parquet files of a folder: train-* and validation-* (or test-*), or all of them, split by `seed`.

    Raises UserError without pyarrow, for files without images or labels, and for files with different columns.
    """
    parts = parts_of(folder, ".parquet")
    columns = columns_of(opened(next(iter(parts.values()))[0]), next(iter(parts.values()))[0])
    found: dict[str, list[tuple[Path, int, int, Label]]] = {part: rows(files, columns) for part, files in parts.items()}
    how = "as named"
    if "" in found:
        every = found.pop("")
        names = [f"{file.relative_to(folder).as_posix()}/{group}/{row}" for file, group, row, _ in every]
        held = hold_out(names, [label for *_, label in every], seed)
        found = {part: [it for it, test in zip(every, held) if test == (part == "test")] for part in ("train", "test")}
        how = split_how(seed)
    classes, labels = numbered(
        folder, {part: [label for *_, label in items] for part, items in found.items()}, columns.names
    )
    return {part: split_of(folder, part, found[part], columns, labels[part], classes, how) for part in found}


def split_of(
    folder: Path,
    part: str,
    items: list[tuple[Path, int, int, Label]],
    columns: Columns,
    labels: Tensor,
    classes: tuple[str, ...],
    how: str,
) -> ParquetSplit:
    files = tuple(dict.fromkeys(file for file, *_ in items))
    number = {file: i for i, file in enumerate(files)}
    places = np.array([(number[file], group, row) for file, group, row, _ in items], np.int64).reshape(-1, 3)
    provenance = {
        "source": "Parquet files",
        "path": str(folder),
        "split": how,
        "images": len(items),
        "sha256_of_names_and_sizes": digest_of(
            f"{file.relative_to(folder).as_posix()} {file.stat().st_size}" for file in files
        ),
        "mean_and_std": HOW,
    }
    return ParquetSplit(part, files, columns.image, places, labels, classes, provenance)


def rows(files: list[Path], columns: Columns) -> list[tuple[Path, int, int, Label]]:
    """Every row's file, row group, index in it, and class."""
    found: list[tuple[Path, int, int, Label]] = []
    for file in files:
        parquet = opened(file)
        if columns_of(parquet, file) != columns:
            raise UserError(f"{file} has other columns or classes than {files[0]}", "give files of one data set")
        for group in range(parquet.num_row_groups):
            labels = parquet.read_row_group(group, columns=[columns.label]).column(0).to_pylist()
            for row, label in enumerate(labels):
                if not isinstance(label, int | str) or (isinstance(label, int) and label < 0):
                    raise UserError(f"{file}: row {row} of group {group} has the label {label!r}", "label or remove it")
                found.append((file, group, row, label))
    return found


def columns_of(parquet: Any, file: Path) -> Columns:
    """Which columns hold images and labels, by the metadata that Hugging Face writes, else by their types and names."""
    import pyarrow as pa

    schema = parquet.schema_arrow
    try:
        features = from_json(schema.metadata[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        features = {}

    def of_kind(kind: str) -> list[str]:
        return [name for name, f in features.items() if isinstance(f, dict) and f.get("_type") == kind]

    def is_image(field: Any) -> bool:
        return pa.types.is_binary(field.type) or (
            pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
        )

    images = [n for n in of_kind("Image") if n in schema.names] or [f.name for f in schema if is_image(f)]
    labelled = [name for name in LABELS if name in schema.names] or [
        n for n in of_kind("ClassLabel") if n in schema.names
    ]
    if not images or not labelled:
        raise UserError(
            f"{file} has the columns {', '.join(schema.names)}",
            f"add one of images and one of labels ({', '.join(LABELS)})",
        )
    image, label = images[0], labelled[0]
    names = features.get(label, {}).get("names") or ()
    return Columns(f"{image}.bytes" if pa.types.is_struct(schema.field(image).type) else image, label, tuple(names))
