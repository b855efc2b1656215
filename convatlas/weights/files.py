"""Weights files, recognised by their content: safetensors, torch.save's, and those of other frameworks (formats/).

A safetensors file contains only numbers and text. torch.save writes a pickle, which can execute code: torch_file.py
interprets it, and nothing in it is executed. No tensor is larger than what the file stores of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import IO

from torch import Tensor

from ..errors import UserError, first_line, pass_on, unread
from ..files.header import MOST_TENSORS
from ..files.pickled import Refused
from ..files.regular import attentive
from ..runs import checkpoint
from ..runs.checkpoint import averaged, measured
from . import formats, torch_file
from .formats.collect import reading
from .types import MAX_BYTES, Weights

NESTED = (  # keys under which training scripts save the weights, averages of them first
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
    "ema",
    "state_dict",
    "model_state_dict",
    "model",
    "model_state",
    "net",
)
AVERAGED = "n_averaged"  # torch's count of what an average is of, beside the tensors
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")  # types in safetensors files
TYPES = (*FLOATS, "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL", "C64")


def read_weights(path: str | Path, max_bytes: int = MAX_BYTES) -> Weights:
    """The tensors in a file by name. Raises UserError if it is damaged, too large, or contains anything else."""
    path = Path(path)
    if not path.exists() and path.with_name(f"{path.name}.index").is_file():  # as TensorFlow names its checkpoints
        path = path.with_name(f"{path.name}.index")
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise UserError(f"{path} is not a file", "give a weights file")
    except OSError as error:
        raise unread(path, error) from error
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
    if checkpoint.is_checkpoint(path):
        tensors, about = checkpoint.load(path)
        return Weights(averaged(tensors), about, measured(tensors))
    tensors = {}
    try:
        with checkpoint.opened(path) as file:
            for name in file.keys():  # noqa: SIM118 (no mapping)
                kind = file.get_slice(name).get_dtype()
                if kind not in TYPES:
                    raise UserError(
                        f"{path} has {name[:80]!r} of type {kind}", f"give weights of type {', '.join(FLOATS)}"
                    )
                tensors[name] = file.get_tensor(name)
    except UserError:
        raise
    except Exception as error:  # damaged files make the reader raise anything
        pass_on(path, error)
        raise UserError(f"{path} is not a complete safetensors file ({error})", "download it again") from error
    if not tensors:
        raise UserError(f"{path} contains no tensors", "give a file of weights")
    return Weights(tensors)


def read_torch(path: Path, max_bytes: int) -> dict[str, Tensor]:
    with attentive(path) as file:
        return tensors_of(path, file, max_bytes)


def tensors_of(path: Path, raw: IO[bytes], max_bytes: int) -> dict[str, Tensor]:
    try:
        file = torch_file.read(raw)
    except UserError:
        raise
    except Exception as error:  # hostile and damaged files make it raise anything
        raise unreadable(path, error) from error
    held = file.held
    for name in NESTED:
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping):
            held = held[name]
    if isinstance(held, Mapping) and AVERAGED in held:
        held = {name: view for name, view in held.items() if name != AVERAGED}
    if not isinstance(held, Mapping) or not held:
        raise UserError(f"{path} does not contain a state dict", "save net.state_dict()")
    if len(held) > MOST_TENSORS:
        raise UserError(f"{path} contains more than {MOST_TENSORS:,} tensors", "no network has so many")
    views = [view for view in held.values() if isinstance(view, torch_file.View)]
    if sum(view.bytes for view in views) > max_bytes:
        raise UserError(f"{path} contains tensors of more than the {max_bytes:,} bytes allowed")
    tensors = {}
    for key, view in held.items():
        name = key.decode("utf-8", "replace") if isinstance(key, bytes) else key  # of Python 2
        if type(name) is not str or not isinstance(view, torch_file.View):
            what = "Tensor" if isinstance(view, torch_file.View) else type(view).__name__
            raise UserError(f"{path} contains {what} {str(name)[:40]!r} among its tensors", "save net.state_dict()")
        try:
            tensors[name] = file.tensor(view)
        except Refused as error:
            raise UserError(f"{path} contains {name[:80]!r}, which {error}", "use another file") from error
        except UserError:
            raise
        except Exception as error:  # see above
            raise unreadable(path, error) from error
    return tensors


def unreadable(path: Path, error: Exception) -> UserError:
    pass_on(path, error)
    why = f"it {error}" if isinstance(error, Refused) else first_line(error)
    return UserError(
        f"{path} is damaged or contains more than plain tensors ({why[:200]})",
        "nothing in it was executed; use another file",
    )
