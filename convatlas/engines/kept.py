"""ONNX files of networks, kept in the cache: an export takes half a minute, and is needed whenever an engine starts.

A file is named after all that it depends on: the network's structure, the digest of its weights, this package's own
code and the versions of the libraries that write it.
"""

from __future__ import annotations

import importlib.metadata
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from .. import layers, nets
from ..files.atomic import replacing
from ..files.cache import used
from ..layers import Shape
from ..version import VERSION
from ..weights.cache import cache as cached
from . import onnx_export, parity
from .on_onnxruntime import OnnxRuntimeNet

WRITERS = ("torch", "onnx", "onnxscript")
LARGEST = 8 << 30  # bytes of all that is kept
MOST = 0.01  # standard deviations: float32 rounding makes 1e-3 in deep networks, a layer that is wrong more than 0.1


def onnx_of(net: nn.Module, input: Shape) -> Path:
    """The ONNX file of a network for images C x H x W, exported and tried out unless it is there.

    Raises UserError as `export_onnx` does, and Unlike for a file that computes something else (see `tried`).
    """
    file = cached("engines") / f"{digest_of(net, input)[:32]}.onnx"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as new:
            onnx_export.export_onnx(net, input, new)
            tried(net, input, new)
    return used(file, LARGEST)


def tried(net: nn.Module, input: Shape, file: Path) -> None:
    """Raises Unlike if ONNX Runtime, where it is installed, answers otherwise than torch, beyond any rounding.

    An untrained network may give the same logits whatever happens: of those nothing is asked.
    """
    if find_spec("onnxruntime") is None:
        return
    x = parity.images(input).float() / 128 - 1
    expected = parity.of_net(net)(x)
    difference = parity.difference(expected, OnnxRuntimeNet(file, "fp32", 1)(x))
    if expected.std() > parity.LEAST_STD * expected.abs().max() and not difference <= MOST:
        raise parity.Unlike(
            f"as an ONNX graph, {type(net).__name__} differs from torch by {difference:.2g} standard deviations of its "
            "logits",
            "give --engine torch, and please report it",
        )


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
