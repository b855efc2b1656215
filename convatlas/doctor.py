"""Whether a run folder, a checkpoint, a file of weights or a set of images is whole; what is wrong, and what to do.

Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from .data.check.bad import find_bad
from .data.sources import load_data, pack
from .data.sources.folder import classes_of
from .data.sources.folder import find as is_images
from .data.sources.labels import PARTS
from .errors import UserError
from .files.lock import holder
from .layers import on_meta
from .runs import checkpoint
from .runs.checkpoint import averaged
from .runs.folder import Run, open_run
from .runs.log import lines_of
from .train.divergence import first_not_finite
from .weights import read_weights
from .weights.files import PICKLES

FINE, NOTE, WRONG = "fine", "note", "wrong"


@dataclass(frozen=True)
class Finding:
    level: str  # FINE, NOTE (nothing to mend, but good to know) or WRONG
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    kind: str  # "run folder", "checkpoint", "weights" or "data"
    path: str
    findings: tuple[Finding, ...]

    @property
    def whole(self) -> bool:
        return all(it.level != WRONG for it in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "path": self.path,
            "whole": self.whole,
            "findings": [asdict(it) for it in self.findings],
        }


def examine(path: str | Path, progress: Callable[[Sequence[Any]], Iterable[Any]] = iter) -> Diagnosis:
    """Looks at all of it. Raises UserError for what is none of the things that can be examined."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"there is no {path}", "give a run folder, a checkpoint, a file of weights or a folder of data")
    if path.is_dir():
        if (path / "run.json").exists() or any((path / name).exists() for name in (checkpoint.LAST, checkpoint.BEST)):
            return Diagnosis("run folder", str(path), tuple(of_run(path)))
        return Diagnosis("data", str(path), tuple(of_data(path, progress)))
    if path.suffix == ".safetensors" and is_ours(path):
        return Diagnosis("checkpoint", str(path), tuple(of_checkpoint(path)))
    if path.suffix in (".safetensors", *PICKLES):
        return Diagnosis("weights", str(path), tuple(of_weights(path)))
    raise UserError(
        f"{path} is nothing that can be examined",
        f"give a run folder, a checkpoint, weights (.safetensors, {', '.join(PICKLES)}) or a folder of data",
    )


def fault(error: UserError) -> Finding:
    """A refusal as a finding."""
    return Finding(WRONG, error.what, error.remedy)


def is_ours(path: Path) -> bool:
    """Whether a safetensors file says that it is a checkpoint; one too damaged to say counts as weights."""
    try:
        with safe_open(path, framework="pt") as file:
            return checkpoint.KEY in (file.metadata() or {})
    except Exception:  # what is damaged makes the reader raise anything
        return False


def of_run(folder: Path) -> Iterator[Finding]:
    try:
        run = open_run(folder)
        preprocess, recipe = run.preprocess, run.recipe
        with on_meta():
            expected = run.record.build().state_dict()
    except UserError as error:
        yield fault(error)
        for name in (checkpoint.LAST, checkpoint.PREVIOUS, checkpoint.BEST):
            if (folder / name).exists():
                yield from of_checkpoint(folder / name)
        return
    except Exception as error:  # a record that was changed by hand makes constructors raise anything
        yield Finding(
            WRONG, f"{folder}/run.json does not describe a network that can be built ({error!r})", "restore it"
        )
        return
    size = "x".join(map(str, preprocess.input))
    yield Finding(FINE, f"run.json: {run.network} on {run.record.data.get('name')}, {size}, recipe {recipe.name}")
    whole: dict[str, dict[str, Any]] = {}
    for name in (checkpoint.LAST, checkpoint.PREVIOUS, checkpoint.BEST):
        if (folder / name).exists():
            found = list(of_checkpoint(folder / name, run, expected))
            if all(it.level != WRONG for it in found):
                whole[name] = checkpoint.load(folder / name)[1].get("state", {})
            yield from found
    yield from of_standing(run, whole)
    yield from of_log(run, whole)
    yield from of_litter(folder)


def of_checkpoint(path: Path, run: Run | None = None, expected: dict[str, Tensor] | None = None) -> Iterator[Finding]:
    try:
        tensors, about = checkpoint.load(path)
    except UserError as error:
        yield fault(error)
        return
    state = about.get("state", {})
    where = (
        f"after {state.get('epoch')} epochs and {state.get('step')} steps" if path.name != checkpoint.BEST else "best"
    )
    if name := first_not_finite(tensors):
        yield Finding(WRONG, f"{path.name}: {name} is not finite", "use another checkpoint; the training diverged")
    if run and expected is not None:
        if any(about.get(key) != value for key, value in run.record.identity.items()):
            yield Finding(WRONG, f"{path.name} is of another run ({about.get('network')})", "put its own back")
            return
        weights = averaged(tensors)
        if wrong := [name for name, t in expected.items() if name not in weights or weights[name].shape != t.shape]:
            yield Finding(WRONG, f"{path.name} lacks {wrong[0]} of {run.network}", "use another checkpoint")
            return
    yield Finding(FINE, f"{path.name}: {about.get('network')}, {where}, {len(tensors)} tensors, checksum right")


