"""The accuracy of a network on CIFAR-10 with its recipe, and the CPU time for it, for each of several seeds.

    python benchmarks/cifar10.py airbench94 --data DIR --seeds 0 1 2
    python benchmarks/cifar10.py resnet20 --epochs 3 --data DIR --seeds 0 1 2

Each accuracy is that of the network after the last epoch: nothing is selected on the test images. CPU time is over all
threads, from the first step to the last test, including the tests after each epoch. After each seed the figures are
added to those of earlier seeds in results/cifar10_NETWORK.json, or cifar10_NETWORK_N_epochs.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from report import RESULTS, spread, write

from convatlas.catalogue import find
from convatlas.data.sources import load_data
from convatlas.evaluation.scoring import evaluate
from convatlas.protocols import PROTOCOLS
from convatlas.recipe import with_epochs
from convatlas.recipes import find_recipe
from convatlas.report.progress import progress
from convatlas.train.fit import fit
from convatlas.weights.model import load


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("network")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    data, variant = load_data(args.data), find(args.network)
    recipe = find_recipe(variant.recipe or "")
    name = f"cifar10_{args.network}"
    if args.epochs:
        recipe, name = with_epochs(recipe, args.epochs), f"{name}_{args.epochs}_epochs"
    seeds = json.loads(kept.read_text())["seeds"] if (kept := RESULTS / f"{name}.json").exists() else {}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            processor, clock = time.process_time(), time.monotonic()
            with progress() as on_event:
                run = fit(variant, data, recipe, out=Path(folder), seed=seed, device="cpu", on_event=on_event)
            processor, clock = time.process_time() - processor, time.monotonic() - clock
            seeds[str(seed)] = {
                **{f"top1, {name}": evaluate(load(run, "last"), data, protocol=name).top1 for name in PROTOCOLS},
                "processor minutes": processor / 60,
                "minutes": clock / 60,
                "threads": torch.get_num_threads(),
                "precision": run.record.execution["precision"],
            }
        figures = {
            key: spread([of[key] for of in seeds.values()])
            for key in (*(f"top1, {name}" for name in PROTOCOLS), "processor minutes")
        }
        write(name, "top-1 on the 10,000 test images; minutes", figures, seeds=seeds, recipe=recipe.to_json())


if __name__ == "__main__":
    main()
