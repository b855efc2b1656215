"""Training speed: images per second of `fit`, compared with two hand-written PyTorch programs, in turns.

    python benchmarks/train_speed.py resnet20 --data CIFAR10 [--rounds 5] [--steps 60] [--threads 2]
    python benchmarks/train_speed.py lenet5 --data MNIST

ordinary    as in tutorials: a DataLoader with two workers, transforms of one PIL image at a time (for CIFAR-10
            pad, crop, flip; to tensor, normalise), NCHW float32
tuned       as a careful user would write it: network and batches in channels_last, the images in memory, crop and flip
            of a whole batch by one indexing, float32
fit         with the defaults of `convatlas train`, and once more in float32

All train the same weights on equally many images (ResNet-20: batch 128; LeNet-5: batch 32, no augmentation; SGD with
momentum; cross-entropy). Each runs in a separate process, so that none is affected by another's settings, and they take
turns, so that other load on the machine affects all of them. The first steps of each turn are not counted, nor are
evaluation and checkpoints. The figures go to results/train_speed_NETWORK.json; ratios are per round.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from report import spread, write
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from convatlas.catalogue import find
from convatlas.data.sources import load_data
from convatlas.data.types import Data, MemorySplit
from convatlas.recipe import SGD, Recipe
from convatlas.recipes import find_recipe
from convatlas.train.execution import Execution
from convatlas.train.fit import fit

WARM_UP = 10
RECIPE = {"resnet20": "resnet_cifar", "lenet5": "lenet"}
Turn = Callable[[int], float]  # steps -> images per second


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


def network(name: str) -> nn.Module:
    """The weights of the catalogue's network; ResNet-20 is hand-written, and checked to compute the same function."""
    torch.manual_seed(0)
    ours = find(name).build(channels=1) if name == "lenet5" else find(name).build()
    if name == "lenet5":
        return ours
    theirs = PlainResNet20()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(theirs(x), ours(x))
    return theirs


class Pictures(Dataset[tuple[Tensor, int]]):
    """One image at a time, as in torchvision's transforms."""

    def __init__(self, data: Data):
        assert isinstance(data.train, MemorySplit)
        self.images, self.labels = data.train.images.permute(0, 2, 3, 1).squeeze(3).numpy(), data.train.labels.tolist()
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (data.mean, data.std))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[i])
        if image.size == (28, 28):
            image = ImageOps.expand(image, 2)
        else:
            image = ImageOps.expand(image, 4)
            left, top = random.randint(0, 8), random.randint(0, 8)
            image = image.crop((left, top, left + 32, top + 32))
            if random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.array(image).reshape(32, 32, -1).transpose(2, 0, 1)
        x = torch.from_numpy(np.ascontiguousarray(pixels)).float().div(255)
        return (x - self.mean) / self.std, self.labels[i]


def ordinary(name: str, data: Data, recipe: Recipe) -> Turn:
    def turn(steps: int) -> float:
        net = network(name).train()
        sgd = recipe.optimizer
        assert isinstance(sgd, SGD)
        optimizer = torch.optim.SGD(net.parameters(), sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay)
        began = 0.0
        for step, (x, y) in enumerate(DataLoader(Pictures(data), recipe.batch, shuffle=True, num_workers=2), 1):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            if step == WARM_UP:
                began = time.perf_counter()
            if step == WARM_UP + steps:
                break
        return steps * recipe.batch / (time.perf_counter() - began)

    return turn


