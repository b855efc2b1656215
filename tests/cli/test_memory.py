"""`convatlas memory`: the figures of memory() in print and as JSON, and what fits."""

import json
from pathlib import Path

import pytest

from convatlas.accounting.memory.predict import checkpointed, memory
from convatlas.cli import main


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["memory", *args]) == 0
    return capsys.readouterr().out


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "ResNet-20", "--fit", "1GB", "--batch", "128")
    m, cut = memory("resnet20", batch=128), checkpointed("resnet20")
    assert cut is not None
    for part in (
        "resnet20 on 128 images of 3x32x32, trained with SGD with momentum, float32",
        f"{m.training.of(128):,}",
        f"{m.saved_bytes.each:,}",
        "saved by stages.conv3",
        f"training   {m.training.largest_batch(10**9):,} images at most; with activation checkpointing "
        f"{cut.training.largest_batch(10**9):,} images at most",
        f"inference  {m.inference.largest_batch(10**9):,} images at most",
        f"in {cut.segments} segments (of {cut.units} sequential modules)",
        f"{cut.extra_macs.each:,} more multiply-adds per image",
    ):
        assert part in text
    assert "saved by stages.conv3.block1.relu" in printed(capsys, "resnet20", "--level", "layer")
    assert "not even one image" in printed(capsys, "lenet5_tanh", "--fit", "0.1MB")


def test_the_verb_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--input", "1x28x28", "--classes", "7", "--optimizer", "adam", "--fit", "1GiB", "--json")
    record = json.loads(printed(capsys, "resnet20", *args))
    m = memory("resnet20", (1, 28, 28), classes=7, optimizer="adam")
    assert record["training"]["bytes"] == m.training.of(32)
    assert record["training"]["largest_batch"] == m.training.largest_batch(2**30)
    assert record["saved"]["batch"] == sum(layer["batch"] for layer in record["saved_by"]) == m.saved_bytes.of(32)
    assert record["fit"] == 2**30
    assert record["checkpointed"]["segments"] == 3


def test_your_own_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5))\n")
    text = printed(capsys, f"{file}:make", "--input", "3x4x4", "--fit", "1MB")
    assert text.startswith("mine.py:make on 32 images of 3x4x4")
    assert f"{4 * (48 * 5 + 5):,}" in text


def test_what_cannot_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "lenet5", "--fit", "8G"]) == 2
    assert "'8G' is not a number of bytes; write it as in 8GB (8 x 1000^3 bytes)" in capsys.readouterr().err
