"""Which points no other point is better than, by comparing all of them. Plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HIGHEST = ("top1", "top5", "yours", "throughput")  # the more the better; of all else, the less

Worth = tuple[float, ...]  # the less the better, in every place


def worth(values: Mapping[str, float], indices: Sequence[str]) -> Worth:
    return tuple(-values[name] if name in HIGHEST else values[name] for name in indices)


def dominates(one: Worth, other: Worth) -> bool:
    """Whether it is at least as good everywhere, and better somewhere."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def dominators(points: Mapping[str, Worth]) -> dict[str, str | None]:
    """For each point the best one that dominates it; None for those of the Pareto set, which equal points share.

    The best is the first by its places in turn. What dominates it would dominate the point as well, and come before
    it: so it is in the Pareto set.
    """
    ordered = sorted(points, key=lambda name: (points[name], name))
    found: dict[str, str | None] = {}
    front: list[str] = []
    for name in ordered:
        found[name] = next((other for other in front if dominates(points[other], points[name])), None)
        if found[name] is None:
            front.append(name)
    return {name: found[name] for name in points}
