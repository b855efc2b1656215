"""Folder input: images per second that reach a network, compared with a DataLoader that transforms single images.

    python benchmarks/folder_input.py FOLDER [--crop scale] [--enlarge 1.4663] [--size 224] [--batch 128] [--workers 2]
                                             [--rounds 7]

dataloader   as in tutorials: Pillow decodes, crops and resizes to 224 x 224, mirrors half of them; to tensor,
             normalise; torch's DataLoader with two worker processes (torchvision's transforms written by hand)
files        `fetched` on the same files with the same crop, "flip" and `normalise` on whole batches: what
             `convatlas train` does, in two worker threads; the same output, float32 on the CPU
jpeg, raw    the same from `convatlas data pack --size 256`, in either format
1 worker     how the threads scale
uint8        for each, the batches before `flip` and `normalise`, as sent to a GPU, which does these

`--crop area` crops 8% ... 100% of the area and scales that to 224 x 224 (GoogLeNet's; the default); `--crop scale`
scales the short side to 256 and crops 224 x 224 anywhere (AlexNet's), which only copies from a pack of that size.
All crops follow the same distribution. The variants take turns, and ratios are per round: of images per second, and of
CPU time, which is less sensitive to other load. torch has one thread: the cores are for the workers.
`--enlarge 1.4663` uses a copy of the images enlarged by this factor (bicubic, JPEG quality 90), for photographs of a
realistic size: 341 x 256 becomes 500 x 375, ImageNet's most frequent size. Everything is read once beforehand, so that
the disk is not measured. The figures go to results/folder_input_NAME.json.
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

import numpy as np
import psutil
import torch
from PIL import Image
from report import spread, write
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convatlas.data.augment import augment, crops_of, order
from convatlas.data.decode.fast import decoder
from convatlas.data.loading import fetched
from convatlas.data.normalise import Normalizer, normalise, preprocess_for
from convatlas.data.sources import load_data
from convatlas.data.sources.folder import FolderSplit
from convatlas.data.sources.pack import pack
from convatlas.data.types import Data, Split
from convatlas.machine.device import keep_freed_memory
from convatlas.preprocess import Preprocess

CROPS = {"area": "area_crop:0.08:1", "scale": "scale_crop:256:256"}
Crop = Callable[[Image.Image, int], Image.Image]  # of an image, and the target side


class Pictures(Dataset[tuple[Tensor, int]]):
    """One image at a time."""

    def __init__(self, split: FolderSplit, preprocess: Preprocess, crop: Crop):
        self.crop = crop
        self.files, self.labels, self.size = split.files, split.labels.tolist(), preprocess.input[1]
        self.mean, self.std = (torch.tensor(v)[:, None, None] for v in (preprocess.mean, preprocess.std))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        image = Image.open(self.files[i]).convert("RGB")
        image = self.crop(image, self.size)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        return (x - self.mean) / self.std, self.labels[i]


def area(image: Image.Image, size: int) -> Image.Image:
    left, top, width, height = crop_of(*image.size)
    image = image.crop((left, top, left + width, top + height))
    return image.resize((size, size), Image.Resampling.BILINEAR)


def scale(image: Image.Image, size: int) -> Image.Image:
    short = min(image.size)
    image = image.resize((256 * image.width // short, 256 * image.height // short), Image.Resampling.BILINEAR)
    left, top = random.randint(0, image.width - size), random.randint(0, image.height - size)
    return image.crop((left, top, left + size, top + size))


def crop_of(w: int, h: int) -> tuple[int, int, int, int]:
    for _ in range(10):
        area = random.uniform(0.08, 1) * w * h
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= w and 0 < height <= h:
            return random.randint(0, w - width), random.randint(0, h - height), width, height
    side = min(w, h)
    return (w - side) // 2, (h - side) // 2, side, side


def ordinary(pictures: Pictures, batch: int, workers: int) -> Iterator[Tensor]:
    loader = DataLoader(pictures, batch, shuffle=True, num_workers=workers, persistent_workers=True)
    while True:
        for x, _ in loader:
            yield x


def ours(
    split: Split, preprocess: Preprocess, ops: tuple[str, ...], batch: int, workers: int, finish: bool
) -> Iterator[Tensor]:
    def batches(epoch: int) -> list[Tensor]:
        return [at for at in order(len(split), seed=0, epoch=epoch).split(batch) if len(at) == batch]

    epoch = 0
    while True:
        crops = crops_of(ops, preprocess.input[1:], seed=0, epoch=epoch)
        for at, images in zip(batches(epoch), fetched(split, batches(epoch), preprocess, crops, workers=workers)):
            if finish:
                images = normalise(augment(images, at, ops=ops, seed=0, epoch=epoch), Normalizer(preprocess))
            yield images
        epoch += 1


def speed(stream: Iterator[Tensor], seconds: float) -> tuple[float, float]:
    """Images per second, and per second of CPU time, after the first batches."""
    for _ in range(4):
        next(stream)
    images, began, busy = 0, time.perf_counter(), processor_seconds()
    while (took := time.perf_counter() - began) < seconds:
        images += len(next(stream))
    return images / took, images / (processor_seconds() - busy)


def processor_seconds() -> float:
    """Of this process and its children."""
    here = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (here, *here.children(recursive=True)))


def enlarged(job: tuple[Path, Path, float]) -> None:
    source, target, times = job
    image = Image.open(source).convert("RGB")
    target.parent.mkdir(parents=True, exist_ok=True)
    size = round(times * image.width), round(times * image.height)
    image.resize(size, Image.Resampling.BICUBIC).save(target.with_suffix(".jpg"), "JPEG", quality=90)


def copy_of(folder: Path, into: Path, times: float) -> Path:
    """The images, enlarged; images without a class folder go into two classes."""
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
    parser.add_argument("--enlarge", type=float, default=1.0)
    parser.add_argument("--crop", choices=CROPS, default="area")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    ops = (CROPS[args.crop], "flip")
    torch.set_num_threads(1)
    keep_freed_memory()  # as `fit` does
    with tempfile.TemporaryDirectory() as scratch:
        data = load_data(f"folder:{copy_of(args.folder, Path(scratch, 'photos'), args.enlarge)}")
        sets: dict[str, Data] = {"files": data}
        for format in ("jpeg", "raw"):
            pack(data, Path(scratch, format), format=format)
            sets[format] = load_data(f"pack:{Path(scratch, format)}")
        preprocess = preprocess_for(data, (3, args.size, args.size))
        assert isinstance(data.train, FolderSplit)
        pictures = Pictures(data.train, preprocess, area if args.crop == "area" else scale)
        streams: dict[str, Callable[[], Iterator[Tensor]]] = {
            "dataloader": lambda: ordinary(pictures, args.batch, args.workers)
        }
        for name, its in sets.items():
            for finish in (True, False):
                streams[name if finish else f"{name} uint8"] = lambda split=its.train, finish=finish: ours(
                    split, preprocess, ops, args.batch, args.workers, finish
                )
        streams["files uint8, 1 worker"] = lambda: ours(data.train, preprocess, ops, args.batch, 1, False)
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in streams}
        for turn in range(args.rounds + 1):
            for name, stream in streams.items():
                rate = speed(stream(), args.seconds)
                print(f"{turn} {name}: {rate[0]:,.0f} a second, {1e6 / rate[1]:,.0f} us", file=sys.stderr)
                if turn:  # the first round fills the caches
                    measured[name].append(rate)
        sizes = [Image.open(f).size for f in data.train.files[::10]]
        figures, ratios = {}, {}
        for name, rates in measured.items():
            wall, busy = zip(*rates)
            wall_ratios, busy_ratios = zip(*((a / c, b / d) for (a, b), (c, d) in zip(rates, measured["dataloader"])))
            figures[name] = {"images_per_s": spread(wall), "processor_us_an_image": spread([1e6 / it for it in busy])}
            ratios[name] = {"images_per_s": spread(wall_ratios), "processor_time": spread(busy_ratios)}
        write(
            f"folder_input_{args.folder.name}"
            + "_scale" * (args.crop == "scale")
            + f"_x{args.enlarge:g}" * (args.enlarge != 1),
            "images per second, processor microseconds an image; how many times as good as the DataLoader",
            figures,
            ratios=ratios,
            images=len(data.train),
            median_width_and_height=[median(side) for side in zip(*sizes)],
            mean_file_bytes=round(sum(f.stat().st_size for f in data.train.files) / len(data.train)),
            enlarged=args.enlarge,
            random_crop=ops[0],
            crop=args.size,
            batch=args.batch,
            workers=args.workers,
            decoder=decoder(),
        )


if __name__ == "__main__":
    main()
