"""Digests of splits, against what is written down here by hand; and which images a large split is known by."""

from __future__ import annotations

import hashlib
import struct
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from convatlas.data import digests as module
from convatlas.data.digests import chosen, digests
from convatlas.data.sources import load_data
from convatlas.data.types import MemorySplit
from tests.data.sources.sets import IMAGES, SIZE, write


def test_the_digests_of_files(tmp_path: Path) -> None:
    split = load_data(f"list:{write('list', tmp_path)}").train
    names = "".join(f"images/train{i}.jpg\t{name}\n" for i, name in enumerate("ababba"))
    contents = struct.pack("<6q", *[SIZE] * 6) + b"".join(IMAGES)
    assert digests(split) == {
        "sha256_of_labels": hashlib.sha256(names.encode()).hexdigest(),
        "sha256_of_contents": hashlib.sha256(contents).hexdigest(),
        "contents_read": "all",
    }


def test_the_shape_of_pixels_counts() -> None:
    pixels, labels = torch.zeros(2, 1, 4, 6, dtype=torch.uint8), torch.tensor([0, 1])
    wide, high = (MemorySplit("train", it, labels, ("a", "b")) for it in (pixels, pixels.reshape(2, 1, 6, 4)))
    assert digests(wide)["sha256_of_labels"] == digests(high)["sha256_of_labels"]
    assert digests(wide)["sha256_of_contents"] != digests(high)["sha256_of_contents"]


@pytest.mark.parametrize("images", [64, 65, 1000, 1_281_167])
@pytest.mark.parametrize("mean", [1, 30_000, 110_000, 4_000_000])
def test_a_large_split_is_sampled_evenly(images: int, mean: int) -> None:
    runs = chosen(images, images * mean)
    read = sum(map(len, runs))
    if images * mean <= module.ALL_BYTES or images == 64:
        assert runs == [range(images)]
        return
    assert all(len(run) == 64 and run.start >= 0 and run.stop <= images for run in runs)
    assert read * mean <= max(module.ALL_BYTES, 64 * mean)
    if len(runs) > 1:
        assert (runs[0].start, runs[-1].stop) == (0, images)
        gaps = {b.start - a.start for a, b in pairwise(runs)}
        assert max(gaps) - min(gaps) <= 1
        assert min(gaps) >= 64  # none is read twice


def test_what_is_not_in_the_sample_counts_by_its_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "ALL_BYTES", 2 * SIZE)
    monkeypatch.setattr(module, "RUN", 1)
    place = write("list", tmp_path)
    before = load_data(f"list:{place}").provenance["train"]
    assert before["contents_read"] == "2, in 2 evenly spaced runs of 1"

    def changed(i: int, content: bytes) -> bool:
        file = place / f"images/train{i}.jpg"
        kept = file.read_bytes()
        file.write_bytes(content)
        now = load_data(f"list:{place}").provenance["train"]
        file.write_bytes(kept)
        assert now["sha256_of_labels"] == before["sha256_of_labels"]
        return now["sha256_of_contents"] != before["sha256_of_contents"]

    assert changed(5, IMAGES[0])
    assert not changed(3, IMAGES[0])  # the price of a sample
    assert changed(3, IMAGES[0] + b"\0")
