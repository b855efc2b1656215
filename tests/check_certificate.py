"""Checks the certificate of a choice by its JSON alone, without convatlas: `check_certificate.py < FILE.json`."""

import json
import operator
import sys

OPS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}


def check(found: dict) -> None:
    indices, limits, everyone = found["indices"], found["limits"], {c["name"]: c for c in found["candidates"]}
    for c in everyone.values():
        states = [holds(limit, c["values"].get(limit["quantity"])) for limit in limits]
        unknown = {it["quantity"] for it in indices + limits if not c["values"].get(it["quantity"])}
        assert c["status"] == ("refused" if False in states or unknown else "undecided" if None in states else "fits")
        assert [b["limit"] for b in c["breaks"] if b["limit"] >= 0] == [i for i, s in enumerate(states) if not s]
        assert {b["quantity"] for b in c["breaks"] if b["value"] is None} == unknown
        for b in (b for b in c["breaks"] if b["value"] is not None):
            limit, of = limits[b["limit"]], c["values"][b["quantity"]]
            assert (b["value"], b["by"]) == (of["value"], abs(of["value"] - limit["value"]))
            assert limit["op"] not in ("<=", ">=") or holds({**limit, "value": b["admits_at"]}, of)
    sign = {it["quantity"]: -1 if it["best"] == "highest" else 1 for it in indices}
    worth = {n: [sign[q] * c["values"][q]["value"] for q in sign] for n, c in everyone.items() if c["status"] == "fits"}
    front = {n for n, w in worth.items() if not any(better(other, w) for other in worth.values())}
    assert front == set(found["pareto"]) == {n for n in worth if everyone[n]["dominated_by"] is None}
    assert all(better(worth[everyone[n]["dominated_by"]], worth[n]) for n in worth.keys() - front)
    assert found["pick"] == min(worth, key=lambda n: (worth[n], n), default=None)


def holds(limit: dict, of: dict | None) -> bool | None:
    ends = {OPS[limit["op"]](of[end], limit["value"]) if of else False for end in ("low", "high")}
    inside = of and limit["op"] == "=" and of["low"] <= limit["value"] <= of["high"] != of["low"]
    return None if inside or len(ends) == 2 else ends.pop()


def better(one: list, other: list) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    check(json.load(sys.stdin))
    print("the certificate holds")
