"""Lists, WebDataset shards and Parquet files: the images and classes that were written, and what is refused."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from convatlas.data.decode.reference import read_image
from convatlas.data.pixels import to_input_size
from convatlas.data.sources import load_data
from convatlas.data.sources.labels import part_of
from convatlas.data.types import Data, Split
from convatlas.errors import UserError
from convatlas.preprocess import Preprocess
from tests.data.sources.written import Members, jpeg, sample, tar

INPUT = Preprocess((3, 16, 16), (0.0,) * 3, (1.0,) * 3, resize_mode="crop", resize=18)


def write_shards(folder: Path) -> Path:
    for part, first, n in (("train", 0, 2), ("val", 40, 1)):
        for s in range(n):
            rows = range(first + 10 * s, first + 10 * s + 10)
            tar(folder / f"{part}-{s:05}.tar", [m for i in rows for m in sample(i, i % 3)])
    return folder


def checked(split: Split, expected: dict[int, int]) -> None:
    """The split's images are those of the numbers, and each has its class."""
    assert split.labels.tolist() == list(expected.values())
    images = split.fetch(range(len(split)), INPUT)
    for image, i in zip(images, expected, strict=True):
        assert torch.equal(image, to_input_size(read_image(jpeg(i), 3)[None], INPUT)[0]), i


def thirds(start: int, stop: int) -> dict[int, int]:
    return {i: i % 3 for i in range(start, stop)}


# shards


@pytest.mark.parametrize("prefix", ["shards:", ""])
def test_shards(tmp_path: Path, prefix: str) -> None:
    data = load_data(f"{prefix}{write_shards(tmp_path)}")
    assert (data.classes, data.train.name, data.val.name, data.shape) == (("0", "1", "2"), "train", "val", None)
    checked(data.train, thirds(0, 20))
    checked(data.val, thirds(40, 50))
    assert data.provenance["train"]["shards"] == 2
    assert data.provenance["train"]["images"] == 20
    assert 0.2 < data.mean[0] < 0.8


@pytest.mark.parametrize("extension", ["cls", "json", "txt"])
@pytest.mark.parametrize("named", [True, False])
def test_every_way_to_say_the_class(tmp_path: Path, extension: str, named: bool) -> None:
    for part in ("train", "test"):
        tar(
            tmp_path / part / "0.tar",
            [m for i in range(4) for m in sample(i, "ab"[i % 2] if named else i % 2, extension)],
        )
    data = load_data(str(tmp_path))
    assert data.classes == (("a", "b") if named else ("0", "1"))
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    (tmp_path / "classes.txt").write_text("b\na\n")
    data = load_data(str(tmp_path))
    assert data.classes == ("b", "a")
    assert data.train.labels.tolist() == ([1, 0, 1, 0] if named else [0, 1, 0, 1])


def test_shards_without_parts_are_split_by_seed(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", [m for i in range(30) for m in sample(i, i % 3)])
    one, again, other = (load_data(f"shards:{tmp_path}", seed=seed) for seed in (0, 0, 1))
    assert (len(one.train), len(one.test)) == (24, 6)
    assert one.test.labels.bincount().tolist() == [2, 2, 2]
    assert one.provenance == again.provenance != other.provenance
    assert "held out by seed 1" in other.provenance["train"]["split"]


def test_shards_hold_any_kind_of_image_and_are_read_in_any_order(tmp_path: Path) -> None:
    kinds = ["jpg", "png", "gif"]
    tar(tmp_path / "train.tar", [m for i in range(6) for m in sample(i, i % 2, image=kinds[i % 3])])
    tar(tmp_path / "val.tar", [m for i in range(2) for m in sample(i, i % 2)])
    split = load_data(str(tmp_path)).train
    whole = split.fetch(range(6), INPUT)
    at = [5, 1, 1, 4]
    assert torch.equal(split.fetch(at, INPUT), whole[at])
    assert split.where(5).endswith("train.tar: 0005.gif")


def broken(members: Members, *more: tuple[str, bytes]) -> Callable[[Path], None]:
    return lambda folder: tar(folder / "train-1.tar", [*members, *more])


def link(folder: Path) -> None:
    with tarfile.open(folder / "train-1.tar", "w") as archive:
        info = tarfile.TarInfo("0001.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            broken([("../1.jpg", b"")]),
            r"train-1\.tar names '\.\./1\.jpg', which is outside it; give a data set without",
        ),
        (broken([("/1.jpg", b"")]), "names '/1.jpg', which is outside it"),
        (broken([("a\\..\\..\\1.jpg", b"")]), "which is outside it"),
        (link, r"train-1\.tar holds a link or a device, '0001\.jpg'; pack it with plain files only"),
        (broken([("1.jpg", b"")]), r"does not give the class of 1\.jpg; add a 1\.cls, \.json or \.txt"),
        (
            broken([("1.jpg", b""), ("1.png", b"")]),
            r"has 1\.jpg and 1\.png for one sample, 1, as its name ends at the first dot; give each",
        ),
        (broken([("1.jpg", b""), ("1.cls", b"")]), r"1\.cls does not give a class"),
        (broken([("1.jpg", b""), ("1.json", b"[1]")]), r"1\.json does not give a class"),
        (
            broken([("1.jpg", b""), ("1.json", b'{"label": -1}')]),
            r"1\.json does not give a class \(-1 is not a class\)",
        ),
        (broken([("1.jpg", b""), ("1.json", b'{"name": 1}')]), r"1\.json does not give a class \(no key label, cls"),
        (
            broken([("1.jpg", b""), ("1.cls", b"cat")]),
            "some labels in .* are numbers and some are names; use one",
        ),
        (lambda f: (f / "train-1.tar").write_bytes(b"no tar" * 99), r"train-1\.tar is not a complete tar archive"),
        (lambda f: tar(f / "val-00000.tar", sample(9, 7)), "class '7' has images in val but none in train"),
        (
            lambda f: (f / "classes.txt").write_text("a\nb\n"),
            r"label 2 in .* is not one of its 2 classes; see classes\.txt",
        ),
        (
            lambda f: (f / "val-00000.tar").unlink(),
            r"none of the \.tar files in .* is for testing; name some",
        ),
    ],
)
def test_shards_that_are_not_right_are_refused(tmp_path: Path, change, message: str) -> None:
    change(write_shards(tmp_path))
    with pytest.raises(UserError, match=message):
        load_data(f"shards:{tmp_path}")


