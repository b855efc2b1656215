"""Each test has a cache of its own, and few strengths to choose from; no curves are drawn."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the cached features."""
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not {"test_probe.py", "test_startup.py"} & {request.path.name}:
        monkeypatch.setattr("convatlas.tuning.probe.STRENGTHS", (0.01, 0.1))
    monkeypatch.setattr("convatlas.train.fit.draw_curves", lambda *_: None)
