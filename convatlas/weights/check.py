"""What a weights file is: its format, whose it is, which rows it fits, and what was done to its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..catalogue import find
from ..errors import UserError
from .fetch import digest_of
from .files import read_weights
from .identify import Row, rows_of
from .published import Published, recognised


@dataclass(frozen=True)
class Checked:
    """What is known of a weights file."""

    file: str
    format: str
    size: int  # bytes
    sha256: str
    tensors: int
    values: int
    published: Published | None
    rows: tuple[Row, ...]  # that it fits

    def to_json(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "format": self.format,
            "bytes": self.size,
            "sha256": self.sha256,
            "tensors": self.tensors,
            "values": self.values,
            "published": self.published and self.published.name,
            "fits": [
                {
                    "network": row.variant.name,
                    "options": dict(row.options),
                    "how": row.fit.how,
                    "notes": list(row.fit.notes),
                    "left_out": list(row.fit.left_out),
                    "layers": dict(row.fit.layers),
                }
                for row in self.rows
            ],
        }


def check(path: str | Path, network: str | None = None) -> Checked:
    """Reads the file and tries it on the rows of the atlas, or on `network` alone.

    Raises UserError for a file that cannot be read, and for one that fits no row, or not that network.
    """
    file = Path(path)
    weights = read_weights(file)
    row = recognised(file)
    if network is None and weights.about:
        network = str(weights.about.get("network"))
    if network is None and row is not None:
        network = row.network
    if weights.about and find(str(network)).name != weights.about.get("network"):
        raise UserError(f"{file} has weights of {weights.about.get('network')}", "give that network")
    found = rows_of(weights, str(file), [find(network).name] if network else None)
    return Checked(
        str(file),
        "convatlas" if weights.about else weights.format,
        file.stat().st_size,
        digest_of(file),
        len(weights.tensors),
        sum(tensor.numel() for tensor in weights.tensors.values()),
        row,
        tuple(found),
    )
