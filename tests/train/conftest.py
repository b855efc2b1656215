"""Fixtures of the tests of training."""

import pytest

from convatlas.data.types import Data
from tests.train.short_runs import some


@pytest.fixture(scope="session")
def data() -> Data:
    """72 digits to train on and 32 to judge by."""
    return some()
