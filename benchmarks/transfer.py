"""A released network transferred to other images by a probe of its features, and controls trained from scratch.

    python benchmarks/transfer.py --data folder:HYMENOPTERA
    python benchmarks/transfer.py --data folder:HYMENOPTERA --control resnet20 --minutes 0.46 --seeds 0 1 2
    python benchmarks/transfer.py --data cifar10:DIR --each 10 50 250 --seeds 0 1 2 --test 1000
    python benchmarks/transfer.py --data mnist:DIR --each 10 50 250 --seeds 0 1 2 --test 1000
    python benchmarks/transfer.py --data cifar10:DIR --each 50 --seeds 0 1 --test 500 --mode finetune --input 3x64x64

`--each` images of a class are drawn with each seed for training, and the first `--test` images are judged on;
without, all. `--mode` trains on from the probe, and `--input` makes that affordable. `--control` trains a network
from scratch instead, by the recipe `small`, for about `--minutes` of processor time: give what the transfer took. The
figures are added to results/transfer_DATA_NETWORK.json, after each run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from report import RESULTS, spread, write

from convatlas.catalogue import Shape
from convatlas.cli.output import parse_input
from convatlas.data.sources import load_data
from convatlas.data.types import Data
from convatlas.recipe import with_epochs, with_settings
from convatlas.recipes import find_recipe
from convatlas.train.fit import fit
from convatlas.tuning.transfer import MODES, transfer
from convatlas.weights.model import Model, load

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
    parser.add_argument("--network", help="of weights that do not say it")
    parser.add_argument("--preprocess", help="likewise")
    parser.add_argument("--mode", choices=MODES, default="features")
    parser.add_argument("--input", help="CxHxW")
    parser.add_argument("--control", choices=CONTROLS)
    parser.add_argument("--minutes", type=float)
    args = parser.parse_args()
    torch.set_num_threads(1)
    whole = load_data(args.data, val=0.0)
    model = load(args.model, network=args.network, preprocess=args.preprocess)
    shape = parse_input(args.input) if args.input else None
    how = "".join(f", {it}" for it in (args.mode, args.input) if it and it != "features")
    for each in args.each or [None]:
        for seed in args.seeds:
            data = few(whole, each, seed, args.test)
            if args.control:
                what, made = f"from scratch, {args.control}", control(args.control, data, seed, args.minutes)
            else:
                what, made = f"{each or 'all'} images a class{how}", transferred(model, data, seed, args.mode, shape)
            keep(f"transfer_{whole.name}_{model.network}", what, seed, made)


def keep(name: str, what: str, seed: int, made: dict[str, Any]) -> None:
    file = RESULTS / f"{name}.json"
    runs: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["runs"] if file.exists() else {}
    runs.setdefault(what, {})[str(seed)] = made
    figures = {what: spread([of["top1"] for of in seeds.values()]) for what, seeds in runs.items()}
    write(name, "top-1 on held-out images", figures, runs=runs)


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


def transferred(model: Model, data: Data, seed: int, mode: str, input: Shape | None) -> dict[str, Any]:
    processor = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = transfer(model, data, out=Path(folder) / "run", mode=mode, seed=seed, input=input)
    low, high = found.scores.interval()
    difference, bounds = found.beside_probe
    tuned = {"beside the probe": [difference, *bounds], "augmentation": list(found.run.recipe.augment)}
    return {
        "top1": found.scores.top1,
        "interval": [low, high],
        "images": len(data.train),
        "of": found.scores.n,
        "cross-validated": found.probed.cross_validated.top1,
        "strength": found.probed.probe.strength,
        "processor minutes": (time.process_time() - processor) / 60,
        "from the cache": found.probed.train.cached + found.probed.held_out.cached,
        **(tuned if mode != "features" else {}),
    }


def control(name: str, data: Data, seed: int, minutes: float) -> dict[str, Any]:
    """The network after as many epochs from scratch as fit in so much processor time, at the pace of the first."""
    side, settings = CONTROLS[name]
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

    trained(1)  # imports and first calls take their time once
    (_, one), (_, three) = trained(1), trained(3)
    epochs = max(1, round(1 + (minutes - one) / ((three - one) / 2)))
    top1, took = trained(epochs)
    return {"top1": top1, "epochs": epochs, "processor minutes": took}


if __name__ == "__main__":
    main()
