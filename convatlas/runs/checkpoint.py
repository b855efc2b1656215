"""Checkpoints and the files beside them: written whole or not at all.

A checkpoint is one safetensors file: the network's tensors under their own names, the trainer's under names with a
"/", and everything else as JSON in the file's header, so that weights and state cannot disagree. The header also has
a checksum of both. Nothing is pickled. Of `last` two generations are kept: whatever happens to the file, or while it
is written, there is a whole one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from ..errors import UserError
from ..files.atomic import other_version, replacing

KEY = "convatlas"  # of the JSON in the header
DIGEST = "convatlas_sha256"  # of the checksum in the header
SCHEMA = 1
LAST, PREVIOUS, BEST = "last.safetensors", "previous.safetensors", "best.safetensors"
BROKEN = ".broken"  # added to the name of a `last` that is set aside
NORMALIZER = "preprocess/"  # before the names of the normalizer's tensors
NAMED = 4  # tensors that a message names
AVERAGE = "average/"  # before the names of averaged weights


def save(path: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], keep: Path | None = None) -> None:
    """The tensors (any device, any strides) and the state (JSON), as one file; the one before goes to `keep`."""
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


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` wrote: the tensors, on the CPU, and the state. Raises UserError for a file that is not whole."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = json.loads(metadata[KEY])
            schema = state["schema"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}", "train first, or give another run folder") from error
    except Exception as error:  # what is damaged makes the readers raise anything
        reason = "it is not from convatlas" if isinstance(error, KeyError | TypeError) else str(error)
        raise UserError(f"{path} is not a whole checkpoint ({reason})", "use another, or train again") from error
    if schema != SCHEMA:
        raise other_version(path, schema, (SCHEMA,))
    if metadata.get(DIGEST) != digest(metadata[KEY], tensors):
        raise UserError(
            f"{path} is not a whole checkpoint (its checksum does not match)", "use another, or train again"
        )
    return tensors, state


@dataclass(frozen=True)
class Found:
    """The newest whole checkpoint of a run folder."""

    path: Path
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    notes: tuple[str, ...]  # why it is not `last`


def newest(folder: Path) -> Found | None:
    """The last checkpoint, or where that is missing or damaged the one before it; None where there is neither.

    A damaged `last` is set aside, so that it does not take its predecessor's place at the next save. Raises UserError
    when there are checkpoints and none is whole.
    """
    wrong: list[str] = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            wrong.append(f"there is no {path}")
            continue
        try:
            tensors, state = load(path)
        except UserError as error:
            wrong.append(error.what)
            continue
        if wrong and (folder / LAST).exists():
            os.replace(folder / LAST, folder / f"{LAST}{BROKEN}")
            wrong.append(f"it is now {LAST}{BROKEN}")
        return Found(path, tensors, state, tuple([f"{'; '.join(wrong)}; resuming from {path}"] if wrong else []))
    if (folder / LAST).exists() or (folder / PREVIOUS).exists():
        raise UserError(
            f"no checkpoint in {folder} is whole: {'; '.join(wrong)}",
            "restore a copy, or remove them to train from the first step",
        )
    return None


def averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of a checkpoint's tensors those that the network is judged by: the averages if it has them, else the weights."""
    averages = {name.removeprefix(AVERAGE): t for name, t in tensors.items() if name.startswith(AVERAGE)}
    return averages or {name: t for name, t in tensors.items() if "/" not in name}


def measured(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The normalizer's tensors among a checkpoint's, by the normalizer's names."""
    return {name.removeprefix(NORMALIZER): t for name, t in tensors.items() if name.startswith(NORMALIZER)}


def load_tensors(net: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Loads the tensors into the network, strictly. Raises UserError with the missing and unexpected keys."""
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
    if any(misfits.values()):
        found = ", ".join(f"{what}: {some(names)}" for what, names in misfits.items() if names)
        name = getattr(net, "variant", None) or type(net).__name__
        raise UserError(f"{source} does not fit {name}: {found}", "give the weights of this network")
    net.load_state_dict(dict(tensors))


def by(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one value"


def some(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
