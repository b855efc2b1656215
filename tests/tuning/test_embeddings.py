"""Features as a file, and the nearest neighbours against a loop."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from convatlas.errors import UserError
from convatlas.tuning.embeddings import embeddings_file, nearest, nearest_of, write_embeddings
from convatlas.tuning.probed import probed
from tests.trained import digits
from tests.tuning.models import small


def test_the_file_has_both_splits(tmp_path: Path) -> None:
    found = probed(small(), digits(60))
    with np.load(write_embeddings(found, tmp_path / "all.npz")) as file:
        assert set(file) == {"classes", *(f"{s}{of}" for s in ("train", "val") for of in ("", "_labels", "_images"))}
        assert np.array_equal(file["train"], found.train.values.numpy())
        assert np.array_equal(file["val_labels"], found.held_out.labels.numpy())
        assert file["train_images"][7] == "7"
        assert list(file["classes"]) == list("0123456789")
    assert nearest_of(found).n == 64
    assert nearest_of(found).hits > 30


def test_neighbours_against_a_loop() -> None:
    random = torch.Generator().manual_seed(0)
    train, held_out = torch.randn(60, 6, generator=random), torch.randn(40, 6, generator=random)
    labels, correct = torch.arange(60) % 4, torch.arange(40) % 4
    hits = 0
    for x, right in zip(held_out, correct):
        order = torch.nn.functional.cosine_similarity(x[None], train).argsort(descending=True)[:5]
        votes = Counter(labels[order].tolist())
        most = [c for c in votes if votes[c] == max(votes.values())]
        first = next(c for c in labels[order].tolist() if c in most)
        hits += first == int(right)
    assert nearest(train, labels, held_out, correct).hits == hits


def test_names_and_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"all\.csv is not an \.npz file; give a name that ends in \.npz"):
        embeddings_file("all.csv")
    with pytest.raises(UserError, match="there is no folder"):
        embeddings_file(tmp_path / "none" / "all.npz")
