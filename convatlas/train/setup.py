"""Starting or resuming a run: what goes into run.json, and whether a resumed run has the same settings."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..catalogue import Shape, Variant, find
from ..data.augment import Colours, crops_of
from ..data.decode.fast import decoder
from ..data.loading import usual_workers
from ..data.normalise import measure_normalizer, measured_shapes, preprocess_for
from ..data.types import MemorySplit
from ..errors import UserError
from ..files.atomic import clean, is_temporary, write_text
from ..files.lock import NAME as LOCK
from ..files.lock import locked
from ..files.preflight import preflight
from ..layers import ConvNet, on_meta
from ..machine.device import describe_machine
from ..preprocess import MEASURED
from ..recipe import Recipe, with_side
from ..recipes import recipes
from ..runs import checkpoint
from ..runs.checkpoint import NORMALIZER
from ..runs.folder import Run, open_run
from ..runs.record import FILE, RunRecord
from .events import note
from .execution import Execution, decide
from .feed import may_reside
from .job import Job
from .learning import Learning
from .warm_start import plan_start

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


def new_record(job: Job) -> RunRecord:
    """Everything that determines the run, and the machine it runs on; a new run adds its execution and start."""
    variant, data, recipe, input = job.variant, job.data, job.recipe, job.input
    for name, _ in recipe.net:
        if name in ("classes", "channels", "input"):
            raise UserError(f"net.{name} is not a setting of the recipe", "it comes from the data and --input")
    _, usual, _ = variant.chosen(dict(recipe.net))
    assert usual is not None, "the catalogue gives every variant its input"
    stock = find(variant.name).args
    own = {name: value for name, value in variant.args.items() if name not in stock or stock[name] != value}
    own_shape = job.normalizer and job.normalizer.preprocess.input
    shape = own_shape or input or (len(data.mean), *usual[1:])
    crops_of(recipe.augment, shape[1:], seed=job.seed, epoch=0)  # raises UserError for a crop that does not fit
    if job.normalizer:
        preprocess = job.normalizer.preprocess
    else:
        preprocess = preprocess_for(data, shape, recipe.whiten, recipe.augment)
    measured_shapes(preprocess)  # raises UserError for images too large to whiten
    decoding = {} if isinstance(data.train, MemorySplit) else {"decoder": decoder()}
    record = RunRecord(
        network=variant.name,
        options={**own, "input": shape, "classes": len(data.classes), **dict(recipe.net)},
        recipe=recipe,
        data=data.provenance,
        preprocess=preprocess,
        colours=asdict(Colours.of(data.train, preprocess, recipe.augment)),
        classes=data.classes,
        seed=job.seed,
        machine=describe_machine(job.device) | {"processes": job.world.size, **decoding},
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
    """Whether there is a run to resume; not if none was begun, or if it was killed before its run.json was written."""
    if resume and out.is_dir():
        return any(path.name != LOCK and not is_temporary(path.name) for path in out.iterdir())
    return (resume or restarted) and (out / FILE).exists()


def begin(job: Job, out: Path, resume: bool, init: Path | None, held: ExitStack) -> Run:
    """The run folder `out`, new or to be resumed, locked for as long as `held` is; one process does this for all.

    Raises UserError for a network that cannot be built, for a folder that has a run already, and for a run to be
    resumed whose settings differ.
    """
    if init and resume:
        raise UserError("--init cannot be combined with --resume: a resumed run has its own weights", "give one")
    record = new_record(job)
    if resume:
        run = open_run(out)
    else:
        no_run_in(out)
        record = RunRecord.from_json(decided(job, record, init).to_json(), out / FILE)
        make_folder(out)
        run = Run(out, record)
    doubt = held.enter_context(locked(out))
    for lacking in filter(None, (doubt, *preflight(out))):
        job.on_event(note(lacking))
    if not doubt:
        clean(out)
    if resume:
        compare(run, record, job)
    else:
        no_run_in(out)  # another process may have been faster
        record.write(out)
    if job.steps == 1:
        text = f"an epoch is a single step: {len(job.data.train)} training images in batches of {job.recipe.batch}"
        job.on_event(note(f"{text}; give a smaller --batch for more steps"))
    report_skipped(out, job)
    measure_images(run, job)
    return run


def decided(job: Job, record: RunRecord, init: Path | None) -> RunRecord:
    """The record of a new run with its execution and start; the network is built without memory for its values."""
    with on_meta():
        net = try_build(record)
        Learning(net, job.recipe.tuning)  # raises UserError for a part that the network does not have
        execution = decide(job.execution, net, job.recipe, job.device, job.world)
    if execution.resident is None:
        resident = may_reside(job.data.train, record.preprocess, job.recipe, job.device)
        execution = replace(execution, resident=resident)
    if execution.workers is None:
        crops = crops_of(job.recipe.augment, record.preprocess.input[1:], seed=job.seed, epoch=0)
        execution = replace(execution, workers=usual_workers(job.data.train, crops is not None))
    start = plan_start(init, net, job.recipe) if init else None
    return replace(record, execution=execution.to_json(), init=start)


def make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create the folder {out} ({error.strerror})", "give another --out") from error


def no_run_in(out: Path) -> None:
    if (out / FILE).exists():
        raise UserError(f"{out} already contains a run", "give --resume to continue it, or another --out")


def compare(run: Run, record: RunRecord, job: Job) -> None:
    """Raises UserError where a run to be resumed has other settings; another machine or execution is noted."""
    if found := differences(settings_of(run.record), settings_of(record)):
        more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UserError(
            f"the run in {run.folder} has different settings: {'; '.join(found[:SHOWN])}{more}",
            "resume it with its own settings, or give another --out",
        )
    was = Execution.from_json(run.record.execution)
    for change in (
        *differences(run.record.machine, record.machine, "machine"),
        *differences(was.to_json(), was.overridden_by(job.execution).to_json(), "execution"),
    ):
        job.on_event(note(f"resumed with changes, so the last bits may differ: {change}"))


def report_skipped(out: Path, job: Job) -> None:
    """Lists every skipped file in skipped.jsonl, and reports the first few as notes."""
    if skipped := job.data.skipped:
        lines = (json.dumps({"file": file, "reason": reason}) + "\n" for file, reason in skipped)
        write_text(out / SKIPPED, "".join(lines))
        for _, reason in skipped[:SKIPPED_SHOWN]:
            job.on_event(note(f"skipped: {reason}"))
        job.on_event(note(f"{len(skipped)} files skipped; the full list is in {out / SKIPPED}"))


def measure_images(run: Run, job: Job) -> None:
    """Measures the training images where the preprocessing needs it and it is not done yet; what is given is kept."""
    path, preprocess = run.folder / "preprocess.safetensors", run.preprocess
    if preprocess.whiten in MEASURED and not path.exists():
        if job.normalizer:
            tensors = job.normalizer.tensors
        else:
            job.on_event(note(f"computing statistics of the training images for whiten={preprocess.whiten}"))
            tensors = measure_normalizer(preprocess, job.data.train).tensors
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
    for own in ("machine", "execution", "init", "trial"):
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
