"""Entries 1: images/s of `fit` beside hand-written loops, in turns, in one process.

Each contestant runs once without being counted (it captures, compiles and times algorithms then), then once a round,
in an order that is reversed every other round. A turn of a hand-written loop is an epoch, the shuffling included. A
turn of `fit` is a training run of a few epochs in a temporary folder: its figure is the log's own images/s of the
epochs after the first, median of them, without evaluation and checkpoints; "with evaluations and checkpoints" is
by this script's clock from the end of the first epoch to the end of the last. Ratios are per round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from peers import Loop, faster
from session import Session, Skipped, said, summary, synthetic
from torch import nn
from train_speed import network

from convatlas.data.types import Data, MemorySplit
from convatlas.recipe import Recipe
from convatlas.recipes import find_recipe
from convatlas.train.execution import Execution
from convatlas.train.fit import fit

Turn = Callable[[], dict[str, float]]  # images/s, by what they are
WHOLE = "with evaluations and checkpoints"
DECLARED: list[torch.library.Library] = []
EAGER = Execution(graph=False, compile=False)
NO_GRAPHS = "peers as CUDA graphs are skipped: this is not a GPU"


def images_per_s_of_fit(name: str, data: Data, recipe: Recipe, session: Session, execution: Execution) -> Turn:
    def turn() -> dict[str, float]:
        ends: list[tuple[float, float]] = []  # of epochs: the time, and the images/s that the log says

        def on_event(event: dict[str, Any]) -> None:
            if event["kind"] == "epoch":
                ends.append((time.perf_counter(), event["images_per_s"]))

        assert data.shape is not None
        with tempfile.TemporaryDirectory() as folder:
            fit(
                name,
                data,
                recipe,
                out=Path(folder) / "run",
                device=str(session.device),
                execution=execution,
                input=(3, 32, 32) if data.shape[1] == 32 else (3, side(session), side(session)),
                on_event=on_event,
            )
        images = len(data.train) * (len(ends) - 1)
        return {"": median(rate for _, rate in ends[1:]), WHOLE: images / (ends[-1][0] - ends[0][0])}

    return turn


def contest(turns: dict[str, Turn], pairs: Sequence[tuple[str, str]], rounds: int) -> dict[str, Any]:
    """Figures and ratios of the contestants; `pairs` are the ratios wanted, of those that take part."""
    for turn in turns.values():
        turn()
    speeds: dict[str, list[float]] = {}
    for n in range(rounds):
        for name in list(turns)[:: -1 if n % 2 else 1]:
            for kind, speed in turns[name]().items():
                speeds.setdefault(f"{name}, {kind}" if kind else name, []).append(speed)
        print(f"  round {n + 1} of {rounds}: {', '.join(f'{k} {v[-1]:,.0f}' for k, v in speeds.items())}", flush=True)
    ratios = {
        f"{a}/{b}": summary([x / y for x, y in zip(speeds[a], speeds[b], strict=True)])
        for a, b in pairs
        if a in speeds and b in speeds
    }
    return {
        "unit": "images/s in training",
        "n": rounds,
        "figures": {name: summary(values) for name, values in sorted(speeds.items())},
        "ratios": ratios,
        "headline": "; ".join(f"{name} {said(ratio)}" for name, ratio in ratios.items()),
    }


def hand_written(loop: Loop) -> Turn:
    return lambda: {"": loop()}


def on_device(split: MemorySplit, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images (n, H, W, C) and labels."""
    return split.images.permute(0, 2, 3, 1).contiguous().to(device), split.labels.to(device)


def resnet20(session: Session) -> dict[str, Any]:
    images, batch, epochs, rounds = (48, 8, 2, 2) if session.dry_run else (50_000, 128, 3, 5)
    data = synthetic(images, 32, 10)
    recipe = replace(find_recipe("resnet_cifar"), epochs=epochs, batch=batch)
    assert isinstance(data.train, MemorySplit)
    x, y = on_device(data.train, session.device)
    peers = {"eager": ("float32", False)}
    if session.on_gpu:
        peers |= {
            "eager_bfloat16": ("bfloat16", False),
            "graph_float32": ("float32", True),
            "graph_bfloat16": ("bfloat16", True),
        }
    executions = {"fit": EAGER, "fit_float32": replace(EAGER, precision="float32")}
    if session.on_gpu:
        in_bfloat16 = replace(EAGER, precision="bfloat16")
        executions |= {
            "fit_graph": replace(in_bfloat16, graph=True),
            "fit_graph_float32": replace(EAGER, precision="float32", graph=True),
            "fit_graph_compiled": replace(in_bfloat16, graph=True, compile=True),
        }
    turns = {
        name: images_per_s_of_fit("resnet20", data, recipe, session, execution)
        for name, execution in executions.items()
    }
    formats = {}
    for name, (precision, graph) in peers.items():
        loop, formats[name] = faster(
            lambda memory_format, precision=precision, graph=graph: Loop(
                network("resnet20"),
                x,
                y,
                batch,
                precision=precision,
                memory_format=memory_format,
                crop=True,
                graph=graph,
            )
        )
        turns[name] = hand_written(loop)
    pairs = [
        ("fit_graph", "graph_bfloat16"),
        ("fit_graph_compiled", "graph_bfloat16"),
        ("fit_graph_float32", "graph_float32"),
        ("fit", "eager_bfloat16"),
        ("fit_float32", "eager"),
        ("fit", "eager"),
    ]
    notes = [] if session.on_gpu else [NO_GRAPHS]
    return contest(turns, pairs, rounds) | {"batch": batch, "memory_formats": formats, "notes": notes}


