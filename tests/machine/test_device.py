"""The device and its algorithms."""

from __future__ import annotations

import os

import pytest
import torch

from convatlas.machine.device import algorithms


def test_deterministic_algorithms_are_asked_for_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")  # a user's own is left
    index = torch.tensor([0, 0])
    with algorithms(deterministic=True):
        assert torch.are_deterministic_algorithms_enabled()
        with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
            torch.zeros(2).put_(index, torch.ones(2))
    assert not torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
    with algorithms(deterministic=False):
        assert not torch.are_deterministic_algorithms_enabled()
