"""A probe is fitted once for what it depends on, and again where any of that changes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas.tuning import kept_probe, probe
from convatlas.tuning.kept_probe import probe_of

X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3
HOW: dict[str, Any] = {"seed": 0, "balance": False, "intercept": True}


def test_it_is_fitted_once_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first = probe_of(X, Y, "abc", **HOW)
    monkeypatch.setattr(kept_probe, "fit_probe", None)
    again = probe_of(X, Y, "abc", **HOW)
    for name in ("weight", "bias", "held_out"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert (again.strength, again.losses) == (first.strength, first.losses)


def test_what_it_depends_on_makes_another(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe_of(X, Y, "abc", **HOW)
    for x, y, classes, how in (
        (X + 1, Y, "abc", HOW),
        (X, Y.flip(0), "abc", HOW),
        (X, Y, "abc", HOW | {"seed": 1}),
        (X, Y, "abc", HOW | {"balance": True}),
        (X, Y, "abc", HOW | {"intercept": False}),
    ):
        probe_of(x, y, classes, **how)
    assert len(list((cache.parent / "probes").iterdir())) == 6
    monkeypatch.setattr(probe, "STRENGTHS", (1.0,))
    assert probe_of(X, Y, "abc", **HOW).strength == 1


def test_a_damaged_file_is_replaced_and_an_unwritable_folder_does_not_matter(cache: Path) -> None:
    first = probe_of(X, Y, "abc", **HOW)
    (file,) = (cache.parent / "probes").iterdir()
    file.write_bytes(file.read_bytes()[:-8])
    assert torch.equal(probe_of(X, Y, "abc", **HOW).weight, first.weight)
    file.unlink()
    file.parent.rmdir()
    file.parent.write_text("in the way")
    assert torch.equal(probe_of(X, Y, "abc", **HOW).weight, first.weight)
