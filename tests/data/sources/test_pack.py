"""Packs: the pixels of the set they were made of, whatever interrupts the packing; and what is refused."""

from __future__ import annotations

import errno
import fcntl
import io
import json
import resource
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.cli import main
from convatlas.data.augment import crops_of
from convatlas.data.decode import fast as decode
from convatlas.data.sources import load_data
from convatlas.data.sources import pack as module
from convatlas.data.sources.pack import load, pack, verify
from convatlas.doctor import examine
from convatlas.errors import UserError
from convatlas.evaluation.scoring import evaluate
from convatlas.files.lock import locked
from convatlas.preprocess import Preprocess
from convatlas.recipe import SGD, Recipe
from convatlas.train.fit import fit
from tests.killing import killed_before_touch

AT_32 = Preprocess((3, 28, 28), (0.0,) * 3, (1.0,) * 3, resize_mode="crop", resize=32)


def picture(i: int, size: tuple[int, int]) -> Image.Image:
    g = np.random.default_rng(i)
    return Image.fromarray(g.integers(0, 256, (3, 4, 3), np.uint8)).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 + 8 images in two classes: larger than 32 px, as large, smaller; wide and high; JPEG, PNG, grey, turned."""
    at = tmp_path_factory.mktemp("photos")
    sizes = [(90, 60), (40, 80), (32, 32), (33, 47), (20, 24), (64, 32)]
    exif = Image.Exif()
    exif[0x0112] = 6
    for part, n in (("train", 30), ("val", 8)):
        for i in range(n):
            path = at / part / "ab"[i % 2] / f"{i:02}.{'png' if i % 5 == 0 else 'jpg'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = picture(i, sizes[i % len(sizes)])
            image = image.convert("L") if i % 7 == 0 else image
            options = {"exif": exif} if i % 11 == 3 else {}
            image.save(path, **options)
    return at


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PER_SHARD", 12)
    monkeypatch.setattr(module, "PART", 5)


@pytest.mark.parametrize("workers", [0, 3])
def test_a_raw_pack_gives_evaluation_the_very_pixels(photos: Path, tmp_path: Path, workers: int) -> None:
    data = load_data(str(photos))
    pack(data, tmp_path / "raw", size=32, format="raw", workers=workers)
    packed = load_data(str(tmp_path / "raw"))
    assert (packed.name, packed.classes, packed.mean, packed.std) == (data.name, data.classes, data.mean, data.std)
    for ours, theirs in ((packed.train, data.train), (packed.val, data.val)):
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.fetch(range(len(ours)), AT_32), theirs.fetch(range(len(theirs)), AT_32))
    assert packed.provenance["val"]["of"] == data.provenance["val"]
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == sorted(
        [
            "pack.json",
            *(f"{n}.{e}" for n in ("train-00000", "train-00001", "train-00002", "val-00000") for e in ("raw", "npz")),
        ]
    )


def test_a_jpeg_pack_is_webdataset_shards_and_keeps_small_jpegs_as_they_are(photos: Path, tmp_path: Path) -> None:
    data = load_data(str(photos))
    pack(data, tmp_path / "jpeg", size=32, quality=95)
    packed = load_data(str(tmp_path / "jpeg"))
    apart = (packed.train.fetch(range(30), AT_32).int() - data.train.fetch(range(30), AT_32).int()).abs()
    assert apart.double().mean() < 3  # saved again at quality 95
    with tarfile.open(tmp_path / "jpeg/train-00000.tar") as archive:
        assert archive.getnames() == [f"{i:09}.{e}" for i in range(12) for e in ("jpg", "cls")]
        kept = 0
        for i, file in enumerate(data.train.files[:12]):  # type: ignore[attr-defined]
            content = archive.extractfile(f"{i:09}.jpg").read()
            assert archive.extractfile(f"{i:09}.cls").read() == str(int(data.train.labels[i])).encode()
            assert min(Image.open(io.BytesIO(content)).size) <= 32
            kept += content == file.read_bytes()
    assert kept > 0
    other = load_data(f"shards:{tmp_path / 'jpeg'}")  # what any reader of WebDataset sees
    assert torch.equal(other.train.fetch(range(30), AT_32), packed.train.fetch(range(30), AT_32))
    assert torch.equal(other.train.labels, packed.train.labels)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("op", ["area_crop", "scale_crop:30:60"])
def test_views_of_raw_pixels_are_those_of_the_same_files(
    tmp_path: Path, op: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fast and not decode.FAST:
        pytest.skip("simplejpeg and opencv are not installed (extra `fast`)")
    monkeypatch.setattr(decode, "FAST", fast)
    for i in range(8):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(i, (40, 30)).save(path)
    data = load_data(str(tmp_path / "photos"))
    pack(data, tmp_path / "raw", size=64, format="raw")
    crops = crops_of((op,), (28, 28), seed=0, epoch=0)
    packed = load(tmp_path / "raw").train.fetch(range(len(data.train)), AT_32, crops)
    apart = (packed.int() - data.train.fetch(range(len(data.train)), AT_32, crops).int()).abs()
    assert apart.max() == 0 if not fast else apart.double().mean() < 2.5  # OpenCV's bilinear against Pillow's


@pytest.mark.parametrize("format", ["jpeg", "raw"])
@pytest.mark.parametrize(("at", "left"), [(0, 10), (7, 10), (20, 7), (33, 2)])  # parts of 5, in shards of 12
def test_an_interrupted_pack_goes_on_to_the_same_bytes(
    photos: Path, tmp_path: Path, at: int, left: int, format: str
) -> None:
    data = load_data(str(photos))
    whole = pack(data, tmp_path / "whole", size=32, format=format)
    seen, convert = [], module.converted

    def stop(split, i, plan):
        seen.append(i)
        if len(seen) > at:
            raise KeyboardInterrupt
        return convert(split, i, plan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "converted", stop)
        with pytest.raises(KeyboardInterrupt):
            pack(data, tmp_path / "parts", size=32, format=format, workers=0)
    with pytest.raises(
        UserError, match=r"the pack in .*parts is not finished; run the same `convatlas data pack` again"
    ):
        load_data(str(tmp_path / "parts"))
    todo: list[int] = []
    assert (
        pack(data, tmp_path / "parts", size=32, format=format, progress=lambda steps: todo.extend(steps) or steps)
        == whole
    )
    assert len(todo) == left
    for path in (tmp_path / "whole").iterdir():
        if path.suffix != ".npz":
            assert (tmp_path / "parts" / path.name).read_bytes() == path.read_bytes()
    assert verify(tmp_path / "parts") == []


def killed_and_resumed(photos: Path, tmp_path: Path, format: str, step: int) -> int:
    """The whole verb, killed before every `step`-th time that it touches the folder, and always near the end; returns
    how often that was."""
    verb = ["data", "pack", str(photos), "--size", "8", "--format", format, "--workers", "0", "--json", "--out"]
    assert main([*verb, str(tmp_path / "whole")]) == 0
    status, every = killed_before_touch(0, tmp_path / "counted", lambda: main([*verb, str(tmp_path / "counted")]))
    assert status == 0
    points = [n for n in range(1, every + 1) if n % step == 0 or n > every - 9]
    for n in points:
        out = tmp_path / f"{n}"
        assert killed_before_touch(n, out, lambda: main([*verb, str(out)])) == (9, n - 1)  # noqa: B023 (called at once)
        finished = (out / "pack.json").exists() and not (out / "plan.json").exists()
        assert main([*verb, str(out)]) == (2 if finished else 0), n  # 2: it already holds a pack
        assert verify(out) == []
        for path in (tmp_path / "whole").iterdir():
            if path.suffix != ".npz":  # which has the time in it
                assert (out / path.name).read_bytes() == path.read_bytes(), (n, path)
        assert {p.name for p in out.iterdir()} - {".lock"} == {p.name for p in (tmp_path / "whole").iterdir()}, n
    return len(points)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_pack_that_is_killed_goes_on_to_the_same_bytes(photos: Path, tmp_path: Path) -> None:
    module.PER_SHARD = 30
    assert killed_and_resumed(photos, tmp_path, "jpeg", 25) > 9


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("format", ["jpeg", "raw"])
def test_a_pack_that_is_killed_anywhere_goes_on_to_the_same_bytes(photos: Path, tmp_path: Path, format: str) -> None:
    print(killed_and_resumed(photos, tmp_path, format, 1))


def test_a_full_disk_is_one_clear_message_and_the_pack_goes_on(photos: Path, tmp_path: Path) -> None:
    data = load_data(str(photos))
    pack(data, tmp_path / "whole", size=32)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(
            UserError, match=r"train-00000\.tar cannot be written \(File too large\); any previous version "
        ):
            pack(data, tmp_path / "out", size=32)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"plan.json"}
    pack(data, tmp_path / "out", size=32)
    assert verify(tmp_path / "out") == []


def test_one_process_at_a_time_packs(photos: Path, tmp_path: Path) -> None:
    data = load_data(str(photos))
    with (
        locked(Path(shutil.copytree(photos, tmp_path / "elsewhere")), "packing into"),
        pytest.raises(UserError, match=r"is packing into .*elsewhere; wait for it"),
        locked(tmp_path / "elsewhere", "packing into"),
    ):
        pass
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(UserError, match=r"is packing into .*out; wait for it, stop it, or"):
        pack(data, tmp_path / "out", size=32)


def test_a_file_system_without_locks_is_said(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    assert main(["data", "pack", str(photos), "--out", str(tmp_path / "out"), "--size", "8"]) == 0
    assert capsys.readouterr().err == (
        f"the file system of {tmp_path / 'out'} has no locks (No locks available): make sure that no other process is "
        "packing into it\n"
    )


def test_a_killed_pack_goes_on(photos: Path, tmp_path: Path) -> None:
    program = (
        "import os, sys; from convatlas.data.sources import load_data, pack; count = []\n"
        "write = pack.write_shard; pack.PER_SHARD = 12\n"
        "def dying(*a):\n    count.append(1)\n    if len(count) == 3: os._exit(9)\n    write(*a)\n"
        "pack.write_shard = dying; pack.pack(load_data(sys.argv[1]), sys.argv[2], size=32)"
    )
    assert subprocess.run([sys.executable, "-c", program, photos, tmp_path / "out"], check=False).returncode == 9
    assert (tmp_path / "out/train-00001.npz").exists()
    assert main(["data", "pack", str(photos), "--out", str(tmp_path / "out"), "--size", "32"]) == 0
    assert verify(tmp_path / "out") == []
    assert len(load(tmp_path / "out").train) == 30


def test_what_does_not_fit_is_refused(photos: Path, tmp_path: Path) -> None:
    data = load_data(str(photos))
    pack(data, tmp_path / "done", size=32)
    with pytest.raises(UserError, match=r"done already holds a pack; give it to train --data, or give another --out"):
        pack(data, tmp_path / "done", size=32)
    with pytest.raises(UserError, match=r"photos.* is not empty and holds no pack; give another --out"):
        pack(data, photos)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/plan.json").write_text("{}")
    with pytest.raises(UserError, match="begun holds another unfinished pack; give the same options, or another"):
        pack(data, tmp_path / "begun")
    with pytest.raises(UserError, match="digits is not a set of image files, or is already packed; train on it"):
        pack(load_data("digits"), tmp_path / "digits")
    for options, message in (
        ({"format": "png"}, "no pack format named 'png'"),
        ({"size": 0}, "size 0 is not a number of pixels; give at least 1"),
        ({"quality": 99}, "quality 99 is out of range; give 1 to 95"),
    ):
        with pytest.raises(UserError, match=message):
            pack(data, tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()


def test_damage_is_found(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "pack"
    pack(load_data(str(photos)), out, size=32)
    path = out / "train-00001.tar"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert verify(out) == ["train-00001.tar"]
    path.write_bytes(content[:-512])
    with pytest.raises(UserError, match=r"^[^(]*train-00001\.tar is missing or incomplete; pack the data set again"):
        load(out)
    path.write_bytes(content)
    index = (out / "train-00001.npz").read_bytes()
    for wrong in (b"nothing", b"", index[:-30], index[:200] + bytes([index[200] ^ 1]) + index[201:]):
        (out / "train-00001.npz").write_bytes(wrong)
        with pytest.raises(
            UserError, match=r"^[^(]*train-00001\.npz is missing or damaged \(.*\); pack the data set again"
        ):
            load(out)
    shutil.copy(out / "train-00002.npz", out / "train-00001.npz")
    with pytest.raises(
        UserError, match=r"train-00001\.npz is missing or damaged \(it is of another number of images\)"
    ):
        load(out)
    shutil.copy(out / "train-00000.npz", out / "train-00001.npz")
    with pytest.raises(UserError, match=r"^[^(]*train-00001\.npz does not match its shard; pack the data set again"):
        load(out)
    assert verify(out) == ["train-00001.tar", "train-00001.npz"]
    (out / "train-00001.npz").write_bytes(index)
    record = json.loads((out / "pack.json").read_text())
    (out / "pack.json").write_text(json.dumps({**record, "schema": 99}))
    with pytest.raises(UserError, match="has schema 99, this convatlas reads 1; update convatlas"):
        load(out)
    for wrong in ({"splits": 3}, {"splits": {}}, {"classes": None}, {"mean": 1}, {"source": []}):
        (out / "pack.json").write_text(json.dumps({**record, **wrong}))
        with pytest.raises(UserError, match="written by `convatlas data pack`"):
            load(out)
    (out / "pack.json").write_text("[]")
    with pytest.raises(UserError, match="written by `convatlas data pack`"):
        load(out)


@pytest.mark.parametrize("format", ["jpeg", "raw"])
def test_exchanged_labels_and_pixels_are_found_by_doctor(photos: Path, tmp_path: Path, format: str) -> None:
    """Two labels are exchanged in an index that is written again: the .npz file itself is whole."""
    out = tmp_path / "pack"
    pack(load_data(str(photos)), out, size=32, format=format)
    assert examine(out).intact
    path = out / "train-00001.npz"
    kept, arrays = path.read_bytes(), dict(np.load(path))
    first, last = arrays["labels"].argmin(), arrays["labels"].argmax()
    arrays["labels"][[first, last]] = arrays["labels"][[last, first]]
    np.savez(path, **arrays)
    assert path.stat().st_size == len(kept)
    with pytest.raises(UserError, match=r"train-00001\.npz does not match its shard; pack the data set again"):
        load(out)
    assert [it.what for it in examine(out).findings] == ["train-00001.npz is missing or damaged"]
    path.write_bytes(kept)
    name = f"train-00000.{'tar' if format == 'jpeg' else 'raw'}"
    content = (out / name).read_bytes()
    (out / name).write_bytes(content[:700] + bytes([content[700] ^ 255]) + content[701:])
    assert [it.what for it in examine(out).findings] == [f"{name} is missing or damaged"]
    (out / name).write_bytes(content)
    record = (out / "pack.json").read_text()
    (out / "pack.json").write_text(record.replace('"a"', '"c"').replace('"b"', '"a"').replace('"c"', '"b"'))
    with pytest.raises(
        UserError, match=r"pack\.json is not as it was written by .*: its checksum does not match; pack"
    ):
        load(out)
    assert "its checksum does not match" in examine(out).findings[0].what


def test_a_broken_image_stops_the_packing_and_is_named(photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    data = load_data(str(tmp_path / "photos"))
    bad = data.train.files[3]  # type: ignore[attr-defined]
    bad.write_bytes(bad.read_bytes()[:-200])
    for format in ("jpeg", "raw"):
        with pytest.raises(UserError, match=rf"{bad.name} is a broken image"):
            pack(data, tmp_path / format, size=32, format=format)


@pytest.mark.parametrize("format", ["jpeg", "raw"])
def test_training_and_evaluation_read_it(photos: Path, tmp_path: Path, format: str) -> None:
    pack(load_data(str(photos)), tmp_path / "pack", size=32, format=format)
    data = load_data(f"pack:{tmp_path / 'pack'}")
    recipe = Recipe(
        name="tiny",
        source="a test",
        epochs=1,
        batch=10,
        optimizer=SGD(0.01),
        augment=("area_crop", "flip"),
        net=(("widths", (4,)),),
    )
    run = fit("chain_n1_m1_k0", data, recipe, out=tmp_path / "run", device="cpu", input=(3, 28, 28))
    assert run.record.data["train"]["source"] == f"pack, {format}"
    assert evaluate(run, data).top1 == max(line["val"]["top1"] for line in run.epochs())


def test_the_command_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "pack")
    assert main(["data", "pack", str(photos), "--out", out, "--size", "32", "--format", "raw", "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    said, _, following = printed.partition("; next: convatlas ")
    assert said == f"{out}: 30 train, 8 val images, 4 shards, 0.2 MB"
    assert following.startswith("train ")
    short = ["--epochs", "1", "--input", "3x32x32", "--out", str(tmp_path / "run")]
    assert main([*shlex.split(following), *short]) == 0
    capsys.readouterr()
    shutil.rmtree(out)
    assert main(["data", "pack", str(photos), "--out", out, "--size", "32", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["splits"]["train"]["images"] == 30
    assert main(["data", "pack", str(photos), "--out", out]) == 2
    assert "already holds a pack" in capsys.readouterr().err
