"""What networks cost, for a choice: counted from the tables, estimated from this machine's profiles, or predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..accounting.exported import exported_bytes
from ..accounting.rows import Account
from ..engines.latency.estimate import chosen, estimate, fastest, of_atlas
from ..engines.latency.profile import Estimate, Profile
from ..tables import index
from ..tables.search import quantities
from .certificate import Value, plain

if TYPE_CHECKING:
    from torch import nn

TIMED = ("latency", "throughput")


def counted(network: str) -> dict[str, Value | None]:
    """The quantities of the tables, and `size`: of the ONNX file in float32 that `export` writes."""
    entry = index()[network]
    found = {name: Value.exact(plain(value)) for name, value in quantities(entry, None).items() if value is not None}
    return {**found, "size": Value.exact(entry["exported_bytes"])}


def of_account(counts: Account, year: int) -> dict[str, Value | None]:
    """The same of a network that no table has."""
    entry = {
        "totals": counts.totals.to_json(),
        "input": counts.input,
        "depth": counts.depth,
        "paper": {"year": year},
    }
    found = {name: Value.exact(plain(value)) for name, value in quantities(entry, None).items() if value is not None}
    return {**found, "size": Value.exact(exported_bytes(counts))}


def latencies(networks: Iterable[str], engine: str, threads: int, batch: int) -> dict[str, Estimate]:
    """The time of a batch on the fastest of the calibrated engines, by network.

    Raises UserError where this machine is not calibrated for it.
    """
    profiles = profiles_of(engine, threads)
    if batch == 1:
        of_all = of_atlas(profiles)
        return {name: of_all[name] for name in networks}
    return {name: fastest(estimate(name, profile, batch) for profile in profiles) for name in networks}


def latency_of(counts: Account, engine: str, threads: int, batch: int) -> Value:
    """The same of a network that no table has."""
    return of_estimate(fastest(estimate(counts, profile, batch) for profile in profiles_of(engine, threads)))


def profiles_of(engine: str, threads: int) -> list[Profile]:
    return chosen(None if engine == "auto" else engine, "fp32", threads)


def timed(latency: Value, batch: int) -> dict[str, Value | None]:
    """The latency of a batch, and the images a second that it comes to."""
    value, low, high, how = latency
    return {"latency": latency, "throughput": Value(batch / value, batch / high, batch / low, how)}


def of_estimate(it: Estimate) -> Value:
    return Value(it.median_s, it.low_s, it.high_s, "estimated")


def memories(networks: Sequence[str], batch: int, tell: Callable[[float, str], None]) -> Mapping[str, Value]:
    """The peak of inference in bytes, as accounting predicts it: what tensors hold, weights included."""
    found = {}
    for i, name in enumerate(networks):
        tell(i / len(networks), f"memory of {name}")
        found[name] = memory_of(name, batch)
    return found


def memory_of(network: nn.Module | str, batch: int) -> Value:
    from ..accounting.memory.predict import inference_peak

    return Value.exact(inference_peak(network).of(batch), "predicted")
