"""Packages that hold weights, read as files: they are not imported."""

from importlib.util import find_spec
from pathlib import Path

import pytest


def packaged(package: str, file: str) -> Path:
    """A file of an installed package; the test is skipped where the package is not installed."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(spec.origin).parent / file
