"""An ONNX file on ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from .net import EngineNet


class OnnxRuntimeNet(EngineNet):
    """Exactly `threads` threads compute, and they sleep between calls instead of spinning."""

    def __init__(self, file: Path, precision: str, threads: int):
        super().__init__("onnxruntime", precision, threads, "CPU provider")
        self.file = file
        try:
            import onnxruntime as ort
        except ImportError as error:
            raise UserError("ONNX Runtime is not installed", "pip install 'convatlas[deploy]'") from error
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors: they are raised, too
        self.session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        self.images = self.session.get_inputs()[0].name

    def logits(self, x: Tensor) -> Tensor:
        (found,) = self.session.run(None, {self.images: x.contiguous().numpy()})
        return torch.from_numpy(found)
