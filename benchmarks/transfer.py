"""A released network transferred to other images by a probe of its features, and a control trained from scratch.

    python benchmarks/transfer.py --data folder:HYMENOPTERA --control
    python benchmarks/transfer.py --data cifar10:DIR --each 10 50 250 --seeds 0 1 2 --test 1000
    python benchmarks/transfer.py --data mnist:DIR --each 10 50 250 --seeds 0 1 2 --test 1000

`--each` images of a class are drawn with each seed for training, and the first `--test` images are judged on; without,
all. `--control` then trains networks from scratch by the recipe `small`, for as much processor time as that took.
The figures are written to results/transfer_DATA_NETWORK.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from report import spread, write

from convatlas.data.sources import load_data
from convatlas.data.types import Data
from convatlas.recipe import with_epochs, with_settings
from convatlas.recipes import find_recipe
from convatlas.train.fit import fit
from convatlas.tuning.transfer import transfer

CONTROLS = {  # network: the side of its images, its settings
    "resnet20": (64, ["net.depth=8"]),
    "efficientnet_lite0": (224, []),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="efficientnet_lite0")
    parser.add_argument("--data", required=True)
    parser.add_argument("--each", type=int, nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--test", type=int)
    parser.add_argument("--control", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole = load_data(args.data, val=0.0)
    runs: dict[str, dict[str, Any]] = {}
    for each in args.each or [None]:
        for seed in args.seeds:
            data = few(whole, each, seed, args.test)
            runs.setdefault(f"{each or 'all'} images a class", {})[str(seed)] = transferred(args.model, data, seed)
    if args.control:
        minutes = runs["all images a class"]["0"]["processor minutes"]
        for name in CONTROLS:
            runs[f"from scratch, {name}"] = {str(seed): control(name, whole, seed, minutes) for seed in args.seeds}
    figures = {what: spread([of["top1"] for of in seeds.values()]) for what, seeds in runs.items()}
    write(f"transfer_{whole.name}_{args.model}", "top-1 on held-out images", figures, runs=runs)


def few(data: Data, each: int | None, seed: int, test: int | None) -> Data:
    """Some images of each class, drawn with the seed, and the first of those held out."""
    train, judged = data.train, data.split()
    if each:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
        drawn = [order[train.labels[order] == c][:each] for c in range(len(data.classes))]
        train = train.part(torch.cat(drawn), "train", train.provenance)
    if test:
        judged = judged.part(torch.arange(test), judged.name, judged.provenance)
    return replace(data, train=train, val=None, test=judged)


def transferred(model: str, data: Data, seed: int) -> dict[str, Any]:
    processor = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = transfer(model, data, out=Path(folder) / "run", mode="features", seed=seed)
    low, high = found.scores.interval()
    return {
        "top1": found.scores.top1,
        "interval": [low, high],
        "images": len(data.train),
        "of": found.scores.n,
        "cross-validated": found.probed.cross_validated.top1,
        "strength": found.probed.probe.strength,
        "processor minutes": (time.process_time() - processor) / 60,
        "from the cache": found.probed.train.cached + found.probed.held_out.cached,
    }


def control(name: str, data: Data, seed: int, minutes: float) -> dict[str, Any]:
    """The network trained from scratch for about so much processor time: of one epoch, and of as many as fit."""
    side, settings = CONTROLS[name]
    data = replace(data, val=None, test=data.split())
    recipe = with_settings(find_recipe("small"), settings)

    def trained(epochs: int) -> tuple[float, float]:
        processor = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            shape = (3, side, side)
            run = fit(
                name, data, with_epochs(recipe, epochs), out=Path(folder) / "run", input=shape, seed=seed, device="cpu"
            )
            top1 = run.epochs()[-1][data.split().name]["top1"]
        return top1, (time.process_time() - processor) / 60

    _, one = trained(1)
    epochs = max(1, round(minutes / one))
    top1, took = trained(epochs)
    return {"top1": top1, "epochs": epochs, "processor minutes": took}


if __name__ == "__main__":
    main()