def test_shards_cut_short_or_with_broken_images_are_named(tmp_path: Path) -> None:
    data = load_data(str(write_shards(tmp_path)))
    path = tmp_path / "train-00001.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"train-00001\.tar is truncated; download it again"):
        data.train.fetch(range(20), INPUT)
    tar(tmp_path / "val-00000.tar", [("0040.jpg", b"no image"), ("0040.cls", b"1"), *sample(41, 2)])
    with pytest.raises(UserError, match=r"val-00000\.tar: 0040\.jpg is not a JPEG"):
        load_data(str(write_partial(tmp_path))).val.fetch([0], INPUT)


def write_partial(folder: Path) -> Path:
    tar(folder / "train-00001.tar", [m for i in range(10, 20) for m in sample(i, i % 3)])
    return folder


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    tar(tmp_path / "a.tar", [m for i in range(9) for m in sample(i, 0)])
    with pytest.raises(UserError, match="are all of one class; give two or more"):
        load_data(f"shards:{tmp_path}")
    tar(tmp_path / "a.tar", [*sample(1, 0), *sample(2, 0), *sample(3, 1)])
    with pytest.raises(UserError, match="class 1 has only one image; a class needs at least two to be split"):
        load_data(f"shards:{tmp_path}")


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("train-00000.tar", "train"),
        ("data/validation-0.parquet", "val"),
        ("val/x.tar", "val"),
        ("valid_1.tar", "val"),
        ("trainer.tar", ""),
        ("imagenet-train-1.tar", ""),
        ("test/train-1.tar", "train"),
        ("TRAIN.tar", "train"),
    ],
)
def test_the_part_that_a_name_says(path: str, part: str) -> None:
    assert part_of(Path(path)) == part


# lists


def write_lists(folder: Path, form: str = "{path} {label}") -> Path:
    for part, rows in (("train", range(12)), ("val", range(40, 46))):
        lines = []
        for i in rows:
            path = folder / "images" / f"{part} {i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(i))
            lines.append(form.format(path=path.relative_to(folder), label=i % 3, name="cab"[i % 3]))
        (folder / f"{part}.txt").write_text("# a list\n\n" + "\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("prefix", ["list:", ""])
@pytest.mark.parametrize(("form", "classes"), [("{path} {label}", "012"), ("{path}\t{name}", "cab")])
def test_lists(tmp_path: Path, prefix: str, form: str, classes: str) -> None:
    (tmp_path / "classes.txt").write_text("\n".join(classes))
    data = load_data(f"{prefix}{write_lists(tmp_path, form)}")
    assert (data.classes, data.val.name) == (tuple(classes), "val")
    checked(data.train, thirds(0, 12))
    checked(data.val, thirds(40, 46))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../x.jpg 0", r"train\.txt, line 1 names '\.\./x\.jpg', which is outside it"),
        ("/etc/passwd 0", "names '/etc/passwd', which is outside it"),
        ("x.jpg", r"train\.txt, line 1: 'x\.jpg' is not a path and a class; write path<TAB>class"),
        ("images/none.jpg 0", r"none\.jpg cannot be read"),
        ("", r"train\.txt lists no images; write one path and class per line"),
    ],
)
def test_lists_that_are_not_right_are_refused(tmp_path: Path, line: str, message: str) -> None:
    write_lists(tmp_path)
    (tmp_path / "train.txt").write_text(f"{line}\n" + ("images/train 1.jpg 1\nimages/train 2.jpg 2\n" if line else ""))
    with pytest.raises(UserError, match=message):
        load_data(f"list:{tmp_path}")


