"""Hugging Face image data sets in Parquet files: a column of images (a struct with "bytes") and one of labels.

https://huggingface.co/docs/datasets/image_load; the schema's metadata names the classes. Needs pyarrow (extra `hub`).
Images are read one row group at a time: pack a data set larger than CACHE_BYTES first. Bytes and texts are read as
dictionaries: a value that a file holds once is once in memory, however many rows repeat it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from torch import Tensor

from ...errors import UserError
from ...files.plain import from_json
from ...files.regular import regular, stamp, unchanged, unpacked_most
from ..decode.reference import Content
from ..statistics import HOW
from ..streamed import EncodedSplit
from ..types import Data
from .labels import Label, hold_out, numbered, parts_of, split_how, streamed_data, val_from_train

CACHE_BYTES = 2 << 30  # of cached row groups
ROW_BYTES = 16  # that a row takes of its file, at least
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
        self._stamps = [stamp(file) for file in self.files]

    def content(self, i: int) -> Content:
        file, group, row = self.places[i].tolist()
        raw = self.group(file, group)[row].as_py()
        if raw is None:
            raise UserError(f"{self.where(i)} has no bytes, only a path", "download the set with its images embedded")
        content = Content(raw)
        content.name = self.where(i)
        return content

    def check(self, i: int) -> None:
        file = int(self.places[i, 0])
        unchanged(self.files[file], self._stamps[file])

    def where(self, i: int) -> str:
        file, group, row = self.places[i].tolist()
        return f"{self.files[file]}: row {row} of group {group}"

    def key(self, i: int) -> str:
        file, group, row = self.places[i].tolist()
        return f"{self.files[file].name}/{group}/{row}"

    def sizes(self) -> np.ndarray:
        """The mean of each image's row group: single sizes are not known without reading it."""
        groups, of, counts = np.unique(self.places[:, :2], axis=0, return_inverse=True, return_counts=True)
        files = {file: opened(self.files[file]).metadata for file in np.unique(groups[:, 0]).tolist()}
        sizes = [chunk_of(files[file], group, self.column).total_compressed_size for file, group in groups.tolist()]
        return (np.array(sizes, np.int64) // counts)[of.reshape(-1)][:, None]

    def group(self, file: int, group: int) -> Any:
        """The images of a row group (a chunked array); the latest CACHE_BYTES of them are cached."""
        with self._lock:
            key = file, group
            if key not in self._groups:
                path = self.files[file]
                self._groups[key] = read_column(opened(path, self.column), path, group, self.column)
                self._bytes += self._groups[key].nbytes
                while self._bytes > CACHE_BYTES and len(self._groups) > 1:
                    self._bytes -= self._groups.popitem(last=False)[1].nbytes
            self._groups.move_to_end(key)
            return self._groups[key]


def opened(file: Path, *columns: str) -> Any:
    """The pyarrow.ParquetFile, which reads those columns as dictionaries. Raises UserError for anything else."""
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise UserError("reading Parquet files needs pyarrow", "pip install 'convatlas[hub]'") from error
    size = regular(file, remedy="give Parquet files").st_size
    with reading(file):
        parquet = ParquetFile(file, read_dictionary=list(columns))
    if ROW_BYTES * parquet.metadata.num_rows > max(size, 1 << 20):
        raise UserError(f"{file} declares {parquet.metadata.num_rows:,} rows in {size:,} bytes", "use a trusted copy")
    return parquet


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Raises UserError, naming the file, for whatever pyarrow meets in a damaged one."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise UserError(f"{file} cannot be read ({error.strerror})") from error
        raise UserError(f"{file} is not a complete Parquet file ({error})", "download it again") from error


def read_column(parquet: Any, file: Path, group: int, column: str) -> Any:
    """A column of a row group (a pyarrow.ChunkedArray); of a struct, the field. Raises UserError for a bomb."""
    with reading(file):
        chunk = chunk_of(parquet.metadata, group, column)
        if chunk.total_uncompressed_size > unpacked_most(chunk.total_compressed_size):
            raise UserError(
                f"{file}: {column} of row group {group} unpacks to {chunk.total_uncompressed_size:,} bytes",
                "use a trusted copy",
            )
        read = parquet.read_row_group(group, columns=[column]).column(0)
        return read.flatten()[0] if "." in column else read


def chunk_of(metadata: Any, group: int, column: str) -> Any:
    """What the file says of a column in a row group. Raises LookupError for a column that is not there."""
    about = metadata.row_group(group)
    chunks = (about.column(i) for i in range(about.num_columns))
    return {chunk.path_in_schema: chunk for chunk in chunks}[column]


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
    first = next(iter(parts.values()))[0]
    columns = columns_of(opened(first), first)
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
        "mean_and_std": HOW,
    }
    return ParquetSplit(part, files, columns.image, places, labels, classes, provenance)


def rows(files: list[Path], columns: Columns) -> list[tuple[Path, int, int, Label]]:
    """Every row's file, row group, index in it, and class."""
    found: list[tuple[Path, int, int, Label]] = []
    for file in files:
        parquet = opened(file, columns.label)
        if columns_of(parquet, file) != columns:
            raise UserError(f"{file} has other columns or classes than {files[0]}", "give files of one data set")
        for group in range(parquet.num_row_groups):
            for row, label in enumerate(labels_in(read_column(parquet, file, group, columns.label))):
                if not isinstance(label, int | str) or (isinstance(label, int) and label < 0):
                    raise UserError(f"{file}: row {row} of group {group} has the label {label!r}", "label or remove it")
                found.append((file, group, row, int(label) if isinstance(label, bool) else label))
    return found


def labels_in(column: Any) -> Iterator[Any]:
    """The values of a column; a dictionary's are made once, not for each row."""
    for chunk in column.chunks:
        if hasattr(chunk, "dictionary"):
            values = chunk.dictionary.to_pylist()
            yield from (None if i is None else values[i] for i in chunk.indices.to_pylist())
        else:
            yield from chunk.to_pylist()


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

    def plain(kind: Any) -> Any:
        return plain(kind.value_type) if pa.types.is_dictionary(kind) else kind

    def is_bytes(kind: Any) -> bool:
        return any(of(plain(kind)) for of in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))

    def path_of_bytes(name: str) -> str | None:
        """Parquet's name for a column's bytes; None if it has none."""
        kind = schema.field(name).type
        if pa.types.is_struct(kind):
            at = kind.get_field_index("bytes")
            return f"{name}.bytes" if at >= 0 and is_bytes(kind.field(at).type) else None
        return name if is_bytes(kind) else None

    images = [n for n in of_kind("Image") if n in schema.names] or [n for n in schema.names if path_of_bytes(n)]
    labelled = [name for name in LABELS if name in schema.names] or [
        n for n in of_kind("ClassLabel") if n in schema.names
    ]
    if not images or not labelled:
        raise UserError(
            f"{file} has the columns {', '.join(schema.names)}",
            f"add one of images and one of labels ({', '.join(LABELS)})",
        )
    image, label = path_of_bytes(images[0]), labelled[0]
    if image is None:
        raise UserError(
            f"{file}: the column {images[0]} is of type {schema.field(images[0]).type}",
            "give the bytes of image files, or structs that have them as bytes",
        )
    kind = plain(schema.field(label).type)
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    if not any(of(kind) for of in (pa.types.is_integer, pa.types.is_boolean, *texts)):
        raise UserError(f"{file}: the column {label} is of type {kind}", "give the classes as whole numbers or names")
    names = features[label].get("names") if label in of_kind("ClassLabel") else ()
    listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return Columns(image, label, tuple(names) if listed else ())
