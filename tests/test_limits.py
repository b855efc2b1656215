"""Limits: one grammar, and amounts with their units."""

from decimal import Decimal

import pytest

from convatlas.errors import UserError
from convatlas.limits import (
    QUANTITIES,
    Limit,
    hold,
    parse_bytes,
    parse_limit,
    parse_macs,
    parse_percent,
    parse_seconds,
    whole_number,
)


@pytest.mark.parametrize(
    ("text", "quantity", "op", "value"),
    [
        ("params<=5M", "params", "<=", 5_000_000),
        ("params <= 5.5m", "params", "<=", 5_500_000),
        ("weights<1e6", "weights", "<", 1_000_000),
        ("macs<3.9G", "macs", "<", 3_900_000_000),
        ("macs<=600MMACs", "macs", "<=", 600_000_000),
        ("activations>10k", "activations", ">", 10_000),
        ("bytes<=100MB", "bytes", "<=", 100_000_000),
        ("bytes<=1.5GiB", "bytes", "<=", 1.5 * 2**30),
        ("side<=224px", "side", "<=", 224),
        ("side=32", "side", "=", 32),
        ("year>=2015", "year", ">=", 2015),
        ("top1>=75.3%", "top1", ">=", Decimal("75.3")),
        ("depth > 1_000", "depth", ">", 1000),
    ],
)
def test_limits(text: str, quantity: str, op: str, value: float) -> None:
    limit = parse_limit(text)
    assert (limit.quantity, limit.op, limit.value) == (quantity, op, value)
    assert parse_limit(text.replace(" ", "")) == limit


def test_what_holds() -> None:
    for op, below, equal, above in (
        ("<=", True, True, False),
        ("<", True, False, False),
        (">", False, False, True),
        (">=", False, True, True),
        ("=", False, True, False),
    ):
        limit = Limit("params", op, Decimal(5))
        assert [limit.holds({"params": n}) for n in (4, 5, 6)] == [below, equal, above], op
        assert not limit.holds({"params": None}), "what is not known keeps no limit"
        assert not limit.holds({})
    assert Limit("top1", "=", Decimal("75.3")).holds({"top1": 75.3}), "a float that is printed as 75.3"
    both = [parse_limit("params<5M"), parse_limit("year=2017")]
    assert hold(both, {"params": 1, "year": 2017})
    assert not hold(both, {"params": 1, "year": 2018})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parms<5M", "no quantity named 'parms'; did you mean params?"),
        ("params<5px", "limit 'params<5px': '5px' is not a count; write it as in 5M, 3.9G or 1e6"),
        ("side<5M", "limit 'side<5M': '5M' is not a number of pixels; write it as in 224 or 224px"),
        ("bytes<100", "'100' is not a number of bytes; write it as in 8GB"),
        ("params", "limit 'params' is not a quantity, one of <=, >=, <, >, =, and a value; write it as 'params<=5M'"),
        ("params!=5", "is not a quantity, one of"),
        ("params<=", "is not a quantity, one of"),
        ("params<=-5", "'-5' is not a count"),
        ("params<>5", "is not a quantity, one of"),
    ],
)
def test_refusals(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_limit(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_example_of_each_unit_is_one(quantity: str) -> None:
    first = QUANTITIES[quantity].example.split(",")[0].split(" ")[0]
    assert parse_limit(f"{quantity}<={first}").value > 0


def test_amounts() -> None:
    assert [parse_percent(t) for t in ("5%", "7.5", "0%")] == pytest.approx([0.05, 0.075, 0])
    assert [parse_seconds(t) for t in ("90s", "30m", "2h", "1.5d", "20ms")] == [90, 1800, 7200, 129_600, 0.02]
    assert [parse_bytes(t) for t in ("8GB", "8GiB", "500MB", "1.5 kb", "7B")] == [8e9, 8 * 2**30, 5e8, 1500, 7]
    assert [parse_macs(t) for t in ("1GMAC", "569M", "300_000_000", "1.5 GMACs", "1e9")] == [
        10**9, 569_000_000, 300_000_000, 1_500_000_000, 10**9,
    ]  # fmt: skip
    for parse, text, message in (
        (parse_percent, "5p", "'5p' is not a percentage; write it as in 75 or 75%"),
        (parse_seconds, "30", "'30' is not a time; write it as in 90s, 30m or 2h"),
        (parse_seconds, "0s", "'0s' is not a time"),
        (parse_bytes, "8", "'8' is not a number of bytes; write it as in 8GB"),
        *((parse_bytes, t, f"{t!r} is not a number of bytes") for t in ("0GB", "GB", "-8GB", "8 apples", "8iB", "")),
        (parse_macs, "1GFLOP", "'1GFLOP' is not a number of multiply-adds; write it as in 1GMAC"),
    ):
        with pytest.raises(UserError, match=message):
            parse(text)


def test_whole_numbers() -> None:
    assert [whole_number(text) for text in ("0", "007", "9" * 15)] == [0, 7, 10**15 - 1]
    assert [whole_number(t) for t in ("", "-1", "+1", "1.0", "²", "٣", "1_000", " 1", "9" * 16)] == [None] * 9