def side(session: Session) -> int:
    """Of ImageNet's images at the network."""
    return 64 if session.dry_run else 224


def resnet50_task(session: Session, larger: int = 0) -> tuple[Data, Recipe, int, int]:
    """Images in memory, by `larger` pixels larger than the network's input; the recipe without augmentation; batch."""
    steps, batch, epochs, rounds = (2, 4, 2, 1) if session.dry_run else (30, 256, 4, 3)
    data = synthetic(steps * batch, side(session) + larger, 1000)
    return data, replace(find_recipe("resnet_torch"), augment=(), epochs=epochs, batch=batch), batch, rounds


def timm_resnet50() -> nn.Module:
    if find_spec("timm") is None:
        raise Skipped("timm, the network of which is the peer, is not installed")
    if (
        torch.version.cuda is None and not DECLARED
    ):  # torchvision, which it imports, needs them with a CPU build of torch
        DECLARED.append(torch.library.Library("torchvision", "FRAGMENT"))
        for operator in ("nms", "qnms"):
            DECLARED[0].define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.manual_seed(0)
    return import_module("timm").create_model("resnet50", num_classes=1000)


def timm_loops(session: Session, data: Data, batch: int) -> dict[str, Turn]:
    """timm's network, eager and, on a GPU, compiled."""
    assert isinstance(data.train, MemorySplit)
    x, y = on_device(data.train, session.device)
    common: dict[str, Any] = dict(precision="bfloat16", nesterov=True)
    loops = {"timm": Loop(timm_resnet50(), x, y, batch, **common)}
    if session.on_gpu:
        loops["timm_compiled"] = Loop(timm_resnet50(), x, y, batch, compile=True, **common)
    return {name: hand_written(loop) for name, loop in loops.items()}


def precision(session: Session) -> str:
    return "bfloat16" if session.on_gpu else "auto"  # not every processor computes with bfloat16


def resnet50(session: Session) -> dict[str, Any]:
    data, recipe, batch, rounds = resnet50_task(session)
    turns = timm_loops(session, data, batch)
    task = ("resnet50_v1_5", data, recipe, session)  # timm's resnet50 is that of the later releases
    turns["fit"] = images_per_s_of_fit(*task, replace(EAGER, precision=precision(session)))
    notes = []
    if session.on_gpu:
        compiled = replace(EAGER, precision="bfloat16", compile=True)
        turns["fit_compiled"] = images_per_s_of_fit(*task, compiled)
        turns["fit_graph_compiled"] = images_per_s_of_fit(*task, replace(compiled, graph=True))
    else:
        notes = ["compiled networks are skipped: this is not a GPU"]
    pairs = [
        ("fit", "timm"),
        ("fit", "timm_compiled"),
        ("fit_compiled", "timm_compiled"),
        ("fit_graph_compiled", "timm_compiled"),
    ]
    return contest(turns, pairs, rounds) | {"batch": batch, "input": side(session), "notes": notes}


def resnet50_augmented(session: Session) -> dict[str, Any]:
    data, recipe, batch, rounds = resnet50_task(session, larger=0 if session.dry_run else 32)
    augmented = replace(recipe, augment=find_recipe("resnet_torch").augment)
    execution = replace(EAGER, precision=precision(session))
    turns = {
        "fit_augmented": images_per_s_of_fit("resnet50_v1_5", data, augmented, session, execution),
        "fit": images_per_s_of_fit("resnet50_v1_5", data, recipe, session, execution),
    }
    loops = timm_loops(session, resnet50_task(session)[0], batch)  # with nothing to cut or to resize
    turns |= {"timm": loops["timm"]}
    pairs = [("fit_augmented", "timm"), ("fit_augmented", "fit")]
    notes = [f"augmentation: {', '.join(augmented.augment)}; timm's network trains without any"]
    return contest(turns, pairs, rounds) | {"batch": batch, "input": side(session), "notes": notes}