def tuned(name: str, data: Data, recipe: Recipe) -> Turn:
    assert isinstance(data.train, MemorySplit)
    crop, labels = name == "resnet20", data.train.labels
    padded = F.pad(data.train.images, (4, 4, 4, 4) if crop else (2, 2, 2, 2))
    mean, std = (torch.tensor(v).mul(255)[None, :, None, None] for v in (data.mean, data.std))
    span, batch = torch.arange(32), recipe.batch

    def turn(steps: int) -> float:
        net = network(name).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        sgd = recipe.optimizer
        assert isinstance(sgd, SGD)
        optimizer = torch.optim.SGD(net.parameters(), sgd.lr, sgd.momentum, weight_decay=sgd.weight_decay)
        net.train()
        shuffled, began = torch.randperm(len(labels)), 0.0
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                began = time.perf_counter()
            i = shuffled[step * batch : (step + 1) * batch]
            if crop:
                rows = torch.randint(9, (batch, 1)) + span
                flip = torch.rand(batch, 1) < 0.5
                columns = torch.randint(9, (batch, 1)) + torch.where(flip, 31 - span, span)
                x = padded[i[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
            else:
                x = padded[i].contiguous(memory_format=torch.channels_last)
            x = x.float().sub_(mean).div_(std)
            loss = F.cross_entropy(net(x), labels[i])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return steps * batch / (time.perf_counter() - began)

    return turn


def ours(name: str, data: Data, recipe: Recipe, execution: Execution) -> Turn:
    def turn(steps: int) -> float:
        n = (WARM_UP + steps) * recipe.batch
        assert isinstance(data.train, MemorySplit)
        assert isinstance(data.test, MemorySplit)
        part = replace(
            data,
            train=replace(data.train, images=data.train.images[:n], labels=data.train.labels[:n]),
            test=replace(data.test, images=data.test.images[:2], labels=data.test.labels[:2]),
        )
        times: list[float] = []

        def on_event(event: dict[str, Any]) -> None:
            if event["kind"] == "step":
                times.append(time.perf_counter())

        with tempfile.TemporaryDirectory() as folder:
            fit(name, part, recipe, out=Path(folder) / "run", device="cpu", execution=execution, on_event=on_event)
        return steps * recipe.batch / (times[-1] - times[WARM_UP - 1])

    return turn


TURNS: dict[str, Callable[[str, Data, Recipe], Turn]] = {
    "fit": lambda *of: ours(*of, Execution()),
    "fit_float32": lambda *of: ours(*of, Execution(precision="float32")),
    "tuned": tuned,
    "ordinary": ordinary,
}


def worker(which: str, name: str, source: str, threads: int, pipe: Connection) -> None:
    """For each number of steps received, sends back the images per second of that many."""
    torch.set_num_threads(threads)
    data, recipe = load_data(source), replace(find_recipe(RECIPE[name]), epochs=1)
    turn = TURNS[which](name, data, recipe)
    while steps := pipe.recv():
        pipe.send(turn(steps))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("network", choices=RECIPE)
    parser.add_argument("--data", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    context, pipes = get_context("spawn"), {}
    for which in TURNS:
        pipes[which], far = context.Pipe()
        # not a daemon: the DataLoader starts child processes
        context.Process(target=worker, args=(which, args.network, args.data, args.threads, far)).start()
    speeds: dict[str, list[float]] = {which: [] for which in pipes}
    for n in range(args.rounds):
        for which in list(pipes)[:: 1 if n % 2 else -1]:  # each runs early in every other round
            pipes[which].send(args.steps)
            speeds[which].append(pipes[which].recv())
        print(f"round {n + 1}: " + ", ".join(f"{k} {v[-1]:.0f} images/s" for k, v in speeds.items()), flush=True)
    for pipe in pipes.values():
        pipe.send(0)
    ratios = {
        f"{a}/{b}": spread([x / y for x, y in zip(speeds[a], speeds[b], strict=True)])
        for a in ("fit", "fit_float32")
        for b in ("tuned", "ordinary")
    }
    figures = {"images_per_s": {which: spread(values) for which, values in speeds.items()}, "ratios": ratios}
    more = {"steps_a_round": args.steps, "threads": args.threads}
    write(f"train_speed_{args.network}", "images/s in training", figures, **more)


if __name__ == "__main__":
    main()
