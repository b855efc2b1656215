"""Folder input: images per second that reach a network, beside a DataLoader that transforms one image at a time.

    python benchmarks/folder_input.py FOLDER [--enlarge 3] [--size 224] [--batch 128] [--workers 2] [--rounds 7]

dataloader   what tutorials write: Pillow decodes, crops 8% ... 100% of the area and resizes to 224 x 224, mirrors half
             of them; to tensor, normalise; torch's DataLoader with two worker processes (torchvision's transforms by
             hand)
files        `fetched` on the same files with the view "area_crop", "flip" and `normalise` on whole batches: what
             `convatlas train` does, in two worker threads; the same product, float32 on the CPU
jpeg, raw    the same from `convatlas data pack --size 256`, of either format
1 worker     how the threads scale
uint8        of each, the batches before `flip` and `normalise`: what is sent to a GPU, which does these

All make crops of the same distribution. They take turns, and ratios are those of rounds. `--enlarge 3` works on a copy
of the images enlarged three times (bicubic, JPEG of quality 90), for photographs of the size that users have.
Everything is read once before, so that no disk is measured. The figures go to results/folder_input_NAME.json.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from report import spread, write
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convatlas.data import load_data, preprocess_for
from convatlas.data.augment import augment, order, view_of
from convatlas.data.decode import decoder
from convatlas.data.folder import FolderSplit
from convatlas.data.loading import fetched
from convatlas.data.pack import pack
from convatlas.dataset import Data, Split
from convatlas.preprocess import Preprocess
from convatlas.train.machine import keep_freed_memory
from convatlas.whitening import normalise

OPS = ("area_crop:0.08:1", "flip")


class Pictures(Dataset[tuple[Tensor, int]]):
    """One image at a time."""

    def __init__(self, split: FolderSplit, preprocess: Preprocess):
        self.files, self.labels, self.size = split.files, split.labels.tolist(), preprocess.input[1]
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (preprocess.mean, preprocess.std))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image = Image.open(self.files[i]).convert("RGB")
        left, top, width, height = crop_of(*image.size)
        image = image.crop((left, top, left + width, top + height))
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        return (x - self.mean) / self.std, self.labels[i]


def crop_of(w: int, h: int) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = random.uniform(0.08, 1) * w * h
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= w and 0 < height <= h:
            return random.randint(0, w - width), random.randint(0, h - height), width, height
    side = min(w, h)
    return (w - side) // 2, (h - side) // 2, side, side


def ordinary(split: FolderSplit, preprocess: Preprocess, batch: int, workers: int) -> Iterator[Tensor]:
    loader = DataLoader(Pictures(split, preprocess), batch, shuffle=True, num_workers=workers, persistent_workers=True)
    while True:
        for x, _ in loader:
            yield x


def ours(split: Split, preprocess: Preprocess, batch: int, workers: int, finish: bool) -> Iterator[Tensor]:
    def batches(epoch: int) -> list[Tensor]:
        return [at for at in order(len(split), seed=0, epoch=epoch).split(batch) if len(at) == batch]

    epoch = 0
    while True:
        view = view_of(OPS, preprocess.input[1:], seed=0, epoch=epoch)
        for at, images in zip(batches(epoch), fetched(split, batches(epoch), preprocess, view, workers=workers)):
            if finish:
                images = normalise(augment(images, at, ops=OPS, seed=0, epoch=epoch), preprocess)
            yield images
        epoch += 1


def speed(stream: Iterator[Tensor], seconds: float) -> float:
    """Images per second, once the first batches have come."""
    for _ in range(4):
        next(stream)
    images, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        images += len(next(stream))
    return images / took


def enlarged(job: tuple[Path, Path, int]) -> None:
    source, target, times = job
    image = Image.open(source).convert("RGB")
    target.parent.mkdir(parents=True, exist_ok=True)
    image.resize((times * image.width, times * image.height), Image.Resampling.BICUBIC).save(
        target.with_suffix(".jpg"), "JPEG", quality=90
    )


def copy_of(folder: Path, into: Path, times: int) -> Path:
    """The images, enlarged; loose ones in two classes."""
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in (".jpg", ".jpeg", ".png"))
    loose = {f: into / str(i % 2) / f.name for i, f in enumerate(files) if f.parent == folder}
    jobs = [(f, loose.get(f, into / f.relative_to(folder)), times) for f in files]
    if times == 1:
        for source, target, _ in jobs:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.resolve())
        return into
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(enlarged, jobs, chunksize=16))
    return into


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--enlarge", type=int, default=1)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    torch.set_num_threads(args.workers)
    keep_freed_memory()  # as `fit` does
    with tempfile.TemporaryDirectory() as scratch:
        data = load_data(f"folder:{copy_of(args.folder, Path(scratch, 'photos'), args.enlarge)}")
        sets: dict[str, Data] = {"files": data}
        for format in ("jpeg", "raw"):
            pack(data, Path(scratch, format), format=format)
            sets[format] = load_data(f"pack:{Path(scratch, format)}")
        preprocess = preprocess_for(data, (3, args.size, args.size))
        assert isinstance(data.train, FolderSplit)
        streams: dict[str, Callable[[], Iterator[Tensor]]] = {
            "dataloader": lambda: ordinary(data.train, preprocess, args.batch, args.workers)  # type: ignore[arg-type]
        }
        for name, its in sets.items():
            for finish in (True, False):
                streams[name if finish else f"{name} uint8"] = lambda split=its.train, finish=finish: ours(
                    split, preprocess, args.batch, args.workers, finish
                )
        streams["files uint8, 1 worker"] = lambda: ours(data.train, preprocess, args.batch, 1, False)
        measured: dict[str, list[float]] = {name: [] for name in streams}
        for turn in range(args.rounds + 1):
            for name, stream in streams.items():
                rate = speed(stream(), args.seconds)
                print(f"{turn} {name}: {rate:,.0f}", file=sys.stderr)
                if turn:  # the first one fills the caches
                    measured[name].append(rate)
        sizes = [Image.open(f).size for f in data.train.files[::10]]
        figures: dict[str, Any] = {name: spread(rates) for name, rates in measured.items()}
        ratios = {
            name: spread([a / b for a, b in zip(rates, measured["dataloader"], strict=True)])
            for name, rates in measured.items()
            if name != "dataloader"
        }
        write(
            f"folder_input_{args.folder.name}" + (f"_x{args.enlarge}" if args.enlarge > 1 else ""),
            "images per second; ratios to the DataLoader",
            figures,
            ratios=ratios,
            images=len(data.train),
            median_width_and_height=[median(side) for side in zip(*sizes)],
            mean_file_bytes=round(sum(f.stat().st_size for f in data.train.files) / len(data.train)),
            enlarged=args.enlarge,
            crop=args.size,
            batch=args.batch,
            workers=args.workers,
            decoder=decoder(),
        )


if __name__ == "__main__":
    main()
