"""Matplotlib figures, written atomically."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
FORMATS = (".png", ".svg", ".pdf")
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # without dates the same picture gives the same file


def write(figure: Figure, path: Path) -> Path:
    """Writes the figure atomically, in the format of its suffix (one of FORMATS).

    Raises UserError for another suffix, and when the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(
            f"{path} is not in a picture format that can be written", f"end its name in {' or '.join(FORMATS)}"
        )
    new = path.with_name(f".{path.name}.new")
    kind = path.suffix.lower().removeprefix(".")
    try:
        figure.savefig(new, format=kind, metadata=UNDATED.get(kind))
        os.replace(new, path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror})", "name a file in a folder that exists"
        ) from error
    finally:
        new.unlink(missing_ok=True)
    return path
