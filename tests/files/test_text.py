"""Text that users wrote: any line ends, with or without a byte order mark; names that only look alike."""

import os
import unicodedata
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.files.text import forms, read_lines, read_text, twins


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_end_as_on_any_system_and_nowhere_else(tmp_path: Path, mark: bytes, end: bytes) -> None:
    lines = ["é", "", "a\u2028b", "c\x85d", "e\x0bf\x0cg", "\ufeffh", ""]
    (tmp_path / "x").write_bytes(mark + end.join(line.encode() for line in lines))
    assert read_lines(tmp_path / "x", 99) == lines


@pytest.mark.parametrize("content", [b"\xff\xfea\0", b"\xfe\xff\0a", b"caf\xe9", "a".encode("utf-16"), b"\x80"])
def test_other_encodings_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "here").write_bytes(content)
    with pytest.raises(UserError, match=r"here is not UTF-8 text; save it as UTF-8$"):
        read_text(tmp_path / "here", 99)


def test_a_pipe_and_too_long_a_text_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe is a pipe; give a text file"):
        read_text(tmp_path / "pipe", 99)
    (tmp_path / "x").write_text("x" * 100)
    with pytest.raises(UserError, match="x has 100 bytes, more than the 99 that it may have"):
        read_text(tmp_path / "x", 99)


def test_twins() -> None:
    one, other = "caf\u00e9", "cafe\u0301"
    assert unicodedata.normalize("NFC", other) == one
    assert twins([one, "cafe", other]) == (one, other)
    assert twins([one, "cafe", one, "Caf\u00e9"]) is None
    assert forms(one, other) == r"'caf\xe9' and 'cafe\u0301'"
