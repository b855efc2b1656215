"""The cache: what was used longest ago goes first."""

import os
from pathlib import Path

from convatlas.files.cache import used


def write(folder: Path, name: str, size: int, at: int) -> Path:
    file = folder / name
    file.write_bytes(bytes(size))
    os.utime(file, (at, at))
    return file


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    for name, size, at in [("a.onnx", 40, 3), ("b.xml", 1, 1), ("b.bin", 30, 5), ("c.onnx", 30, 4)]:
        write(tmp_path, name, size, at)
    (tmp_path / "folder").mkdir()
    new = write(tmp_path, "new.onnx", 10, 0)
    assert used(new, 111) == new
    assert len(list(tmp_path.iterdir())) == 6
    used(new, 71)
    assert {file.name for file in tmp_path.iterdir()} == {"b.xml", "b.bin", "c.onnx", "new.onnx", "folder"}
    used(tmp_path / "c.onnx", 41)  # c is the newest now, and b, a pair, the oldest
    assert {file.name for file in tmp_path.iterdir()} == {"c.onnx", "new.onnx", "folder"}
    used(tmp_path / "c.onnx", 1)  # larger than all may be, and kept: it is in use
    assert {file.name for file in tmp_path.iterdir()} == {"c.onnx", "folder"}


def test_a_file_that_is_not_there_is_left_to_its_reader(tmp_path: Path) -> None:
    assert used(tmp_path / "gone.onnx", 1) == tmp_path / "gone.onnx"
