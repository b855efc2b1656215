"""How well times are predicted: networks that no calibration has seen, timed, and compared with what profiles say.

    .venv/bin/python benchmarks/latency.py --engine onnxruntime --precision fp32 [--batches 1,4] [--seeds 0,1]

A profile is learnt from random chains alone. Features and chains were chosen by cross-validation and on DEVELOPMENT,
which has the networks of an earlier report, too; those of KEPT_ASIDE, named before any of them was timed, are reported.
They are timed before and after the calibrations, in interleaved rounds on one thread in processor time, as the budget
is, for the machine may be shared. Since they were reported, intervals hold 95% of the chains instead of 90%.
Writes results/latency_<engine>_<precision>.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np
import torch
from report import write

from convatlas.catalogue import find
from convatlas.engines import timing
from convatlas.engines.int8 import int8_of
from convatlas.engines.latency.calibrate import timed_chains
from convatlas.engines.latency.features import Features, features
from convatlas.engines.latency.regression import Regression, fitted, least_relative
from convatlas.engines.net import EngineNet
from convatlas.engines.on_onnxruntime import OnnxRuntimeNet
from convatlas.engines.on_openvino import OpenVinoNet
from convatlas.engines.onnx_export import export_onnx
from convatlas.tables import load

DEVELOPMENT = (  # their errors have been looked at while features and chains were chosen
    "resnet34",
    "zfnet",
    "squeezenet1_0",
    "mobilenet_v2_0_5_224",
    "mobilenet_v1_0_5_224",
    "se_resnet18",
    "bn_inception",
    "nin",
    "preact_resnet50",
    "vgg11_bn",
    "densenet169",
    "efficientnet_b1",
    "resnext101_32x4d",
    "inception_v4",
    "fractalnet_34",
    "resnet110",
    "wrn40_4",
    "nasnet_a_mobile",
    "alexnet",
    "vgg16",
    "googlenet",
    "inception_v3",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "wrn50_2",
    "densenet121",
    "squeezenet1_1",
    "mobilenet_v1",
    "mobilenet_v2",
    "efficientnet_b0",
    "efficientnet_lite0",
    "se_resnet50",
    "fractalnet_20",
    "wrn28_10",
    "resnet56",
    "inception_resnet_v2",
    "lenet5",
    "caffenet",
    "bn_nin_zoo",
    "zfnet_512",
    "vgg13",
    "inception_v2",
    "inception_resnet_v1",
    "resnet101",
    "resnet44_b",
    "preact_resnet101",
    "wrn16_8",
    "densenet201",
    "densenet_bc_100_12",
    "resnext50_8x14d",
    "squeezenet1_0_complex_bypass",
    "fractalnet_40",
    "se_mobilenet_v1",
    "mobilenet_v1_0_75_160",
    "mobilenet_v2_1_4_224",
    "efficientnet_b2",
    "efficientnet_lite2",
    "nas_v1",
    "airbench94",
)
KEPT_ASIDE = (  # chosen before any of them was timed
    "alexnet_owt",
    "nin_cifar",
    "googlenet_bn_3x3",
    "bn_inception_slim",
    "chain_n3_m3_k2",
    "plain34",
    "plain56",
    "bn_nin",
    "densenet_40_12",
    "enet_encoder",
    "fractalnet_40_narrow",
    "nas_v1_none",
    "preact_resnet164",
    "resnext50_4x24d",
    "squeezenet1_0_simple_bypass",
    "wrn34_1_5",
    "mobilenet_v1_1_0_128",
    "mobilenet_v2_1_0_160",
    "efficientnet_lite1",
    "airbench95",
)
SHORTEST_S = 5e-4  # a shorter time is predicted as "under 1 ms", and has no error
GROUP = 3  # networks that are timed side by side
LEAST = 4  # rounds


def opened(file: Path, engine: str, precision: str, batch: int) -> EngineNet:
    if engine == "onnxruntime":
        return OnnxRuntimeNet(file, precision, 1)
    return OpenVinoNet(file, precision, 1, batch)


def file_of(name: str, folder: Path) -> Path:
    """The network as an ONNX file, exported unless it is there."""
    file = folder / f"{name}.onnx"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        export_onnx(find(name).build(), load(name).input, file)
    return file


def timed(names: Sequence[str], folder: Path, engine: str, precision: str, batch: int) -> dict[str, dict[str, float]]:
    """Seconds of a batch of each network."""
    found = {}
    for at in range(0, len(names), GROUP):
        some, calls = names[at : at + GROUP], []
        for name in some:
            file, input = file_of(name, folder), load(name).input
            if precision == "int8":
                generator = torch.Generator().manual_seed(0)
                file = int8_of(file, engine, torch.randn(2, *input, generator=generator))
            net, images = opened(file, engine, precision, batch), torch.zeros(batch, *input)
            calls.append(lambda net=net, images=images: net(images))
        times = timing.rounds(calls, 4.0, least=LEAST, most=40)
        for name, one in zip(some, times, strict=True):
            spread = np.quantile(one.seconds, (0.1, 0.9)) / one.median
            found[name] = {
                "seconds": round(one.median, 7),
                "p10": round(float(spread[0]), 3),
                "p90": round(float(spread[1]), 3),
                "n": one.n,
            }
            print(f"  {name:22} {1e3 * one.median:9.2f} ms", flush=True)
    return found


def both(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """The times before and after the calibrations: their mean, and how much the machine's pace changed."""
    seconds = round((before["seconds"] + after["seconds"]) / 2, 7)
    return after | {
        "seconds": seconds,
        "n": before["n"] + after["n"],
        "pace": round(after["seconds"] / before["seconds"], 3),
    }


