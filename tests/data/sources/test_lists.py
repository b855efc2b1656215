"""Lists of images as people write them: no line is lost, and none is read as something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from convatlas.data.check.scan import scan
from convatlas.data.sources import load_data, recognised
from convatlas.errors import UserError
from tests.data.sources.written import jpeg, sample, tar

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"
MARK = b"\xef\xbb\xbf"


def put(folder: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(jpeg(i))
    return folder


def write(folder: Path, text: str | bytes, val: str = "held/a.jpg 0\nheld/b.jpg 1\n") -> Path:
    """`text` as train.txt."""
    put(folder, "a.jpg", "b.jpg", "held/a.jpg", "held/b.jpg")
    (folder / "train.txt").write_bytes(text.encode() if isinstance(text, str) else text)
    (folder / "val.txt").write_text(val, encoding="utf-8")
    return folder


def train(folder: Path) -> list[tuple[str, str]]:
    split = load_data(f"list:{folder}").train
    return [(split.key(i), split.classes[int(label)]) for i, label in enumerate(split.labels)]


TWO = [("a.jpg", "0"), ("b.jpg", "1")]


@pytest.mark.parametrize("mark", [b"", MARK])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("last", [True, False])
def test_byte_order_marks_and_line_ends(tmp_path: Path, mark: bytes, end: str, last: bool) -> None:
    text = f"a.jpg 0{end}{end}  {end}b.jpg 1{end if last else ''}"
    write(tmp_path, mark + text.encode())
    (tmp_path / "classes.txt").write_bytes(mark + f"cat{end}dog{end}{end}".encode())
    assert recognised(str(tmp_path))[0] == "list"
    assert train(tmp_path) == [("a.jpg", "cat"), ("b.jpg", "dog")]


def test_images_whose_names_begin_with_a_number_sign(tmp_path: Path) -> None:
    put(tmp_path, "#1.jpg", "#2/3.jpg", "# a b.jpg")
    text = "# remark\n#\n#no image either\n#1.jpg 0\n  #2/3.jpg 1\na.jpg 0\nb.jpg 1\n# a b.jpg\t1\n"
    assert train(write(tmp_path, text)) == [("#1.jpg", "0"), ("#2/3.jpg", "1"), *TWO, ("# a b.jpg", "1")]
    assert load_data(str(tmp_path)).notes == ()


def test_remarks_that_look_like_images_are_said(tmp_path: Path) -> None:
    write(tmp_path, "# remark\na.jpg 0\n#gone.jpg 1\nb.jpg 1\n# a.jpg\t1\n")
    data = load_data(str(tmp_path))
    where = f"{tmp_path}/train.txt, line 3"
    said = f"{where} begins with # and names no file: '#gone.jpg' is taken for a remark (and 1 more such lines)"
    assert data.notes == (said,)
    assert [it.text for it in scan(str(tmp_path)).findings if it.kind == "odd"] == [said]
    assert len(data.train) == 2


def test_images_listed_twice_are_said(tmp_path: Path) -> None:
    put(tmp_path, "c.jpg")
    data = load_data(str(write(tmp_path, "a.jpg 0\nb.jpg 1\na.jpg 1\n", "b.jpg 1\nc.jpg 0\n")))
    assert data.notes == ("'a.jpg' (and 1 more) is listed more than once",)
    assert data.train.labels.tolist() == [0, 1, 1]


@pytest.mark.parametrize("name", ["a\u2028b.jpg", "a\x85b.jpg", "a\x0cb.jpg", "a\x1cb.jpg"])
def test_names_with_what_python_takes_for_line_ends(tmp_path: Path, name: str) -> None:
    put(tmp_path, name)
    assert train(write(tmp_path, f"a.jpg 0\n{name} 1\n")) == [("a.jpg", "0"), (name, "1")]


@pytest.mark.parametrize("label", ["-1", "+1", "-1.0", "-0", "1" * 16, "1" * 400])
@pytest.mark.parametrize("space", [" ", "\t"])
def test_a_label_that_is_no_class_is_named_by_its_line(tmp_path: Path, label: str, space: str) -> None:
    with pytest.raises(UserError, match=r"train\.txt, line 2: '.{2,40}' is not a class; give numbers"):
        train(write(tmp_path, f"a.jpg 0\nb.jpg{space}{label}\n"))


@pytest.mark.parametrize(("listed", "there"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
@pytest.mark.parametrize("path", ["{}.jpg", "{}/1.jpg", "x/{}/{}.jpg", "x/{}/1.jpg"])
def test_a_file_named_in_another_unicode_form(tmp_path: Path, listed: str, there: str, path: str) -> None:
    put(tmp_path, path.format(there, there))
    write(tmp_path, f"a.jpg 0\nb.jpg 1\n{path.format(listed, listed)} 1\n")
    with pytest.raises(
        UserError, match=r"train\.txt, line 3 names '.*', which .* has in another Unicode form: '"
    ) as said:
        load_data(f"list:{tmp_path}")
    assert ascii(listed)[1:-1] in str(said.value)
    assert ascii(there)[1:-1] in str(said.value)
    put(tmp_path, path.format(listed, listed))  # now there are both
    assert train(tmp_path)[2] == (path.format(listed, listed), "1")


def test_labels_in_two_unicode_forms(tmp_path: Path) -> None:
    message = r"has two classes whose names differ only in their Unicode form, 'caf.*' and 'caf.*'; write the name"
    with pytest.raises(UserError, match=message):
        train(write(tmp_path / "labels", f"a.jpg\t{COMPOSED}\nb.jpg\t{DECOMPOSED}\n", f"held/a.jpg\t{COMPOSED}\n"))
    write(tmp_path / "names", f"a.jpg\t{DECOMPOSED}\nb.jpg\tx\n", "held/b.jpg\tx\n")
    (tmp_path / "names/classes.txt").write_text(f"{COMPOSED}\nx\n", encoding="utf-8")
    with pytest.raises(UserError, match=message):
        train(tmp_path / "names")
    (tmp_path / "names/classes.txt").write_text(f"{COMPOSED}\n{DECOMPOSED}\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"names/classes\.txt {message}"):
        train(tmp_path / "names")
    tar(tmp_path / "shards/train.tar", [*sample(1, COMPOSED), *sample(2, DECOMPOSED)])
    tar(tmp_path / "shards/val.tar", sample(1, COMPOSED))
    with pytest.raises(UserError, match=message):
        load_data(str(tmp_path / "shards"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cat\ndog\ncat\n", r"classes\.txt names 'cat' in line 1 and in line 3; give each class its own name"),
        (b" cat\ncat \n", r"classes\.txt names 'cat' in line 1 and in line 2"),
        (b"cat\n\ndog\n", r"classes\.txt, line 2 is empty; write one class per line, in the order"),
        (b"\ncat\ndog\n", r"classes\.txt, line 1 is empty"),
        (b"", r"classes\.txt names no classes; write one class per line, or remove it"),
        (b"\xef\xbb\xbf\n\n", r"classes\.txt names no classes"),
        (b"caf\xe9\ndog\n", r"classes\.txt is not UTF-8 text; save it as UTF-8"),
        ("cat\ndog\n".encode("utf-16"), r"classes\.txt is not UTF-8 text"),
    ],
)
def test_class_names_that_are_not_right_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (write(tmp_path, "a.jpg 0\nb.jpg 1\n") / "classes.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_data(str(tmp_path))


def test_a_dangling_link_is_no_missing_list(tmp_path: Path) -> None:
    write(tmp_path, "a.jpg 0\nb.jpg 1\n")
    for name in ("classes.txt", "test.txt"):
        (tmp_path / name).symlink_to("gone")
        with pytest.raises(UserError, match=rf"{name} cannot be read \(No such file"):
            load_data(str(tmp_path))
        (tmp_path / name).unlink()


@pytest.mark.parametrize("content", [b"a.jpg 0\nb.jpg caf\xe9\n", "a.jpg 0\n".encode("utf-16")])
@pytest.mark.parametrize("prefix", ["list:", ""])
def test_a_list_that_is_not_utf_8(tmp_path: Path, content: bytes, prefix: str) -> None:
    shutil.rmtree(write(tmp_path, content) / "held")  # else it is taken for a folder of classes
    with pytest.raises(UserError, match=r"train\.txt is not UTF-8 text; save it as UTF-8"):
        load_data(f"{prefix}{tmp_path}")


def test_a_list_is_recognised_by_any_of_its_files(tmp_path: Path) -> None:
    write(tmp_path, "gone.jpg 0\na.jpg 0\nb.jpg 1\n")
    put(tmp_path, "train/x/1.jpg", "train/y/1.jpg", "val/x/1.jpg", "val/y/1.jpg")  # a folder of classes, too
    with pytest.raises(UserError, match=r"gone\.jpg cannot be read"):
        load_data(str(tmp_path))


def test_what_is_read_is_what_was_listed(tmp_path: Path) -> None:
    """The pixels behind a byte order mark, a number sign and an accent are those of the files."""
    put(tmp_path, "#1.jpg", f"{COMPOSED}.jpg")
    write(tmp_path, MARK + f"#1.jpg 0\n{COMPOSED}.jpg 1\n".encode())
    data = load_data(str(tmp_path))
    assert [Path(data.train.where(i)).read_bytes() for i in range(2)] == [jpeg(0), jpeg(1)]
    assert torch.equal(data.train.labels, torch.tensor([0, 1]))
