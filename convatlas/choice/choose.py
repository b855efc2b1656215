"""choose(): the network that a request asks for, with its certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ..engines.results import Record
from ..errors import UserError, unknown
from ..limits import Limit
from ..machine import facts as machine
from ..tables import index
from ..tables.published import DATASETS
from ..weights.published import published
from . import costs
from .certificate import Break, Candidate, Certificate, Judged, Value, certify
from .facts import Fact, Protocols, entering, facts
from .pareto import HIGHEST
from .scaled import Largest, families, scaled
from .verify import Measure, verified
from .yours import Judge, Yours, finalists

OBJECTIVES = ("top1", "top5", "latency", "throughput", "params", "macs", "size", "memory")
COSTS = ("params", "weights", "bytes", "macs", "training_macs", "activations", "depth")
INDICES = (*dict.fromkeys((*OBJECTIVES, *COSTS)),)
LATER = ("memory", "yours")  # what is only found out of those that may be picked
CLOSE = 10  # networks: where nothing passes the other limits, the memory of so many is predicted

Tell = Callable[[float, str], None]  # the share that is done, and what is being done


@dataclass(frozen=True)
class Request:
    """What is asked. `over` are the indices of the Pareto set after the objective; empty for what the request names."""

    limits: tuple[Limit, ...] = ()
    dataset: str = "imagenet"
    objective: str = "top1"
    over: tuple[str, ...] = ()
    batch: int = 1
    engine: str = "auto"
    threads: int = 1
    protocols: Protocols = "center"
    with_weights: bool = False
    data: str = ""  # the user's images, where finalists are judged on them
    scaled: tuple[str, ...] | None = None  # networks to scale between the published points; () for all that scale

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise unknown("objective", self.objective, OBJECTIVES)
        for name in self.over:
            if name not in INDICES:
                raise unknown("index", name, INDICES)

    @property
    def indices(self) -> tuple[str, ...]:
        """The objective, the accuracy, and the costs that are limited; where none is, parameters and multiply-adds.

        With `data` the accuracy is `yours`, that on the user's images, wherever it would be another's.
        """
        found = self.published_indices
        return tuple(dict.fromkeys("yours" if self.data and it in ("top1", "top5") else it for it in found))

    @property
    def published_indices(self) -> tuple[str, ...]:
        if self.over:
            return tuple(dict.fromkeys((self.objective, *self.over)))
        limited = [it.quantity for it in self.limits if it.quantity in OBJECTIVES or it.quantity in COSTS]
        found = dict.fromkeys((self.objective, "top1", *limited))
        return (*found,) if found.keys() - set(HIGHEST) else (*found, "params", "macs")

    @property
    def asked(self) -> set[str]:
        """The quantities that have to be known."""
        return {*self.indices, *(limit.quantity for limit in self.limits)}

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "limits": [str(limit) for limit in self.limits], "over": list(self.indices[1:])}


@dataclass(frozen=True)
class Choice:
    request: Request
    certificate: Certificate
    machine: Mapping[str, Any]
    unknown: Mapping[str, str]  # networks without a figure that may enter, and why
    engines: Mapping[str, str] = field(default_factory=dict)  # by network: what its latency is of
    unpredicted: int = 0  # candidates whose memory was not predicted: they break another limit
    records: Sequence[Record] = ()  # what --verify measured
    yours: Yours | None = None  # the finalists on the user's images
    scaled: Sequence[Largest] = ()  # between the published points

    @property
    def pick(self) -> Candidate | None:
        name = self.certificate.pick
        return None if name is None else self.certificate.judged[name].candidate

    @property
    def weights(self) -> str:
        """Those of the pick, or others of its network where its own are not published; empty where none are."""
        if self.pick is None:
            return ""
        network, own = self.pick.fact.network, self.pick.fact.weights
        return own or next((row.name for row in published().values() if row.network == network), "")

    def to_json(self) -> dict[str, Any]:
        return {
            "request": self.request.to_json(),
            **self.certificate.to_json(),
            "unknown": [{"network": name, "why": why} for name, why in self.unknown.items()],
            "engines": [{"network": name, "engine": engine} for name, engine in self.engines.items()],
            "machine": dict(self.machine),
            "measured": [record.to_json() for record in self.records],
            "yours": self.yours and self.yours.to_json(),
            "scaled": [it.to_json() for it in self.scaled],
        }


def choose(
    request: Request,
    results: Iterable[Fact] = (),
    *,
    measure: Measure | None = None,
    judge: Judge | None = None,
    tell: Tell = lambda done, what: None,
) -> Choice:
    """The pick of all candidates, with its certificate. The same request and files give the same pick.

    `results` are accuracies from files. `measure` (see verify.py) settles what is undecided and could be picked;
    `judge` (see yours.py) has the finalists' accuracies on the user's images, if the request has `data`. Raises
    UserError for a data set without any figure, and without a profile of this machine where latencies are asked.
    """
    known = facts(results)
    chosen = entering(known, request.dataset, request.protocols)
    if request.with_weights:
        chosen = [fact for fact in chosen if fact.weights]
    if not chosen:
        sets = sorted({fact.dataset for fact in known} | set(DATASETS))
        if request.dataset not in sets:
            raise unknown("data set", request.dataset, sets)
        raise UserError(
            f"no figure on {request.dataset} may enter the choice", "give --protocol any, or leave out --with-weights"
        )
    between = families(request.dataset, request.scaled) if request.scaled is not None else ()
    networks = list(dict.fromkeys(fact.network for fact in chosen))
    values = {name: costs.counted(name) for name in networks}
    engines: dict[str, str] = {}
    if request.asked & set(costs.TIMED):
        for name, found in costs.latencies(networks, request.engine, request.threads, request.batch).items():
            values[name] |= costs.timed(costs.of_estimate(found), request.batch)
            engines[name] = found.key.engine

    yours: Yours | None = None

    def certified() -> Certificate:
        every = [candidate(fact, values[fact.network]) for fact in chosen]
        if request.data:
            own = yours.values() if yours else {}
            every = [replace(it, values={**it.values, "yours": own.get(it.name)}) for it in every]
        return certify(every, request.limits, request.indices)

    certificate, unpredicted = certified(), 0
    if "memory" in request.asked:
        wanted = list(dict.fromkeys(it.candidate.fact.network for it in passing(certificate)))
        for name, of in costs.memories(wanted, request.batch, tell).items():
            values[name]["memory"] = of
        certificate, unpredicted = certified(), len(networks) - len(wanted)
    if judge is not None:
        wanted_models = {it.candidate.name: it.candidate.fact.weights for it in passing(certificate) if within(it)}
        yours = judge(finalists(wanted_models), tell)
        certificate = certified()
    records: list[Record] = []
    if measure is not None:
        if not request.asked & set(costs.TIMED):
            raise UserError("--verify measures latencies, and the request has none", "leave it out, or limit latency")
        certificate, records = verified(certified, values, engines, request.batch, measure, tell)
    without = {name: why(name, known, request) for name in index() if name not in values}
    larger = scaled(between, request.limits, request.engine, request.threads, request.batch, tell)
    return Choice(request, certificate, machine.machine(), without, engines, unpredicted, records, yours, larger)


def candidate(fact: Fact, values: Mapping[str, Value | None]) -> Candidate:
    how = "measured" if fact.kind == "measured" else "published"
    accuracies = {
        name: None if of is None else Value.exact(of, how) for name, of in (("top1", fact.top1), ("top5", fact.top5))
    }
    return Candidate(fact, {**values, **accuracies})


def passing(certificate: Certificate) -> list[Judged]:
    """What breaks nothing but what is not known yet; where nothing does, the closest."""
    judged = certificate.judged.values()
    found = [it for it in judged if within(it)]
    return found or sorted(judged, key=lambda it: (sum(broken_by(it)), it.candidate.name))[:CLOSE]


def within(it: Judged) -> bool:
    """Whether it breaks nothing, as far as is known."""
    return not broken_by(it)


def broken_by(it: Judged) -> list[float]:
    """The shares by which it breaks limits on what is known."""

    def later(broken: Break) -> bool:
        return broken.quantity in LATER and broken.value is None

    return [broken.share or 0.0 for broken in it.breaks if not broken.undecided and not later(broken)]


def why(network: str, known: Iterable[Fact], request: Request) -> str:
    """Why a network has no figure that may enter."""
    there = [fact for fact in known if fact.network == network and fact.dataset == request.dataset]
    if not there:
        return f"no accuracy on {request.dataset} is known"
    first = there[0]
    if request.with_weights and any(fact.enters(request.protocols) for fact in there):
        return f"no weights with a known accuracy are published ({first.source} prints one)"
    figure = f"{first.top1:g}%" if first.top1 is not None else f"top-5 {first.top5:g}%"
    return f"only by another protocol: {figure} ({first.protocol}{'' if first.single else ', several models'})"
