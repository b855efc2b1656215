"""The charts of what was measured: time by batch, operations and time, accuracy and speed, memory, power."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from ...choice.facts import Fact, facts
from ...choice.results import measured
from ...engines.results import Record
from ...errors import UserError
from ..measure import digits
from . import results
from .frame import Asked, Chart, Line, Panel, Point
from .published import printed
from .results import NAMED, Timed, at_one_batch, by_setting, common, conditions, few, having, timed

OF_ENERGY = (
    "measure where the processor (RAPL) or the GPU (NVML) tells it: convatlas measure resnet18 --out results.jsonl"
)


def batch(asked: Asked) -> Chart:
    """The time of an image by batch size, a line a network."""
    found = timed(asked, "batch")
    few(found, "batch")
    return by_batch(found, "batch", "Time of an image, by batch size", [("ms an image", "", milliseconds)])


def milliseconds(it: Timed) -> tuple[float, float | None, float | None]:
    return it.image_s * 1e3, *it.ends_ms


def power(asked: Asked) -> Chart:
    """Power and energy by batch size, a line a network."""
    found = having(timed(asked, "power"), lambda r: r.image_joules, "what energy it took", OF_ENERGY)
    few(found, "power")
    if len(by_setting(found)) > 1:
        raise UserError("chart power shows one machine and engine at a time", "give a file of one")

    def joules(it: Timed) -> tuple[float, None, None]:
        assert it.record.image_joules is not None
        return it.record.image_joules, None, None

    def watts(it: Timed) -> tuple[float, None, None]:
        return joules(it)[0] / it.image_s, None, None

    rows = [("power (W)", "", watts), ("energy (J an image)", "", joules)]
    return by_batch(found, "power", "Power, and energy of an image, by batch size", rows)


def by_batch(
    found: Sequence[Timed], name: str, heading: str, rows: Sequence[tuple[str, str, Callable[[Timed], tuple]]]
) -> Chart:
    """Lines over batch sizes: a panel for each machine and engine, or for each quantity of one."""
    sizes = sorted({it.record.batch for it in found})
    if len(sizes) < 2:
        raise UserError(
            f"chart {name} needs several batch sizes, and the files have {sizes[0]} alone",
            "measure more: convatlas measure resnet18 vgg16 --batch 1,2,4,8 --out results.jsonl",
        )
    panels = []
    for setting, some in by_setting(found).items():
        for what, more, value in rows:
            points = []
            for model in dict.fromkeys(it.name for it in some):
                line = sorted((it for it in some if it.name == model), key=lambda it: it.record.batch)
                for it in line:
                    y, low, high = value(it)
                    label = model if it is line[-1] else ""
                    points.append(Point(model, it.record.batch, y, it.source, label, model, low=low, high=high))
            panels.append(
                Panel(
                    "images in a batch",
                    what,
                    tuple(points),
                    "lines",
                    log_x=True,
                    log_y=True,
                    ticks=tuple(sizes),
                    title=setting + more,
                )
            )
    return Chart(name, heading, tuple(panels), conditions(found), stacked=len(rows) > 1)


def time(asked: Asked) -> Chart:
    """Operations, counted, against time, and the median rate."""
    found = having(timed(asked, "time"), lambda r: r.macs, "how many multiply-adds an image takes", results.MAKE)
    at, size = at_one_batch(found)
    panels = []
    for setting, some in by_setting(at).items():
        points = []
        for it in some:
            low, high = it.ends_ms
            points.append(Point(it.name, gmacs(it), it.image_s * 1e3, it.source, it.name, low=low, high=high))
        rate = median(gmacs(it) / it.image_s for it in some)
        text = f"median {digits(rate)} G multiply-adds a second"
        line = Line(named(setting, text), f"the median of {len(points)} networks", 0.0, 1e3 / rate)
        panels.append(
            Panel(
                "multiply-adds of an image (G)",
                "ms an image",
                tuple(points),
                lines=(line,),
                log_x=True,
                log_y=True,
                title=setting,
            )
        )
    note = f"{size} {conditions(at)} Above the median rate, a multiply-add takes longer."
    return Chart("time", "Operations of an image, and the time that they take", tuple(panels), note)


def gmacs(it: Timed) -> float:
    return (it.record.macs or 0) / 1e9


def named(setting: str, text: str) -> str:
    """What is of one panel of several, as the legend is to have it."""
    return f"{setting}: {text}" if setting else text


def speed(asked: Asked) -> Chart:
    """Operations and time beside each other, a bar a network: is what computes less the faster one?"""
    found = having(timed(asked, "speed"), lambda r: r.macs, "how many multiply-adds an image takes", results.MAKE)
    at, size = at_one_batch(found)
    few(at, "speed")
    at.sort(key=gmacs)
    count = [
        Point(it.name, it.name, gmacs(it), it.source, f"{gmacs(it):.3g}", "multiply-adds")
        for it in {it.name: it for it in at}.values()
    ]
    times = [
        Point(it.name, it.name, it.image_s * 1e3, it.source, f"{it.image_s * 1e3:.3g}", setting or "time")
        for setting, some in by_setting(at).items()
        for it in some
    ]
    panels = (
        Panel("", "multiply-adds of an image (G)", tuple(count), "bars"),
        Panel("", "ms an image", tuple(times), "bars"),
    )
    note = f"{size} {conditions(at, bars=False)}"
    return Chart("speed", "Who computes less, and who is faster", panels, note)


def throughput(asked: Asked) -> Chart:
    """Accuracy against images a second: that of the weights which ran; without weights, the paper's."""
    dataset = asked.dataset or "imagenet"
    at, size = at_one_batch(timed(asked, "throughput"))
    known = [fact for fact in facts() if fact.dataset == dataset]
    panels, left_out = [], []
    for setting, some in by_setting(at).items():
        points = []
        for it in some:
            fact, whose = accuracy_of(it, known, dataset)
            if fact is None or fact.top1 is None:
                left_out.append(it.name)
                continue
            source = f"{it.source}; top-1 of {fact.name}: {fact.where}"
            points.append(
                Point(it.name, 1 / it.image_s, fact.top1, source, it.name, whose, low=fact.low, high=fact.high)
            )
        panels.append(
            Panel(
                "images a second",
                f"top-1 on {dataset} (%)",
                tuple(points),
                log_x=True,
                title=setting,
            )
        )
    if not any(panel.points for panel in panels):
        raise UserError(
            f"none of the networks has an accuracy on {dataset} by one centre crop",
            "measure one: convatlas measure MODEL --data SOURCE --out results.jsonl",
        )
    others = list(dict.fromkeys(left_out))
    without = (
        f" No such figure of {', '.join(others) if len(others) <= NAMED else f'{len(others)} more'}." if others else ""
    )
    note = f"Single models on one centre crop. {size} {conditions(at, bars=False)}{without}"
    return Chart("throughput", "Accuracy, and images a second", tuple(p for p in panels if p.points), note)


