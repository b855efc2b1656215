"""A Model as one int8 file: ONNX for ONNX Runtime, or OpenVINO's, with the metadata, card and program of any export."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from ..errors import UserError
from ..files.atomic import replacing, write_text
from ..weights.convert import card
from ..weights.model import Model
from .export import SECTION, beside, checked
from .int8 import int8_of
from .judged import Judged
from .kept import onnx_of
from .metadata import NORMALISED, of_model
from .on_openvino import core, openvino
from .onnx_export import IMAGES
from .program import program

ENGINE = {"onnx": "onnxruntime", "openvino": "openvino"}


def engine_of(to: str) -> str:
    """Which engine an int8 file of that format is for. Raises UserError for a format that has none."""
    if to not in ENGINE:
        raise UserError(f"int8 is not for {to}", f"give --to {' or '.join(ENGINE)}")
    return ENGINE[to]


def export_int8(model: Model, to: str, file: Path, calibrate: Tensor, judged: Judged) -> tuple[Path, ...]:
    """Writes FILE, its card and its program, and returns their paths. Raises UserError for what cannot be exported."""
    checked(model, to, file, uint8=False)
    made = int8_of(onnx_of(model.net, model.preprocess.input), engine_of(to), calibrate)
    about = {**of_model(model, NORMALISED), "precision": "int8", "accuracy": str(judged)}
    with TemporaryDirectory() as folder:
        named = Path(folder) / file.name
        (onnx_about if to == "onnx" else openvino_about)(made, named, about)
        parts = sorted(Path(folder).iterdir(), key=lambda part: part.name == file.name)
        for part in parts:  # the file itself last
            with replacing(file.with_name(part.name)) as new:
                shutil.copyfile(part, new)
    source, text = beside(file, ".py"), beside(file, ".md")
    write_text(source, program(file, to, model.preprocess, NORMALISED, IMAGES))
    points = [
        "takes float32 (n, C, H, W); gives logits (n, classes); any n",
        f"{judged}; calibrated on {len(calibrate)} training images, none of them scored",
    ]
    write_text(text, card(model, file, f"`python {source.name} IMAGE` uses it.", points))
    return (file, *(file.with_name(part.name) for part in parts if part.name != file.name), text, source)


def onnx_about(made: Path, file: Path, about: Mapping[str, str]) -> None:
    import onnx

    graph = onnx.load(made)
    onnx.helper.set_model_props(graph, dict(about))
    onnx.save(graph, file)


def openvino_about(made: Path, file: Path, about: Mapping[str, str]) -> None:
    ov = openvino()
    graph = core().read_model(made)
    for key, value in about.items():
        graph.set_rt_info(value, [SECTION, key])
    ov.save_model(graph, file, compress_to_fp16=False)
