"""ResNet-20 after three epochs of CIFAR-10, by its recipe scaled to them: test top-1 of each seed.

    python benchmarks/resnet20_3_epochs.py --data DIR [--seeds 0 1 2]

Minutes a seed. The figures go to results/resnet20_3_epochs.json. Each accuracy is of the network as it stands after
the last epoch: nothing is chosen on the test images.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from report import spread, write

from convatlas.catalogue import find
from convatlas.data import load_data
from convatlas.recipe import with_epochs
from convatlas.recipes import find_recipe
from convatlas.train.fit import fit
from convatlas.train.progress import progress

TARGET = 0.65


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    data, variant = load_data(args.data), find("resnet20")
    recipe = with_epochs(find_recipe(variant.recipe or ""), 3)
    top1, speed = {}, {}
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as folder, progress() as say:
            last = fit(variant, data, recipe, out=Path(folder), seed=seed, device="cpu", say=say).epochs()[-1]
        top1[str(seed)], speed[str(seed)] = last["test"]["top1"], last["images_per_s"]
    figures = {
        "top1": spread(list(top1.values())),
        "top1_of_seed": top1,
        "target": TARGET,
        "images_per_s": spread(list(speed.values())),
    }
    threads = torch.get_num_threads()
    write("resnet20_3_epochs", "top-1 on the 10,000 test images", figures, threads=threads, recipe=recipe.to_json())


if __name__ == "__main__":
    main()
