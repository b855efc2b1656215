"""A run folder made in a second, for the tests of what reads one."""

from dataclasses import replace
from pathlib import Path

from convatlas.data.sources import load_data
from convatlas.data.types import Data, MemorySplit
from convatlas.recipe import SGD, Recipe
from convatlas.runs.folder import Run
from convatlas.train.fit import fit


def some(split: MemorySplit, n: int) -> MemorySplit:
    return replace(split, images=split.images[:n], labels=split.labels[:n])


def digits(train: int = 256, val: int = 64) -> Data:
    """The first of the embedded digits, some of the test's as val."""
    data = load_data("digits")
    assert isinstance(data.train, MemorySplit)
    assert isinstance(data.test, MemorySplit)
    val = replace(some(data.test, val), name="val")
    return replace(data, train=some(data.train, train), val=val, test=None)


def train(out: Path) -> Run:
    """ResNet-20 after one epoch on 256 digits: better than chance, and far from right."""
    recipe = Recipe(name="brief", source="a test", epochs=1, batch=32, optimizer=SGD(0.1))
    return fit("resnet20", digits(), recipe, out=out, input=(1, 8, 8), device="cpu")
