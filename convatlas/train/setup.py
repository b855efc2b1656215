"""Starting or resuming a run: what goes into run.json, and whether a resumed run has the same settings."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ..catalogue import Shape, Variant, find
from ..data.augment import Colours, crops_of
from ..data.decode.fast import decoder
from ..data.loading import usual_workers
from ..data.normalise import measure_normalizer, measured_shapes, preprocess_for
from ..data.types import Data, MemorySplit, Split
from ..errors import UserError
from ..files.atomic import beside, write_text
from ..files.lock import NAME as LOCK
from ..layers import ConvNet, on_meta
from ..machine.device import describe_machine
from ..machine.processes import World
from ..preprocess import MEASURED
from ..recipe import Recipe, with_side
from ..recipes import recipes
from ..runs import checkpoint
from ..runs.checkpoint import NORMALIZER
from ..runs.folder import Run, open_run
from ..runs.record import RunRecord
from .events import OnEvent, note
from .execution import Execution, decide

SKIPPED = "skipped.jsonl"
SHOWN = 4  # settings named in an error
SKIPPED_SHOWN = 20  # skipped files that are reported as notes


def sized(recipe: Recipe, variant: Variant, input: Shape | None) -> Recipe:
    """The recipe for images of size `input`: the size to which it resizes before cropping is scaled in proportion.

    Only for the augmentation of a catalogue recipe: a custom one is assumed to fit `input` already.
    """
    stock = recipes().get(recipe.name)
    if input is None or variant.input is None or stock is None or recipe.augment[:1] != stock.augment[:1]:
        return recipe
    return with_side(recipe, max(variant.input[1:]), max(input[1:]))


def new_record(
    variant: Variant,
    data: Data,
    recipe: Recipe,
    input: Shape | None,
    seed: int,
    device: torch.device,
    processes: int,
) -> RunRecord:
    """Everything that determines the run, and the machine it runs on; `decide` fills in its execution."""
    for name, _ in recipe.net:
        if name in ("classes", "channels", "input"):
            raise UserError(f"net.{name} is not a setting of the recipe", "it comes from the data and --input")
    assert variant.input is not None, "the catalogue gives every variant its input"
    stock = find(variant.name).args
    own = {name: value for name, value in variant.args.items() if name not in stock or stock[name] != value}
    shape = input or (len(data.mean), *variant.input[1:])
    preprocess = preprocess_for(data, shape, recipe.whiten)
    measured_shapes(preprocess)  # raises UserError for images too large to whiten
    crops_of(recipe.augment, shape[1:], seed=seed, epoch=0)  # raises UserError for a crop that does not fit
    decoding = {} if isinstance(data.train, MemorySplit) else {"decoder": decoder()}
    record = RunRecord(
        network=variant.name,
        options={**own, "input": shape, "classes": len(data.classes), **dict(recipe.net)},
        recipe=recipe,
        data=data.provenance,
        preprocess=preprocess,
        colours=asdict(Colours.of(data.train, preprocess, recipe.augment)),
        classes=data.classes,
        seed=seed,
        machine=describe_machine(device) | {"processes": processes, **decoding},
        execution={},
    )
    try:
        record.to_json()
    except TypeError as error:
        raise UserError(
            f"{variant.name} has an option that cannot be stored in run.json ({error})", "give plain values"
        ) from error
    return record


def has_run_to_resume(out: Path, resume: bool, restarted: bool) -> bool:
    """Whether there is a run to resume; not if it was killed before its run.json was written."""
    if resume and out.is_dir():
        return not {path.name for path in out.iterdir()} <= {LOCK, beside(out / "run.json").name}
    return resume or (restarted and (out / "run.json").exists())


def prepare(out: Path, record: RunRecord, resume: bool) -> Path:
    """Returns the run's folder, and creates it for a new run, but only if the network can be built."""
    if resume:
        return open_run(out).folder
    no_run_in(out)
    try_build(record)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the folder {out} ({error.strerror})", "give another --out") from error
    return out


