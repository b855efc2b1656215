"""Whole-process time of the verbs that read the shipped tables, compared with plain Python and importing torch.

    .venv/bin/python benchmarks/startup.py [--n 15]

The commands take turns, so that a temporary slowdown affects all of them. Writes results/startup.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from report import spread, write

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "convatlas list": ["-m", "convatlas", "list"],
    "convatlas show resnet50": ["-m", "convatlas", "show", "resnet50"],
    "convatlas show vgg16 --json": ["-m", "convatlas", "show", "vgg16", "--json"],
    "python -c 'import torch'": ["-c", "import torch"],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=15, help="counted runs of each command, after one that is not")
    n = parser.parse_args().n
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for round_ in range(n + 1):
        for name, command in COMMANDS.items():
            took = seconds(command)
            if round_:
                taken[name].append(took)
    write("startup", "seconds, whole process", {name: spread(values) for name, values in taken.items()})


if __name__ == "__main__":
    main()
