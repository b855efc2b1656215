"""The charts of runs: their curves one over the other, and the norms of their gradients by stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError
from ...runs.log import held_out
from .frame import Asked, Chart, Panel, Point

if TYPE_CHECKING:
    from ...runs.folder import Run

FILES = "run folders"
MAKE = "make one: convatlas train resnet20 --data digits --out RUN"
RUNS = 8  # whose lines can be told apart
PANELS = 3


def curves(asked: Asked) -> Chart:
    """Top-1 errors by epoch: held-out images thick, training images thin. Of deep plain networks: degradation."""
    runs = opened(asked, "curves", RUNS)
    points = []
    for name, run in runs.items():
        epochs, source = run.epochs(), f"{run.folder.name}/log.jsonl: {about(run)}"
        for line in epochs:
            part, last = held_out(line), line is epochs[-1]
            images = {"val": "validation images", "test": "test images"}[part]
            error = 100 * (1 - line[part]["top1"])
            label = f"{name} {error:.2f}%" if last else ""
            points.append(Point(f"{name}, {images}", line["epoch"], error, source, label, name))
        points += [
            Point(
                f"{name}, training images",
                line["epoch"],
                100 * (1 - line["train"]["top1"]),
                source,
                group=name,
                thin=True,
            )
            for line in epochs
        ]
    panel = Panel("epoch", "top-1 error (%)", tuple(points), "lines")
    data = ", ".join(dict.fromkeys(str(run.record.data.get("name")) for run in runs.values()))
    note = f"On {data}: held-out images thick, with the last epoch's error; training images, as augmented, thin."
    return Chart("curves", "Top-1 error, epoch by epoch", (panel,), note)


def gradients(asked: Asked) -> Chart:
    """The norm of the loss's gradient by stage and epoch, a panel a run."""
    runs = opened(asked, "gradients", PANELS)
    panels = []
    for name, run in runs.items():
        epochs = [line for line in run.epochs() if line.get("gradient")]
        if not epochs:
            raise UserError(f"the log of {run.folder} has no norms of gradients", f"train it again; {MAKE}")
        stages = list(dict.fromkeys(stage for line in epochs for stage in line["gradient"]))
        points = []
        for stage in stages:
            of = [line for line in epochs if line["gradient"].get(stage, {}).get("mean")]
            short = stage.removeprefix("stages.")
            points += [
                Point(
                    f"{name}, {short}",
                    line["epoch"],
                    line["gradient"][stage]["mean"],
                    f"{run.folder.name}/log.jsonl: {about(run)}",
                    short if line is of[-1] else "",
                    short,
                )
                for line in of
            ]
        panels.append(Panel("epoch", "norm of the gradient", tuple(points), "lines", log_y=True, title=name))
    note = (
        "The L2 norm of the loss's gradient for a stage's parameters, of the whole batch, before clipping and without "
        "weight decay: the mean over an epoch's steps."
    )
    return Chart("gradients", "Gradients by stage, over training", tuple(panels), note)


def opened(asked: Asked, chart: str, most: int) -> dict[str, Run]:
    """The run folders, by their names. Raises UserError for anything else, and for runs without an epoch."""
    from ...runs.folder import open_run

    runs = {}
    for folder in asked.files:
        if not (Path(folder) / "run.json").exists() and Path(folder).exists():
            raise UserError(f"chart {chart} is drawn from {FILES}, and {folder} is none", MAKE)
        run = open_run(folder)
        if not run.epochs():
            raise UserError(f"{folder} has no finished epoch", "draw it when it has one")
        runs[unlike(run.folder, asked.files)] = run
    if len(runs) > most:
        raise UserError(f"chart {chart} has room for {most} runs, and these are {len(runs)}", "give fewer")
    return runs


def unlike(folder: Path, folders: tuple[Path, ...]) -> str:
    """A folder's name, with those above it as far as another has the same."""
    parts = folder.resolve().parts
    others = [it.resolve().parts for it in folders if it.resolve() != folder.resolve()]
    for n in range(1, len(parts)):
        if all(other[-n:] != parts[-n:] for other in others):
            return "/".join(parts[-n:])
    return str(folder)


def about(run: Run) -> str:
    return f"{run.network} on {run.record.data.get('name')}, recipe {run.recipe.name}, seed {run.record.seed}"
