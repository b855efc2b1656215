"""A fresh count of a network that is already built, compared with other counters, in turns.

    .venv/bin/python benchmarks/accounting.py [--n 9]

Ours gives rows, shapes, parameters, multiply-adds and the receptive field of every row. Each other tool runs in the
fastest way that gives its own total: torchinfo and ptflops' "aten" on the meta device like ours, where nothing is
computed; ptflops' default, which counts a linear layer twice there, and fvcore, which needs values for tracing, on the
CPU. One thread, in seconds of CPU time, which is less sensitive to other load than wall-clock time. fvcore, much slower
than the rest, runs for three rounds. Writes results/accounting.json.
"""

from __future__ import annotations

import argparse
import gc
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from statistics import median
from types import ModuleType
from typing import Any

import torch
from report import spread, write
from torch import nn

from convatlas.accounting import account
from convatlas.catalogue import find
from convatlas.layers import on_meta

NETWORKS = ("resnet152", "densenet201", "nasnet_a_large", "efficientnet_b7")
DECLARED: list[torch.library.Library] = []
TOOLS = ("torchinfo", "ptflops-aten", "ptflops", "fvcore")


def imported_ptflops() -> ModuleType:
    """It imports torchvision; with a CPU build of torch, its wheel imports only once these operators are declared."""
    if not DECLARED:
        DECLARED.append(torch.library.Library("torchvision", "FRAGMENT"))
        for operator in ("nms", "qnms"):
            DECLARED[0].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return import_module("ptflops")


def counters(name: str) -> dict[str, Callable[[], Any]]:
    """Each tool with a separate network, as some leave hooks behind."""
    import torchinfo
    from fvcore.nn import FlopCountAnalysis

    def built() -> nn.Module:
        with on_meta():
            return find(name).build().eval()

    ptflops, variant = imported_ptflops(), find(name)
    assert variant.input is not None
    shape = variant.input
    ours, read, seen = built(), built(), built()
    patched, traced = (built().to_empty(device="cpu") for _ in range(2))
    meta, zeros = torch.empty(1, *shape, device="meta"), torch.zeros(1, *shape)

    def fvcore() -> int:
        analysis = FlopCountAnalysis(traced, zeros).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return int(analysis.tracer_warnings("none").total())

    def by_ptflops(net: nn.Module, backend: str) -> Any:
        options = dict(as_strings=False, print_per_layer_stat=False, verbose=False, backend=backend)
        return ptflops.get_model_complexity_info(net, shape, **options)

    def by_us() -> Any:
        counted = account(ours)
        assert all(row.receptive_field for row in counted.rows), "every row has its receptive field"
        return counted.totals

    return {
        "convatlas": by_us,
        "torchinfo": lambda: torchinfo.summary(read, input_data=meta, verbose=0).total_mult_adds,
        "ptflops-aten": lambda: by_ptflops(seen, "aten"),
        "ptflops": lambda: by_ptflops(patched, "pytorch"),
        "fvcore": fvcore,
    }


def measured(name: str, n: int) -> dict[str, list[float]]:
    """Seconds per tool; every other round runs in reverse order."""
    runs = counters(name)
    taken: dict[str, list[float]] = {tool: [] for tool in runs}
    for round_ in range(n + 1):
        for tool in list(runs)[:: 1 if round_ % 2 else -1]:
            if tool == "fvcore" and round_ > 3:
                continue
            gc.collect()  # what the tool before left behind is not this one's to clear away
            start = time.process_time()
            runs[tool]()
            took = time.process_time() - start
            if round_:  # the first is a warm-up
                taken[tool].append(took)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=9, help="counted runs of each tool, after one that is not")
    n = parser.parse_args().n
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with torch.no_grad():
        taken = {name: measured(name, n) for name in NETWORKS}
    figures, times = {}, {}
    for name, of in taken.items():
        fastest = min(TOOLS, key=lambda tool: median(of[tool]))
        ratios = [theirs / ours for theirs, ours in zip(of[fastest], of["convatlas"])]
        figures[name] = {tool: spread(values) for tool, values in of.items()}
        times[name] = {"fastest": fastest, "of_medians": round(median(of[fastest]) / median(of["convatlas"]), 2)}
        times[name] |= {"of_rounds": spread([round(r, 2) for r in ratios])}
    versions = {tool: version(tool) for tool in TOOLS if tool != "ptflops-aten"}
    write("accounting", "seconds of processor time", figures, times_faster_than_the_fastest=times, versions=versions)


if __name__ == "__main__":
    main()
