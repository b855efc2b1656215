"""Labels of every source: no more classes than there is, and what is no label."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import process_time

import numpy as np
import pytest

from convatlas.cli import main
from convatlas.data.sources import load_data
from convatlas.errors import UserError
from tests.data.sources.written import IMAGES, idx, jpeg, sample, tar, write_set

Labels = Sequence[object]


def write_shards(folder: Path, train: Labels, val: Labels, extension: str = "cls") -> Path:
    for part, labels in (("train", train), ("val", val)):
        tar(folder / f"{part}-0.tar", [m for i, label in enumerate(labels) for m in sample(i, label, extension)])
    return folder


def write_json(folder: Path, train: Labels, val: Labels) -> Path:
    return write_shards(folder, train, val, "json")


def write_lists(folder: Path, train: Labels, val: Labels) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, labels in (("train", train), ("val", val)):
        lines = []
        for i, label in enumerate(labels):
            (folder / f"{part} {i}.jpg").write_bytes(jpeg(i))
            lines.append(f"{part} {i}.jpg\t{label}\n")
        (folder / f"{part}.txt").write_text("".join(lines), encoding="utf-8")
    return folder


def write_parquet(folder: Path, train: Labels, val: Labels) -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    for part, labels in (("train", train), ("validation", val)):
        table = pa.table({"image": [jpeg(i) for i in range(len(labels))], "label": list(labels)})
        parquet.write_table(table, folder / f"{part}-0.parquet")
    return folder


def write_mnist(folder: Path, train: Labels, val: Labels) -> Path:
    arrays = {"train": np.array(train, np.int32), "t10k": np.array(val, np.int32)}
    changes = {f"{part}_labels": idx(labels) for part, labels in arrays.items()}
    changes |= {f"{part}_images": idx(np.resize(IMAGES, (len(labels), 28, 28))) for part, labels in arrays.items()}
    return write_set(folder, **changes)


Write = Callable[[Path, Labels, Labels], Path]
NUMBERED = [write_shards, write_json, write_lists, write_parquet, write_mnist]


@pytest.fixture
def _small() -> Iterator[None]:
    """4 GB of address space more than now, which a thousand million names would pass."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + (4 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("label", [1000, 10**6, 10**9, 2**31 - 1])
@pytest.mark.parametrize("write", NUMBERED)
def test_no_more_classes_than_images(tmp_path: Path, write: Write, label: int) -> None:
    write(tmp_path, [0, 1, 0, label], [0, 1])
    began = process_time()
    with pytest.raises(UserError, match=rf"label {label} in .* is too high for \d images; number the classes"):
        load_data(str(tmp_path))
    assert process_time() - began < 1


@pytest.mark.parametrize("write", [write_json, write_lists, write_shards])
def test_a_label_of_any_length_is_refused_in_one_short_line(tmp_path: Path, write: Write) -> None:
    refused = r"is not a class; give numbers|is too high for 6 images|more than 40 digits"
    with pytest.raises(UserError, match=refused) as caught:
        load_data(str(write(tmp_path, [0, 1, 0, int("9" * 400)], [0, 1])))
    assert len(str(caught.value)) < len(str(tmp_path)) + 200


@pytest.mark.parametrize("label", ["-1", "-1.0", "+2", "9" * 16])
@pytest.mark.parametrize("write", [write_shards, write_lists, write_parquet])
@pytest.mark.parametrize("other", ["cat", "0"])
def test_what_is_neither_a_number_nor_a_name(tmp_path: Path, write: Write, label: str, other: str) -> None:
    write(tmp_path, [label, other, label, other], [label, other])
    with pytest.raises(UserError, match=r"'.*'( in .*)? is not a class; give numbers from 0, or names"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("write", NUMBERED)
def test_classes_without_images_keep_their_numbers_and_are_said(tmp_path: Path, write: Write) -> None:
    """As in EMNIST's letters, whose labels are 1 to 26."""
    data = load_data(str(write(tmp_path, [1, 2, 4, 4], [1, 4])))
    assert data.classes == ("0", "1", "2", "3", "4")
    assert data.train.labels.tolist() == [1, 2, 4, 4]
    assert data.notes == ("classes '0', '3' have no train images (2 of 5 classes)",)


def test_every_label_below_a_thousand_may_be_alone(tmp_path: Path) -> None:
    """A few of ImageNet's images keep the numbers of its classes."""
    data = load_data(str(write_lists(tmp_path, [0, 999, 7], [999])))
    assert len(data.classes) == 1000
    assert data.notes == ("classes '1', '2', '3', '4', '5' ... have no train images (997 of 1000 classes)",)


def test_named_classes_may_be_as_many_as_the_names(tmp_path: Path) -> None:
    write_lists(tmp_path, [0, 1999, 7], [1999])
    (tmp_path / "classes.txt").write_text("".join(f"kind {i}\n" for i in range(2000)))
    data = load_data(str(tmp_path))
    assert (data.classes[1999], data.train.labels.tolist()) == ("kind 1999", [0, 1999, 7])


def test_the_names_of_a_parquet_file_bound_its_labels(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def write(labels: list[int]) -> Path:
        names = [f"kind {i}" for i in range(1500)]
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        table = pa.table({"image": [jpeg(i) for i in range(len(labels))], "label": labels})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        for part in ("train", "test"):
            parquet.write_table(table, tmp_path / f"{part}.parquet")
        return tmp_path

    assert load_data(str(write([0, 1499]))).train.labels.tolist() == [0, 1499]
    with pytest.raises(UserError, match=r"label 1500 in .* is not one of its 1500 classes"):
        load_data(str(write([0, 1500])))


def test_the_command_line_says_which_classes_are_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_lists(tmp_path / "set", [0, 2, 2, 0], [2])
    assert main(["data", "pack", str(tmp_path / "set"), "--out", str(tmp_path / "packed")]) == 0
    assert "convatlas: note: class '1' has no train images (1 of 3 classes)\n" in capsys.readouterr().err
    assert main(["doctor", str(tmp_path / "set")]) == 0
    assert "class '1' has no train images (1 of 3 classes)" in capsys.readouterr().out


@pytest.mark.parametrize(("extension", "label"), [("cls", "7"), ("txt", "cat"), ("json", '{"label": 7}')])
def test_label_members_may_have_a_byte_order_mark(tmp_path: Path, extension: str, label: str) -> None:
    for part in ("train", "val"):
        other = sample(1, 0 if "7" in label else "ant")
        marked = [("0000.jpg", jpeg(0)), (f"0000.{extension}", b"\xef\xbb\xbf" + label.encode())]
        tar(tmp_path / f"{part}-0.tar", [*marked, *other])
    data = load_data(str(tmp_path))
    assert [data.classes[i] for i in data.train.labels.tolist()] == (["7", "0"] if "7" in label else ["cat", "ant"])
