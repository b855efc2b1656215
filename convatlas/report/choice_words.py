"""A choice in words: amounts, limits, and what keeps each network from being picked."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from ..choice.certificate import Bound, Break, Certificate, Judged, Value
from ..choice.choose import Choice, Request
from ..choice.yours import is_at_hand
from ..engines.latency.profile import milliseconds
from ..weights.published import published
from .tables import compact

BEST = {
    "top1": "most accurate network",
    "top5": "most accurate network (top-5)",
    "yours": "network most accurate on your images",
    "latency": "fastest network",
    "throughput": "network with the most images a second",
    "params": "network with the fewest parameters",
    "macs": "network with the fewest multiply-adds",
    "size": "network with the smallest file",
    "memory": "network with the least memory",
}
BYTES = ("size", "memory", "bytes")
PERCENTS = ("top1", "top5", "yours")
PLAIN = ("depth", "side", "channels", "year")
DIGITS = 3
Factor = tuple[Decimal, str]
COUNTS: tuple[Factor, ...] = ((Decimal(10**9), "G"), (Decimal(10**6), "M"), (Decimal(10**3), "k"), (Decimal(1), ""))
SIZES: tuple[Factor, ...] = (*((factor, f"{sign}B") for factor, sign in COUNTS[:-1]), (Decimal(1), "B"))


def amount(quantity: str, value: float) -> str:
    """ "5.29M", "20.4 MB", "14 ms", "77.69%"."""
    if quantity in PERCENTS:
        return f"{value:.2f}%"
    if quantity == "latency":
        return f"{milliseconds(value)} ms" if value else "0 ms"
    if quantity in BYTES:
        factor, sign = next((it for it in SIZES if value >= it[0]), SIZES[-1])
        return f"{value / float(factor):.3g} {sign}"
    if quantity == "throughput":
        return f"{value:.3g}/s"
    return str(value) if quantity in PLAIN else compact(round(value))


def spanned(quantity: str, of: Value) -> str:
    """With its interval, if it has one."""
    text = amount(quantity, of.value) + (" measured" if of.how == "measured" else "")
    return text if of.low == of.high else f"{text} ({bare(quantity, of.low)} to {bare(quantity, of.high)})"


def bare(quantity: str, value: float) -> str:
    return amount(quantity, value).removesuffix(" ms").removesuffix("/s")


def limit_text(bound: Bound) -> str:
    """ "params<=5M"."""
    if bound.quantity in PERCENTS:
        return f"{bound.quantity}{bound.op}{bound.value:g}%"
    return f"{bound.quantity}{bound.op}{amount(bound.quantity, bound.value).replace(' ', '').removesuffix('/s')}"


def loosened(bound: Bound, to: float) -> str:
    """The limit that just admits a value, in three digits rounded outwards, as `parse_limit` reads it."""
    exact = Decimal(str(to))
    if bound.quantity == "latency":
        factor, suffix = Decimal("0.001"), "ms"
    elif bound.quantity in PERCENTS:
        factor, suffix = Decimal(1), "%"
    elif bound.quantity in (*PLAIN, "throughput"):
        factor, suffix = Decimal(1), ""
    else:
        units = SIZES if bound.quantity in BYTES else COUNTS
        factor, suffix = next((it for it in units if exact >= it[0]), units[-1])
    scaled = exact / factor
    if bound.op != "=" and scaled:
        step = Decimal(1).scaleb(scaled.adjusted() - DIGITS + 1)
        rounded = scaled.quantize(step, ROUND_CEILING if bound.op[0] == "<" else ROUND_FLOOR)
        if rounded == scaled and len(bound.op) == 1:
            rounded += step if bound.op == "<" else -step
        scaled = rounded
    text = f"{scaled:f}"
    return f"{bound.quantity}{bound.op}{text.rstrip('0').rstrip('.') if '.' in text else text}{suffix}"


def why(certificate: Certificate, it: Judged) -> str:
    """What keeps a network from being picked, each limit it breaks by how much, and what would admit it."""
    name = it.candidate.name
    if it.status == "fits":
        if name == certificate.pick:
            return "picked"
        by = certificate.dominators[name]
        return f"fits; not better in anything than {by}" if by else "fits; on the Pareto set"
    limits = [one for one in it.breaks if one.quantity != "yours"]
    if limits:
        return "; ".join(broken(certificate, one) for one in limits)
    return "its weights cannot be used" if is_at_hand(it.candidate.fact.weights) else "no weights"


def broken(certificate: Certificate, it: Break) -> str:
    if it.value is None or it.by is None or it.admits_at is None:
        return f"its {it.quantity} is not known"
    bound = certificate.bounds[it.limit]
    admits = loosened(bound, it.admits_at)
    if it.undecided:
        return f"undecided: {limit_text(bound)} lies inside its interval ({admits} would surely admit it)"
    share = "" if it.share is None else f" ({percent(it.share)})"
    side = "under" if bound.op[0] == ">" else "over" if bound.op[0] == "<" else "off"
    by = f"{it.by:.2f} points" if it.quantity in PERCENTS else f"{amount(it.quantity, it.by)}{share}"
    return f"{it.quantity} {amount(it.quantity, it.value)} is {by} {side}; {admits} admits it"


def percent(share: float) -> str:
    return f"{share:.1%}" if share < 10 else f"{share:,.0f} times"


def asked(request: Request) -> str:
    """The request as a sentence without its verb."""
    limits = ", ".join(limit_text(Bound.of(limit)) for limit in request.limits)
    crop = "one centre crop" if request.dataset.startswith("imagenet") else "the whole images"
    how = {"center": crop, "unstated": f"{crop} or a protocol not stated", "any": "any protocol"}[request.protocols]
    best, told = BEST[request.indices[0]], f"on {request.dataset} ({how})"
    what = f"the {best}, of what is known {told}," if request.data else f"the {best} {told}"
    return what + (f" within {limits}" if limits else "")


def picked(choice: Choice) -> Iterator[str]:
    """The pick, or that there is none, and what each limit would have to give."""
    certificate, pick = choice.certificate, choice.pick
    if pick is None:
        n = len(certificate.of_status("undecided"))
        yield f"No network is surely within all limits: {len(certificate.judged)} figures were compared" + (
            f", {n} are undecided." if n else "."
        )
        if choice.yours and (missing := without_weights(choice)):
            yield f"  {len(missing)} would fit, and their weights are not at hand; {fetching(missing)}"
    else:
        figures = (
            f"{name} {spanned(name, of)}" for name in certificate.indices if (of := pick.values.get(name)) is not None
        )
        yield f"Pick: {pick.name}: {', '.join(figures)}"
        yield f"  accuracy from {pick.fact.where}; weights {pick.fact.origin}."
        if not pick.fact.weights:
            others = (
                f"others of this network are, as {choice.weights}"
                if choice.weights
                else "the network has to be trained"
            )
            yield f"  Weights with this accuracy are not published; {others}."
    for number, to, admits in certificate.loosened:
        better = certificate.judged[admits].candidate
        first = certificate.indices[0]
        of = better.values[first]
        assert of is not None
        change = loosened(certificate.bounds[number], to)
        yield f"  {change} instead would admit {admits}, {first} {amount(first, of.value)}."


def without_weights(choice: Choice) -> list[str]:
    """The figures that nothing but weights is missing of, the most accurate ones of the data set first."""
    judged = choice.certificate.judged
    found = [name for name, it in judged.items() if [b.quantity for b in it.breaks] == ["yours"]]
    unusable = choice.yours.unusable if choice.yours else {}
    return sorted((n for n in found if n not in unusable), key=lambda n: (-(judged[n].candidate.fact.top1 or 0), n))


def fetching(names: list[str]) -> str:
    """How to get weights of the first that has some published."""
    first = next((name for name in names if name in published()), None)
    return f"`convatlas weights get {first}` fetches those of {first}." if first else "none of them are published."


def ranked(choice: Choice) -> Iterator[str]:
    """What the user's images say of the finalists."""
    yours = choice.yours
    if yours is None:
        return
    how = "a probe of each network's features, cross-validated on the same folds; images of test or val were not used"
    yield f"On {yours.images:,} training images of {yours.classes} classes ({yours.data}): {how}."
    alike = [it.name for it in yours.ranks[1:] if not it.surely_behind]
    if alike:
        them = "it is" if len(alike) == 1 else "they are"
        yield f"  {', '.join(alike)}: not surely behind {yours.ranks[0].name}; of these images {them} as good a choice."
    for name, reason in yours.unusable.items():
        yield f"  {name} could not be judged: {reason}."
    if missing := without_weights(choice):
        yield f"  {len(missing)} more would fit, and read `no weights`; {fetching(missing)}"


