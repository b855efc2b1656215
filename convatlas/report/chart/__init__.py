"""Charts of the lectures, from the catalogue and from result files.

A chart is a function that makes a `Chart` of what is `Asked`; LISTED names it. To add one: its function in the file of
its group, and its line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...errors import UserError, unknown
from ..tables import Report, Table, label, prose
from . import accuracy, canziani, measured, results, trained
from .frame import Asked, Chart
from .winners import winners


@dataclass(frozen=True)
class Listed:
    """A chart by name. `takes`: which of what is `Asked` it heeds; the others are refused."""

    name: str
    title: str
    lectures: str
    make: Callable[[Asked], Chart]
    takes: tuple[str, ...] = ()  # networks, dataset, files
    files: str = ""  # what files it is drawn from, where it needs any


OF_ALL = ("networks", "dataset")
OF_FILES = ("networks", "files")
RESULTS, RUNS = results.FILES, trained.FILES
MAKE = {RESULTS: results.MAKE, RUNS: trained.MAKE}
LISTED = (
    Listed("winners", "ILSVRC winners by year: error, depth, and a person's error", "001, 003", winners),
    Listed("canziani", "top-1 against operations, bubbles of size: 14 networks", "000, 001, 003", canziani.operations),
    Listed("canziani-top1", "top-1 of the same 14 networks", "000, 001, 003", canziani.top1),
    Listed("canziani-density", "their accuracy per million parameters", "000, 001, 003", canziani.density),
    Listed("top1-operations", "top-1 against operations, bubbles of size: all", "002", accuracy.operations, OF_ALL),
    Listed("top1-parameters", "top-1 against parameters", "002", accuracy.parameters, OF_ALL),
    Listed("top1-memory", "top-1 against memory of inference, counted", "002", accuracy.memory, OF_ALL),
    Listed("top1-density", "top-1 against accuracy density", "002", accuracy.against_density, OF_ALL),
    Listed("density", "top-1 per million parameters: each family's densest", "002", accuracy.density, OF_ALL),
    Listed("top1-size", "top-1 against size, with compressed networks", "000", accuracy.size, ("networks",)),
    Listed("batch", "time of an image by batch size", "002", measured.batch, OF_FILES, RESULTS),
    Listed("time", "operations against time", "000, 001, 003", measured.time, OF_FILES, RESULTS),
    Listed("speed", "operations and time side by side", "003", measured.speed, OF_FILES, RESULTS),
    Listed("throughput", "accuracy against images a second", "002", measured.throughput, (*OF_ALL, "files"), RESULTS),
    Listed("memory", "size against memory, with its line", "002", measured.memory, OF_FILES, RESULTS),
    Listed("power", "power and energy by batch size", "000, 001, 003", measured.power, OF_FILES, RESULTS),
    Listed("curves", "errors of several runs by epoch", "003", trained.curves, ("files",), RUNS),
    Listed("gradients", "norms of gradients by stage and epoch", "003", trained.gradients, ("files",), RUNS),
)


def find(name: str) -> Listed:
    """Raises UserError with the near names."""
    names = {it.name: it for it in LISTED}
    if name not in names:
        raise unknown("chart", name, names)
    return names[name]


def chart(name: str, asked: Asked | None = None) -> Chart:
    """Raises UserError for an unknown name, and for what the chart does not take or cannot do without."""
    listed, asked = find(name), asked or Asked()
    if asked.files and "files" not in listed.takes:
        raise UserError(f"chart {name} is drawn from the catalogue, and reads no files", "leave them out")
    if listed.files and not asked.files:
        raise UserError(f"chart {name} is drawn from {listed.files}", f"{MAKE[listed.files]}, and give its name")
    for option in ("networks", "dataset"):
        if getattr(asked, option) is not None and option not in listed.takes:
            raise UserError(f"chart {name} takes no --{option}", "leave it out")
    return listed.make(asked)


def of_files(asked: Asked) -> tuple[list[Chart], dict[str, str]]:
    """Each chart that is drawn from such files, run folders or results files; and why the others cannot be, by name."""
    kind = RUNS if all(file.is_dir() for file in asked.files) else RESULTS
    made, refused = [], {}
    for listed in LISTED:
        if listed.files == kind:
            try:
                made.append(chart(listed.name, asked))
            except UserError as error:
                refused[listed.name] = str(error)
    return made, refused


def listing() -> Report:
    """The charts, with the lectures that show each and what it is drawn from."""
    rows = [(it.name, it.title, it.lectures, it.files or "the catalogue") for it in LISTED]
    columns = (label("chart", "name"), prose("shows", "title"), label("lectures"), prose("from", least=14))
    return Report(Table("charts", columns, rows))
