"""What is measured: a model on an engine, opened alike in this process and in one of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..catalogue import find
from ..data.names import unnamed
from ..data.normalise import Normalizer
from ..errors import UserError
from ..preprocess import Preprocess
from ..tables import entry
from ..weights.model import Model, load
from .on_onnxruntime import OnnxRuntimeNet
from .on_openvino import OpenVinoNet
from .onnx_model import FileNet, opened
from .sessions import on

GPU_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Job:
    """A MODEL, or a network's bare name, which is built without weights; and how it runs."""

    model: str
    engine: str = "torch"
    precision: str = "fp32"
    threads: int = 1
    device: str = "cpu"
    which: str | None = None  # as for `load`, as the next two
    network: str | None = None
    preprocess: str | None = None

    @property
    def trained(self) -> bool:
        return not is_bare(self.model)

    @property
    def is_file(self) -> bool:
        """Whether it is an ONNX file, which ONNX Runtime runs as it is."""
        return self.model.endswith(".onnx")

    @property
    def what(self) -> str:
        return f"{self.model} on {self.engine} in {self.precision}"

    def load(self) -> Model:
        """The model as torch has it. Raises UserError as weights.model.load does."""
        if self.is_file:
            return opened(self.model, network=self.network, preprocess=self.preprocess, threads=self.threads)
        if self.trained:
            return load(self.model, self.which, network=self.network, preprocess=self.preprocess)
        return untrained(self.model)

    def open(self, model: Model, batch: int, calibrate: Tensor | None = None) -> Model:
        """The model on its engine and device, for batches of that size; int8 on images to `calibrate` on.

        Raises UserError for what engine and device cannot do.
        """
        if self.is_file:
            if self.engine not in ("torch", "onnxruntime") or self.precision != "fp32":
                raise UserError(f"{self.model} is run as it is, by ONNX Runtime", "leave out --engine and --precision")
            return model
        if self.device == "cpu":
            return on(model, self.engine, self.precision, self.threads, batch, calibrate=calibrate)
        if self.engine != "torch" or self.precision not in GPU_TYPES:
            raise UserError(
                f"{self.engine} in {self.precision} does not run on {self.device} here", "give --device cpu"
            )
        return replace(model, net=OnGpu(model.net, GPU_TYPES[self.precision], self.device))

    def reopen(self, file: Path, batch: int) -> nn.Module:
        """The session of an engine's own file."""
        if self.is_file:
            return FileNet(file, self.threads)
        if self.engine == "openvino":
            return OpenVinoNet(file, self.precision, self.threads, batch)
        return OnnxRuntimeNet(file, self.precision, self.threads)


def is_bare(model: str) -> bool:
    """Whether it is a network's name, and neither a path nor published weights."""
    if "@" in model or Path(model).exists():
        return False
    try:
        entry(model)
    except UserError:
        return False
    return True


def untrained(name: str) -> Model:
    """A network with its first weights, the same ones each time: timing needs no others."""
    variant = find(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = variant.build().eval()
    assert net.input is not None
    channels = net.input[0]
    preprocess = Preprocess(input=net.input, mean=(0.0,) * channels, std=(1.0,) * channels)
    with torch.inference_mode():
        classes = net(torch.zeros(1, *net.input)).shape[1]
    return Model(net, Normalizer(preprocess), unnamed(classes), variant.name, name, trained=False)


class OnGpu(nn.Module):
    """A copy of a network on a GPU: images float32 in, logits float32 out, both there."""

    def __init__(self, net: nn.Module, dtype: torch.dtype, device: str):
        super().__init__()
        copied: Any = deepcopy(net)
        self.net = copied.to(device=device, dtype=dtype, memory_format=torch.channels_last).eval().requires_grad_(False)
        self.dtype = dtype

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(self.dtype, memory_format=torch.channels_last)).float()


def images(input: Sequence[int], batch: int, device: str = "cpu") -> Tensor:
    """Normalised images (batch, C, H, W) of noise, the same ones each time."""
    return torch.randn(batch, *input, generator=torch.Generator().manual_seed(0)).to(device)


def finished(call: Callable[[], object], device: str) -> Callable[[], object]:
    """The call, which on a GPU returns when it is done."""
    if device == "cpu":
        return call

    def run() -> None:
        call()
        torch.cuda.synchronize(device)

    return run
