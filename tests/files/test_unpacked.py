"""Archives given as data: unpacked once, and not taken for others that lie in their place."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest

from convatlas.data.sources import load_data
from convatlas.errors import UserError
from convatlas.files import unpacked
from tests.data.sources.sets import CLASSES, IMAGES, write


def zipped(at: Path, classes: list[int] = CLASSES) -> Path:
    """data.zip, of stored files: whichever the classes, it has the same size."""
    place = write("list", at / "original", IMAGES, classes)
    with zipfile.ZipFile(at / "data.zip", "w") as archive:
        for file in sorted(place.rglob("*")):
            archive.write(file, file.relative_to(place))
    shutil.rmtree(place)
    return at / "data.zip"


def test_an_archive_is_unpacked_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path)
    assert load_data(str(archive)).train.labels.tolist() == CLASSES
    monkeypatch.setattr(unpacked, "unpack", lambda *_: pytest.fail("unpacked again"))
    monkeypatch.setattr(unpacked, "sha256", lambda *_: pytest.fail("read again"))
    assert load_data(str(archive)).train.labels.tolist() == CLASSES
    assert load_data(str(tmp_path / "data")).train.labels.tolist() == CLASSES


def test_a_copy_of_the_archive_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_data(str(zipped(tmp_path)))
    shutil.copytree(tmp_path, tmp_path / "elsewhere")
    os.utime(tmp_path / "elsewhere" / "data.zip", (1, 1))
    monkeypatch.setattr(unpacked, "unpack", lambda *_: pytest.fail("unpacked again"))
    load_data(str(tmp_path / "elsewhere" / "data.zip"))


@pytest.mark.parametrize("dated", [True, False])
def test_another_archive_of_the_same_size_is_refused(tmp_path: Path, dated: bool) -> None:
    archive = zipped(tmp_path)
    before = archive.stat()
    load_data(str(archive))
    assert zipped(tmp_path, [1, 0, *CLASSES[2:]]).stat().st_size == before.st_size
    if dated:
        os.utime(archive, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(
        UserError, match=r"data\.zip is not the archive that .*data was unpacked from; give .*, or remove"
    ):
        load_data(str(archive))
    shutil.rmtree(tmp_path / "data")
    assert load_data(str(archive)).train.labels.tolist() == [1, 0, *CLASSES[2:]]


@pytest.mark.parametrize("record", [None, "", "[]", "{}", '{"bytes": 1}'])
def test_a_folder_of_unknown_origin_is_not_taken_for_the_archive(tmp_path: Path, record: str | None) -> None:
    archive = zipped(tmp_path)
    write("list", tmp_path / "data")
    if record is not None:
        (tmp_path / "data" / unpacked.RECORD).write_text(record)
    with pytest.raises(
        UserError, match=r"data lies beside .*data\.zip, but was not unpacked from it by convatlas; give"
    ):
        load_data(str(archive))
    assert load_data(str(tmp_path / "data")).train.labels.tolist() == CLASSES
