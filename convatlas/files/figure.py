"""Matplotlib figures, written atomically."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, one_line
from .atomic import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
FORMATS = (".png", ".svg", ".pdf")
LONGEST = 120  # characters of a name
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # without dates the same picture gives the same file


def drawable(name: str, longest: int = LONGEST) -> str:
    """A name as a figure is to draw it: a dollar sign starts no formula; the middle of a long name is left out."""
    short = name if len(name) <= longest else f"{name[: longest // 2]} ... {name[-longest // 2 :]}"
    return one_line(short).replace("$", r"\$")


def write(figure: Figure, path: Path) -> Path:
    """Writes the figure atomically, in the format of its suffix (one of FORMATS).

    Raises UserError for another suffix, and Unwritable when the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise UserError(
            f"{path} is not in a picture format that can be written", f"end its name in {' or '.join(FORMATS)}"
        )
    kind = path.suffix.lower().removeprefix(".")
    with replacing(path) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of glyphs drawn as a box, and names that leave no room
        figure.savefig(new, format=kind, metadata=UNDATED.get(kind))
    return path
