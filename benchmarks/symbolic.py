"""Evaluating a network's costs at a size, compared with a fresh count; and finding receptive fields in a trace.

    .venv/bin/python benchmarks/symbolic.py [--n 15]

A fresh count builds the network on the meta device and traces it. Writes results/symbolic.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from report import spread, write

from convatlas.accounting import account
from convatlas.accounting.inputs import meta_inputs
from convatlas.accounting.receptive import node_fields
from convatlas.accounting.symbolic import symbolic
from convatlas.accounting.trace import trace
from convatlas.catalogue import find
from convatlas.layers import on_meta

NETWORKS = ("alexnet", "resnet50", "resnet152", "densenet201", "efficientnet_b7")


def measured(name: str, n: int) -> dict[str, list[float]]:
    """Seconds per method, in turns, each time at another size."""
    costs, variant = symbolic(name), find(name)
    assert variant.input is not None
    channels, smallest, _ = variant.input
    with on_meta():
        net = variant.build()
    pass_of = meta_inputs(net, variant.input, 1)
    traced = trace(net, *pass_of)
    taken: dict[str, list[float]] = {}
    for round_ in range(n + 1):
        side = smallest + 16 * round_
        runs: dict[str, Callable[[], Any]] = {
            "fresh count": partial(account, name, (channels, side, side), classes=100),
            "trace alone": partial(trace, net, *pass_of),
            "symbolic": partial(costs, side, classes=100),
            "receptive fields of a trace": partial(node_fields, traced),
        }
        for what, run in runs.items():
            start = time.perf_counter()
            run()
            if round_:
                taken.setdefault(what, []).append(time.perf_counter() - start)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=15, help="counted runs, after one that is not")
    n = parser.parse_args().n
    torch.set_num_threads(1)
    taken = {name: measured(name, n) for name in NETWORKS}
    figures = {name: {what: spread(values) for what, values in ways.items()} for name, ways in taken.items()}
    times = {name: round(median(ways["trace alone"]) / median(ways["symbolic"])) for name, ways in taken.items()}
    write("symbolic", "seconds", figures, symbolic_against_trace_alone=times)


if __name__ == "__main__":
    main()
