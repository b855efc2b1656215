"""Real weights files as their authors released them: recognised, mapped, and scored to the figures that are known.

The figures are of whole sets; where a test scores n images, theirs lies in its 95% Wilson interval. ImageNet's thousand
images are of its training set, on which networks do better: there the published accuracy is the least.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from convatlas.data.sources import load_data
from convatlas.data.types import Data
from convatlas.evaluation.scores import Scores
from convatlas.evaluation.scoring import evaluate
from convatlas.weights.check import check
from convatlas.weights.model import load


@dataclass(frozen=True)
class Released:
    """A file, what `check` says of it, and what else must be said to load it."""

    file: str
    network: str
    how: str
    published: str = ""  # its name in weights.toml
    notes: str = ""
    preprocess: str | None = None  # where weights.toml does not know the file
    several: bool = False  # whether other rows have its shapes


FOLDED = "batch norm folded into the layer before it: left to add the bias (27 times)"
FILES = [
    Released("akamaster/resnet20-12fca82f.th", "resnet20", "by the names of akamaster ResNet", "resnet20@akamaster"),
    Released("akamaster/resnet44-014dd654.th", "resnet44", "by the names of akamaster ResNet", "resnet44@akamaster"),
    Released("lenet_caffe/lenet_iter_10000.caffemodel", "lenet_caffe", "by order and shape", preprocess="grey"),
    Released("squeezenet1_1_caffe/squeezenet1_1.npz", "squeezenet1_1", "by order and shape", preprocess="caffe"),
    Released(
        "coral/mobilenet_v1_0.25_128_quant.tflite",
        "mobilenet_v1_0_25_128_slim",
        "by order and shape",
        "mobilenet_v1_0_25_128_slim@coral",
        FOLDED,
    ),
    Released(
        "coral/dq_mobilenet_v1_0.25_128_quant.npz",
        "mobilenet_v1_0_25_128_slim",
        "by order and shape",
        notes=FOLDED,
        preprocess="half",
        several=True,
    ),
]
BY_FILE = {Path(it.file).name: it for it in FILES}


@pytest.mark.parametrize("it", FILES, ids=BY_FILE)
def test_recognised(it: Released, real_packs: Path) -> None:
    found = check(real_packs / "weights" / it.file, it.network if it.several else None)
    assert (found.published.name if found.published else "") == it.published
    (row,) = found.rows
    assert (row.variant.name, row.fit.how, "; ".join(row.fit.notes)) == (it.network, it.how, it.notes)
    assert row.fit.left_out == ()
    assert len(row.fit.layers) == len({a for a, _ in row.fit.layers}) == len({b for _, b in row.fit.layers})


def scored(it: Released, data: Data, packs: Path, part: slice = slice(None)) -> Scores:
    """The scores on a part of the split that is evaluated."""
    images = data.split(None)
    chosen = images.part(torch.arange(len(images))[part], images.name, {})
    model = load(packs / "weights" / it.file, network=it.network if it.several else None, preprocess=it.preprocess)
    return evaluate(model, replace(data, test=chosen), split="test")


@pytest.mark.parametrize(("file", "top1"), [("resnet20-12fca82f.th", 0.9173), ("resnet44-014dd654.th", 0.9310)])
def test_cifar10(file: str, top1: float, real_data: Path, real_packs: Path) -> None:
    data = load_data(f"cifar10:{real_data / 'cifar-10-batches-py'}")
    low, high = scored(BY_FILE[file], data, real_packs, slice(400)).interval()
    assert low <= top1 <= high


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "hits"),
    [("resnet20-12fca82f.th", 9173), ("resnet44-014dd654.th", 9311), ("lenet_iter_10000.caffemodel", 9905)],
)
def test_whole_test_sets(file: str, hits: int, real_data: Path, real_packs: Path) -> None:
    """The counts of another evaluation of the same files, but for a tie or two."""
    source = f"mnist:{real_data / 'mnist'}" if "lenet" in file else f"cifar10:{real_data / 'cifar-10-batches-py'}"
    assert abs(scored(BY_FILE[file], load_data(source), real_packs).hits(1) - hits) <= 2


def test_mnist(real_data: Path, real_packs: Path) -> None:
    """98.6% in its readme; another evaluation of the file has 99.05%."""
    low, high = scored(
        BY_FILE["lenet_iter_10000.caffemodel"], load_data(f"mnist:{real_data / 'mnist'}"), real_packs, slice(1000)
    ).interval()
    assert low <= 0.986 <= 0.9905 <= high
