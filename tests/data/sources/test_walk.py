"""What is found in a folder: everything at any depth, through links, once; what cannot be followed is named."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from convatlas.cli import main
from convatlas.data.check.scan import scan
from convatlas.data.sources import load_data
from convatlas.data.sources.walk import LITTER, Walk, is_litter
from convatlas.doctor import examine
from convatlas.errors import UserError
from convatlas.evaluation.predictions import image_files
from tests.data.sources.written import jpeg, sample, tar

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def put(path: Path, i: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(i))
    return path


def write_set(folder: Path) -> Path:
    """Two classes, of which "b" has images in a sub-folder; train/ and val/."""
    for n, place in enumerate(("train/a", "train/b", "train/b/inner", "val/a", "val/b")):
        for i in range(3):
            put(folder / place / f"{i}.jpg", 10 * n + i)
    return folder


def names(folder: Path) -> dict[str, list[str]]:
    data = load_data(f"folder:{folder}")
    return {split.name: [split.key(i) for i in range(len(split))] for split in data.splits}


def link(at: Path, to: Path | str) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(to)


def refused(folder: Path, message: str) -> None:
    """By everything that looks for images in a folder, in one line."""
    for use in (load_data, scan):
        with pytest.raises(UserError, match=message) as caught:
            use(f"folder:{folder}")
        assert "\n" not in str(caught.value)
    told = "\n".join(finding.what for finding in examine(folder).findings)
    assert not examine(folder).intact, told
    assert any(map(str.startswith, [told], [str(folder)])), told


# links


def test_links_to_folders_and_files_are_followed_at_every_level(tmp_path: Path) -> None:
    plain = names(write_set(tmp_path / "plain"))
    write_set(tmp_path / "set")
    real = write_set(tmp_path / "real")
    for place in ("val", "train/a", "train/b/inner", "train/b/0.jpg"):
        target = tmp_path / "set" / place
        shutil.rmtree(target) if target.is_dir() else target.unlink()
        link(target, real / place)
    assert names(tmp_path / "set") == plain
    assert sum(map(len, plain.values())) == 15


def test_a_linked_folder_inside_a_class_is_part_of_it(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    for i in range(7):
        put(tmp_path / f"elsewhere/deep/{i}.jpg", 50 + i)
    link(tmp_path / "set/train/a/more", "../../../elsewhere")
    assert len(names(tmp_path / "set")["train"]) == 9 + 7
    assert scan(str(tmp_path / "set"), min_side=1).images == 15 + 7
    assert any(it.what.startswith("22 of 22 files") for it in examine(tmp_path / "set").findings)
    assert len(image_files(tmp_path / "set")) == 22
    assert main(["data", "pack", str(tmp_path / "set"), "--out", str(tmp_path / "packed")]) == 0
    assert len(load_data(str(tmp_path / "packed")).train) == 16


def test_a_file_may_be_linked_more_than_once(tmp_path: Path) -> None:
    write_set(tmp_path)
    link(tmp_path / "train/a/again.jpg", "0.jpg")
    assert "train/a/again.jpg" in names(tmp_path)["train"]


LEVELS = ("", "train", "train/b", "train/b/inner")


@pytest.mark.parametrize("to", [".", *LEVELS[1:]])
@pytest.mark.parametrize("at", LEVELS)
def test_a_folder_found_twice_is_refused_whether_in_a_circle_or_not(tmp_path: Path, at: str, to: str) -> None:
    write_set(tmp_path)
    link(tmp_path / at / "link", tmp_path / to)
    same = f"{tmp_path / to} is the same folder as|is the same folder as {tmp_path / to}"
    if at == "" and to != ".":  # beside train/, where it is not used
        assert load_data(str(tmp_path)).notes[0].startswith(f"{tmp_path}/link is not used: it is neither train/")
        return
    if at == "":
        assert len(names(tmp_path)["train"]) == 9
        return
    refused(tmp_path, f"{same}.*; remove the link, or copy what it points to")
    with pytest.raises(UserError, match=same):
        image_files(tmp_path)


@pytest.mark.parametrize(
    ("first", "second"), [("train/a/x", "train/a/y"), ("train/a/x", "train/b/x"), ("train/a", "val/a")]
)
def test_two_links_to_one_folder_are_refused(tmp_path: Path, first: str, second: str) -> None:
    write_set(tmp_path / "set")
    put(tmp_path / "elsewhere/9.jpg", 99)
    for place in (first, second):
        if (tmp_path / "set" / place).is_dir():
            shutil.rmtree(tmp_path / "set" / place)
        link(tmp_path / "set" / place, tmp_path / "elsewhere")
    refused(tmp_path / "set", rf"{second} is the same folder as .*{first}; remove the link")


def test_doubling_links_cost_nothing(tmp_path: Path) -> None:
    """Each folder is linked twice from the one before: 2^40 paths."""
    write_set(tmp_path / "set")
    at = tmp_path / "set/train/a"
    for n in range(40):
        there = tmp_path / f"level{n}"
        there.mkdir()
        for name in ("x", "y"):
            link(at / name, there)
        at = there
    refused(tmp_path / "set", "is the same folder as")


@pytest.mark.parametrize("to", ["gone", "self"])
@pytest.mark.parametrize("at", ["", "train", "val"])
def test_a_dangling_link_beside_folders_is_refused(tmp_path: Path, at: str, to: str) -> None:
    write_set(tmp_path)
    link(tmp_path / at / "self", to)
    refused(tmp_path, rf"{at}/self is a link to nothing; mend it or remove it")


def test_a_split_that_is_a_dangling_link_is_refused(tmp_path: Path) -> None:
    shutil.copytree(write_set(tmp_path) / "val", tmp_path / "test")
    for name in ("val", "train"):
        shutil.move(tmp_path / name, tmp_path / f"its {name}")
        link(tmp_path / name, "gone")
        with pytest.raises(UserError, match=rf"{name} is a link to nothing"):
            load_data(f"folder:{tmp_path}")
        (tmp_path / name).unlink()
        shutil.move(tmp_path / f"its {name}", tmp_path / name)


@pytest.mark.parametrize("to", ["gone", "bad.jpg"])
@pytest.mark.parametrize("at", ["train/a", "train/b/inner", "val/b"])
def test_a_dangling_link_inside_a_class_is_a_bad_file(tmp_path: Path, at: str, to: str) -> None:
    write_set(tmp_path)
    link(tmp_path / at / "bad.jpg", to)
    with pytest.raises(UserError, match=r"bad\.jpg cannot be read \("):
        load_data(str(tmp_path))
    (file, reason) = load_data(str(tmp_path), bad="skip").skipped[0]
    assert file == str(tmp_path / at / "bad.jpg")
    assert "cannot be read" in reason
    assert [found.files for found in scan(str(tmp_path), min_side=1).findings if found.kind == "bad"] == [(file,)]
    assert not examine(tmp_path).intact


# what cannot be listed


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("at", ["", "train", "val", "train/a", "train/b/inner"])
def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, at: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path)
    listed = os.scandir

    def scandir(path: Path) -> object:
        if Path(path) == tmp_path / at:
            raise OSError(code, os.strerror(code), str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    refused(tmp_path, rf"{tmp_path / at} cannot be read \({os.strerror(code)}\)")
    with pytest.raises(UserError, match="cannot be read"):
        image_files(tmp_path)
    with pytest.raises(UserError, match=r"cannot be read \("):
        load_data(str(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    (write_set(tmp_path) / "train/b/inner").chmod(0)
    refused(tmp_path, r"inner cannot be read \(Permission denied\)")
    (tmp_path / "train/b/inner").chmod(0o700)


def test_deep_folders_are_found(tmp_path: Path) -> None:
    """Deeper than Python recurses by default."""
    at, here = f"{tmp_path}/x{'/d' * 1050}", tmp_path / "x"
    here.mkdir()
    try:
        inside = os.open(here, os.O_RDONLY)
        for _ in range(1050):
            os.mkdir("d", dir_fd=inside)
            outside, inside = inside, os.open("d", os.O_RDONLY, dir_fd=inside)
            os.close(outside)
        os.close(os.open("x.jpg", os.O_CREAT, dir_fd=inside))
        os.close(inside)
        found = [str(file) for file in Walk().files(tmp_path)]
    finally:
        subprocess.run(["rm", "-rf", here], check=True)  # too deep for pytest
    assert found == [f"{at}/x.jpg"]


# litter, and what is beside the folders


@pytest.mark.parametrize("as_folders", [False, True])
@pytest.mark.parametrize("at", ["", "train", "train/a", "train/b/inner"])
def test_litter_is_left_out_at_every_level(tmp_path: Path, at: str, as_folders: bool) -> None:
    plain = names(write_set(tmp_path))
    for name in (*LITTER, "@eaDir", "__MACOSX", "Thumbs.db", "Desktop.ini", ".DS_Store", "._0.jpg", ".cache"):
        put(tmp_path / at / name / "0.jpg/SYNOPHOTO_THUMB_M.jpg" if as_folders else tmp_path / at / name)
    assert names(tmp_path) == plain
    assert load_data(str(tmp_path)).notes == ()
    assert len(image_files(tmp_path)) == 15
    assert scan(str(tmp_path), min_side=1).images == 15
    assert examine(tmp_path).findings[0].what == "15 of 15 files are intact images"


def test_names_like_litter_are_not() -> None:
    for name in ("thumbs", "eaDir", "MACOSX", "a.db", "Icon", "desktop.ini.jpg", "lost", "~a.jpg", "_a.jpg"):
        assert not is_litter(name)


def test_litter_among_shards_is_left_out(tmp_path: Path) -> None:
    for part in ("train", "val"):
        tar(tmp_path / f"{part}-0.tar", [m for i in range(4) for m in sample(i, i % 2)])
        (tmp_path / "@eaDir").mkdir(exist_ok=True)
        (tmp_path / "@eaDir" / f"{part}-0.tar").write_bytes(b"no archive")
    link(tmp_path / "more", tmp_path.parent / "more shards")
    tar(tmp_path.parent / "more shards/train-9.tar", [m for i in range(4) for m in sample(i + 9, i % 2)])
    assert len(load_data(str(tmp_path)).train) == 8
    shutil.rmtree(tmp_path.parent / "more shards")


def test_images_and_folders_that_are_not_used_are_said(tmp_path: Path) -> None:
    write_set(tmp_path)
    for name in ("loose.jpg", "train/loose.tif", "train/README.txt", "more/c/0.jpg", "unlabelled/0.jpg"):
        put(tmp_path / name)
    said = (
        f"{tmp_path}/loose.jpg (and 1 more) is not used: it is in no class folder",
        f"{tmp_path}/more (and 1 more) is not used: it is neither train/, val/ nor test/",
    )
    assert load_data(str(tmp_path)).notes == said
    assert [it.what for it in examine(tmp_path).findings][-2:] == list(said)
    assert [it.text for it in scan(str(tmp_path), min_side=1).findings if it.kind == "odd"] == list(said)
    put(tmp_path / "train/c.jpg")
    alone = f"{tmp_path}/train/c.jpg (and 1 more) is not used: it is in no class folder"
    assert load_data(f"folder:{tmp_path}/train").notes == (alone,)


def test_a_folder_is_recognised_behind_other_files(tmp_path: Path) -> None:
    write_set(tmp_path)
    for place in ("train/a", "train/b", "val/a", "val/b"):
        (tmp_path / place / "!notes.txt").write_text("no image")
    with pytest.raises(UserError, match=r"!notes\.txt is not a JPEG"):
        load_data(str(tmp_path))


@pytest.mark.parametrize("place", ["Train", "TRAIN", "test"])
def test_splits_without_one_to_train_on_are_no_classes(tmp_path: Path, place: str) -> None:
    (write_set(tmp_path) / "train").rename(tmp_path / place)
    refused(tmp_path, rf"has {min('val', place)}/ and {max('val', place)}/ but no train/; name the folder of training")


def test_a_split_under_two_names_is_refused(tmp_path: Path) -> None:
    shutil.copytree(write_set(tmp_path) / "val", tmp_path / "valid")
    refused(tmp_path, "has both val/ and valid/; merge them, or remove one")


def test_predict_names_images_of_other_formats(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.TIF", "c.heic", "d.txt"):
        put(tmp_path / name)
    assert [file.name for file in image_files(tmp_path)] == ["a.jpg", "b.TIF", "c.heic"]


# names in two Unicode forms


def test_twin_classes_are_refused(tmp_path: Path) -> None:
    message = r"two classes whose names differ only in their Unicode form, '.*' and '.*'; write the name in one form"
    write_set(tmp_path)
    put(tmp_path / "train" / COMPOSED / "0.jpg", 1)
    put(tmp_path / "val" / DECOMPOSED / "0.jpg", 2)
    refused(tmp_path, message)
    (tmp_path / "val" / DECOMPOSED).rename(tmp_path / "val" / COMPOSED)
    assert len(load_data(str(tmp_path)).classes) == 3
    put(tmp_path / "train" / DECOMPOSED / "0.jpg", 3)
    refused(tmp_path, message)


def test_twin_files_are_said(tmp_path: Path) -> None:
    write_set(tmp_path)
    for name in (COMPOSED, DECOMPOSED):
        put(tmp_path / f"train/a/{name}.jpg", len(name))
    (note,) = load_data(str(tmp_path)).notes
    assert note.startswith("two files have names that differ only in their Unicode form, '")
    assert r"caf\xe9.jpg' and" in note or r"caf\xe9.jpg'; both" in note
    assert len(names(tmp_path)["train"]) == 11


# against another implementation


def tree(root: Path, g: random.Random) -> None:
    """Folders, files and links at random; some links lead in circles, to nothing, or twice to one place."""
    folders = [root]
    root.mkdir()
    for n in range(g.randrange(5, 20)):
        at, kind = g.choice(folders), g.choice(["folder", "folder", "file", "file", "file", "file", "link"])
        name = str(n)
        if kind == "folder":
            (at / name).mkdir()
            folders.append(at / name)
        elif kind == "file":
            (at / name).write_text("x")
        else:
            link(at / name, g.choice([*folders, root.parent / "gone", root.parent / "there"]))


def found_by_find(root: Path, kind: str) -> tuple[list[str], bool]:
    """What GNU find says, following links; and whether it met a circle."""
    command = ["find", "-L", root, *kind.split(), "-print0"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    return sorted(done.stdout.split("\0")[:-1]), "loop" in done.stderr


def agree(folder: Path, seed: int) -> bool:
    """Whether everything is found that `find` finds; or refused, if it found a folder twice. True for the former."""
    shutil.rmtree(folder, ignore_errors=True)
    put(folder / "there/deep/y")
    put(folder / "there/x")
    tree(folder / "root", random.Random(seed))
    files, circle = found_by_find(folder / "root", "! -type d")
    folders, _ = found_by_find(folder / "root", "-type d")
    if circle or len({os.path.realpath(it) for it in folders}) < len(folders):
        with pytest.raises(UserError, match="is the same folder as"):
            list(Walk().files(folder / "root"))
        return False
    assert sorted(map(str, Walk().files(folder / "root"))) == files, seed
    return True


@pytest.mark.skipif(shutil.which("find") is None, reason="there is no find")
def test_random_trees_against_find(tmp_path: Path) -> None:
    found = [agree(tmp_path / "x", seed) for seed in range(40)]
    assert 10 < sum(found) < 30


@pytest.mark.faults
@pytest.mark.skipif(shutil.which("find") is None, reason="there is no find")
def test_a_thousand_random_trees_against_find(tmp_path: Path) -> None:
    found = [agree(tmp_path / "x", seed) for seed in range(1000)]
    assert 250 < sum(found) < 750
