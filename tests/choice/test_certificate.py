"""Picks, Pareto sets and certificates against a brute force, and against the script that knows nothing of convatlas."""

import copy
import itertools
import json
from decimal import Decimal
from random import Random

import pytest

from convatlas.choice.certificate import Bound, Candidate, Certificate, Value, certify
from convatlas.choice.pareto import HIGHEST, dominators
from convatlas.limits import OF_CHOICES, OPERATORS, parse_limit
from convatlas.report.choice_words import loosened
from tests.check_certificate import check
from tests.choice import requests

SEEDS = range(1000)


def made(seed: int) -> tuple[Certificate, list, list, list]:
    rng = Random(seed)
    found, limits, indices = requests.candidates(rng), requests.limits(rng), requests.indices(rng)
    return certify(found, limits, indices), found, limits, indices


def inside(limit: object, of: Value | None) -> set[bool]:
    """Whether each number that a value may be is within a limit: in steps of a half, as limits are."""
    if of is None:
        return {False}
    steps = int(2 * (of.high - of.low))
    return {OPERATORS[limit.op](Decimal(str(of.low)) + Decimal(i) / 2, limit.value) for i in range(steps + 1)}  # type: ignore[attr-defined]


def goods(it: Candidate, indices: list) -> list[float]:
    return [(1 if name in HIGHEST else -1) * it.values[name].value for name in indices]  # type: ignore[union-attr]


def test_brute_force() -> None:
    """What fits, what is undecided, the Pareto set and the pick of a thousand requests, by their definitions."""
    seen = {"fits": 0, "undecided": 0, "refused": 0, "no pick": 0, "ties": 0}
    for seed in SEEDS:
        certificate, found, limits, indices = made(seed)
        fits = []
        for it in found:
            answers = [inside(limit, it.values[limit.quantity]) for limit in limits]
            known = all(it.values[name] for name in indices)
            status = (
                "refused"
                if {False} in answers or not known
                else "fits"
                if all(a == {True} for a in answers)
                else "undecided"
            )
            assert certificate.judged[it.name].status == status, seed
            seen[status] += 1
            if status == "fits":
                fits.append(it)

        beaten = {
            b.name
            for a, b in itertools.permutations(fits, 2)
            if all(x >= y for x, y in zip(goods(a, indices), goods(b, indices)))
            and goods(a, indices) != goods(b, indices)
        }
        assert set(certificate.pareto) == {it.name for it in fits} - beaten, seed
        best = sorted(fits, key=lambda it: ([-g for g in goods(it, indices)], it.name))
        assert certificate.pick == (best[0].name if best else None), seed
        seen["no pick"] += not best
        seen["ties"] += len(best) > 1 and goods(best[0], indices) == goods(best[1], indices)
        for name in beaten:
            assert certificate.dominators[name] in certificate.pareto
    assert min(seen.values()) > 20, seen


def test_every_certificate_is_checked_by_the_script() -> None:
    for seed in SEEDS:
        check(json.loads(json.dumps(made(seed)[0].to_json())))


@pytest.mark.parametrize(
    "lie",
    [
        lambda c: c.update(pick=next(x["name"] for x in c["candidates"] if x["name"] != c["pick"])),
        lambda c: c["pareto"].pop(),
        lambda c: c["candidates"][0].update(status="undecided"),
        lambda c: next(x for x in c["candidates"] if x["breaks"])["breaks"].pop(),
        lambda c: next(b for x in c["candidates"] for b in x["breaks"] if b["by"]).update(by=0),
        lambda c: next(x for x in c["candidates"] if x["dominated_by"]).update(dominated_by=None),
        lambda c: next(x for x in c["candidates"] if x["dominated_by"]).update(dominated_by=c["pareto"][-1] + "x"),
        lambda c: next(x for x in c["candidates"] if x["status"] == "fits")["values"].update(top1=None),
    ],
)
def test_the_script_finds_lies(lie: object) -> None:
    seeds = (
        s
        for s in SEEDS
        if (c := made(s)[0]).pick
        and any(c.dominators.values())
        and any(b.by for it in c.judged.values() for b in it.breaks)
    )
    record = json.loads(json.dumps(made(next(seeds))[0].to_json()))
    check(copy.deepcopy(record))
    lie(record)  # type: ignore[operator]
    with pytest.raises((AssertionError, KeyError, TypeError)):
        check(record)


def test_what_would_admit_admits() -> None:
    """Each limit that a certificate says would admit does, and the least one that it names for a limit is that."""
    loosenings = 0
    for seed in SEEDS:
        certificate, found, limits, indices = made(seed)
        for it in certificate.judged.values():
            for broken in it.breaks:
                if broken.value is not None and certificate.bounds[broken.limit].op in ("<=", ">="):
                    bound = certificate.bounds[broken.limit]._replace(value=broken.admits_at)
                    assert bound.holds(it.candidate.values[broken.quantity])
        for number, to, admits in certificate.loosened:
            loosenings += 1
            if limits[number].op in ("<=", ">="):
                given = [*limits]
                given[number] = limits[number].__class__(limits[number].quantity, limits[number].op, Decimal(str(to)))
                new = certify(found, given, indices)
                assert new.judged[admits].status == "fits"
                assert new.pick == admits, "the least that gives something better gives that"
    assert loosenings > 100


def test_the_nearest_break_the_least() -> None:
    for seed in SEEDS:
        certificate = made(seed)[0]
        assert not (certificate.pick and certificate.nearest)
        far = [
            it.distance
            for n, it in certificate.judged.items()
            if it.status == "refused" and n not in certificate.nearest
        ]
        assert all(
            certificate.judged[n].distance <= d for n in certificate.nearest for d in far if not certificate.pick
        )


@pytest.mark.parametrize("quantity", sorted(OF_CHOICES))
def test_a_loosened_limit_as_it_is_printed_admits(quantity: str) -> None:
    rng = Random(quantity)
    for op, _ in itertools.product(OPERATORS, range(40)):
        to = rng.choice([rng.randint(1, 10**9), round(rng.random() * 100, 6), rng.randint(1, 2000)])
        if quantity in ("top1", "top5"):
            to = round(rng.random() * 100, 3)
        text = loosened(Bound(quantity, op, 0), to)
        assert Bound.of(parse_limit(text, OF_CHOICES)).holds(Value.exact(to)), text
        again = float(parse_limit(text, OF_CHOICES).value)
        assert abs(again - to) <= 0.011 * to, "in three digits"


def test_equal_points_share_the_front() -> None:
    assert dominators({"a": (1.0, 2.0), "b": (1.0, 2.0), "c": (1.0, 3.0), "d": (0.0, 9.0)}) == {
        "a": None,
        "b": None,
        "c": "a",
        "d": None,
    }