def of_standing(run: Run, whole: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    """How far the training is, and whether it can go on."""
    there = [name for name in (checkpoint.LAST, checkpoint.PREVIOUS) if name in whole]
    epochs = run.recipe.epochs
    if not there:
        exist = [name for name in (checkpoint.LAST, checkpoint.PREVIOUS) if (run.folder / name).exists()]
        if exist:
            yield Finding(
                WRONG, "no checkpoint to go on from is whole", "put back a copy, or take them away and begin anew"
            )
        else:
            yield Finding(NOTE, "there is no checkpoint to go on from yet", "--resume begins anew")
        return
    done = int(whole[there[0]].get("epoch", 0))
    if there[0] != checkpoint.LAST:
        yield Finding(WRONG, f"{checkpoint.LAST} is missing or damaged", f"--resume goes on from {there[0]} by itself")
    if done < epochs:
        yield Finding(NOTE, f"{done} of {epochs} epochs are done", "go on with --resume")
    else:
        yield Finding(FINE, f"all {epochs} epochs are done")
    best = whole[there[0]].get("best_epoch")
    if best and checkpoint.BEST not in whole:
        yield Finding(
            WRONG,
            f"{checkpoint.BEST} (of epoch {best}) is missing or damaged",
            "evaluate --which last, or go on: the best of the epochs to come takes its place",
        )


def of_log(run: Run, whole: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    path = run.folder / "log.jsonl"
    lines = run.log()
    every = lines_of(path)
    if None in every[:-1]:
        at = f"log.jsonl is damaged at line {every.index(None) + 1} of {len(every)}"
        yield Finding(WRONG, at, "restore it; weights are not concerned")
    elif None in every:
        yield Finding(NOTE, "the last line of log.jsonl was cut short", "--resume drops it")
    done = next(
        (int(whole[name].get("epoch", 0)) for name in (checkpoint.LAST, checkpoint.PREVIOUS) if name in whole), 0
    )
    told = len([line for line in lines if line["kind"] == "epoch"])
    if told < done:
        yield Finding(
            WRONG, f"log.jsonl tells of {told} epochs, {done} are done", "restore it; weights are not concerned"
        )
    elif path.exists():
        yield Finding(FINE, f"log.jsonl: {len(lines)} lines, {told} epochs")
    if bad := next((line for line in lines if line["kind"] == "diverged"), None):
        images = ", ".join(map(str, (bad.get("files") or bad.get("images") or [])[:8]))
        yield Finding(
            NOTE,
            f"it diverged at step {bad['step']}: {bad.get('what')} ({images})",
            "look at these images; try a smaller rate",
        )


def of_litter(folder: Path) -> Iterator[Finding]:
    if process := holder(folder):
        who = f"process {process}" if process > 0 else "another process"
        yield Finding(NOTE, f"{who} is training in it, so files may change under way")
        return
    if left := sorted(f.name for f in folder.glob(".*.new")):
        yield Finding(NOTE, f"{', '.join(left)}: left half written by a kill", "--resume clears them away")
    if (folder / ".lock").exists():
        yield Finding(NOTE, "the lock of a process that was killed; nobody holds it", "nothing: --resume takes it over")
    for broken in sorted(folder.glob(f"*{checkpoint.BROKEN}")):
        yield Finding(
            NOTE, f"{broken.name} is a damaged checkpoint that was set aside", "delete it when it is of no use"
        )


def of_weights(path: Path) -> Iterator[Finding]:
    try:
        weights = read_weights(path)
    except UserError as error:
        yield fault(error)
        return
    values = sum(t.numel() for t in weights.tensors.values())
    if name := first_not_finite(weights.tensors):
        yield Finding(WRONG, f"{name} is not finite", "fetch it again, or use another")
    yield Finding(FINE, f"{path.name}: {len(weights.tensors)} tensors of {values:,} values in all, nothing else")


def of_data(path: Path, progress: Callable[[Sequence[Any]], Iterable[Any]]) -> Iterator[Finding]:
    """Every file of an image folder is decoded; a pack's checksums are compared; of other sets every file is read."""
    if (at := pack.find(path)) is not None:
        try:
            bad_shards = pack.verify(at, progress)
        except UserError as error:
            yield fault(error)
            return
        for name in bad_shards:
            yield Finding(WRONG, f"{name} is missing, or not what was written", "pack the set again, or restore it")
        if bad_shards:
            return
    if is_images(path):
        try:
            parts = [path / name for name in PARTS if (path / name).is_dir()] or [path]
            files = [file for part in parts for files in classes_of(part).values() for file in files]
        except UserError as error:
            yield fault(error)
            return
        bad = find_bad(files, decode=True, progress=progress)
        for it in bad:
            yield Finding(WRONG, it.reason, it.remedy or "take it away")
        yield Finding(FINE if not bad else NOTE, f"{len(files) - len(bad):,} of {len(files):,} files are whole images")
        return
    try:
        data = load_data(str(path))
    except UserError as error:
        yield fault(error)
        return
    counts = ", ".join(f"{len(split):,} {split.name}" for split in data.splits)
    yield Finding(FINE, f"{data.name}: {counts} images")
