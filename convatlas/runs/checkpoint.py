"""Checkpoints, written atomically.

A checkpoint is one safetensors file: the network's tensors under their own names, the training state's under names
with a "/", and everything else as JSON in the file's header, so that weights and state cannot disagree. The header
also has a checksum of both. Nothing is pickled. Two generations of `last` are kept, so that one of them is intact
whatever happens to the file, even while it is being written.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ..errors import UserError, pass_on
from ..files.atomic import free, other_version, replacing, unwritable
from ..files.header import check_header
from ..files.plain import from_json

KEY = "convatlas"  # header key of the JSON
DIGEST = "convatlas_sha256"  # header key of the checksum
SCHEMA = 1
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
BROKEN = ".broken"  # suffix of a damaged `last` that was set aside
NORMALIZER = "preprocess/"  # prefix of the normalizer's tensors
NAMED = 4  # at most so many tensors are named in a message
AVERAGE = "average/"  # prefix of the averaged weights


class Missing(UserError):
    """There is no such checkpoint."""


class Damaged(UserError):
    """A checkpoint was read, and its content is not what was written."""


def save(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: Path | None = None) -> None:
    """Writes tensors (any device, any strides) and state (JSON) to one file; the previous file moves to `keep`."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps({"schema": SCHEMA, **state})
    whole = to_bytes(flat, metadata={KEY: text, DIGEST: digest(text, flat)})
    with replacing(path, keep) as new:
        new.write_bytes(whole)


def digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the state's text and of each tensor's name, type, shape and values, in the order of the names."""
    whole = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        whole.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def opened(path: Path) -> Any:
    """A safetensors file, whose header is within bounds. A damaged one makes this raise anything."""
    with path.open("rb") as file:
        check_header(file)
        return safe_open(f"/dev/fd/{file.fileno()}", framework="pt")  # it takes no names but those in UTF-8


def is_checkpoint(path: Path) -> bool:
    """Whether a safetensors file was written by convatlas; one too damaged to tell was not."""
    try:
        with opened(path) as file:
            return KEY in (file.metadata() or {})
    except Exception as error:
        pass_on(path, error)
        return False


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` wrote: the tensors, on the CPU, and the state.

    Raises Missing, Damaged, or another UserError for a file that cannot be read now, or is of another version.
    """
    try:
        whole = content_of(path)
        try:
            check_header(BytesIO(whole))
            tensors = from_bytes(whole)
            header = from_json(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
            metadata = header.get("__metadata__", {})
            state = from_json(metadata[KEY])
            schema = state["schema"]
        except MemoryError:
            raise
        except Exception as error:  # damaged files make the readers raise anything
            reason = "it was not written by convatlas" if isinstance(error, KeyError | TypeError) else str(error)
            raise damaged(path, reason) from error
        if schema != SCHEMA:
            raise other_version(path, schema, (SCHEMA,))
        if metadata.get(DIGEST) != digest(metadata[KEY], tensors):
            raise damaged(path, "its checksum does not match")
        return tensors, state
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "out of memory"
        raise UserError(
            f"{path} cannot be read ({reason})", "it may be intact: when it can be read, run the command again"
        ) from error


def content_of(path: Path) -> bytes:
    """Raises Missing, Damaged for what is no file, and OSError or MemoryError for a file that cannot be read now."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise damaged(path, "it is no regular file")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Missing(f"there is no checkpoint {path}", "train first, or give another run folder") from error


def damaged(path: Path, reason: str) -> Damaged:
    return Damaged(f"{path} is not an intact checkpoint ({reason})", "use another, or train again")


@dataclass(frozen=True)
class Found:
    """The newest intact checkpoint of a run folder."""

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    notes: tuple[str, ...]  # why it is not `last`


def newest(folder: Path) -> Found | None:
    """The last checkpoint, or the previous one if the last is missing or damaged; None if neither exists.

    A damaged `last` is set aside, so that the next save does not move it over its predecessor; one that cannot be read
    now, or is of another version, is not damaged. Raises UserError for that, and when there are checkpoints but none
    is intact.
    """
    wrong: list[str] = []
    damage = False
    for path in (folder / LAST, folder / PREVIOUS):
        try:
            tensors, state = load(path)
        except Missing:
            wrong.append(f"there is no {path}")
            continue
        except Damaged as error:
            wrong.append(error.what)
            damage = True
            continue
        if damage:
            wrong.append(f"it is now {set_aside(folder / LAST).name}")
        return Found(path, tensors, state, (f"{'; '.join(wrong)}; resuming from {path}",) if wrong else ())
    if damage:
        raise UserError(
            f"no checkpoint in {folder} is intact: {'; '.join(wrong)}",
            "restore a copy, or delete them to train from the first step",
        )
    return None


def set_aside(path: Path) -> Path:
    """Renames a damaged checkpoint, overwriting none that was set aside before; returns its new name."""
    broken = free(path.with_name(f"{path.name}{BROKEN}"))
    try:
        os.replace(path, broken)
    except OSError as error:
        raise unwritable(broken, error) from error
    return broken


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a checkpoint that are used for evaluation: the averages if it has them."""
    averages = {name.removeprefix(AVERAGE): t for name, t in tensors.items() if name.startswith(AVERAGE)}
    return averages or {name: t for name, t in tensors.items() if "/" not in name}


def measured(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The normalizer's tensors in a checkpoint, with the prefix removed."""
    return {name.removeprefix(NORMALIZER): t for name, t in tensors.items() if name.startswith(NORMALIZER)}


def load_tensors(net: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Loads the tensors into the network, strictly. Raises UserError with the missing and unexpected keys."""
    own = net.state_dict()
    if tensors.keys() != own.keys() or any(tensors[name].shape != own[name].shape for name in own):
        raise misfit(net, tensors, source)
    net.load_state_dict({name: as_type(name, tensors[name], own[name].dtype, source) for name in own})


def as_type(name: str, tensor: Tensor, dtype: torch.dtype, source: str) -> Tensor:
    """A tensor of a file in the type that the network has.

    Raises UserError for values that are not finite, with which every prediction would be NaN, and for complex values
    that are not real.
    """
    if tensor.is_complex() and not dtype.is_complex:
        if tensor.imag.any():
            raise UserError(f"{source} has complex values in {name}", "give real weights")
        tensor = tensor.real
    cast = tensor.to(dtype)
    if cast.is_floating_point() and not cast.isfinite().all():
        raise UserError(
            f"{source} has values in {name} that are not finite as {type_name(dtype)}", "give other weights"
        )
    return cast


def type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def misfit(net: nn.Module, tensors: Mapping[str, Tensor], source: str) -> UserError:
    """The error for tensors that are not the network's: the missing and unexpected keys, and those of another size."""
    own = net.state_dict()
    misfits = {
        "missing keys": [name for name in own if name not in tensors],
        "unexpected keys": [name for name in tensors if name not in own],
        "size mismatch": [
            f"{name} ({by(tensors[name])} in the file, {by(own[name])} in the network)"
            for name in own
            if name in tensors and tensors[name].shape != own[name].shape
        ],
    }
    found = ", ".join(f"{what}: {some(names)}" for what, names in misfits.items() if names)
    name = getattr(net, "variant", None) or type(net).__name__
    return UserError(f"{source} does not fit {name}: {found}", "give the weights of this network")


def by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one value"


def some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
