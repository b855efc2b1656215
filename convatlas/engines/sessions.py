"""A model on an engine: `on` gives the same model, its network run by torch, ONNX Runtime or OpenVINO."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

from torch import Tensor

from ..errors import UserError, unknown
from ..weights.model import Model
from . import auto
from .int8 import int8_of
from .kept import onnx_of
from .net import EngineNet, refusing
from .on_onnxruntime import OnnxRuntimeNet
from .on_openvino import OpenVinoNet
from .on_torch import TorchNet

ENGINES = ("torch", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16", "int8")
CAN = {"torch": ("fp32", "bf16"), "onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16", "int8")}
WHY_NOT = {
    ("onnxruntime", "bf16"): "ONNX Runtime has no bf16 arithmetic on CPUs",
    ("torch", "int8"): "int8 networks are made for ONNX Runtime and OpenVINO",
}


def on(
    model: Model,
    engine: str = "auto",
    precision: str = "fp32",
    threads: int = 1,
    batch: int = 1,
    *,
    calibrate: Tensor | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> Model:
    """The model with its network as an EngineNet: same preprocessing, same classes, any batch, on the CPU.

    `auto` is the engine that is the fastest here for images in batches of `batch`, of those that are installed. int8
    needs images to `calibrate` on (see calibration.py). `tell` hears what was chosen. Raises UserError for an engine
    that is not installed or does not compute in that precision, and for a network in int8 that is not trained.
    """
    check(engine, precision, threads)
    if precision == "int8" and not model.trained:
        raise UserError(f"{model.network} is not trained, and int8 takes its ranges from trained weights", "train it")
    if precision == "int8" and calibrate is None:
        raise UserError("int8 needs images to calibrate on", "give them with --calibrate DATA")
    if engine == "auto":
        net, why = fastest(model, precision, threads, batch, calibrate)
        tell(why)
    else:
        net = session(model, engine, precision, threads, batch, calibrate)
    return replace(model, net=net)


def fastest(model: Model, precision: str, threads: int, batch: int, calibrate: Tensor | None) -> tuple[EngineNet, str]:
    """The session of the fastest engine, and what it was chosen from."""
    able = [name for name in ENGINES if precision in CAN[name] and find_spec(name) is not None]
    if not able:
        raise UserError(f"no engine that computes in {precision} is installed", "pip install 'convatlas[deploy]'")
    input = model.preprocess.input
    key = auto.key_of(model.net, input, precision, threads, batch)
    choice = auto.remembered(key)
    if choice is not None and choice.engine in able:
        return session(model, choice.engine, precision, threads, batch, calibrate), f"{choice}, as measured before"
    sessions = {name: session(model, name, precision, threads, batch, calibrate) for name in able}
    choice = auto.timed(sessions, input, threads, batch, key)
    return sessions[choice.engine], str(choice)


def session(
    model: Model, engine: str, precision: str, threads: int, batch: int, calibrate: Tensor | None = None
) -> EngineNet:
    if engine == "torch":
        return TorchNet(model.net, precision, threads)
    file = onnx_of(model.net, model.preprocess.input)
    if precision == "int8":
        assert calibrate is not None
        file = int8_of(file, engine, calibrate)
    remedy = "delete it, in case it is damaged, or give another --engine"
    with refusing(file, f"{engine} cannot run {file}", remedy):
        if engine == "onnxruntime":
            return OnnxRuntimeNet(file, precision, threads)
        return OpenVinoNet(file, precision, threads, batch)


def check(engine: str, precision: str, threads: int) -> None:
    """Raises UserError for names that are none, and for what the engine cannot do."""
    if engine not in (*ENGINES, "auto"):
        raise unknown("engine", engine, (*ENGINES, "auto"))
    if precision not in PRECISIONS:
        raise unknown("precision", precision, PRECISIONS)
    if threads < 1:
        raise UserError(f"{threads} threads are too few", "give at least 1")
    if engine != "auto" and precision not in CAN[engine]:
        able = " or ".join(name for name in ENGINES if precision in CAN[name])
        raise UserError(WHY_NOT[engine, precision], f"give --engine {able}, or --precision {' or '.join(CAN[engine])}")
