"""Weights files, recognised by their content: safetensors, torch.save's, and those of other frameworks (formats/).

A safetensors file contains only numbers and text. torch.save writes a pickle, which can execute code: it is read with
torch's `weights_only=True`, and there is no fallback.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..errors import UserError
from ..runs import checkpoint
from ..runs.checkpoint import averaged, measured
from . import formats
from .formats.collect import reading
from .types import MAX_BYTES, Weights

PICKLES = (".pth", ".pt", ".th")
NESTED = ("state_dict", "model", "model_state", "net")  # keys under which training scripts save the weights


def read_weights(path: str | Path, max_bytes: int = MAX_BYTES) -> Weights:
    """The tensors in a file by name. Raises UserError if it is damaged, too large, or contains anything else."""
    path = Path(path)
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise UserError(f"{path} is not a file", "give a weights file")
    except OSError as error:
        raise UserError(f"{path} cannot be opened ({error.strerror})", "give a weights file") from error
    if size > max_bytes:
        raise UserError(f"{path} has {size:,} bytes, more than the {max_bytes:,} allowed")
    with reading(path, "weights file"):
        format = formats.recognised(path)
    if format == "safetensors":
        return read_safetensors(path)
    if format == "torch":
        return Weights(read_torch(path, max_bytes))
    weights: Weights = import_module(f"{formats.__name__}.{format}").read(path, max_bytes)
    return weights


def read_safetensors(path: Path) -> Weights:
    """The tensors; for a convatlas checkpoint, those used for evaluation, once its checksum is verified."""
    try:
        with safe_open(path, framework="pt") as file:
            ours = checkpoint.KEY in (file.metadata() or {})
            tensors = {} if ours else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # damaged files make the reader raise anything
        raise UserError(f"{path} is not a complete safetensors file ({error})", "download it again") from error
    if not ours:
        return Weights(tensors)
    tensors, about = checkpoint.load(path)
    return Weights(averaged(tensors), about, measured(tensors))


def read_torch(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Tensor]:
    check_zip(path, max_bytes)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # hostile and damaged files make it raise anything
        reason = str(error).split("Check the documentation")[0].splitlines() or [type(error).__name__]
        raise UserError(
            f"{path} is damaged or contains more than plain tensors ({shortened(reason)})",
            "nothing in it was executed; use another file",
        ) from error
    for name in NESTED:
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping):
            held = held[name]
    if not isinstance(held, Mapping) or not held:
        raise UserError(f"{path} does not contain a state dict", "save net.state_dict()")
    for name, tensor in held.items():
        if type(name) is not str or type(tensor) not in (Tensor, nn.Parameter):
            raise UserError(
                f"{path} contains {type(tensor).__name__} {str(name)[:40]!r} among its tensors", "save net.state_dict()"
            )
    if sum(t.numel() * t.element_size() for t in held.values()) > max_bytes:
        raise UserError(f"{path} contains tensors of more than the {max_bytes:,} bytes allowed")
    tensors = {str(name): tensor.detach() for name, tensor in held.items()}
    if any(t.layout != torch.strided or t.is_quantized for t in tensors.values()):
        raise UserError(f"{path} contains sparse or quantised tensors", "save dense, unquantised ones")
    return {name: t.clone() for name, t in tensors.items()}


def check_zip(path: Path, max_bytes: int) -> None:
    """torch.save does not compress: a compressed archive was written by something else, and may be a bomb."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except Exception as error:  # see read_torch
        raise UserError(f"{path} is a damaged archive ({error})", "download it again") from error
    names = [part.filename for part in parts]
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts) or len(set(names)) < len(names):
        raise UserError(
            f"{path} has compressed or duplicate parts, which torch.save does not write", "download it again"
        )
    if sum(part.file_size for part in parts) > max_bytes:
        raise UserError(f"{path} unpacks to more than the {max_bytes:,} bytes allowed")


def shortened(lines: list[str]) -> str:
    text = " ".join(" ".join(lines).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
