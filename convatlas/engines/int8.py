"""Networks in int8: static, per channel, calibrated on images, by ONNX Runtime for itself and by NNCF for OpenVINO.

Weights and activations are quantised; where the processor has no VNNI, whose 8-bit products do not overflow, weights
take 7 bits only.
"""

from __future__ import annotations

import importlib.metadata
import io
import logging
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from ..errors import UserError
from ..files.atomic import replacing
from ..files.cache import used
from ..machine.facts import flags
from ..weights.cache import cache as cached
from .kept import LARGEST
from .on_openvino import core, openvino, without_telemetry
from .onnx_export import IMAGES

X86 = ("x86_64", "AMD64")


def int8_of(file: Path, engine: str, images: Tensor) -> Path:
    """The file of an ONNX network in int8 for the engine, calibrated on normalised images (n, C, H, W); it is kept in
    the cache. Raises UserError for a library that is missing."""
    kind, library, make = MAKERS[engine]
    needed = (library, engine)
    key = sha256(f"{[version(name) for name in needed]} {reduced()} {Path(__file__).read_bytes()!r}".encode())
    key.update(file.read_bytes())
    key.update(f"{tuple(images.shape)}".encode())
    key.update(images.contiguous().numpy().data)
    kept = cached("engines") / f"{key.hexdigest()[:32]}-int8{kind}"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with unheard():
            make(file, images, kept)
    return used(kept, LARGEST)


def version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(f"int8 needs {library}, which is not installed", "pip install 'convatlas[deploy]'") from error


def reduced() -> bool:
    """Whether this processor adds 8-bit products in 16 bits, which overflow: x86 without VNNI."""
    return platform.machine() in X86 and not any("vnni" in flag for flag in flags())


def by_onnxruntime(file: Path, images: Tensor, out: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images: Iterator[Tensor] = iter(images.split(1))

        def get_next(self) -> Mapping[str, Any] | None:
            image = next(self.images, None)
            return None if image is None else {IMAGES: image.numpy()}

    with TemporaryDirectory() as folder, replacing(out) as new:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(file, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            new,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduced(),
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


def by_nncf(file: Path, images: Tensor, out: Path) -> None:
    ov = openvino()
    with without_telemetry():
        import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    nncf.set_log_level(logging.ERROR)
    quantised = nncf.quantize(
        core().read_model(file),
        nncf.Dataset([image.numpy() for image in images.split(1)]),
        subset_size=len(images),
        target_device=nncf.TargetDevice.CPU,
        advanced_parameters=AdvancedQuantizationParameters(
            overflow_fix=OverflowFix.ENABLE if reduced() else OverflowFix.DISABLE
        ),
    )
    with TemporaryDirectory(dir=out.parent) as folder:
        made = Path(folder) / out.name
        ov.save_model(quantised, made, compress_to_fp16=False)
        for suffix in (".bin", ".xml"):  # the graph last: with it, the weights are there
            os.replace(made.with_suffix(suffix), out.with_suffix(suffix))


@contextmanager
def unheard() -> Iterator[None]:
    """Without what the libraries print of their progress."""
    root, level = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        root.setLevel(level)


Maker = Callable[[Path, Tensor, Path], None]
MAKERS: dict[str, tuple[str, str, Maker]] = {  # the file's ending, the library that makes it, and how
    "onnxruntime": (".onnx", "onnxruntime", by_onnxruntime),
    "openvino": (".xml", "nncf", by_nncf),
}
