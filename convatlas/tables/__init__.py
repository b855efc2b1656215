"""The counted rows of every variant, as shipped: index.json, and a CSV file for each variant. Read without torch.

`python -m convatlas.tables` recounts them all.
"""

from __future__ import annotations

import json
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from ..accounting.exported import exported_bytes
from ..accounting.rows import Account
from ..catalogue import Claim, Variant, name_of
from ..files.atomic import other_version
from .rows import read

FOLDER = Path(__file__).parent
SCHEMA = 1  # of index.json


@cache
def index() -> dict[str, dict[str, Any]]:
    """What `list` prints, by name: family, file, paper, input, claims, note, recipe, aliases, totals and depth."""
    return read_index(FOLDER / "index.json")


def read_index(path: Path) -> dict[str, dict[str, Any]]:
    """Raises UserError for an index with another schema, from another version of convatlas."""
    records: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    if (schema := records.pop("schema", None)) != SCHEMA:
        raise other_version(path, schema, (SCHEMA,))
    return records


def entry(name: str) -> dict[str, Any]:
    """The index entry of a variant, by any spelling that `find` accepts. Raises UserError with the near names."""
    return index()[name_of(name, {n: record["aliases"] for n, record in index().items()})]


def claims(name: str) -> list[Claim]:
    return [Claim(**claim) for claim in entry(name)["claims"]]


def load(name: str) -> Account:
    """The shipped account of a variant at its default input."""
    record = entry(name)
    rows = read((FOLDER / f"{record['name']}.csv").read_text(encoding="utf-8"))
    size = tuple(record["input"])
    idle = tuple((path, params) for path, params in record["idle"])
    more = {"depth": record["depth"], "statistics": record["statistics"]}
    return Account(record["name"], size, 1, rows, idle=idle, input_values=prod(size), **more)


def index_record(variant: Variant, counted: Account) -> dict[str, Any]:
    return {
        "name": variant.name,
        "family": variant.family,
        "file": variant.file,
        "paper": vars(variant.paper),
        "input": list(variant.input or ()),
        "note": variant.note,
        "recipe": variant.recipe,
        "aliases": list(variant.aliases),
        "claims": [{k: v for k, v in vars(claim).items() if v is not None} for claim in variant.claims],
        "totals": counted.totals.to_json(),
        "idle": [list(module) for module in counted.idle],
        "depth": counted.depth,
        "statistics": counted.statistics,
        "exported_bytes": exported_bytes(counted),
        "multiplied_activations": sum(r.activations for r in counted.rows if r.macs),
    }


def index_text(records: dict[str, dict[str, Any]]) -> str:
    """The index as JSON with one variant a line."""
    lines = (f"{json.dumps(name)}:{_compact(record)}" for name, record in records.items())
    return "{\n" + ",\n".join((f'"schema":{SCHEMA}', *lines)) + "\n}\n"


def _compact(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))
