"""Trains the golden run again: `python -m tests.run_golden`. Its diff is a change of the formats that users keep."""

from pathlib import Path
from shutil import rmtree

import torch

from convatlas.data.sources import load_data
from convatlas.recipe import SGD, Constant, Recipe
from convatlas.train.fit import fit

FOLDER = Path(__file__).parent / "goldens" / "run"
RECIPE = Recipe(
    "golden", "a test", epochs=2, batch=512, optimizer=SGD(0.05), schedule=Constant(), net=(("widths", (2,)),)
)
KEPT = {"run.json", "log.jsonl", "best.safetensors", "last.safetensors"}

if __name__ == "__main__":
    torch.set_num_threads(1)
    rmtree(FOLDER, ignore_errors=True)
    fit("chain_n1_m1_k0", load_data("digits", val=0.1), RECIPE, out=FOLDER, input=(1, 8, 8), device="cpu")
    for file in FOLDER.iterdir():
        if file.name not in KEPT:
            file.unlink()
