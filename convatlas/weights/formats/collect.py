"""What all readers share: tensors collected under their names, layouts, and one error for all that is damaged."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...errors import UserError, first_line, pass_on

LONGEST = 1000  # letters of a layer's name


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Whatever goes wrong within is what is wrong with the file: damaged ones make readers raise anything."""
    try:
        with np.errstate(all="ignore"):  # what is not finite is for whoever uses the weights
            yield
    except UserError:
        raise
    except Exception as error:
        pass_on(path, error)
        reason = one_line(first_line(error))
        raise UserError(f"{path} is not an intact {kind} ({reason})", "download it again") from error


def one_line(text: str, longest: int = 200) -> str:
    """Printable, and of a length that a line takes."""
    return "".join(c if c.isprintable() else "?" for c in text[:longest])


class Tensors:
    """Tensors by LAYER.ROLE, each name once, of at most `max_bytes` in all."""

    def __init__(self, path: Path, max_bytes: int):
        self.path, self.left, self.max_bytes = path, max_bytes, max_bytes
        self.found: dict[str, Tensor] = {}

    def add(self, layer: str, role: str, values: np.ndarray) -> None:
        """A copy of the values, numbers of any type, in this machine's byte order."""
        name = f"{one_line(layer, LONGEST)}.{one_line(role)}"
        if values.dtype.kind not in "fiub":
            raise ValueError(f"{name} has {values.dtype} values")
        if name in self.found:
            raise ValueError(f"there are two tensors {name}")
        self.take(values.nbytes)
        native = values.dtype.newbyteorder("=")
        if native.kind == "u" and native.itemsize > 1:
            native = np.dtype("int64")
        self.found[name] = torch.from_numpy(np.array(values, native, order="C"))

    def take(self, size: int) -> None:
        """Room for so many bytes. Raises UserError if there is none."""
        self.left -= size
        if self.left < 0:
            raise UserError(f"{self.path} contains tensors of more than the {self.max_bytes:,} bytes allowed")

    def all(self) -> dict[str, Tensor]:
        if not self.found:
            raise UserError(f"{self.path} contains no weights", "give a file that has some")
        return self.found


def shaped(values: np.ndarray, shape: list[int] | tuple[int, ...]) -> np.ndarray:
    """The values in that shape. ValueError if it is of another size, checked without computing with its product."""
    if any(n < 0 for n in shape) or math.prod(shape) != values.size:
        raise ValueError(f"{values.size} values are not {'x'.join(map(str, shape))[:80]}")
    return values.reshape(shape)


def from_hwio(kernel: np.ndarray) -> np.ndarray:
    """(height, width, in, out) to (out, in, height, width), with any number of sides; (in, out) to (out, in)."""
    return np.moveaxis(kernel, (-1, -2), (0, 1)) if kernel.ndim > 1 else kernel


def from_hwim(kernel: np.ndarray) -> np.ndarray:
    """A depthwise kernel, (height, width, channels, multiplier) to (channels * multiplier, 1, height, width)."""
    *sides, channels, multiplier = kernel.shape
    return np.moveaxis(kernel, (-2, -1), (0, 1)).reshape(channels * multiplier, 1, *sides)


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts conv2 before conv10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", name)]
