"""Variants of networks, and how to find one by name.

A net file ends with `VARIANTS = family(Net, PAPER, [Variant(...), ...])`, which puts its variants in the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UserError, unknown

if TYPE_CHECKING:
    from .layers import ConvNet

Shape = tuple[int, int, int]  # C x H x W


@dataclass(frozen=True)
class Paper:
    title: str
    authors: str
    year: int
    url: str


@dataclass(frozen=True)
class Claim:
    """One figure as printed by its source.

    `what` names the quantity: `params`, `weights` (no biases), `macs`, `gmacs`, `mmacs` and `activations` are counted
    by us, for the whole network or, after a space, for the module at a path ("params stem.conv1"); anything else
    ("top1_err") is a published result. `printed` is the source's string, which keeps its precision ("25.6M").
    `gap` explains why our count differs by more than a unit of the last printed digit.
    """

    what: str
    printed: str
    where: str
    gap: str | None = None


@dataclass(frozen=True)
class Variant:
    """One row of a paper's table: a name, and the constructor arguments that make it."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    input: Shape | None = None  # C x H x W; None: the family's
    claims: tuple[Claim, ...] | list[Claim] = ()
    recipe: str | None = None  # a name in recipes/
    note: str = ""  # what distinguishes this row, in one line
    aliases: tuple[str, ...] = ()  # other spellings in use: "VGG-D", "0.5 MobileNet-160"
    scaled: Callable[..., Variant] | None = None  # makes the row of options by a rule: EfficientNet's compound(phi)
    net: Any = None  # the class; set by family(), as is paper
    paper: Paper | None = None

    @property
    def family(self) -> str:
        return str(self.net.__module__).rpartition(".")[2]

    @property
    def file(self) -> str:
        return f"convatlas/nets/{self.family}.py"

    @property
    def options(self) -> dict[str, Any]:
        """The options by name, of the constructor and of `scaled`, with their values in this variant."""
        takes = (self.net.__init__, self.scaled) if self.scaled else (self.net.__init__,)
        declared = [p for function in takes for p in signature(function).parameters.values()]
        return {p.name: p.default for p in declared if p.name != "self"} | dict(self.args)

    def chosen(self, options: Mapping[str, Any]) -> tuple[Mapping[str, Any], Shape | None, dict[str, Any]]:
        """The arguments and input of the row that options of `scaled` choose, and the other options."""
        if self.scaled is None:
            return self.args, self.input, dict(options)
        rule = {name: options[name] for name in signature(self.scaled).parameters if name in options}
        row = self.scaled(**rule) if rule else self
        return row.args, row.input, {name: value for name, value in options.items() if name not in rule}

    def build(self, *, input: Shape | None = None, **options: Any) -> ConvNet:
        """The network, initialised as in its paper. `input` is C x H x W; `channels` overrides its C.

        An option of `scaled` chooses the row that it makes, with its input; the other options then change that row.

        Raises UserError for an option that the network does not have, and for an input that it cannot take.
        """
        legal = self.options
        for name in options:
            if name not in legal and name != "channels":
                raise UserError(
                    f"{self.name} has no option {name!r}", f"its options are {', '.join(sorted({*legal, 'input'}))}"
                )
        args, usual, options = self.chosen(options)
        shape = usual if input is None else tuple(input)
        assert shape is not None
        if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
            raise UserError(
                f"input {input!r} is not an image size", f"give (channels, height, width), such as {self.input}"
            )
        shape = (options.pop("channels", shape[0]), *shape[1:])
        for name, value in (("channels", shape[0]), ("classes", options.get("classes", 1))):
            if not isinstance(value, int) or value < 1:
                raise UserError(f"{name}={value!r} is not a positive integer", "give a whole number of at least 1")
        sized = {"input": shape} if "input" in legal else {"channels": shape[0]}
        from .layers import shape_after

        net = self.net(**{**args, **sized, **options})
        net.variant, net.input = self.name, shape
        as_it_is = usual is not None and shape[1:] == usual[1:] and options.keys() <= {"classes"}
        if input is not None and not as_it_is:
            shape_after(net, shape)
        return net


def family(
    net: type,
    paper: Paper,
    variants: Iterable[Variant],
    input: Shape = (3, 224, 224),
    recipe: str | None = None,
) -> tuple[Variant, ...]:
    """The variants of one class, given the class, its paper and (where they have none) its input and recipe."""
    return tuple(replace(v, net=net, paper=paper, input=v.input or input, recipe=v.recipe or recipe) for v in variants)


@cache
def variants() -> dict[str, Variant]:
    """Every variant by name, in order of the papers' years and of their tables. Imports every net, and torch."""
    nets = Path(__file__).with_name("nets")
    files = sorted(f.stem for f in nets.glob("[a-z]*.py"))
    rows = [v for stem in files for v in import_module(f".nets.{stem}", __package__).VARIANTS]
    rows.sort(key=lambda v: v.paper.year)
    found: dict[str, Variant] = {}
    for v in rows:
        assert v.name not in found, f"two variants are named {v.name}"
        found[v.name] = v
    return found


def find(name: str) -> Variant:
    """The variant of that name, or in the paper's spelling ("ResNet-50", "WRN-28-10").

    Raises UserError with the near names.
    """
    found = variants()
    return found[name_of(name, {n: v.aliases for n, v in found.items()})]


def build(name: str, *, input: Shape | None = None, **options: Any) -> ConvNet:
    """The network of that name (see `find`), initialised as in its paper: `build("resnet50", classes=10)`.

    Raises UserError as `find` and `Variant.build` do.
    """
    return find(name).build(input=input, **options)


def name_of(spelling: str, known: Mapping[str, Iterable[str]]) -> str:
    """The known name for `spelling`, given the aliases of each. Raises UserError if there is none."""
    if spelling in known:
        return spelling
    spelled = {plain(s): n for n, aliases in known.items() for s in (*aliases, n)}
    if plain(spelling) in spelled:
        return spelled[plain(spelling)]
    raise unknown("network", spelling, known)


def plain(name: str) -> str:
    """A name without case and punctuation: "SE-ResNet-50" and "se_resnet50" are both "seresnet50"."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())
