"""`convatlas doctor`: what is intact is called intact, and each damage is found, named and given a remedy."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.doctor import ERROR, NOTE, Diagnosis, examine
from convatlas.errors import UserError
from convatlas.files.lock import locked
from convatlas.runs import checkpoint
from convatlas.weights.published import find_published
from tests.damages import DAMAGES
from tests.locking import holding

GOLDEN = Path(__file__).parent / "goldens" / "run"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run of two epochs."""
    here = Path(shutil.copytree(GOLDEN, tmp_path / "run"))
    shutil.copyfile(here / "last.safetensors", here / "previous.safetensors")
    return here


def findings(found: Diagnosis, level: str) -> list[str]:
    return [f"{it.what}; {it.remedy}" for it in found.findings if it.level == level]


def test_an_intact_run_is_intact_and_nothing_is_changed(folder: Path) -> None:
    before = {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir()}
    found = examine(folder)
    assert (found.kind, found.intact) == ("run folder", True)
    assert not findings(found, ERROR)
    assert not findings(found, NOTE)
    assert {f: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir()} == before


def broken(name: str, damage: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(DAMAGES[damage]((folder / name).read_bytes()))


def record(**changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        whole = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({**whole, **changes}))

    return change


def again(folder: Path, name: str, spoil: Callable[[dict[str, torch.Tensor], dict[str, object]], None]) -> None:
    """Writes a checkpoint anew, changed but with the right checksum."""
    tensors, state = checkpoint.load(folder / name)
    state.pop("schema")
    spoil(tensors, state)
    checkpoint.save(folder / name, tensors, state)


WRONGS: dict[str, tuple[Callable[[Path], object], str]] = {
    **{
        f"last {damage}": (
            broken("last.safetensors", damage),
            r"last\.safetensors is not an intact checkpoint \(.*\); use anot",
        )
        for damage in DAMAGES
    },
    "last deleted": (
        lambda f: (f / "last.safetensors").unlink(),
        r"last\.safetensors is missing or damaged; --resume continues from previous\.safetensors",
    ),
    "previous flipped": (
        broken("previous.safetensors", "a bit flipped"),
        r"previous\.safetensors is not an intact checkpoint",
    ),
    "best zeroed": (
        broken("best.safetensors", "zeroed"),
        r"best\.safetensors \(epoch 2\) is missing or damaged; use --which last",
    ),
    "best deleted": (lambda f: (f / "best.safetensors").unlink(), r"best\.safetensors \(epoch 2\) is missing"),
    "run.json deleted": (
        lambda f: (f / "run.json").unlink(),
        r"is not a run folder: it has no run\.json; give the folder",
    ),
    "run.json emptied": (lambda f: (f / "run.json").write_text(""), r"run\.json was not written by `convatlas train`"),
    "run.json truncated": (broken("run.json", "truncated"), r"run\.json was not written by `convatlas train`"),
    "run.json of the future": (record(schema=99), "has schema 99, this convatlas reads 1; update convatlas"),
    "run.json without a network": (record(network=None), r"run\.json has a malformed 'network'; restore it"),
    "run.json of no network": (record(network="resnet2O"), "no network named 'resnet2O'"),
    "run.json of another network": (
        record(network="chain_n1_m2_k1", options={"input": [1, 8, 8], "classes": 10}),
        "belongs to another run",
    ),
    "run.json that cannot be built": (
        record(options={"input": [1, 8, 8], "classes": 10, "widths": [None]}),
        "run.json does not describe a network that can be",
    ),
    "log truncated in the middle": (
        lambda f: (f / "log.jsonl").write_bytes(b"{\n" + (f / "log.jsonl").read_bytes()),
        r"log\.jsonl is damaged at line 1 of 5; restore it",
    ),
    "log of two processes": (
        lambda f: (f / "log.jsonl").write_bytes((f / "log.jsonl").read_bytes() * 2),
        r"log\.jsonl has epoch 1 more than once: two processes have trained in this folder .*; train again in a folder",
    ),
    "log of two processes within an epoch": (
        lambda f: (f / "log.jsonl").write_bytes(
            b'{"kind": "step", "step": 3, "epoch": 1}\n' + (f / "log.jsonl").read_bytes()
        ),
        r"log\.jsonl has step 3 more than once",
    ),
    "log emptied": (
        lambda f: (f / "log.jsonl").write_bytes(b""),
        r"log\.jsonl has 0 epochs, but 2 are done; restore it",
    ),
    "weights not finite": (
        lambda f: again(f, "last.safetensors", lambda t, s: t["stem.conv1.bias"].fill_(torch.nan)),
        r"last\.safetensors: stem\.conv1\.bias is not finite; use another checkpoint",
    ),
    "a tensor missing": (
        lambda f: again(f, "best.safetensors", lambda t, s: t.__delitem__("stem.conv1.bias")),
        r"best\.safetensors does not fit chain_n1_m1_k0: missing key stem\.conv1\.bias; use another",
    ),
    "of another run": (
        lambda f: again(f, "last.safetensors", lambda t, s: s.update(network="lenet5")),
        r"last\.safetensors belongs to another run \(lenet5\); restore this run's checkpoint",
    ),
}


@pytest.mark.parametrize("damage", WRONGS)
def test_each_damage_is_found_with_a_remedy(folder: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    act, message = WRONGS[damage]
    act(folder)
    found = examine(folder)
    assert not found.intact
    assert any(re.search(message, text) for text in findings(found, ERROR)), findings(found, ERROR)
    assert all(it.remedy for it in found.findings if it.level == ERROR)
    assert main(["doctor", str(folder)]) == 1
    assert f"{folder} (run folder) has " in capsys.readouterr().out
    assert main(["doctor", str(folder), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert (printed["intact"], printed["kind"]) == (False, "run folder")
    assert printed["findings"] == found.to_json()["findings"]


def test_an_unfinished_run_and_what_a_kill_leaves_are_noted(folder: Path) -> None:
    (folder / ".last.safetensors.new").write_bytes(b"half")
    (folder / ".lock").write_bytes(b"")
    (folder / "last.safetensors.broken").write_bytes(b"")
    with (folder / "log.jsonl").open("ab") as log:
        log.write(b'{"kind": "st')
    record(recipe={**json.loads((folder / "run.json").read_text())["recipe"], "epochs": 5})(folder)
    found = examine(folder)
    assert found.intact
    notes = "\n".join(findings(found, NOTE))
    for text in (
        "2 of 5 epochs are done; continue with --resume",
        ".last.safetensors.new: half-written by a killed process; --resume removes it",
        "a killed process left a stale lock; --resume takes it over",
        "last.safetensors.broken is a damaged checkpoint that was set aside",
        "the last line of log.jsonl is cut short; --resume removes it",
    ):
        assert text in notes


def test_a_training_that_goes_on_is_noted_and_not_disturbed(folder: Path) -> None:
    child = holding(folder)
    assert f"process {child.pid} is training in this folder" in "".join(findings(examine(folder), NOTE))
    with pytest.raises(UserError, match=rf"process {child.pid} is training in"), locked(folder):
        pass
    child.communicate()
    assert examine(folder).intact
    with locked(folder):
        assert "is training in this folder" in "".join(findings(examine(folder), NOTE))
        again = subprocess.run(
            [sys.executable, "-c", "import sys; from pathlib import Path; from convatlas.files.lock import locked\n"
             f"with locked(Path({str(folder)!r})): pass"], capture_output=True, text=True,
        )  # fmt: skip
        assert "is training in" in again.stderr  # looking did not give it up


def test_a_checkpoint_by_itself(folder: Path) -> None:
    path = folder / "last.safetensors"
    assert (examine(path).kind, examine(path).intact) == ("checkpoint", True)
    path.write_bytes(DAMAGES["zeroed at the end"](path.read_bytes()))
    assert not examine(path).intact
    path.write_bytes(b"")
    found = examine(path)
    assert (found.kind, found.intact) == ("weights", False)


def test_weights(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(3, 4), "b": torch.zeros(2)}
    save_file(tensors, tmp_path / "w.safetensors")
    torch.save(tensors, tmp_path / "w.pth")
    torch.save({**tensors, "a": torch.full((2,), torch.inf)}, tmp_path / "inf.pth")
    torch.save({"f": signal.raise_signal}, tmp_path / "code.pt")
    for name in ("w.safetensors", "w.pth"):
        found = examine(tmp_path / name)
        assert (found.kind, found.intact) == ("weights", True)
        assert f"{name}: 2 tensors, 14 values" in found.findings[0].what
    assert findings(examine(tmp_path / "inf.pth"), ERROR) == ["a is not finite; download it again, or use another file"]
    np.savez(tmp_path / "w.npz", **{"a/kernel": np.ones((2, 3), np.float32)})
    assert examine(tmp_path / "w.npz").findings[0].what == "w.npz: 1 tensors, 6 values, nothing else"
    assert "is damaged or contains more than plain tensors" in findings(examine(tmp_path / "code.pt"), ERROR)[0]


def test_weights_of_other_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose a file is, by its digest, and what it fits; a published one by its name, as far as it is here."""
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    torch.manual_seed(0)
    tensors = {f"module.{name}": tensor for name, tensor in find("resnet20").build().state_dict().items()}
    mine, published = tmp_path / "mine.th", tmp_path / "weights" / find_published("resnet20@akamaster").file
    torch.save(tensors, mine)
    assert findings(examine(mine), NOTE) == [
        "no published weights have its digest; ",
        "every tensor has its place in plain20 and in resnet20; say which with --network",
    ]
    assert main(["doctor", "resnet20@akamaster"]) == 2
    assert "resnet20@akamaster is not on this machine; fetch it with `convatlas weights get" in capsys.readouterr().err
    assert main(["doctor", "resnet20@akamasters"]) == 2
    assert "no source of weights named 'akamasters'; did you mean akamaster" in capsys.readouterr().err
    published.parent.mkdir()
    shutil.copy(mine, published)
    assert findings(examine("resnet20@akamaster"), ERROR)[0].endswith("; delete it; it is then fetched again")
    assert findings(examine(published), ERROR) == [
        "it is called as resnet20@akamaster is, and has another digest; download it again"
    ]
    torch.save({**tensors, "module.extra.weight": torch.ones(3, 3)}, mine)
    assert "fits no network of the atlas: none has its 21 layers with weights" in findings(examine(mine), NOTE)[1]


def test_released_weights(real_packs: Path) -> None:
    found = examine(real_packs / "weights" / "akamaster" / "resnet20-12fca82f.th")
    assert [it.what for it in found.findings] == [
        "resnet20-12fca82f.th: 97 tensors, 271,098 values, nothing else",
        "its digest is that of resnet20@akamaster",
        "every tensor has its place in resnet20",
    ]
    assert found.intact


def test_images_and_other_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for i in range(8):
        place = tmp_path / "photos" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(place / f"{i}.png")
    assert main(["doctor", str(tmp_path / "photos")]) == 0
    assert "8 of 8 files are intact images" in capsys.readouterr().out
    whole = (tmp_path / "photos" / "a" / "0.png").read_bytes()
    (tmp_path / "photos" / "a" / "0.png").write_bytes(whole[:-200])  # its header is whole
    (tmp_path / "photos" / "b" / "x.jpg").write_text("no image")
    found = examine(tmp_path / "photos")
    assert (found.kind, found.intact, len(findings(found, ERROR))) == ("data", False, 2)
    assert findings(found, NOTE) == ["7 of 9 files are intact images; "]
    (tmp_path / "empty").mkdir()
    assert not examine(tmp_path / "empty").intact


def test_a_data_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "digits", "--csv"]) == 0
    assert capsys.readouterr().out == 'level,what,remedy\nok,"digits: 1,442 train, 355 test images",\n'
    (tmp_path / "not-cifar").mkdir()
    assert main(["doctor", f"cifar10:{tmp_path / 'not-cifar'}"]) == 1


@pytest.mark.parametrize("name", ["none", "notes.txt"])
def test_what_cannot_be_examined(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert main(["doctor", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_pack(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(8):
        place = tmp_path / "photos" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(place / f"{i}.png")
    assert main(["data", "pack", str(tmp_path / "photos"), "--out", str(tmp_path / "pack"), "--size", "32"]) == 0
    assert examine(tmp_path / "pack").intact
    shard = max((f for f in (tmp_path / "pack").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    shard.write_bytes(DAMAGES["a bit flipped"](shard.read_bytes()))
    found = examine(tmp_path / "pack")
    assert not found.intact
    assert shard.name in findings(found, ERROR)[0]
