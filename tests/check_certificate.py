"""Checks the certificate of a choice by its JSON alone, without convatlas: `check_certificate.py FILE.json`."""

import json
import operator
import sys
from pathlib import Path

OPS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}


def check(found: dict) -> None:
    indices, limits, everyone = found["indices"], found["limits"], {c["name"]: c for c in found["candidates"]}
    for c in everyone.values():
        states = [state(limit, c["values"].get(limit["quantity"])) for limit in limits]
        unknown = {it["quantity"] for it in indices + limits if not c["values"].get(it["quantity"])}
        assert c["status"] == ("refused" if False in states or unknown else "undecided" if None in states else "fits")
        assert [b["limit"] for b in c["breaks"] if b["limit"] >= 0] == [
            i for i, s in enumerate(states) if s is not True
        ]
        assert {b["quantity"] for b in c["breaks"] if b["value"] is None} == unknown
        for b in (b for b in c["breaks"] if b["value"] is not None):
            limit, of = limits[b["limit"]], c["values"][b["quantity"]]
            assert (b["value"], b["by"]) == (of["value"], abs(of["value"] - limit["value"]))
            assert limit["op"] not in ("<=", ">=") or state({**limit, "value": b["admits_at"]}, of)
    sign = {it["quantity"]: -1 if it["best"] == "highest" else 1 for it in indices}
    fits = {name: c["values"] for name, c in everyone.items() if c["status"] == "fits"}
    worth = {name: [sign[q] * of[q]["value"] for q in sign] for name, of in fits.items()}
    front = {name for name, w in worth.items() if not any(better(other, w) for other in worth.values())}
    assert front == set(found["pareto"]) == {name for name in worth if everyone[name]["dominated_by"] is None}
    assert all(better(worth[everyone[name]["dominated_by"]], worth[name]) for name in worth.keys() - front)
    assert found["pick"] == min(worth, key=lambda name: (worth[name], name), default=None)


def state(limit: dict, of: dict | None) -> bool | None:
    if not of or limit["op"] != "=":
        ends = {bool(of) and OPS[limit["op"]](of[end], limit["value"]) for end in ("low", "high")}
        return None if len(ends) == 2 else ends.pop()
    return of["low"] == of["high"] == limit["value"] or (None if of["low"] <= limit["value"] <= of["high"] else False)


def better(one: list, other: list) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


if __name__ == "__main__":
    check(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print("the certificate holds")
