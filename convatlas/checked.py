"""Self-validating plain data: a field's annotation gives its type, its range, and how it is parsed from text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache, partial
from math import inf
from sys import float_info
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from .errors import UserError, unknown
from .limits import real_number, signed_number


@dataclass(frozen=True)
class Range:
    """Finite numbers from `lowest` (with `above`: above it) to `highest` (with `below`: below it)."""

    lowest: float
    highest: float = inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        high_enough = value > self.lowest if self.above else value >= self.lowest
        low_enough = value < self.highest if self.below else value <= self.highest
        return abs(value) <= float_info.max and high_enough and low_enough

    def __str__(self) -> str:
        top = f" and {'less than' if self.below else 'at most'} {self.highest:g}"
        return f"{'more than' if self.above else 'at least'} {self.lowest:g}" + (top if self.highest < inf else "")


NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1)]
BelowOne = Annotated[float, Range(0, 1, below=True)]
Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


@dataclass(frozen=True)
class Checked:
    """A frozen dataclass that raises UserError for a value of the wrong type or out of range."""

    PREFIX: ClassVar[str] = ""  # before a field's name in messages and in --set: "warmup."

    def __post_init__(self) -> None:
        for name, hint in hints(type(self)).items():
            value = getattr(self, name)
            if not accepts(value, hint):
                raise UserError(
                    f"{self.PREFIX}{name}={value!r} is not {words(hint)}", f"see {type(self).__name__}.{name}"
                )
            check_range(f"{self.PREFIX}{name}", value, plain(hint))

    @classmethod
    def from_values(cls, what: str, values: Mapping[str, Any]) -> Self:
        """An object with these fields, lists as tuples. Raises UserError for a field that is unknown or missing."""
        for name in values:
            if name not in hints(cls):
                raise unknown(f"{what} field", name, hints(cls))
        for name in required(cls):
            if name not in values:
                raise UserError(f"the {what} has no {name!r}", "it is required")
        return cls(**{name: frozen(value) for name, value in values.items()})


annotated: Callable[[Any], dict[str, Any]] = cache(partial(get_type_hints, include_extras=True))


def hints(cls: type[Checked]) -> dict[str, Any]:
    """Each field's annotation, keyword-only fields last."""
    found = annotated(cls)
    return {f.name: found[f.name] for f in sorted(fields(cls), key=lambda f: bool(f.kw_only))}


def required(cls: type[Checked]) -> list[str]:
    return [f.name for f in fields(cls) if f.default is MISSING]


def check_range(name: str, value: Any, hint: Any) -> None:
    """Raises UserError for a value of the right type that is out of range."""
    if get_origin(hint) is Literal and value not in get_args(hint):
        raise unknown(name.replace("_", " "), value, get_args(hint))
    legal = range_of(hint)
    for number in value if isinstance(value, tuple) else [value]:
        if legal and number is not None and number not in legal:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise UserError(f"{name}={shown} is out of range", f"give {legal}")


def accepts(value: Any, hint: Any) -> bool:
    """Whether the value has that type, whatever its range."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is Annotated:
        return accepts(value, args[0])
    if origin in (Union, UnionType):
        return any(accepts(value, arg) for arg in args)
    if origin is Literal:
        return isinstance(value, str)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return len(value) == len(each) and all(map(accepts, value, each))
    if origin is dict:
        return isinstance(value, dict) and all(accepts(k, args[0]) and accepts(v, args[1]) for k, v in value.items())
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    return isinstance(value, hint)


def fields_of(cls: type, record: Any) -> dict[str, Any]:
    """The record, if it has exactly a dataclass's fields, with values of their types. Raises TypeError."""
    kinds = get_type_hints(cls, include_extras=True)
    if not isinstance(record, dict) or record.keys() != kinds.keys():
        raise TypeError(f"it has not the fields of {cls.__name__}")
    for name, hint in kinds.items():
        if not accepts(record[name], hint):
            raise TypeError(f"{name}={str(record[name])[:40]!r} is not {words(hint)}")
    return record


def parse(text: str, hint: Any) -> Any:
    """The value of `text`, as given to --set. Raises ValueError."""
    inner = plain(hint)
    origin, args = get_origin(inner), get_args(inner)
    if origin is Annotated:
        return parse(text, args[0])
    if origin is tuple:
        return tuple(parse(part.strip(), args[0]) for part in text.split(",") if part.strip())
    if inner is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    if inner is int:
        return signed_number(text)
    return real_number(text) if inner is float else text


def plain(hint: Any) -> Any:
    """The annotation without its `| None`."""
    if get_origin(hint) in (Union, UnionType):
        return next(arg for arg in get_args(hint) if arg is not NoneType)
    return hint


def range_of(hint: Any) -> Range | None:
    if get_origin(hint) is tuple:
        return range_of(get_args(hint)[0])
    return get_args(hint)[1] if get_origin(hint) is Annotated else None


def words(hint: Any) -> str:
    """The description of a value of that type in messages."""
    inner = plain(hint)
    if get_origin(inner) is Annotated:
        return words(get_args(inner)[0])
    if get_origin(inner) is Literal:
        return f"one of {', '.join(get_args(inner))}"
    if get_origin(inner) is dict:
        return "an object"
    if get_origin(inner) is tuple:
        of, *others = map(plain, get_args(inner))
        many = "" if Ellipsis in others else f"{1 + len(others)} "
        return many + {str: "names"}.get(of, "(name, value) pairs" if get_origin(of) is tuple else "numbers")
    return WORDS.get(inner) or f"a component such as {inner.EXAMPLE}"


def frozen(value: Any) -> Any:
    """Converts JSON's lists to tuples."""
    return tuple(map(frozen, value)) if isinstance(value, list) else value