def test_lists_need_a_test(tmp_path: Path) -> None:
    (write_lists(tmp_path) / "val.txt").unlink()
    with pytest.raises(UserError, match=r"has no train\.txt with a val\.txt or test\.txt; give the folder that has"):
        load_data(f"list:{tmp_path}")


# Parquet


def write_parquet(folder: Path, *, named: bool = True, struct: bool = True, label: str = "label") -> Path:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    for part, rows in (("train", range(20)), ("test", range(40, 48))):
        for piece, its in enumerate((rows[:7], rows[7:])):
            content = [{"bytes": jpeg(i), "path": f"{i}.jpg"} if struct else jpeg(i) for i in its]
            table = pa.table({"image": content, label: [i % 3 for i in its]})
            if named:
                features = {"image": {"_type": "Image"}, label: {"names": ["x", "y", "z"], "_type": "ClassLabel"}}
                table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            (folder / "data").mkdir(parents=True, exist_ok=True)
            parquet.write_table(table, folder / f"data/{part}-{piece:05}-of-00002.parquet", row_group_size=3)
    return folder


@pytest.mark.parametrize("prefix", ["parquet:", ""])
@pytest.mark.parametrize("struct", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_parquet(tmp_path: Path, prefix: str, struct: bool, named: bool) -> None:
    data = load_data(f"{prefix}{write_parquet(tmp_path, named=named, struct=struct)}")
    assert data.classes == (("x", "y", "z") if named else ("0", "1", "2"))
    checked(data.train, thirds(0, 20))
    checked(data.test, thirds(40, 48))


def test_row_groups_are_dropped_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_data(str(write_parquet(tmp_path))).train.fetch(range(20), INPUT)
    monkeypatch.setattr("convatlas.data.sources.parquet.CACHE_BYTES", 1)
    data = load_data(str(tmp_path))
    for _ in range(2):
        assert torch.equal(data.train.fetch(range(19, -1, -1), INPUT).flip(0), whole)
    assert len(data.train._groups) == 1  # type: ignore[attr-defined]


def test_parquet_that_is_not_right_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "odd", label="kind", named=False)
    with pytest.raises(UserError, match=r"has the columns image, kind; add one of images and one of labels \(label"):
        load_data(f"parquet:{tmp_path / 'odd'}")
    write_parquet(tmp_path / "mixed")
    write_parquet(tmp_path / "other", named=False)
    name = "data/train-00001-of-00002.parquet"
    (tmp_path / "mixed" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(UserError, match="has other columns or classes than"):
        load_data(f"parquet:{tmp_path / 'mixed'}")
    (tmp_path / "mixed" / name).write_bytes(b"PAR1 nothing")
    with pytest.raises(UserError, match="is not a complete Parquet file"):
        load_data(f"parquet:{tmp_path / 'mixed'}")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match=r"reading Parquet files needs pyarrow; pip install 'convatlas\[hub\]'"):
        load_data(f"parquet:{tmp_path / 'other'}")


def test_unlabelled_rows_and_missing_bytes_are_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def write(images: list, labels: list) -> None:
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(images, kind), "label": labels})
        for part in ("train", "test"):
            parquet.write_table(table, tmp_path / f"{part}.parquet")

    good = [{"bytes": jpeg(i), "path": None} for i in range(4)]
    write(good, [0, 1, None, 1])
    with pytest.raises(UserError, match="row 2 of group 0 has the label None; label or remove it"):
        load_data(f"parquet:{tmp_path}")
    write([*good[:3], {"bytes": None, "path": "x.jpg"}], [0, 1, 0, 1])
    with pytest.raises(UserError, match="row 3 of group 0 has no bytes, only a path"):
        load_data(f"parquet:{tmp_path}")


@pytest.mark.parametrize("write", [write_shards, write_lists, write_parquet])
def test_every_source_trains_and_goes_on_elsewhere(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """The provenance of the same set in another place is another path and nothing else."""

    def told(data: Data) -> dict:
        return {
            part: {k: v for k, v in data.provenance[part].items() if k != "path"} for part in list(data.provenance)[2:]
        }

    assert told(load_data(str(write(tmp_path / "here")))) == told(load_data(str(write(tmp_path / "there"))))
