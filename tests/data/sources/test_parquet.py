"""Parquet files as different programs write them: every type that bytes and classes come in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convatlas.data.sources import load_data
from convatlas.errors import UserError
from tests.data.sources.written import jpeg

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

BYTES = [pa.binary(), pa.large_binary(), pa.binary_view(), pa.dictionary(pa.int32(), pa.binary())]
NUMBERS = [pa.int8(), pa.uint64(), pa.bool_(), pa.dictionary(pa.int8(), pa.int64())]
TEXTS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


def column(values: list[Any], kind: Any) -> Any:
    plain = pa.array(values, pa.binary() if isinstance(values[0], bytes) else None)
    return plain.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else plain.cast(kind)


def write(folder: Path, images: Any, labels: Any, rows: int | None = 4) -> Path:
    for part in ("train", "test"):
        parquet.write_table(
            pa.table({"image": images, "label": labels}), folder / f"{part}.parquet", row_group_size=rows
        )
    return folder


@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize("kind", BYTES, ids=str)
def test_every_type_of_bytes(tmp_path: Path, kind: Any, struct: bool) -> None:
    content = [jpeg(i % 4) for i in range(6)]
    images = column(content, kind)
    if struct:
        images = pa.StructArray.from_arrays([pa.array(["x"] * 6), images], ["path", "bytes"])
    whole = struct and kind == pa.binary_view()  # pyarrow cannot cut these to write them
    train = load_data(str(write(tmp_path, images, [0, 1] * 3, None if whole else 4))).train
    assert [train.content(i) for i in range(6)] == content  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [*NUMBERS, *TEXTS], ids=str)
def test_every_type_of_class(tmp_path: Path, kind: Any) -> None:
    values = [0, 1, 1, 0, 1, 0] if kind in NUMBERS else list("abbaba")
    data = load_data(str(write(tmp_path, [jpeg(i) for i in range(6)], column(values, kind))))
    assert data.classes == (("0", "1") if kind in NUMBERS else ("a", "b"))
    assert data.train.labels.tolist() == [0, 1, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (["a", "b"], [0, 1], r"has the columns image, label; add one of images"),
        ([{"bytes": "a"}, {"bytes": "b"}], [0, 1], r"has the columns image, label; add one of images"),
        ([b"a", b"b"], [0.0, 1.0], r"train\.parquet: the column label is of type double; give the classes as"),
        ([b"a", b"b"], [{"x": 1}, {"x": 2}], r"the column label is of type struct<x: int64>"),
        ([b"a", b"b"], [b"a", b"b"], r"the column label is of type binary"),
        ([b"a", b"b"], [0, None], r"row 1 of group 0 has the label None"),
        ([b"a", b"b"], ["a", None], r"row 1 of group 0 has the label None"),
        ([b"a", b"b"], [0, -1], r"row 1 of group 0 has the label -1"),
    ],
)
def test_what_is_neither_is_named(tmp_path: Path, images: list[Any], labels: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_data(f"parquet:{write(tmp_path, images, labels)}")


def test_an_empty_test_split_is_found_before_training(tmp_path: Path) -> None:
    write(tmp_path, [jpeg(i) for i in range(6)], [0, 1] * 3)
    table = parquet.read_table(tmp_path / "test.parquet")
    parquet.write_table(table.slice(0, 0), tmp_path / "test.parquet")
    with pytest.raises(UserError, match=r"has no test images; add some, or remove its files"):
        load_data(str(tmp_path))
