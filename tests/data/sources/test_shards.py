"""Members of shards: which sample each belongs to, which of them are read, and what belongs to none is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.data.sources import load_data
from convatlas.data.sources.shards import index, sample_of
from convatlas.errors import UserError
from tests.data.sources.written import jpeg, sample, tar

WEBDATASET = re.compile(r"^((?:.*/|)[^.]+)[.]([^/]*)$")  # its base_plus_ext


@given(st.lists(st.text("aB.é 2", min_size=1, max_size=6), min_size=1, max_size=3))
def test_a_member_belongs_to_the_sample_that_webdataset_says(parts: list[str]) -> None:
    name = "/".join(part for part in parts if part.strip(".")) or "a"
    theirs = WEBDATASET.match(name)
    key, suffix = sample_of(name, Path("x.tar"))
    if name.split("/")[-1].startswith("."):  # hidden: WebDataset would take the folder's name for the sample's
        assert key is None
    elif theirs:
        assert key == theirs[1]
        assert suffix == f".{theirs[2].split('.')[-1].lower()}"
    else:
        assert suffix == "."  # it has none


def members(*names: str) -> list[tuple[str, bytes]]:
    return [(name, jpeg(3) if name.lower().endswith((".jpg", ".png")) else b"1") for name in names]


@pytest.mark.parametrize(
    ("names", "image"),
    [
        (["22.05.jpg", "22.05.cls"], "22.05.jpg"),
        (["22.05.jpg", "22.cls"], "22.05.jpg"),
        (["22.jpg", "22.05.cls"], "22.jpg"),
        (["22.jpg", "22.score.json", "22.json", "22.cls", "22.part.cls"], "22.jpg"),
        (["a.b/22.05.IMG.JPG", "a.b/22.CLS"], "a.b/22.05.IMG.JPG"),
        (["22.cls", "22.jpg", "README.txt", "info.json", "._22.jpg", "__MACOSX/._22.jpg", "22.tiff"], "22.jpg"),
    ],
)
def test_every_image_is_used(tmp_path: Path, names: list[str], image: str) -> None:
    tar(tmp_path / "x.tar", members(*names))
    (found,) = index(tmp_path / "x.tar")
    assert (found.name, found.label) == (image, 1)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["22.05.jpg", "22.06.jpg", "22.cls"],
            r"x\.tar has 22\.05\.jpg and 22\.06\.jpg for one sample, 22, as its name",
        ),
        (["22.jpg", "22.mask.png", "22.cls"], r"has 22\.jpg and 22\.mask\.png for one sample"),
        (["22.jpg", "22.a.cls", "22.b.cls"], r"has 22\.a\.cls and 22\.b\.cls for one sample"),
        (
            [".22.jpg", "22.cls"],
            r"x\.tar: \.22\.jpg has no name before its first dot, so belongs to no sample; rename it",
        ),
        (["22.jpg", "22.cls", "23.cls"], r"x\.tar has no image for 23\.cls; add a 23\.jpg"),
        (["22.jpg", "22.cls", "23.tif", "23.cls"], r"x\.tar has no image for 23\.(tif|cls); add a 23\.jpg"),
        (["22.jpg", "22.cls", "23.heic"], r"x\.tar has no image for 23\.heic"),
        ([], r"x\.tar holds no images; remove it"),
        (["README.txt"], r"x\.tar holds no images; remove it"),
    ],
)
def test_what_belongs_to_no_sample_is_named(tmp_path: Path, names: list[str], message: str) -> None:
    tar(tmp_path / "x.tar", members(*names))
    with pytest.raises(UserError, match=message):
        index(tmp_path / "x.tar")


BROKEN = {"json": b"{broken", "txt": b"\xff\xfe\n\n", "cls": b"two\nlines"}


def test_of_several_labels_only_the_first_kind_is_parsed(tmp_path: Path) -> None:
    order = ["cls", "json", "txt"]
    for at, chosen in enumerate(order):
        good = dict(sample(1, 7, chosen))
        others = {f"0001.{kind}": BROKEN[kind] for kind in order[at + 1 :]}
        for its in ({**good, **others}, {**others, **good}):
            tar(tmp_path / "x.tar", list(its.items()))
            assert index(tmp_path / "x.tar")[0].label == 7
        tar(tmp_path / "x.tar", [("0001.jpg", jpeg(1)), (f"0001.{chosen}", BROKEN[chosen]), *others.items()])
        with pytest.raises(UserError, match=rf"0001\.{chosen} does not give a class"):
            index(tmp_path / "x.tar")


def test_an_empty_validation_shard_is_found_before_training(tmp_path: Path) -> None:
    tar(tmp_path / "train.tar", [m for i in range(6) for m in sample(i, i % 2)])
    tar(tmp_path / "val-0.tar", sample(7, 1))
    tar(tmp_path / "val-1.tar", [])
    with pytest.raises(UserError, match=r"val-1\.tar holds no images; remove it, or make it again"):
        load_data(f"shards:{tmp_path}")
