"""ResNet-20 on CIFAR-10: images per second of `fit` beside a hand-written PyTorch loop, in turns.

    python benchmarks/train_resnet20.py --data DIR [--rounds 5] [--steps 60] [--threads 2]

The hand-written loop is what a careful user would write: network and batches in channels_last, the images in memory,
crop and flip of a whole batch by one indexing. Both train the same weights on as many images (pad 4, crop, flip; batch
128; SGD with momentum and weight decay; cross-entropy). Each has a process of its own, so that neither profits from the
other's settings, and they take turns, so that whatever else the machine does meets both alike. Of each turn the first
steps are not counted, nor are evaluation and checkpoints. The figures go to results/train_resnet20.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from report import spread, write
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.catalogue import find
from convatlas.data import load_data
from convatlas.dataset import MemorySplit
from convatlas.recipes import find_recipe
from convatlas.train.fit import fit

BATCH, WARM_UP = 128, 3
Turn = Callable[[int], tuple[float, float]]  # steps -> images per second, and per second of processor time


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def speeds_of(steps: int, began: tuple[float, float], ended: tuple[float, float]) -> tuple[float, float]:
    return steps * BATCH / (ended[0] - began[0]), steps * BATCH / (ended[1] - began[1])


class PlainBlock(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.stride, self.extra = stride, cout - cin

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra // 2, self.extra // 2))
        return F.relu(y + x, inplace=True)


class PlainResNet20(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        blocks = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)] + [(64, 64, 1)] * 2
        self.blocks = nn.Sequential(*(PlainBlock(*block) for block in blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn(self.conv(x)), inplace=True))
        return self.linear(x.mean((2, 3)))


def same_network() -> PlainResNet20:
    """The hand-written network with the weights of the catalogue's, and a check that it is the same function."""
    torch.manual_seed(0)
    theirs, ours = PlainResNet20(), find("resnet20").build()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(theirs(x), ours(x))
    return theirs


def plain(train: MemorySplit, mean: tuple[float, ...], std: tuple[float, ...]) -> Turn:
    padded, labels = F.pad(train.images, (4, 4, 4, 4)), train.labels
    mean_, std_ = (torch.tensor(v).mul(255)[None, :, None, None] for v in (mean, std))
    span = torch.arange(32)

    def turn(steps: int) -> tuple[float, float]:
        net = same_network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9, weight_decay=1e-4)
        net.train()
        shuffled, began = torch.randperm(len(labels)), now()
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                began = now()
            i = shuffled[step * BATCH : (step + 1) * BATCH]
            rows = torch.randint(9, (BATCH, 1)) + span
            flip = torch.rand(BATCH, 1) < 0.5
            columns = torch.randint(9, (BATCH, 1)) + torch.where(flip, 31 - span, span)
            x = padded[i[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
            x = x.float().sub_(mean_).div_(std_)
            loss = F.cross_entropy(net(x), labels[i])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return speeds_of(steps, began, now())

    return turn


def ours(data: Any) -> Turn:
    def turn(steps: int) -> tuple[float, float]:
        n = (WARM_UP + steps) * BATCH
        part = replace(
            data,
            train=replace(data.train, images=data.train.images[:n], labels=data.train.labels[:n]),
            test=replace(data.test, images=data.test.images[:2], labels=data.test.labels[:2]),
        )
        recipe = replace(find_recipe("resnet_cifar"), epochs=1, milestones=())
        assert (recipe.batch, recipe.augment) == (BATCH, ("pad_crop", "flip"))
        times: list[tuple[float, float]] = []

        def say(event: dict[str, Any]) -> None:
            if event["kind"] == "step":
                times.append(now())

        with tempfile.TemporaryDirectory() as folder:
            fit("resnet20", part, recipe, out=Path(folder), device="cpu", say=say)
        return speeds_of(steps, times[WARM_UP - 1], times[-1])

    return turn


def worker(which: str, source: str, threads: int, pipe: Connection) -> None:
    """Answers each number of steps with the images per second of such a turn."""
    torch.set_num_threads(threads)
    data = load_data(source)
    assert isinstance(data.train, MemorySplit)
    turn = ours(data) if which == "fit" else plain(data.train, data.mean, data.std)
    while steps := pipe.recv():
        pipe.send(turn(steps))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    assert (WARM_UP + args.steps) * BATCH <= 50_000, "a turn is at most one epoch"
    context, pipes = get_context("spawn"), {}
    for which in ("fit", "hand_written"):
        pipes[which], far = context.Pipe()
        context.Process(target=worker, args=(which, args.data, args.threads, far), daemon=True).start()
    speeds: dict[str, list[tuple[float, float]]] = {which: [] for which in pipes}
    for n in range(args.rounds):
        for which in list(pipes)[:: 1 if n % 2 else -1]:  # each goes first in every other round
            pipes[which].send(args.steps)
            speeds[which].append(pipes[which].recv())
        print(f"round {n + 1}: " + ", ".join(f"{k} {v[-1][0]:.1f} images/s" for k, v in speeds.items()), flush=True)
    for pipe in pipes.values():
        pipe.send(0)
    figures: dict[str, Any] = {}
    for i, unit in enumerate(("images_per_s", "images_per_processor_s")):
        of = {which: [turn[i] for turn in turns] for which, turns in speeds.items()}
        ratios = [a / b for a, b in zip(of["fit"], of["hand_written"], strict=True)]
        figures[unit] = {which: spread(values) for which, values in of.items()} | {"ratio_of_rounds": spread(ratios)}
    more = {"batch": BATCH, "steps_a_round": args.steps, "threads": args.threads}
    write("train_resnet20", "images/s in training; ratio: fit / hand-written loop", figures, **more)


if __name__ == "__main__":
    main()
