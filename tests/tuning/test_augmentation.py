"""Augmentation is chosen by what a probe gains from copies; those of the images it is judged on are not learnt from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from convatlas.tuning import augmentation
from convatlas.tuning.augmentation import augmentations, loss_with, losses
from convatlas.tuning.features import computed
from convatlas.tuning.probed import Probed, probed
from convatlas.tuning.transfer import transfer
from tests.trained import digits
from tests.tuning.models import small


@pytest.fixture
def found() -> Probed:
    return probed(small(), digits(100))


def test_digits_that_fill_their_image_are_not_shifted(found: Probed) -> None:
    assert augmentations(found) == [("pad_crop:1",), ()]
    tried = losses(found)
    assert tried[()] < tried["pad_crop:1",]


def test_what_helps_is_chosen(found: Probed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    centres = torch.stack([found.train.values[found.train.labels == c].mean(0) for c in range(10)])

    def typical(model: object, split: object, indices: Sequence[int], *_: Any, **__: Any) -> Tensor:
        return centres[found.train.labels[indices]]

    monkeypatch.setattr(augmentation, "computed", typical)
    said: list[str] = []
    more: dict[str, Any] = {
        "mode": "finetune",
        "epochs": 1,
        "on_event": lambda event: said.append(event.get("text", "")),
    }
    run = transfer(small(), digits(100), out=tmp_path / "run", **more).run
    assert run.recipe.augment == ("pad_crop:1",)
    assert any(text.startswith("augmentation: cross-validated loss of a probe that has copies") for text in said)
    mine = transfer(small(), digits(100), out=tmp_path / "mine", changes=["augment=flip"], **more).run
    assert mine.recipe.augment == ("flip",)


def test_copies_of_the_images_that_are_judged_are_not_learnt_from(found: Probed) -> None:
    """Copies that tell nothing new change nothing; those of judged images would tell all."""
    values, order = found.train.values, torch.randperm(100)
    without = loss_with(found, values[:0], order[:0], 0)
    assert loss_with(found, values[order], order, 0) == pytest.approx(without, rel=0.02)
    assert without == pytest.approx(min(found.probe.losses.values()), rel=0.02)


def test_images_are_augmented_before_their_features_are_taken(found: Probed) -> None:
    plain = computed(found.model, found.data.train, [0, 1, 2], "cpu", None)
    torch.testing.assert_close(plain, found.train.values[:3])
    shifted = computed(found.model, found.data.train, [0, 1, 2], "cpu", None, ops=("pad_crop:1",))
    assert (plain - shifted).abs().max() > 0.1