def no_run_in(out: Path) -> None:
    if (out / "run.json").exists():
        raise UserError(f"{out} already contains a run", "give --resume to continue it, or another --out")


def open_or_start(
    out: Path,
    record: RunRecord,
    execution: Execution,
    split: Split,
    recipe: Recipe,
    device: torch.device,
    world: World,
    resume: bool,
    on_event: OnEvent,
) -> None:
    """Writes run.json of a new run; with `resume`, compares it with the one in `out`: UserError for other settings."""
    if not resume:
        no_run_in(out)
        with on_meta():
            settled = decide(execution, record.build(), recipe, device, world)
        if settled.workers is None:
            settled = replace(settled, workers=usual_workers(split))
        replace(record, execution=settled.to_json()).write(out)
        return
    run = open_run(out)
    if found := differences(settings_of(run.record), settings_of(record)):
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UserError(
            f"the run in {out} has different settings: {'; '.join(found[:SHOWN])}{more}",
            "resume it with its own settings, or give another --out",
        )
    was = Execution.from_json(run.record.execution)
    for change in (
        *differences(run.record.machine, record.machine, "machine"),
        *differences(was.to_json(), was.overridden_by(execution).to_json(), "execution"),
    ):
        on_event(note(f"resumed with changes, so the last bits may differ: {change}"))


def report_skipped(out: Path, data: Data, on_event: OnEvent) -> None:
    """Lists every skipped file in skipped.jsonl, and reports the first few as notes."""
    if data.skipped:
        lines = (json.dumps({"file": file, "reason": reason}) + "\n" for file, reason in data.skipped)
        write_text(out / SKIPPED, "".join(lines))
        for _, reason in data.skipped[:SKIPPED_SHOWN]:
            on_event(note(f"skipped: {reason}"))
        on_event(note(f"{len(data.skipped)} files skipped; the full list is in {out / SKIPPED}"))


def measure_images(run: Run, split: Split, on_event: OnEvent) -> None:
    """Measures the training images where the preprocessing needs it and it has not been done yet."""
    path, preprocess = run.folder / "preprocess.safetensors", run.preprocess
    if preprocess.whiten in MEASURED and not path.exists():
        on_event(note(f"computing statistics of the training images for whiten={preprocess.whiten}"))
        tensors = measure_normalizer(preprocess, split).tensors
        named = {f"{NORMALIZER}{name}": tensor for name, tensor in tensors.items()}
        checkpoint.save(path, named, {"preprocess": preprocess.to_json()})


def try_build(record: RunRecord) -> ConvNet:
    try:
        return record.build()
    except UserError:
        raise
    except Exception as error:  # constructors do not check their options, which may come from the user here
        if not record.recipe.net:
            raise
        options = ", ".join(f"net.{name}={value!r}" for name, value in record.recipe.net)
        raise UserError(
            f"{record.network} cannot be built with {options} ({error})", f"see `convatlas show {record.network}`"
        ) from error


def settings_of(record: RunRecord) -> dict[str, Any]:
    """The settings that a resumed run must share; the recipe's fields have the names that `--set` takes."""
    values = record.to_json()
    recipe = values.pop("recipe")
    for follows in ("departures", "source", "published"):
        del recipe[follows]
    recipe = {"recipe": recipe.pop("name"), **recipe}
    for component in ("optimizer", "schedule"):
        fields = recipe.pop(component)
        recipe |= {component: fields.pop("kind"), **fields}
    for own in ("machine", "execution", "init"):
        del values[own]
    return {"network": values.pop("network"), **recipe, **values}


def differences(was: Any, now: Any, name: str = "") -> list[str]:
    """Where two records differ, as "NAME was A, is now B"; the data's path and skipped files are ignored."""
    if isinstance(was, dict) and isinstance(now, dict):
        names = [k for k in {**was, **now} if not (name.startswith("data.") and k in ("path", "skipped"))]
        return [d for k in names for d in differences(was.get(k), now.get(k), f"{name}.{k}".lstrip("."))]
    return [] if was == now else [f"{name} was {shortened(was)}, is now {shortened(now)}"]


def shortened(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
