"""JSON from files that anybody may have written: a value within bounds, or one ValueError."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from convatlas.files import plain
from convatlas.files.plain import DEEPEST, from_json, read_json, utf8


@pytest.mark.parametrize("value", [None, 0, -(10**39), 1.5, "ü", [], {}, {"a": [1, {"b": [None]}]}])
def test_what_is_written_is_read(value: object) -> None:
    assert from_json(json.dumps(value)) == value
    assert from_json(json.dumps(value, ensure_ascii=False).encode()) == value
    assert from_json(b"\xef\xbb\xbf" + json.dumps(value).encode()) == value  # as Windows' editors save it


@pytest.mark.parametrize(("open", "close"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_is_bounded_before_anything_recurses(open: str, close: str) -> None:
    nested = lambda n: open * n + "1" + close * n  # noqa: E731
    each = open.count("[") + open.count("{")
    assert from_json(nested((DEEPEST - 1) // each)) is not None
    for n in (DEEPEST // each, 900, 500_000):
        with pytest.raises(ValueError, match="nested too deep"):
            from_json(nested(n))
    with pytest.raises(ValueError, match=r".+"):
        from_json(open * 500_000)


@pytest.mark.parametrize("text", ["9" * 41, f"[{'9' * 4000}]", f'{{"a": -{"9" * 400}}}', "9" * 100_000])
def test_numbers_are_bounded(text: str) -> None:
    with pytest.raises(ValueError, match="digits"):
        from_json(text)


@pytest.mark.parametrize("content", [b"", b"\xff", b'"\xed\xb0\x80"', "ü".encode("utf-16"), b"{", b"'a'", b"[1,]"])
def test_what_is_not_json_in_utf_8_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        from_json(content)


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}
    monkeypatch.setattr(plain, "LARGEST", 8)
    assert read_json(path) == {"a": 1}
    path.write_text('{"a": 10}')
    with pytest.raises(ValueError, match="more than 8 bytes"):
        read_json(path)
    os.mkfifo(tmp_path / "pipe")
    for other in (tmp_path, tmp_path / "pipe", tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(ValueError, match="not a file"):
            read_json(other)


def test_names_that_are_not_utf_8_come_back_from_json() -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x99\x82")
    for ascii_only in (True, False):
        written = utf8(json.dumps({name: name}, ensure_ascii=ascii_only))
        assert from_json(written.decode("utf-8")) == {name: name}
    assert utf8("é\n") == "é\n".encode()
