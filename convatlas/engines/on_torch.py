"""A network on torch, eager: in channels_last memory and inference mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from .net import EngineNet

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class TorchNet(EngineNet):
    def __init__(self, net: nn.Module, precision: str, threads: int):
        super().__init__("torch", precision, threads, "eager, channels_last")
        self.net = deepcopy(net).cpu().eval().requires_grad_(False)
        self.net.to(dtype=DTYPES[precision], memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def logits(self, x: Tensor) -> Tensor:
        with using(self.threads):
            x = x.to(dtype=DTYPES[self.precision], memory_format=torch.channels_last)
            return self.net(x).float()


@contextmanager
def using(threads: int) -> Iterator[None]:
    """Within the block torch computes on so many threads."""
    before = torch.get_num_threads()
    if threads != before:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        if threads != before:
            torch.set_num_threads(before)
