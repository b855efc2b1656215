"""Checkpoints and the files beside them: written whole or not at all.

A checkpoint is one safetensors file: the network's tensors under their own names, the trainer's under names with a
"/", and everything else as JSON in the file's header, so that weights and state cannot disagree. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from ..errors import UserError

KEY = "convatlas"  # of the JSON in the header
SCHEMA = 1


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; on success the file is on the disk and takes the place of `path`, in one step.

    A process killed on the way leaves the old file as it was (and a `.NAME.new` that the next writer overwrites).
    """
    new = path.with_name(f".{path.name}.new")
    try:
        yield new
        flush(new)
        os.replace(new, path)
        flush(path.parent)
    finally:
        new.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Returns when the file's, or the folder's, contents are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def save(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """The tensors (any device, any strides) and the state (JSON), as one file."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    whole = to_bytes(flat, metadata={KEY: json.dumps({"schema": SCHEMA, **state})})
    with replacing(path) as new:
        new.write_bytes(whole)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` wrote: the tensors, on the CPU, and the state. Raises UserError for a file that is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})[KEY])
            schema = state["schema"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}; train first, or give another run folder") from error
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        reason = "it is not from convatlas" if isinstance(error, KeyError | TypeError) else str(error)
        raise UserError(f"{path} is no whole checkpoint ({reason}); use another, or train again") from error
    if schema != SCHEMA:
        raise UserError(f"{path} has schema {schema}, this convatlas reads {SCHEMA}; use the version that wrote it")
    return tensors, state
