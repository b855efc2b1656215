"""Every countable claim of every network is what we count, or carries a written gap; no other claim has one."""

from functools import cache

import pytest

from convatlas.account import Account, account, counted, holds
from convatlas.account.claims import printed_value
from convatlas.catalogue import Claim, find, names

fresh = cache(account)


@pytest.mark.parametrize("name", names())
def test_claims(name: str) -> None:
    result: Account = fresh(name)
    for claim in find(name).claims:
        held = holds(claim, result)
        if held is None:
            assert claim.gap is None, f"{claim} is not counted, so it has no gap"
        elif claim.gap is None:
            assert held, f"{claim.where} prints {claim.what} {claim.printed}; we count {counted(claim, result):,}"
        else:
            assert not held, f"{claim} holds: its gap is to be deleted"


def test_the_unit_of_the_last_digit() -> None:
    def unit(what: str, printed: str) -> tuple[int, int]:
        value, last = printed_value(Claim(what, printed, "here"))
        return int(value), int(last)

    assert unit("params", "25.6M") == (25_600_000, 100_000)
    assert unit("params", "60,965,224") == (60_965_224, 1)
    assert unit("gmacs", "3.8") == (3_800_000_000, 100_000_000)
    assert unit("mmacs", "569") == (569_000_000, 1_000_000)


def test_a_wrong_figure_is_noticed() -> None:
    result: Account = fresh("vgg16")
    assert holds(Claim("params", "138M", "Table 2"), result)
    assert not holds(Claim("params", "140M", "Table 2"), result)
    assert not holds(Claim("params", "138,357,543", "Table 2"), result)
    assert holds(Claim("top1_err", "27.0", "Table 3"), result) is None
