"""ONNX files of networks, kept in the cache: an export takes half a minute, and is needed whenever an engine starts.

A file is named after all that it depends on: the network's structure, the digest of its weights, this package's own
code and the versions of the libraries that write it.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from hashlib import sha256
from pathlib import Path

import torch
from torch import nn

from .. import layers, nets
from ..layers import Shape
from ..version import VERSION
from ..weights.cache import cache as cached
from . import onnx_export

WRITERS = ("torch", "onnx", "onnxscript")


def onnx_of(net: nn.Module, input: Shape) -> Path:
    """The ONNX file of a network for images C x H x W, exported unless it is there. Raises as `export_onnx` does."""
    file = cached("engines") / f"{digest_of(net, input)[:32]}.onnx"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        onnx_export.export_onnx(net, input, file)
    return file


def digest_of(net: nn.Module, input: Shape) -> str:
    """Of a network with its weights, as it is exported today."""
    found = sha256(f"{written_by()} {type(net).__qualname__} {input} {net}".encode())
    for name, tensor in sorted(net.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()


@cache
def written_by() -> str:
    """The versions, and the code that says what networks compute and how they are written."""
    code = sha256()
    for file in (Path(layers.__file__), Path(onnx_export.__file__), *sorted(Path(nets.__file__).parent.glob("*.py"))):
        code.update(file.read_bytes())
    versions = [importlib.metadata.version(name) for name in WRITERS]
    return " ".join([VERSION, *versions, code.hexdigest()])
