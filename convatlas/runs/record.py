"""RunRecord: run.json, a run's settings and the machine it runs on; written before the first step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..catalogue import find
from ..checked import fields_of, frozen
from ..errors import UserError, unread
from ..files.atomic import other_version, write_text
from ..files.plain import read_json
from ..preprocess import Preprocess
from ..recipe import Recipe

if TYPE_CHECKING:
    from ..layers import ConvNet

FILE = "run.json"
SCHEMA = 1
RESTORE = "restore it, or train again"


@dataclass(frozen=True)
class Start:
    """Where the initial weights come from: see train/warm_start.py."""

    file: str
    network: str  # that they are of
    taken: tuple[str, ...]  # names of the tensors that are copied
    left: tuple[str, ...]  # and of those that are not
    sha256: str  # of what is copied


@dataclass(frozen=True)
class RunRecord:
    network: str  # a name of the catalogue
    options: dict[str, Any]  # constructor arguments: input, classes, and what the recipe overrides
    recipe: Recipe
    data: dict[str, Any]  # provenance of each split: where the images come from, how many, checksums
    preprocess: Preprocess
    colours: dict[str, Any]  # statistics of the training images that augmentation uses
    classes: tuple[str, ...]
    seed: int
    machine: dict[str, Any]
    execution: dict[str, Any]  # how this machine does it: see train/execution.py
    init: dict[str, Any] | None = None  # the fields of Start
    trial: dict[str, Any] | None = None  # how fast each way of running a step was: see train/trial.py

    def build(self) -> ConvNet:
        """The network, freshly initialised."""
        return build(self.network, self.options)

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint stores about its weights, so that it can be used without its run: plain data."""
        record = self.to_json()
        return {name: record[name] for name in ("network", "options", "preprocess", "classes")}

    def to_json(self) -> dict[str, Any]:
        """Plain data, as it is read back from run.json. Raises TypeError for an option that JSON cannot represent."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values |= {"recipe": self.recipe.to_json(), "preprocess": self.preprocess.to_json()}
        return json.loads(json.dumps({"schema": SCHEMA, **values}))

    @classmethod
    def from_json(cls, record: dict[str, Any], path: Path) -> RunRecord:
        """The inverse of `to_json`. Raises UserError, naming the file, for an incomplete or malformed record."""
        if not isinstance(record, dict) or "schema" not in record:
            raise UserError(f"{path} was not written by `convatlas train`", RESTORE)
        if record["schema"] != SCHEMA:
            raise other_version(path, record["schema"], (SCHEMA,))
        for name, kind in KINDS.items():
            if not isinstance(record.get(name), kind):
                raise UserError(f"{path} has {'a malformed' if name in record else 'no'} {name!r}", RESTORE)
        classes = record["classes"]
        if not all(isinstance(name, str) for name in classes) or len(classes) != record["options"].get("classes"):
            raise UserError(f"{path} does not name as many classes as its network has", RESTORE)
        try:
            values: dict[str, Any] = {f.name: record.get(f.name) for f in fields(cls)}
            values["recipe"] = Recipe.from_json(record["recipe"])
            values["preprocess"] = Preprocess.from_json(record["preprocess"])
            if values["init"] is not None:
                fields_of(Start, {name: frozen(value) for name, value in values["init"].items()})
            return cls(**{**values, "classes": tuple(classes)})
        except UserError as error:
            raise UserError(f"{path}: {error.what}", RESTORE) from error
        except (TypeError, ValueError, AttributeError) as error:  # values of the wrong type
            raise UserError(f"{path} has values of the wrong type ({error})", RESTORE) from error

    def write(self, folder: Path) -> None:
        write_text(folder / FILE, json.dumps(self.to_json(), indent=2, ensure_ascii=False) + "\n")


def build(network: str, options: Mapping[str, Any]) -> ConvNet:
    """The network with a record's options, which are lists where the constructor takes tuples."""
    return find(network).build(**{name: tuple(v) if isinstance(v, list) else v for name, v in options.items()})


def rebuild(network: str, options: Mapping[str, Any], preprocess: Preprocess, file: Path) -> ConvNet:
    """Builds what a file describes. Raises UserError, naming the file, if its options cannot be built, or are not for
    images of the size that its preprocessing makes."""
    if options.get("input") not in (preprocess.input, [*preprocess.input]):
        raise UserError(f"{file} does not give its network the size of its images, {preprocess.input}", "restore it")
    try:
        return build(network, options)
    except UserError:
        raise
    except Exception as error:  # constructors trust their options
        raise UserError(f"{file} does not describe a network that can be built ({error!r})", "restore it") from error


KINDS: dict[str, type | tuple[type, ...]] = {
    "network": str,
    "options": dict,
    "recipe": dict,
    "data": dict,
    "preprocess": dict,
    "colours": dict,
    "classes": list,
    "seed": int,
    "machine": dict,
    "execution": dict,
    "init": (dict, type(None)),
    "trial": (dict, type(None)),
}


def read_record(folder: str | Path) -> RunRecord:
    """The record of the run in that folder. Raises UserError when it is not a run folder, saying what is missing."""
    folder = Path(folder)
    path = folder / FILE
    if not folder.exists():
        raise UserError(f"there is no run folder {folder}", "`convatlas train` makes one")
    if not path.is_file():
        raise UserError(
            f"{folder} is not a run folder: it has no {FILE}", "give the folder that `convatlas train` wrote"
        )
    try:
        record = read_json(path)
    except OSError as error:
        raise unread(path, error) from error
    except ValueError as error:
        raise UserError(f"{path} was not written by `convatlas train` ({error})", RESTORE) from error
    return RunRecord.from_json(record, path)