def accuracy_of(it: Timed, known: Sequence[Fact], dataset: str) -> tuple[Fact | None, str]:
    """The accuracy of what ran, and whose that is: as far as it may stand beside others, a single model's on one crop.

    Without weights it is what is published of the network at its own image size: by its paper, else by who timed it,
    else by another.
    """
    record = it.record
    if record.accuracy.kind == "measured":
        of, whose = [fact for fact in measured(record) if fact.dataset == dataset], "measured"
    elif record.accuracy.kind == "published":
        of, whose = [fact for fact in known if fact.weights == record.accuracy.source], "published with the weights"
    else:
        could_be_any = bool(record.source) or (record.accuracy.kind == "untrained" and record.precision == "fp32")
        alike = [fact for fact in known if fact.network == record.network and it.own_size and could_be_any]
        of = sorted(alike, key=lambda fact: rank(fact, record.source))
        whose = "published, timed without weights"
    return next((fact for fact in of if fact.enters("center") and fact.top1 is not None), None), whose


def rank(fact: Fact, timed_by: str) -> tuple[bool, bool, bool]:
    return fact.source != "paper", fact.source.partition("/")[0] != timed_by, fact.kind != "paper"


def memory(asked: Asked) -> Chart:
    """The size of the parameters against the memory that inference takes, with the line that fits best."""
    found = having(timed(asked, "memory"), taken, "how much memory it took", results.MAKE)
    found = having(found, lambda r: r.params, "how many parameters it has", results.MAKE)
    at, size = at_one_batch(found)
    panels = []
    for setting, some in by_setting(at).items():
        points = [Point(it.name, size_mb(it.record), mb, it.source, it.name) for it in some if (mb := taken(it.record))]
        slope, intercept = least_squares([(float(p.x), p.y) for p in points])
        text = named(setting or "fitted", f"{slope:.2f} x size + {intercept:,.0f} MB")
        fit = Line(text, f"least squares over {len(points)} networks", intercept, slope)
        panels.append(
            Panel(
                "size of the parameters, in float32 (MB)",
                "memory (MB)",
                tuple(points),
                lines=(fit, *bianco()),
                title=setting,
            )
        )
    on_gpu = "; on a GPU, of its allocator" if any(it.record.allocated_bytes for it in at) else ""
    where = ", ".join(common(it.setting for it in at))
    on = f" On {where}." if where else ""
    note = f"Memory: the peak of a process, libraries included{on_gpu}. {size}{on}"
    return Chart("memory", "Complexity of the model, and the memory that it takes", tuple(panels), note)


def bianco() -> list[Line]:
    """The lines that Bianco et al. fit on their two machines."""
    return [
        Line(
            f"{of['machine']}, Bianco et al.: {of['slope']:.2f} x size + {of['intercept_mb']} MB",
            of["source"],
            of["intercept_mb"],
            of["slope"],
        )
        for of in printed()["memory_lines"]
    ]


def taken(record: Record) -> float | None:
    """MB."""
    found = record.allocated_bytes or record.peak_bytes
    return found / 1e6 if found else None


def size_mb(record: Record) -> float:
    return 4 * (record.params or 0) / 1e6


def least_squares(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and intercept. Raises UserError for points that fix no line."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread:
        raise UserError("a line needs networks of two sizes", results.MAKE)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return slope, mean_y - slope * mean_x
