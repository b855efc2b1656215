"""What is done about broken files in an image folder: fail, skip, quarantine; nothing silently."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from convatlas.cli import main
from convatlas.data.check.bad import Bad, Policy, quarantine
from convatlas.data.normalise import preprocess_for
from convatlas.data.sources import load_data
from convatlas.errors import Unreadable, UserError
from convatlas.runs.folder import open_run

TRAIN = ["--recipe", "resnet_cifar", "--epochs", "1", "--set", "batch=8", "--input", "3x8x8", "--device", "cpu"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve good files; one with a good header whose pixels are cut off; one that is text; and a pipe."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for i in range(12):
        place = folder / ("ants", "bees")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 12, 3), np.uint8)).save(place / f"{i:02}.png")
    whole = (folder / "ants" / "00.png").read_bytes()
    (folder / "ants" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "bees" / "notes.jpg").write_text("no image")
    os.mkfifo(folder / "bees" / "pipe.png")
    return folder


BAD = ["ants/cut.png", "bees/notes.jpg", "bees/pipe.png"]


def files(folder: Path) -> list[str]:
    return sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if not f.is_dir())


def test_fail_is_the_default_and_names_the_first(photos: Path) -> None:
    for more in ({}, {"bad": "fail"}):
        with pytest.raises(UserError, match=r"notes\.jpg is not a JPEG.* \(1 more bad files\)"):
            load_data(str(photos), **more)
    for name in BAD[1:]:
        (photos / name).unlink()

    def read_all() -> None:
        data = load_data(str(photos))
        for split in (data.train, data.test):
            split.fetch(range(len(split)), preprocess_for(data, (3, 8, 8)))

    with pytest.raises(UserError, match=r"cut\.png is a broken image"):  # its header is whole: met when it is decoded
        read_all()


def test_skip_leaves_them_out_and_lists_them(photos: Path) -> None:
    before = files(photos)
    data = load_data(str(photos), bad="skip", val=0)
    assert [Path(file).relative_to(photos).as_posix() for file, _ in data.skipped] == BAD
    assert all(reason.startswith(file) for file, reason in data.skipped)
    assert len(data.train) + len(data.test) == 12
    assert data.train.provenance["skipped"] == 3
    assert files(photos) == before


def test_skipping_is_training_without_them(photos: Path) -> None:
    """The same split, the same statistics, the same pixels as where the files had never been."""
    skipped = load_data(str(photos), bad="skip")
    for name in BAD:
        (photos / name).unlink()
    clean = load_data(str(photos))
    for a, b in ((skipped.train, clean.train), (skipped.test, clean.test)):
        assert a.files == b.files  # type: ignore[attr-defined]
        assert a.labels.tolist() == b.labels.tolist()
    assert (skipped.mean, skipped.std) == (clean.mean, clean.std)
    assert clean.skipped == ()
    assert "skipped" not in clean.train.provenance


def test_quarantine_moves_them_with_a_list(photos: Path, tmp_path: Path) -> None:
    before = files(photos)
    kept = {name: (photos / name).read_bytes() for name in BAD[:2]}
    into = tmp_path / "away"
    data = load_data(str(photos), bad=f"quarantine:{into}")
    assert len(data.skipped) == 3
    assert files(photos) == [name for name in before if name not in BAD]
    assert files(into) == [*BAD, "quarantine.jsonl"]
    assert {name: (into / name).read_bytes() for name in BAD[:2]} == kept
    lines = [json.loads(line) for line in (into / "quarantine.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [str(photos / name) for name in BAD]
    assert [line["moved_to"] for line in lines] == [str(into / name) for name in BAD]
    assert load_data(str(photos)).train.files == data.train.files  # type: ignore[attr-defined]


def test_quarantine_overwrites_nothing_and_stays_out_of_the_data(photos: Path, tmp_path: Path) -> None:
    into = tmp_path / "away"
    (into / "ants").mkdir(parents=True)
    (into / "ants" / "cut.png").write_text("another")
    quarantine([Bad(str(photos / "ants/cut.png"), "it is broken")], photos, into)
    assert (into / "ants" / "cut.png").read_text() == "another"
    assert (into / "ants" / "cut.png.1").exists()
    with pytest.raises(
        UserError, match=r"the quarantine .*photos/away is inside .*photos, so its files would be found"
    ):
        quarantine([], photos, photos / "away")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be moved to .*file \(File exists\)"):
        quarantine([Bad(str(photos / "bees/notes.jpg"), "")], photos, tmp_path / "file")
    assert (photos / "bees/notes.jpg").exists()


def test_a_class_that_loses_all_its_images_is_refused_and_nothing_is_moved(photos: Path, tmp_path: Path) -> None:
    for file in (photos / "ants").iterdir():
        file.write_bytes(b"")
    before = files(photos)
    for policy in ("skip", f"quarantine:{tmp_path / 'away'}"):
        with pytest.raises(
            UserError, match=r"no image of the class folder .*ants can be read; replace its images or remove it"
        ):
            load_data(str(photos), bad=policy)
    assert files(photos) == before
    assert not (tmp_path / "away").exists()


@pytest.mark.parametrize("text", ["ignore", "", "skip:x", "quarantine", "quarantine:", "fail:"])
def test_other_policies_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"no policy '.*' for bad images; give fail, trust, skip or quarantine:DIR"):
        Policy.parse(text)


def test_a_run_lists_every_skip(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    command = ["train", "resnet20", "--data", str(photos), "--out", str(out), *TRAIN]
    assert main(command) == 2
    assert "notes.jpg" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "--bad", "skip"]) == 0
    said = capsys.readouterr().out
    lines = [json.loads(line) for line in (out / "skipped.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [str(photos / name) for name in BAD]
    assert all(f"skipped: {line['reason']}\n" in said for line in lines)
    assert f"3 files skipped; the full list is in {out}/skipped.jsonl" in said
    assert open_run(out).record.data["train"]["skipped"] == 3
    assert main(["evaluate", str(out), "--data", str(photos)]) == 2
    assert main(["evaluate", str(out), "--data", str(photos), "--bad", "skip"]) == 0


def test_the_largest_size_is_an_option_of_every_verb_that_reads_images(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in BAD:
        (photos / name).unlink()
    out = tmp_path / "run"
    command = ["train", "resnet20", "--data", str(photos), "--out", str(out), *TRAIN]
    assert main([*command, "--max-megapixels", "0.0001"]) == 2
    assert (
        "has more than 0.0001 megapixels (11 more bad files); scale it down, or raise --max-megapixels"
        in capsys.readouterr().err
    )
    assert main([*command, "--max-megapixels", "-1"]) == 2
    assert "--max-megapixels -1 is out of range; give a number above 0" in capsys.readouterr().err
    assert main(command) == 0
    assert main(["evaluate", str(out), "--data", str(photos), "--max-megapixels", "0.0001"]) == 2
    assert main(["predict", str(out), str(photos), "--max-megapixels", "0.0001"]) == 2
    assert main(["predict", str(out), str(photos)]) == 0


@pytest.mark.parametrize(
    ("failure", "raised"),
    [
        (OSError(errno.EMFILE, "Too many open files"), Unreadable),
        (OSError(errno.EIO, "Input/output error"), Unreadable),
        (MemoryError(), MemoryError),
        (OSError("out of memory when reading image file"), MemoryError),  # as Pillow says it
    ],
)
@pytest.mark.parametrize("policy", ["skip", "quarantine"])
def test_a_machine_that_fails_makes_no_image_bad(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, failure: Exception, raised: type
) -> None:
    before, load = files(photos), ImageFile.ImageFile.load

    def failing(image: ImageFile.ImageFile) -> object:
        if getattr(image, "filename", "").endswith("04.png"):
            raise failure
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", failing)
    with pytest.raises(raised):
        load_data(str(photos), bad=policy if policy == "skip" else f"quarantine:{tmp_path / 'bad'}")
    assert files(photos) == before
