"""An ONNX file as a MODEL: ONNX Runtime runs the file itself.

What convatlas exported says how its images are prepared, and what its classes are called. Of other files the graph
says the size of the images and the number of classes, and the user how images are prepared.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..catalogue import find
from ..data.names import unnamed
from ..data.normalise import Normalizer
from ..errors import UserError
from ..layers import Shape
from ..preprocess import Preprocess
from ..weights.model import Model
from ..weights.published import preset_for
from . import metadata
from .metadata import PIXELS
from .net import refusing
from .on_onnxruntime import OnnxRuntimeNet

FLOAT, UINT8 = "tensor(float)", "tensor(uint8)"


class FileNet(OnnxRuntimeNet):
    """The network in an ONNX file, of whatever batch it was exported for: images (n, C, H, W) in, logits out."""

    def __init__(self, file: Path, threads: int):
        with refusing(file, f"{file} is no ONNX file that ONNX Runtime runs", "give another"):
            super().__init__(file, "fp32", threads)
        given, self.first = self.session.get_inputs(), self.session.get_outputs()[0].name
        if len(given) != 1 or len(given[0].shape) != 4 or given[0].type not in (FLOAT, UINT8):
            takes = ", ".join(f"{it.name} {it.type} {it.shape}" for it in given)
            raise UserError(f"{file} takes {takes}, not float32 images (n, C, H, W)", "export the network so")
        self.uint8 = given[0].type == UINT8
        batch, *self.sides = [n if isinstance(n, int) else None for n in given[0].shape]
        self.batch = batch
        self.probabilities = False  # whether that is what the graph gives, instead of logits

    def logits(self, x: Tensor) -> Tensor:
        if self.uint8:
            x = x.round().byte().permute(0, 2, 3, 1)
        found = torch.cat([self.of_batch(part) for part in (x.split(self.batch) if self.batch else [x])])
        return found.clamp(min=torch.finfo(found.dtype).tiny).log() if self.probabilities else found

    def of_batch(self, x: Tensor) -> Tensor:
        n = len(x)
        if self.batch and n < self.batch:
            x = torch.cat([x, x[-1:].expand(self.batch - n, -1, -1, -1)])
        (found,) = self.session.run([self.first], {self.images: x.contiguous().numpy()})
        return torch.from_numpy(found)[:n].flatten(1)


def opened(file: str | Path, *, network: str | None = None, preprocess: str | None = None, threads: int = 1) -> Model:
    """The Model of an ONNX file, its network an EngineNet.

    A file of others needs `preprocess`, a name that weights.toml has; `network` is then what it is called, and says the
    size of the images where the file leaves it open. Raises UserError for what is not said, and for a file that is
    damaged or takes anything but a batch of images.
    """
    file = Path(file)
    if not file.is_file():
        raise UserError(f"there is no model {file}", "give the path of an .onnx file")
    net = FileNet(file, threads).eval()
    about = metadata.read(net.session.get_modelmeta().custom_metadata_map, file)
    if about is None:
        return of_others(net, file, network, preprocess)
    prepared = pixels_of(about.preprocess) if about.images == PIXELS else about.preprocess
    note = f"{file.name}: {about.network}, weights {about.source}"
    return Model(net, Normalizer(prepared), about.classes, about.network, str(file), (note,))


def pixels_of(preprocess: Preprocess) -> Preprocess:
    """The same geometry, and the pixels as they are: the graph normalises them."""
    zeros, ones = (0.0,) * preprocess.input[0], (1.0,) * preprocess.input[0]
    return replace(preprocess, mean=zeros, std=ones, scale=1.0, order="RGB", whiten="channel")


def of_others(net: FileNet, file: Path, network: str | None, preprocess: str | None) -> Model:
    if net.uint8:
        raise UserError(f"{file} takes uint8 images, and does not say in which order", "export it with float32 images")
    if preprocess is None:
        raise UserError(
            f"{file} does not say how its images were prepared",
            "say it with --preprocess: imagenet, half (pixels / 127.5 - 1), caffe ...",
        )
    variant = find(network) if network else None
    prepared = preset_for(preprocess, sized(net, file, variant.input if variant else None))
    logits = net(torch.rand(1, *prepared.input))
    total = logits.double().sum(1)
    net.probabilities = bool((logits >= 0).all()) and bool((total - 1).abs().max() < 1e-3)
    notes = [f"{file.name}: {logits.shape[1]} classes, without names"]
    if net.probabilities:
        notes.append(f"{file.name} gives probabilities; their logarithms are taken for logits")
    return Model(
        net,
        Normalizer(prepared),
        unnamed(logits.shape[1]),
        variant.name if variant else file.stem,
        str(file),
        tuple(notes),
    )


def sized(net: FileNet, file: Path, usual: Shape | None) -> Shape:
    """C x H x W of the graph's images; what it leaves open is as in the named network."""
    found = [own or other for own, other in zip(net.sides, usual or (None, None, None), strict=True)]
    channels, height, width = found
    if channels not in (1, 3):
        shape = "x".join("?" if n is None else str(n) for n in found)
        raise UserError(f"{file} takes images of {shape}", "export it for images (n, C, H, W), C 1 or 3")
    if height is None or width is None:
        raise UserError(f"{file} takes images of any size, and does not say of which", "say it with --network")
    return channels, height, width
