"""How near exported networks come to torch: the largest difference of logits over their standard deviation.

    python benchmarks/parity.py
    python benchmarks/parity.py resnet18 lenet5

For every network of the atlas, one of each family first, with random weights (engines/parity.py), on ONNX Runtime and
on OpenVINO. After each, the figures are added to those of earlier networks in results/parity.json; networks that are
there are skipped, unless they are named.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from report import RESULTS, write
from torch import Tensor

from convatlas import tables
from convatlas.catalogue import find
from convatlas.data.normalise import Normalizer, normalise
from convatlas.engines import parity
from convatlas.engines.on_openvino import core
from convatlas.engines.onnx_export import export_onnx
from convatlas.errors import UserError
from convatlas.preprocess import Preprocess


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("networks", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    kept = RESULTS / "parity.json"
    figures = json.loads(kept.read_text())["figures"] if kept.exists() else {}
    for name in args.networks or in_order():
        if args.networks or name not in figures:
            figures[name] = measured(name)
            write("parity", "largest difference of logits, in their standard deviations", figures)


def in_order() -> Iterator[str]:
    """The cheapest network of each family, then the others, the cheaper first."""
    cheapest = sorted(tables.index(), key=lambda name: tables.index()[name]["totals"]["macs"])
    first = {tables.index()[name]["family"]: name for name in reversed(cheapest)}
    yield from sorted(first.values(), key=cheapest.index)
    yield from (name for name in cheapest if name not in first.values())


def measured(name: str) -> dict[str, Any]:
    torch.manual_seed(0)
    net = find(name).build().eval()
    assert net.input is not None
    channels = net.input[0]
    normalizer = Normalizer(Preprocess(net.input, (0.5,) * channels, (0.25,) * channels))
    images = parity.images(net.input)
    parity.randomise(net, normalise(parity.images(net.input, parity.SHOWN, seed=1), normalizer).contiguous())
    found: dict[str, Any] = {"family": tables.index()[name]["family"]}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        start = time.monotonic()
        export_onnx(net, net.input, file)
        found |= {"seconds to export": round(time.monotonic() - start, 1), "bytes": file.stat().st_size}
        for engine, opened in (("onnxruntime", on_onnxruntime), ("openvino", on_openvino)):
            run = opened(file)
            try:
                found[engine] = parity.check(
                    parity.of_net(net, normalizer), lambda x, run=run: run(normalise(x, normalizer)), images, name
                )
            except UserError as error:
                found[engine] = str(error)
    return found


def on_onnxruntime(file: Path) -> Callable[[Tensor], Tensor]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"images": x.contiguous().numpy()})[0])


def on_openvino(file: Path) -> Callable[[Tensor], Tensor]:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core().compile_model(file, "CPU", settings)
    return lambda x: torch.from_numpy(compiled([x.contiguous().numpy()])[0].copy())


if __name__ == "__main__":
    main()
