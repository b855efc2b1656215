"""The accuracy of a recipe on a small folder of images, trained from scratch in one thread, for each of several seeds.

    python benchmarks/small_folder.py resnet20 --data folder:DIR --set net.depth=8 --seeds 0 1
    python benchmarks/small_folder.py resnet20 --data folder:DIR --set net.depth=8 augment=area_crop:0.25,flip

Each accuracy is that of the network after the last epoch: nothing is selected on the images of `val`. After each seed
the figures are added to those of earlier ones, in results/small_folder_DATA_NETWORK_SIDE.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from report import RESULTS, spread, write

from convatlas.data.sources import load_data
from convatlas.recipe import with_settings
from convatlas.recipes import find_recipe
from convatlas.report.progress import progress
from convatlas.runs.folder import Run
from convatlas.train.fit import fit


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("network")
    parser.add_argument("--data", required=True)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--recipe", default="small")
    parser.add_argument("--set", nargs="+", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = load_data(args.data)
    recipe = with_settings(find_recipe(args.recipe), args.set)
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder:
            processor = time.process_time()
            with progress() as on_event:
                run = fit(
                    args.network,
                    data,
                    recipe,
                    out=Path(folder),
                    input=(3, args.side, args.side),
                    seed=seed,
                    device="cpu",
                    on_event=on_event,
                )
            keep(
                f"small_folder_{data.name}_{args.network}_{args.side}",
                " ".join((args.recipe, *args.set)),
                run,
                (time.process_time() - processor) / 60,
            )


def keep(name: str, what: str, run: Run, minutes: float) -> None:
    """Adds a run to results/<name>.json, under `what` was trained and its seed."""
    kept = RESULTS / f"{name}.json"
    runs: dict[str, Any] = json.loads(kept.read_text())["runs"] if kept.exists() else {}
    last = run.epochs()[-1]
    runs.setdefault(what, {})[str(run.record.seed)] = {
        "top1": last["val"]["top1"],
        "loss": last["val"]["loss"],
        "top1 in training": last["train"]["top1"],
        "processor minutes": minutes,
        "precision": run.record.execution["precision"],
    }
    figures = {what: spread([of["top1"] for of in seeds.values()]) for what, seeds in runs.items()}
    write(name, "top-1 on val after the last epoch", figures, runs=runs)


if __name__ == "__main__":
    main()
