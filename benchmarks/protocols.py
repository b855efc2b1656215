"""What each evaluation protocol gains over one centre crop, on released weights and the same photographs.

    python benchmarks/protocols.py squeezenet1_1.npz --network squeezenet1_1 --preprocess caffe --data imagenet:DIR

The images (`--images`, 500) are spread evenly over the split. Protocols of crops run on ONNX Runtime in fp32, those
that slide the network over the whole image on torch, on one thread. The figures are added to
results/protocols_NETWORK.json after each protocol; what is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from typing import Any

import torch
from report import RESULTS, write

from convatlas.data.sources import load_data
from convatlas.engines.sessions import on
from convatlas.evaluation.scores import Scores, paired
from convatlas.evaluation.scoring import evaluate
from convatlas.protocols import PROTOCOLS
from convatlas.weights.model import load


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--network")
    parser.add_argument("--preprocess")
    parser.add_argument("--data", required=True)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--protocol", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    model, data = load(args.model, network=args.network, preprocess=args.preprocess), load_data(args.data)
    whole = data.split(None)
    every = len(whole) // args.images
    some = whole.part(torch.arange(args.images) * every, whole.name, whole.provenance)
    data = replace(data, **{whole.name: some})
    engine = on(model, "onnxruntime", batch=32)
    name = f"protocols_{model.network}"
    kept = json.loads(file.read_text(encoding="utf-8")) if (file := RESULTS / f"{name}.json").exists() else {}
    figures: dict[str, Any] = kept.get("figures", {})
    center: Scores | None = None
    for protocol in dict.fromkeys(["center", *args.protocol]):
        if protocol in figures and protocol != "center":
            continue
        dense = any(cuts.crops == "dense" for cuts in PROTOCOLS[protocol].cuts)
        processor = time.process_time()
        scores = evaluate(model if dense else engine, data, protocol=protocol, workers=0)
        center = center or scores
        figures[protocol] = {
            "top1": scores.top1,
            "interval": scores.interval(),
            "top5": scores.top(5),
            "n": scores.n,
            "right only here, right only on the centre crop, p": paired(scores, center),
            "processor ms an image": 1e3 * (time.process_time() - processor) / scores.n,
        }
        write(name, "share of the images", figures, model=args.model.rpartition("/")[2])


if __name__ == "__main__":
    main()
