"""The hand-written training loop that `fit` is compared with: what a careful user writes for one GPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TRIAL_STEPS = 40  # to choose the faster memory format
PAD = 4


class Loop:
    """`loop()` trains for an epoch and returns images/s; the last, smaller batch is dropped.

    The images are on the device as uint8 (n, H, W, C). Shuffling, cropping, flipping and normalising are computed
    there, the optimizer is fused, cuDNN times its algorithms, and the loss is summed on the device and read once an
    epoch. `crop` pads by 4, crops and flips at random. `precision` is float32 (convolutions in TF32, torch's default)
    or bfloat16 (autocast). `graph` captures the whole step, from the choice of the images to the update, and replays
    it; `compile` compiles the network.
    """

    def __init__(
        self,
        net: nn.Module,
        images: Tensor,
        labels: Tensor,
        batch: int,
        *,
        precision: str = "float32",
        memory_format: torch.memory_format = torch.channels_last,
        crop: bool = False,
        nesterov: bool = False,
        graph: bool = False,
        compile: bool = False,
    ):
        device, n = images.device, len(images)
        self.net = net.to(device=device, memory_format=memory_format).train()  # type: ignore[call-overload]
        self.images = F.pad(images, (0, 0, PAD, PAD, PAD, PAD)) if crop else images
        self.labels, self.batch, self.steps, self.crop = labels, batch, n // batch, crop
        self.side, self.format = images.shape[1], memory_format
        self.mean, self.std = (torch.tensor(v, device=device) for v in ((127.5,) * 3, (74.0,) * 3))
        self.within, self.across = torch.arange(batch, device=device), torch.arange(self.side, device=device)
        self.shuffled = torch.randperm(n, device=device)
        self.begin, self.total = torch.zeros((), dtype=torch.int64, device=device), torch.zeros((), device=device)
        fused = device.type == "cuda"
        lr = torch.tensor(0.1, device=device) if fused else 0.1  # a tensor, so that a schedule could change a graph's
        self.optimizer = torch.optim.SGD(
            net.parameters(), lr, momentum=0.9, nesterov=nesterov, weight_decay=1e-4, fused=fused
        )
        self.autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=not graph
        )
        if compile:
            self.net.compile()
        self.once: Callable[[], None] = self.step
        if graph:
            self.once = self.captured()

    def step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        chosen = self.shuffled[self.begin + self.within]
        x = self.pixels(chosen)
        with self.autocast:
            loss = F.cross_entropy(self.net(x), self.labels[chosen])
        loss.backward()
        self.optimizer.step()
        self.total += loss.detach()
        self.begin += self.batch

    def pixels(self, chosen: Tensor) -> Tensor:
        """Normalised float32 images (n, C, H, W)."""
        if self.crop:
            device, across = chosen.device, self.across
            rows = torch.randint(2 * PAD + 1, (self.batch, 1), device=device) + across
            flipped = torch.rand(self.batch, 1, device=device) < 0.5
            columns = torch.randint(2 * PAD + 1, (self.batch, 1), device=device)
            columns = columns + torch.where(flipped, self.side - 1 - across, across)
            picked = self.images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        else:
            picked = self.images[chosen]
        x = (picked.float() - self.mean) / self.std
        return x.permute(0, 3, 1, 2).contiguous(memory_format=self.format)

    def captured(self) -> Callable[[], None]:
        """The step as a CUDA graph, after a few steps on a stream of their own."""
        side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        side.wait_stream(torch.cuda.current_stream())
        with timed_algorithms():
            with torch.cuda.stream(side):
                for _ in range(3):
                    self.step()
            torch.cuda.current_stream().wait_stream(side)
            self.optimizer.zero_grad(set_to_none=True)
            with torch.cuda.graph(graph):
                self.step()
        return graph.replay

    def __call__(self, steps: int | None = None) -> float:
        """An epoch, or its first `steps`."""
        steps = min(steps or self.steps, self.steps)
        with timed_algorithms():
            synchronize(self.shuffled)
            began = time.perf_counter()
            self.shuffled.copy_(torch.randperm(len(self.shuffled), device=self.shuffled.device))
            self.begin.zero_()
            self.total.zero_()
            for _ in range(steps):
                self.once()
            loss = float(self.total) / steps  # waits for the device
            seconds = time.perf_counter() - began
        assert loss == loss, "the hand-written loop trains on finite losses"
        return steps * self.batch / seconds


def faster(make: Callable[[torch.memory_format], Loop]) -> tuple[Loop, str]:
    """The loop in the memory format that is faster in a short trial, and that format's name."""
    found = []
    for memory_format in (torch.channels_last, torch.contiguous_format):
        loop = make(memory_format)
        loop(TRIAL_STEPS)
        found.append((loop(TRIAL_STEPS), loop, str(memory_format).removeprefix("torch.")))
    _, loop, name = max(found, key=lambda trial: trial[0])
    return loop, name


@contextmanager
def timed_algorithms() -> Iterator[None]:
    """Within it cuDNN times its algorithms for each new shape, and takes the fastest."""
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def synchronize(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
