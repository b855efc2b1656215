"""An ONNX file on OpenVINO's CPU plugin."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from .net import EngineNet

HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}  # by itself OpenVINO answers in bf16 where the processor can


class OpenVinoNet(EngineNet):
    """One stream on exactly `threads` threads. Batches of `batch` images have a plan of their own, which is faster;
    others share one for any batch, made when it is first needed."""

    def __init__(self, file: Path, precision: str, threads: int, batch: int):
        super().__init__("openvino", precision, threads, "CPU plugin")
        self.file = file
        self.model, self.batch = core().read_model(file), batch
        self.requests = {batch: self.request(batch)}

    def request(self, batch: int) -> Any:
        """What runs images in batches of that size; with -1, of any."""
        model = self.model.clone()
        model.reshape([batch, *(size.get_length() for size in list(model.input().partial_shape)[1:])])
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": self.threads > 1,  # one is the caller's, which each call would move: up to 0.5 ms
        }
        compiled = core().compile_model(model, "CPU", settings)
        computes = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if computes != HINTS[self.precision]:
            raise UserError(
                f"on this processor OpenVINO computes in {computes} where {self.precision} is asked for",
                "give --precision fp32 or int8",
            )
        return compiled.create_infer_request()

    def logits(self, x: Tensor) -> Tensor:
        plan = self.batch if len(x) == self.batch else -1
        if plan not in self.requests:
            self.requests[plan] = self.request(plan)
        found = self.requests[plan].infer([x.contiguous().numpy()], share_inputs=True)
        return torch.from_numpy(found[0])


@cache
def core() -> Any:
    """The one core of this process: each gives its thread a stack for signals and at its end puts back the one that it
    found, so that after two that ended in the order they began the next signal would end the process."""
    return openvino().Core()


def openvino() -> Any:
    try:
        with without_telemetry():
            import openvino as ov
    except ImportError as error:
        raise UserError("OpenVINO is not installed", "pip install 'convatlas[deploy]'") from error
    return ov


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Within the block OpenVINO and NNCF are imported as if the package were missing that reports their use to their
    makers."""
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
