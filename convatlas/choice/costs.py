"""What networks cost, for a choice: counted from the tables, estimated from this machine's profiles, or predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ..engines.latency.estimate import chosen, estimate, fastest, of_atlas
from ..engines.latency.profile import Estimate
from ..tables import index
from ..tables.search import FLOAT32, quantities
from .certificate import Value, plain

TIMED = ("latency", "throughput")


def counted(network: str) -> dict[str, Value | None]:
    """The quantities of the tables, and `size`: bytes of the weights and running statistics in float32."""
    entry = index()[network]
    size = FLOAT32 * (entry["totals"]["params"] + entry["statistics"])
    found = {name: Value.exact(plain(value)) for name, value in quantities(entry, None).items() if value is not None}
    return {**found, "size": Value.exact(size)}


def latencies(networks: Iterable[str], engine: str, threads: int, batch: int) -> dict[str, Estimate]:
    """The time of a batch on the fastest of the calibrated engines, by network.

    Raises UserError where this machine is not calibrated for it.
    """
    profiles = chosen(None if engine == "auto" else engine, "fp32", threads)
    if batch == 1:
        of_all = of_atlas(profiles)
        return {name: of_all[name] for name in networks}
    return {name: fastest(estimate(name, profile, batch) for profile in profiles) for name in networks}


def timed(latency: Value, batch: int) -> dict[str, Value | None]:
    """The latency of a batch, and the images a second that it comes to."""
    value, low, high, how = latency
    return {"latency": latency, "throughput": Value(batch / value, batch / high, batch / low, how)}


def of_estimate(it: Estimate) -> Value:
    return Value(it.median_s, it.low_s, it.high_s, "estimated")


def memories(networks: Sequence[str], batch: int, tell: Callable[[float, str], None]) -> Mapping[str, Value]:
    """The peak of inference in bytes, as accounting predicts it: what tensors hold, weights included."""
    from ..accounting.memory.predict import inference_peak

    found = {}
    for i, name in enumerate(networks):
        tell(i / len(networks), f"memory of {name}")
        found[name] = Value.exact(inference_peak(name).of(batch), "predicted")
    return found
