"""EngineNet: an engine's session as a module, so that whatever runs a Model runs it on any engine."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class EngineNet(nn.Module, ABC):
    """Images float32 (n, C, H, W) in, float32 logits (n, classes) out, for any n; both are on the CPU."""

    engine: str
    precision: str
    threads: int  # that compute
    how: str  # it runs, in a few words

    def __init__(self, engine: str, precision: str, threads: int, how: str):
        super().__init__()
        self.engine, self.precision, self.threads, self.how = engine, precision, threads, how

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x.cpu())

    @abstractmethod
    def logits(self, x: Tensor) -> Tensor: ...
