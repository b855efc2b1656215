"""Scanning: what is planted in a set is found, and nothing else."""

from __future__ import annotations

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from convatlas.cli import main
from convatlas.data.check.scan import Finding, scan
from convatlas.data.sources import load_data
from convatlas.data.sources.pack import pack
from convatlas.errors import UserError


def picture(i: int, size: tuple[int, int] = (80, 60)) -> Image.Image:
    g = np.random.default_rng(i)
    return Image.fromarray(g.integers(0, 256, (7, 9, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)


def put(path: Path, image: Image.Image, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """40 + 10 different pictures in two classes."""
    for i in range(50):
        put(tmp_path / "set" / ("train" if i < 40 else "val") / "ab"[i % 2] / f"{i:02}.jpg", picture(i))
    return tmp_path / "set"


def only(source: Path | str, kind: str, workers: int | None = None) -> Finding:
    report = scan(str(source), workers=workers)
    assert [found.kind for found in report.findings] == [kind]
    return report.findings[0]


def names(found: Finding) -> list[str]:
    return [Path(file).name for file in found.files]


def test_a_clean_set_has_nothing_wrong(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = scan(str(clean))
    assert (report.images, report.findings) == (50, ())
    assert main(["data", "scan", str(clean)]) == 0
    assert capsys.readouterr().out == "50 images: nothing wrong\n"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image(clean: Path, workers: int) -> None:
    path = clean / "train/a/04.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    found = only(clean, "bad", workers)
    assert names(found) == ["04.jpg"]
    assert "04.jpg is a broken image" in found.text
    path.write_bytes(b"nothing")
    assert "04.jpg is not a JPEG" in only(clean, "bad", workers).text


def test_a_tiny_image(clean: Path) -> None:
    put(clean / "train/a/tiny.png", picture(99, (31, 200)))
    found = only(clean, "tiny")
    assert found.text.endswith("tiny.png is 31 x 200, shorter than 32 pixels")
    assert scan(str(clean), min_side=31).findings == ()


def test_the_same_bytes_twice(clean: Path) -> None:
    shutil.copy(clean / "train/a/04.jpg", clean / "train/a/copy.jpg")
    found = only(clean, "duplicate")
    assert names(found) == ["04.jpg", "copy.jpg"]
    assert found.splits == ("train", "train")
    assert "2 files are byte-identical: " in found.text


def test_the_same_bytes_in_training_and_in_the_test(clean: Path) -> None:
    shutil.copy(clean / "train/a/04.jpg", clean / "val/a/copy.jpg")
    found = only(clean, "duplicate")
    assert found.splits == ("train", "val")
    assert "2 files are byte-identical across training and test: " in found.text


@pytest.mark.parametrize(
    "change",
    [
        lambda image: (image, {"quality": 60}),
        lambda image: (image.resize((160, 120), Image.Resampling.BICUBIC), {}),
        lambda image: (image.resize((48, 36), Image.Resampling.BICUBIC), {}),
        lambda image: (ImageEnhance.Brightness(image).enhance(1.02), {}),
    ],
)
def test_a_picture_saved_again_or_scaled(clean: Path, change) -> None:
    image, options = change(picture(4))
    put(clean / "train/a/again.jpg", image, **options)
    found = only(clean, "near")
    assert names(found) == ["04.jpg", "again.jpg"]
    assert "2 files show the same picture, rescaled or re-saved: " in found.text


def test_other_pictures_are_not_near(clean: Path) -> None:
    put(clean / "train/a/mirrored.jpg", picture(4).transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    put(clean / "train/a/inverted.jpg", Image.eval(picture(6), lambda level: 255 - level))
    put(clean / "train/a/red.png", Image.new("RGB", (64, 64), (200, 10, 10)))
    put(clean / "train/a/blue.png", Image.new("RGB", (64, 64), (10, 10, 200)))  # flat: hashes alike, thumbnails not
    assert scan(str(clean)).findings == ()


@pytest.mark.parametrize("exact", [True, False])
def test_the_same_picture_in_two_classes(clean: Path, exact: bool) -> None:
    options = {} if exact else {"quality": 50}
    put(clean / "train/b/again.jpg", picture(4), **options)
    found = only(clean, "mislabelled")
    assert sorted(names(found)) == ["04.jpg", "again.jpg"]
    assert sorted(found.classes) == ["a", "b"]
    same = "are byte-identical" if exact else "show the same picture, rescaled or re-saved"
    assert f"{same} and are in different classes (a, b)" in found.text


def test_groups_are_reported_once(clean: Path) -> None:
    for n in range(3):
        put(clean / f"train/a/{n}.jpg", picture(4), quality=50 + 10 * n)
    assert sorted(names(only(clean, "near"))) == ["0.jpg", "04.jpg", "1.jpg", "2.jpg"]


def test_hashes_that_differ_in_any_four_bits_are_compared() -> None:
    """Brute force over all pairs."""
    from convatlas.data.check.scan import Look, near

    g = np.random.default_rng(0)
    thumb = np.zeros((8, 8, 3), np.uint8)
    bases = g.integers(0, 2**63, 30)
    hashes = [int(b) for b in bases]
    for base in bases:
        for flips in range(1, 7):
            hashes.append(int(base) ^ sum(1 << int(bit) for bit in g.choice(64, flips, replace=False)))
    found = {tuple(sorted(pair)) for pair in near([Look(hash=h, thumb=thumb) for h in hashes])}
    expected = {(i, j) for j in range(len(hashes)) for i in range(j) if (hashes[i] ^ hashes[j]).bit_count() <= 4}
    assert found == expected
    assert len(expected) > 120


def test_packs_are_scanned_by_checksum_and_by_picture(clean: Path, tmp_path: Path) -> None:
    put(clean / "train/b/again.jpg", picture(4), quality=50)
    for format in ("jpeg", "raw"):
        out = tmp_path / format
        pack(load_data(str(clean)), out, size=48, format=format)
        assert len(only(out, "mislabelled").files) == 2
    shard = tmp_path / "raw/train-00000.raw"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    kinds = [found.kind for found in scan(str(tmp_path / "raw")).findings]
    assert kinds == ["damaged", "mislabelled"]


def test_shards_and_lists_are_scanned(clean: Path, tmp_path: Path) -> None:
    pack(load_data(str(clean)), tmp_path / "pack", size=48)
    assert scan(f"shards:{tmp_path / 'pack'}").images == 50
    for part in ("train", "val"):
        files = sorted((clean / part).rglob("*.jpg"))
        (clean / f"{part}.txt").write_text("".join(f"{f.relative_to(clean)}\t{f.parent.name}\n" for f in files))
    (clean / "train/a/04.jpg").unlink()
    assert "04.jpg cannot be read" in only(f"list:{clean}", "bad").text


def test_the_command_line(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(clean / "train/b/again.jpg", picture(4))
    put(clean / "train/a/tiny.png", picture(98, (9, 9)))
    assert main(["data", "scan", str(clean)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out[:1] + out[2:]] == ["kind", "tiny", "mislabelled", "52"]
    assert out[-1] == "52 images: 1 tiny, 1 mislabelled"
    assert main(["data", "scan", str(clean), "--csv"]) == 1
    assert capsys.readouterr().out.splitlines()[0] == "kind,text"
    assert main(["data", "scan", str(clean), "--json", "--min-side", "8"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["images"] == 52
    assert report["findings"][0]["kind"] == "mislabelled"
    assert main(["data", "scan", "digits"]) == 2
    assert (
        "digits is not a set of image files; give a folder, lists, shards, Parquet files or a pack"
        in capsys.readouterr().err
    )


def test_a_set_in_memory_is_refused() -> None:
    with pytest.raises(UserError, match="digits is not a set of image files"):
        scan("digits")


def test_real_photographs(real_data: Path, tmp_path: Path) -> None:
    """No two of the ants and bees are the same; a copy at another size and quality is found among them."""
    for path in sorted((real_data / "hymenoptera").rglob("*.jpg")):
        target = tmp_path / path.relative_to(real_data / "hymenoptera")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    before = scan(str(tmp_path))
    assert before.images == 398
    original = sorted((tmp_path / "train/ants").iterdir())[7]
    image = Image.open(BytesIO(original.read_bytes()))
    put(tmp_path / "val/bees/again.jpg", image.resize((200, 170)), quality=70)
    after = [found for found in scan(str(tmp_path)).findings if found not in before.findings]
    assert [found.kind for found in after] == ["mislabelled"]
    assert str(original) in after[0].files
