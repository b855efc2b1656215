"""Labels that were exchanged are found."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convatlas.data.types import MemorySplit
from convatlas.tuning.probe import fit_probe
from convatlas.tuning.suspects import suspects, write_suspects
from tests.trained import digits

WRONG = [3, 50, 120, 333, 400]


def test_labels_that_were_exchanged_are_among_the_first(tmp_path: Path) -> None:
    images = digits(train=500).train
    assert isinstance(images, MemorySplit)
    labels = images.labels.clone()
    labels[WRONG] = (labels[WRONG] + torch.arange(3, 8)) % 10
    spoilt = replace(images, labels=labels)
    probe = fit_probe(spoilt.images.flatten(1).float(), labels, spoilt.classes)
    found = suspects(probe.held_out, spoilt)
    assert {it.index for it in found} >= set(WRONG)
    assert len(found) < 40
    assert len({it.index for it in found[:5]} & set(WRONG)) >= 3
    assert [it.loss for it in found] == sorted((it.loss for it in found), reverse=True)
    first = next(it for it in found if it.index == WRONG[0])
    assert (first.label, first.predicted) == (spoilt.classes[labels[3]], spoilt.classes[images.labels[3]])
    write_suspects(tmp_path, found)
    lines = (tmp_path / "suspects.csv").read_text().splitlines()
    assert lines[0] == "image,index,label,predicted,probability,loss"
    assert len(lines) == 1 + len(found)


def test_what_is_predicted_as_labelled_is_no_suspect() -> None:
    split = MemorySplit("train", torch.zeros(4, 1, 1, 1, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]), ("a", "b"))
    held_out = torch.tensor([[5.0, 0.0], [5.0, 0.0], [0.0, 5.0], [0.0, 0.1]])
    assert suspects(held_out, split) == []
    held_out[1] = torch.tensor([-5.0, 4.0])
    (found,) = suspects(held_out, split)
    assert (found.index, found.label, found.predicted) == (1, "a", "b")
    assert found.loss == pytest.approx(9 + math.log1p(math.exp(-9)))