def macs_and_bytes(sums: Features) -> tuple[float, float, float]:
    """All multiply-adds, all bytes (in seconds of features.py's processor), and launches."""
    macs = sum(n for name, n in sums.items() if name.endswith(" macs"))
    moved = sum(n for name, n in sums.items() if name.split()[-1] in ("bytes", "weights"))
    return macs, moved, sums["launches"]


def baseline(found: Sequence[tuple[Features, float]], columns: int, networks: dict[str, Features]) -> dict[str, float]:
    """The times that a fit of the same chains to the first of these alone predicts."""
    table = np.array([macs_and_bytes(sums)[:columns] for sums, _ in found])
    x = least_relative(table, np.array([seconds for _, seconds in found]))
    return {name: float(np.dot(macs_and_bytes(sums)[:columns], x)) for name, sums in networks.items()}


def judged(predicted: dict[str, float], true: dict[str, float], made: Regression | None = None) -> dict[str, float]:
    """Errors over the networks that have one, and the share of pairs in the right order."""
    names = [name for name in true if true[name] >= SHORTEST_S]
    errors = {name: predicted[name] / true[name] - 1 for name in names}
    sizes = [abs(error) for error in errors.values()]
    pairs = [(predicted[a] < predicted[b]) == (true[a] < true[b]) for a, b in combinations(names, 2)]
    figures = {
        "median error": median(sizes),
        "worst error": max(sizes),
        "bias": median(errors.values()),
        "pairs in order": float(np.mean(pairs)),
        "n": len(names),
    }
    if made is not None:
        inside = [made.low <= true[name] / predicted[name] <= made.high for name in names]
        figures |= {"inside the interval": float(np.mean(inside)), "interval low": made.low, "interval high": made.high}
    return {name: round(value, 4) for name, value in figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--batches", default="1")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--networks", default=",".join(KEPT_ASIDE))
    parser.add_argument("--files", type=Path, default=Path("build/latency"), help="where exported networks are kept")
    args = parser.parse_args()
    torch.set_num_threads(1)
    names, batches = args.networks.split(","), list(map(int, args.batches.split(",")))
    asked = {"engine": args.engine, "precision": args.precision, "seconds": args.seconds, "now": time.process_time}
    where = (names, args.files, args.engine, args.precision)
    before = timed(*where, batches[0])
    learnt = {seed: timed_chains(**asked, seed=seed)[0] for seed in map(int, args.seeds.split(","))}
    true = {batch: timed(*where, batch) for batch in batches}
    true[batches[0]] = {name: both(before[name], one) for name, one in true[batches[0]].items()}
    figures, predictions = {}, {}
    for seed, found in learnt.items():
        made = fitted(*zip(*found, strict=True))
        for batch, of_networks in true.items():
            key = f"seed {seed}, batch {batch}"
            sums = {n: features(a.rows, a.input, batch=batch) for n in names for a in [load(n)]}
            measured = {name: one["seconds"] for name, one in of_networks.items()}
            predicted = {name: made.estimate(one) for name, one in sums.items()}
            figures[key] = {
                "chains": len(found),
                "profile": judged(predicted, measured, made),
                "multiply-adds alone": judged(baseline(found, 1, sums), measured),
                "multiply-adds, bytes, launches": judged(baseline(found, 3, sums), measured),
            }
            predictions[key] = {name: round(1e3 * seconds, 3) for name, seconds in predicted.items()}
    write(
        f"latency_{args.engine}_{args.precision}",
        "share of the measured time",
        figures,
        budget_s=args.seconds,
        measured={f"batch {batch}": of_networks for batch, of_networks in true.items()},
        predicted_ms=predictions,
    )


if __name__ == "__main__":
    main()
