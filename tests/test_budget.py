"""The budget of a reader: what keeps to it passes, and what does not is found out."""

from __future__ import annotations

import time

import pytest

from convatlas.errors import UserError
from tests.budget import MB, within


def refused() -> None:
    raise UserError("it is bad", "mend it")


def greedy() -> None:
    bytearray(400 * MB)


def disguised() -> None:
    try:
        greedy()
    except MemoryError as error:
        raise UserError("it is damaged") from error


def busy() -> None:
    while True:
        pass


def test_what_keeps_to_the_budget_says_what_it_says() -> None:
    assert within(refused) == "it is bad; mend it"
    assert within(lambda: bytearray(100 * MB)) == ""


@pytest.mark.parametrize("read", [greedy, disguised, busy, lambda: time.sleep(9), lambda: 1 // 0])
def test_what_does_not_is_found_out(read) -> None:
    with pytest.raises(AssertionError, match="did not keep to 256 MB and 1 s"):
        within(read, seconds=1)
