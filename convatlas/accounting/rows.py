"""Account: the counted rows of a network, its totals, and coarser tables made from them. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import unknown

if TYPE_CHECKING:
    from .trace import Trace

LEVELS = ("leaf", "layer", "block", "stage")


class Row(NamedTuple):
    """One leaf module, or one operator called outside leaves. Values and MACs are for the whole batch."""

    path: str
    op: str  # the module's class, or the operator's name
    shape: tuple[int, ...]  # of the output, without the batch: C x H x W
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    groups: int = 1
    weights: int = 0  # parameters that are not biases (includes batch norm's scale)
    biases: int = 0
    macs: int = 0
    activations: int = 0  # number of output values
    pointwise: bool = False  # could run in place: ReLU, batch norm, dropout, an addition
    backward_macs: int = 0  # for the gradients of its weights and its input, in training
    receptive_field: tuple[int, ...] = ()  # height and width in pixels of the image; () where no pixel is read
    jump: tuple[float, ...] = ()  # pixels from one position's field to the next one's; 0: one field for all positions
    start: tuple[int, ...] = ()  # the first position's top and left pixel; negative in the padding
    exact: bool = False  # exactly the pixels of the field are seen: no holes, no gates, no operator without a rule
    block: str = ""  # path of its block: the outermost module around it that is not just a container
    block_op: str = ""  # the class of that block

    @property
    def params(self) -> int:
        return self.weights + self.biases

    @property
    def field_padding(self) -> tuple[int, ...]:
        """The padding that a single convolution with this receptive field and jump would have."""
        return tuple(-n for n in self.start)


@dataclass(frozen=True)
class Totals:
    """Sums over the rows. `activations` counts the input's values and those of every row that is not pointwise."""

    weights: int
    biases: int
    macs: int
    activations: int
    pointwise_activations: int  # kept as well when ReLU, batch norm, ... do not run in place
    idle: int  # parameters that this pass did not use, such as those of auxiliary classifiers
    backward_macs: int

    @property
    def params(self) -> int:
        return self.weights + self.biases

    @property
    def training_macs(self) -> int:
        """MACs of one training step on the batch, forward and backward."""
        return self.macs + self.backward_macs

    def to_json(self) -> dict[str, int]:
        return asdict(self) | {"params": self.params, "training_macs": self.training_macs}


@dataclass(frozen=True)
class Account:
    """What was counted (`rows`), and what was not: operators without a rule, parameters that no layer used."""

    name: str
    input: tuple[Any, ...]  # C x H x W; with several inputs, the shape of each
    batch: int
    rows: tuple[Row, ...]
    uncounted: tuple[str, ...] = ()
    idle: tuple[tuple[str, int], ...] = ()  # (module path, parameters)
    unregistered: tuple[
        tuple[str, int], ...
    ] = ()  # (attribute, parameters in a list, dict or other object); in no total
    input_values: int = 0  # for the whole batch
    value_bytes: int = 4  # float32
    depth: int = 0  # weighted layers on the longest path, as papers count
    statistics: int = 0  # running means and variances of batch norm: no parameters, but Keras counts them as such
    trace: Trace | None = field(default=None, compare=False, repr=False)  # None for a shipped table

    @property
    def totals(self) -> Totals:
        return Totals(
            weights=sum(r.weights for r in self.rows),
            biases=sum(r.biases for r in self.rows),
            macs=sum(r.macs for r in self.rows),
            activations=self.input_values + sum(r.activations for r in self.rows if not r.pointwise),
            pointwise_activations=sum(r.activations for r in self.rows if r.pointwise),
            idle=sum(n for _, n in self.idle),
            backward_macs=sum(r.backward_macs for r in self.rows),
        )

    def table(self, level: str = "layer") -> tuple[Row, ...]:
        """The rows at a level. `leaf`: as counted. `layer`: pointwise rows folded into the layer before them.
        `block`: one row per block. `stage`: the stem, each stage, the head."""
        return self.rows if level == "leaf" else tuple(_merged(group, level) for group in self.groups(level))

    def groups(self, level: str) -> list[list[Row]]:
        """The counted rows that make up each row at a level, in execution order."""
        if level not in LEVELS:
            raise unknown("level", level, LEVELS)
        groups: list[list[Row]] = []
        for row in self.rows:
            if groups and level != "leaf" and _joins(groups[-1], row, level):
                groups[-1].append(row)
            else:
                groups.append([row])
        return groups

    def _repr_html_(self) -> str:
        """What a notebook shows: the layers and the totals, self-contained."""
        from html import escape

        layers = [(r.path, r.op, "x".join(map(str, r.shape)), r.params, r.macs, r.activations) for r in self.table()]
        total = ("total", "", "", self.totals.params, self.totals.macs, self.totals.activations)
        headers = ("layer", "operation", "output", "parameters", "MACs", "activations")
        caption = f"{self.name}, input {_sizes(self.input)}, batch {self.batch}"
        if self.uncounted:
            caption += f"; not counted: {', '.join(self.uncounted)}"
        return (
            f"<table><caption>{escape(caption)}</caption><thead>{_html_row('th', headers)}</thead>"
            f"<tbody>{''.join(_html_row('td', row) for row in layers)}</tbody>"
            f"<tfoot>{_html_row('th', total)}</tfoot></table>"
        )


def _sizes(input: tuple[Any, ...]) -> str:
    """ "3x224x224"; with several inputs, the size of each."""
    shapes = input if input and isinstance(input[0], tuple) else (input,)
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def _html_row(tag: str, cells: Sequence[str | int]) -> str:
    """Text aligned left; numbers aligned right, with thousands separators."""
    from html import escape

    shown = ((escape(c), "left") if isinstance(c, str) else (f"{c:,}", "right") for c in cells)
    return "<tr>" + "".join(f'<{tag} style="text-align:{side}">{text}</{tag}>' for text, side in shown) + "</tr>"


def stage_of(path: str) -> str:
    """The stage that a module or parameter belongs to: "stages.conv4.block2" -> "stages.conv4"; "stem.bn" -> "stem"."""
    parts = path.split(".")
    return ".".join(parts[:2]) if parts[0] == "stages" else parts[0]


def _joins(group: Sequence[Row], row: Row, level: str) -> bool:
    last = group[-1]
    if level == "stage":
        return stage_of(last.path) == stage_of(row.path)
    if level == "block" and (row.block or last.block):
        return last.block == row.block
    follows = row.pointwise and not row.macs and prod(last.shape) == prod(row.shape)
    return last.block == row.block and (follows or not row.activations)


def _merged(group: Sequence[Row], level: str) -> Row:
    """The rows of a group as one: its sums, its last shape and field, and (except for a block or stage) its first row's
    geometry."""
    first = group[0]
    stored = [r for r in group if not r.pointwise] or group[:1]
    made = next((r for r in reversed(group) if r.activations), first)
    sums = {name: sum(getattr(r, name) for r in group) for name in ("weights", "biases", "macs", "backward_macs")}
    field = {name: getattr(made, name) for name in ("receptive_field", "jump", "start", "exact")}
    activations = sum(r.activations for r in stored)
    if level == "stage":
        return Row(stage_of(first.path), "", made.shape, **sums, **field, activations=activations)
    if level == "block" and first.block:
        return Row(first.block, first.block_op, made.shape, **sums, **field, activations=activations, block=first.block)
    ops = "+".join(r.op for r in group if r.activations or r is first)
    pointwise = all(r.pointwise for r in group)
    return first._replace(op=ops, **sums, **field, activations=activations, pointwise=pointwise)
