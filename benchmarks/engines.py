"""Engines side by side: how many times as fast as eager torch each runs a network, in fp32, bf16 and int8.

    python benchmarks/engines.py [NETWORK ...] [--seconds 40]

Batch 1, one thread, processor time, all sessions of a network in interleaved rounds of one process; the factors are
medians of the ratios within rounds, with their p10 and p90. "torch as loaded" is what they are factors over: the module
itself in inference mode. Weights, biases and statistics are random; int8 is calibrated on random images, which is
enough for its speed and says nothing of its accuracy.

    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/engines.py

keeps torch and OpenVINO to AVX2 on a processor that can do more, and writes results/engines_avx2.json. ONNX Runtime,
which cannot be kept from the rest, is left out, and so is bf16.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import torch
from report import write
from torch import nn

from convatlas.catalogue import find
from convatlas.data.normalise import Normalizer
from convatlas.engines.sessions import CAN, ENGINES, PRECISIONS, on
from convatlas.engines.timing import ratio, rounds
from convatlas.machine.facts import machine
from convatlas.preprocess import Preprocess
from convatlas.weights.model import Model

AVX2 = os.environ.get("ONEDNN_MAX_CPU_ISA") == "AVX2"
RUN = ("torch", "openvino") if AVX2 else ENGINES
TYPES = ("fp32", "int8") if AVX2 else PRECISIONS
NETWORKS = ("resnet50", "mobilenet_v2", "efficientnet_b0", "densenet121")
GOALS = {  # times as fast, with AVX512 and VNNI, or without
    ("resnet50", "fp32"): 1.4 if AVX2 else 1.6,
    ("mobilenet_v2", "fp32"): 2.0 if AVX2 else 2.5,
    **{(network, "int8"): 2.5 if AVX2 else 4.5 for network in NETWORKS},
}
IMAGES = 8  # to calibrate on
LOADED = "torch as loaded"


def randomised(network: str) -> Model:
    torch.manual_seed(0)
    net = find(network).build().eval()
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.ndim == 1 and tensor.is_floating_point():
            low = 0.5 if name.endswith(("bn.weight", "running_var")) else -0.1
            tensor.data.uniform_(low, low + 1 if low > 0 else 0.1)
    assert net.input is not None
    preprocess = Preprocess(net.input, (0.5,) * 3, (0.25,) * 3)
    return Model(net, Normalizer(preprocess), tuple(map(str, range(1000))), network, "random")


def factors(network: str, seconds: float) -> dict[str, Any]:
    model = randomised(network)
    x = torch.randn(1, *model.preprocess.input)
    images = torch.randn(IMAGES, *model.preprocess.input)
    nets: dict[str, nn.Module] = {LOADED: model.net}
    for precision in TYPES:
        for engine in RUN:
            if precision in CAN[engine]:
                nets[f"{engine} {precision}"] = on(model, engine, precision, calibrate=images).net
    with torch.inference_mode():
        calls: list[Callable[[], object]] = [lambda net=net: net(x) for net in nets.values()]
        times = dict(zip(nets, rounds(calls, seconds)))
    found = {}
    for name, its in times.items():
        over = ratio(times[LOADED], its)
        found[name] = {"ms": 1e3 * its.median, "times as fast": over.median, "p10": over.low, "p90": over.high}
    best = {p: max((n for n in nets if n.endswith(p)), key=lambda n: found[n]["times as fast"]) for p in TYPES}
    return {
        "n": times[LOADED].n,
        "sessions": found,
        "best": {
            precision: {"session": name, **found[name], **reached(network, precision, found[name]["times as fast"])}
            for precision, name in best.items()
        },
    }


def reached(network: str, precision: str, factor: float) -> dict[str, Any]:
    goal = GOALS.get((network, precision))
    return {} if goal is None else {"goal": goal, "reached": factor >= goal}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", metavar="NETWORK", nargs="*", default=NETWORKS)
    parser.add_argument("--seconds", type=float, default=40, help="of rounds, for each network")
    args = parser.parse_args()
    torch.set_num_threads(1)
    here = machine()
    figures = {network: factors(network, args.seconds) for network in args.networks}
    name = "engines_avx2" if AVX2 else "engines"
    write(name, "times as fast as torch as loaded", figures, flags=here["flags"], versions=here["versions"])


if __name__ == "__main__":
    main()
