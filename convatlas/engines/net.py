"""EngineNet: an engine's session as a module, so that whatever runs a Model runs it on any engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from ..errors import UserError, pass_on


@contextmanager
def refusing(file: Path, what: str, remedy: str) -> Iterator[None]:
    """Whatever an engine raises of a file within, in exceptions of its own, becomes a UserError: what, why, remedy."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        pass_on(file, error)
        reason = str(error).strip().rpartition("\n")[2].rpartition(" : ")[2]
        raise UserError(f"{what} ({reason})", remedy) from error


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