def summary(choice: Choice) -> Iterator[str]:
    """How many networks each limit refuses, and what was not compared."""
    certificate = choice.certificate
    fits = len(certificate.of_status("fits"))
    networks = len({it.candidate.fact.network for it in certificate.judged.values()})
    front = len(certificate.pareto)
    rest = fits - front
    others = f" and {rest} not better in anything than one of these" if rest else ""
    yield (
        f"{len(certificate.judged)} figures of {networks} networks compared: {fits} fit, {front} of them on the Pareto "
        f"set of {', '.join(certificate.indices)}{others}."
    )
    for number, bound in enumerate(certificate.bounds):
        broken_by = [
            it for it in certificate.judged.values() if any(b.limit == number and not b.undecided for b in it.breaks)
        ]
        only = sum(len(it.breaks) == 1 for it in broken_by)
        yield f"  {limit_text(bound)} refuses {len(broken_by)}, {only} of them alone."
    if certificate.better_undecided:
        names = ", ".join(certificate.better_undecided[:3])
        more = len(certificate.better_undecided) - 3
        yield (
            f"  {names}{f' and {more} more' if more > 0 else ''} would be picked if within the limit: undecided, "
            "because it lies inside the interval of the estimate; --verify measures them here."
        )
    if choice.unpredicted:
        yield f"  memory was predicted of what is within the other limits, and not of {choice.unpredicted} networks."
    yield f"  {len(choice.unknown)} networks have no such figure, and were not compared."


def machine(choice: Choice) -> str:
    """The machine in a line, and how its times came about."""
    here = choice.machine
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    request = choice.request
    times = ""
    if choice.engines:
        names = ", ".join(sorted(set(choice.engines.values())))
        count = f"{request.threads} thread{'s' * (request.threads > 1)}"
        times = f" Times are of a batch of {request.batch} on {names}, {count}."
    return f"{here['processor']}, {here['cores']} cores, {here['memory_bytes'] / 1e9:.0f} GB; {versions}.{times}"
