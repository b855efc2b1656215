"""A Model as one file for other engines: ONNX, OpenVINO or torch.export, checked against torch before it is there.

Beside FILE come FILE.md, its card, and FILE.py, a short program that uses it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ..catalogue import find
from ..data.names import unnamed
from ..data.normalise import Normalizer, normalise
from ..errors import UserError, unknown
from ..files.atomic import replacing, write_text
from ..layers import eval_mode, shape_after
from ..preprocess import MEASURED, Preprocess
from ..runs.folder import Run
from ..weights.convert import card
from ..weights.model import Model, load
from . import parity
from .from_pixels import FromPixels, as_pixels
from .metadata import NORMALISED, PIXELS, Images, of_model
from .net import EngineNet
from .on_onnxruntime import OnnxRuntimeNet
from .on_openvino import OpenVinoNet, core, openvino
from .onnx_export import EXAMPLES, IMAGES, onnx_program, quiet, write_onnx
from .program import program

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
METADATA = "metadata.json"  # in torch's files
SECTION = "convatlas"  # of OpenVINO's rt_info


@dataclass(frozen=True)
class Exported:
    """A file that was written, and what was found when it was checked."""

    file: Path
    format: str
    images: Images  # how they go in
    difference: float  # from torch, in standard deviations of the logits
    files: tuple[Path, ...]  # all that were written, the file first
    bytes: int  # of the file, and of its weights where they are in another

    def to_json(self) -> dict[str, Any]:
        return {
            "file": str(self.file),
            "format": self.format,
            "images": self.images,
            "bytes": self.bytes,
            "difference": self.difference,
            "tolerance": parity.TOLERANCE,
            "files": [str(file) for file in self.files],
        }


def export(model: Model | Run | str | Path, to: str, file: str | Path, *, uint8: bool = False) -> Exported:
    """Writes FILE (.onnx; .xml, and .bin beside it; .pt2) for batches of any size, with its card and a program.

    `model` is what `load` takes. With `uint8` the file takes images as image files give them, uint8 (n, H, W, C), and
    normalises them itself; otherwise the network's float32 input. The file is run beside torch, on batches of 1 and 3.
    Raises Unlike if it answers otherwise, and UserError if that cannot be judged, and for what cannot be exported; then
    nothing is written.
    """
    file, model = Path(file), load(model)
    checked(model, to, file, uint8)
    images: Images = PIXELS if uint8 else NORMALISED
    net = FromPixels(model.net, model.normalizer) if uint8 else model.net
    shown = parity.images(model.preprocess.input)
    with TemporaryDirectory() as folder:
        made = Path(folder) / file.name
        WRITERS[to](net, fed(shown[:EXAMPLES], model.normalizer, images), made, of_model(model, images))
        run = RUNNERS[to](made)
        difference = parity.check(
            parity.of_net(model.net, model.normalizer),
            lambda x: run(fed(x, model.normalizer, images)),
            shown,
            model.network,
        )
        parts = sorted(Path(folder).iterdir(), key=lambda part: part.name == file.name)
        for part in parts:  # the file itself last
            with replacing(file.with_name(part.name)) as new:
                shutil.copyfile(part, new)
        size = sum(part.stat().st_size for part in parts)
    source, about = beside(file, ".py"), beside(file, ".md")
    write_text(source, program(file, to, model.preprocess, images, IMAGES))
    write_text(about, card(model, file, f"`python {source.name} IMAGE` uses it.", points(images, difference)))
    others = [file.with_name(part.name) for part in parts if part.name != file.name]
    return Exported(file, to, images, difference, (file, *others, about, source), size)


def checked(model: Model, to: str, file: Path, uint8: bool) -> None:
    """Raises UserError for what cannot be exported."""
    if to not in SUFFIXES:
        raise unknown("format", to, SUFFIXES)
    if file.suffix != SUFFIXES[to]:
        raise UserError(f"{file} does not end in {SUFFIXES[to]}", f"name a file of {to} so")
    if not file.parent.is_dir():
        raise UserError(f"there is no folder {file.parent} for {file.name}", "create it first")
    if isinstance(model.net, EngineNet):
        raise UserError(f"{model.source} runs on {model.net.engine}, and cannot be exported", "give the original")
    whiten = model.preprocess.whiten
    if whiten in MEASURED and not uint8:
        raise UserError(
            f"images for {model.network} are whitened (whiten={whiten}) by what was measured on its training images",
            "give --uint8, which puts it into the file",
        )


def points(images: Images, difference: float) -> list[str]:
    """What the card adds to what is said of the weights."""
    takes = "uint8 (n, H, W, C), RGB or grey, normalised inside" if images == PIXELS else "float32 (n, C, H, W)"
    return [
        f"takes {takes}; gives logits (n, classes); any n",
        f"differs from torch by {difference:.1e} standard deviations of the logits, on batches of 1 and 3",
    ]


def fed(images: Tensor, normalizer: Normalizer, how: Images) -> Tensor:
    """uint8 (n, C, H, W) as an exported file takes them."""
    return as_pixels(images, normalizer) if how == PIXELS else normalise(images, normalizer).contiguous()


def beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def write_openvino(net: nn.Module, x: Tensor, file: Path, metadata: Mapping[str, str]) -> None:
    ov = openvino()
    with TemporaryDirectory() as folder:
        onnx = Path(folder) / "net.onnx"
        write_onnx(onnx_program(net, x), onnx, {})
        model = core().read_model(onnx)
        for key, value in metadata.items():
            model.set_rt_info(value, [SECTION, key])
        ov.save_model(model, file, compress_to_fp16=False)


def write_torch(net: nn.Module, x: Tensor, file: Path, metadata: Mapping[str, str]) -> None:
    with eval_mode(net), torch.no_grad(), quiet():
        exported = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("n")},))
        for node in exported.graph.nodes:  # of this machine's folders
            node.meta.pop("stack_trace", None)
        content = BytesIO()
        torch.export.save(exported, content, extra_files={METADATA: json.dumps(dict(metadata))})
    file.write_bytes(content.getvalue())


def run_torch(file: Path) -> parity.Run:
    with quiet():
        return torch.export.load(file).module()


WRITERS: dict[str, Callable[[nn.Module, Tensor, Path, Mapping[str, str]], None]] = {
    "onnx": lambda net, x, file, metadata: write_onnx(onnx_program(net, x), file, metadata),
    "openvino": write_openvino,
    "torch": write_torch,
}
RUNNERS: dict[str, Callable[[Path], parity.Run]] = {
    "onnx": lambda file: OnnxRuntimeNet(file, "fp32", 1),
    "openvino": lambda file: OpenVinoNet(file, "fp32", 1, 1),
    "torch": run_torch,
}


def untrained(name: str) -> Model:
    """A network of the catalogue with random weights, as a Model: for timing what its architecture costs."""
    net = find(name).build().eval()
    assert net.input is not None
    channels = net.input[0]
    normalizer = Normalizer(Preprocess(net.input, (0.5,) * channels, (0.25,) * channels))
    shown = parity.images(net.input, parity.SHOWN, seed=1)
    parity.randomise(net, normalise(shown, normalizer).contiguous())
    (outputs,) = shape_after(net, net.input)
    note = "random weights, for timing: it knows no class"
    return Model(net, normalizer, unnamed(outputs), net.variant, "random weights", (note,))
