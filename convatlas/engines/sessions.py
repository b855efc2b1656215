"""A model on an engine: `on` gives the same model, its network run by torch, ONNX Runtime or OpenVINO."""

from __future__ import annotations

from dataclasses import replace

from ..errors import UserError, unknown
from ..weights.model import Model
from .kept import onnx_of
from .net import EngineNet
from .on_onnxruntime import OnnxRuntimeNet
from .on_openvino import OpenVinoNet
from .on_torch import TorchNet

ENGINES = ("torch", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16")
CAN = {"torch": ("fp32", "bf16"), "onnxruntime": ("fp32",), "openvino": ("fp32", "bf16")}
WHY_NOT = {("onnxruntime", "bf16"): "ONNX Runtime has no bf16 arithmetic on CPUs"}


def on(model: Model, engine: str = "torch", precision: str = "fp32", threads: int = 1, batch: int = 1) -> Model:
    """The model with its network as an EngineNet: same preprocessing, same classes, any batch.

    Raises UserError for an engine that is not installed or does not compute in that precision.
    """
    check(engine, precision, threads)
    return replace(model, net=session(model, engine, precision, threads, batch))


def session(model: Model, engine: str, precision: str, threads: int, batch: int) -> EngineNet:
    if engine == "torch":
        return TorchNet(model.net, precision, threads)
    file = onnx_of(model.net, model.preprocess.input)
    if engine == "onnxruntime":
        return OnnxRuntimeNet(file, precision, threads)
    return OpenVinoNet(file, precision, threads, batch)


def check(engine: str, precision: str, threads: int) -> None:
    """Raises UserError for names that are none, and for what the engine cannot do."""
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if threads < 1:
        raise UserError(f"{threads} threads are too few", "give at least 1")
    if precision not in CAN[engine]:
        able = " or ".join(name for name in ENGINES if precision in CAN[name])
        raise UserError(WHY_NOT[engine, precision], f"give --engine {able}, or --precision {' or '.join(CAN[engine])}")
