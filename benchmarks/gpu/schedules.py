"""Entries 3: full training schedules on CIFAR-10, each beside its paper's figures, in as many sessions as it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from session import Session, Skipped, Unfinished, stopped_in_time, summary, synthetic

from convatlas.catalogue import find
from convatlas.data.sources import load_data
from convatlas.data.types import Data
from convatlas.recipes import find_recipe
from convatlas.runs.folder import Run
from convatlas.runs.log import read_log
from convatlas.train.execution import Execution
from convatlas.train.fit import Stopped, fit

SAVE_EVERY_S = 60.0
DRY_RUN_EPOCHS = 4
WHAT = "cifar10_err"  # the claims that are the papers' figures


def cifar10(session: Session) -> Data:
    if session.data:
        return load_data(session.data)
    if session.dry_run:
        return synthetic(24, 32, 10)
    raise Skipped("it needs CIFAR-10: give --data DIR")


def schedule(name: str, seed: int, session: Session) -> dict[str, Any]:
    """The network trained by its own recipe to the end; the error is that of the last epoch on the test images."""
    variant, data = find(name), cifar10(session)
    recipe = find_recipe(variant.recipe or "")
    if session.dry_run:
        recipe = replace(recipe, epochs=DRY_RUN_EPOCHS, batch=8)
    out = session.out / "runs" / f"{name}_seed{seed}"
    graph = None if session.graph else False  # None: where a trial finds it faster

    def on_event(event: dict[str, Any]) -> None:
        if event["kind"] == "epoch":
            top1 = event["test"]["top1"]
            speed = f"{event['images_per_s']:,.0f} images/s"
            print(f"  epoch {event['epoch']} of {event['epochs']}: {speed}, {top1:.2%}", flush=True)

    try:
        with stopped_in_time(session):
            run = fit(
                variant,
                data,
                recipe,
                out=out,
                seed=seed,
                device=str(session.device),
                execution=Execution(save_every_s=SAVE_EVERY_S, graph=graph),
                resume=(out / "run.json").exists(),
                on_event=on_event,
            )
    except (Stopped, KeyboardInterrupt) as stop:
        raise Unfinished(str(stop) or "the time was up before the first step") from None
    return result(run, len(data.train))


def result(run: Run, images: int) -> dict[str, Any]:
    epochs = run.epochs()
    errors = [100 * (1 - line["test"]["top1"]) for line in epochs]
    papers = [{"printed": c.printed, "where": c.where} for c in find(run.network).claims if c.what == WHAT]
    printed = "; ".join(f"{p['printed']}, {p['where']}" for p in papers)
    return {
        "unit": "test error in %, after the last epoch",
        "n": 1,
        "figures": {"error": summary(errors[-1:])},
        "paper": papers,
        "epochs": len(epochs),
        "error_by_epoch": errors,
        "images_per_s": summary([line["images_per_s"] for line in epochs]),
        "training_s": sum(images / line["images_per_s"] for line in epochs),
        "recipe": run.recipe.to_json(),
        "execution": run.record.execution,
        "headline": f"{errors[-1]:.2f}% after {len(epochs)} epochs (paper: {printed})",
        "notes": ["training_s is without evaluations and checkpoints, summed over all sessions"],
    }


def progress(name: str, seed: int, out: Path) -> str | None:
    """ "57 epochs", of a run that is under way; None where there is none."""
    log = out / "runs" / f"{name}_seed{seed}" / "log.jsonl"
    done = sum(line["kind"] == "epoch" for line in read_log(log))
    return f"{done} epochs" if done else None
