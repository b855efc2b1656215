"""Whether a run folder, a checkpoint, a weights file or a data set is intact; what is wrong, and what to do.

Everything is read and nothing is changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .data.check.bad import find_bad
from .data.kinds import located
from .data.sources import load_data, pack
from .data.sources.folder import find as is_image_folder
from .data.sources.folder import laid_out
from .errors import UserError, first_line
from .files.lock import holder
from .layers import on_meta
from .runs import checkpoint
from .runs.checkpoint import averaged, is_checkpoint
from .runs.folder import Run, open_run
from .runs.log import lines_of
from .runs.record import FILE
from .train.divergence import first_not_finite
from .train.state import Position
from .weights.cache import at_hand, checkpoint_in, folder_of
from .weights.fetch import has_digest
from .weights.files import read_weights
from .weights.formats import SUFFIXES
from .weights.identify import rows_of
from .weights.published import Published, find_published, published, recognised

OK, NOTE, ERROR = "ok", "note", "error"
RESUMABLE = (checkpoint.LAST, checkpoint.PREVIOUS)  # in the order in which --resume tries them
CHECKPOINTS = (*RESUMABLE, checkpoint.BEST)

Progress = Callable[[Sequence[Any]], Iterable[Any]]
State = dict[str, Any]  # a checkpoint's record of training progress


@dataclass(frozen=True)
class Finding:
    level: str  # OK, NOTE (for information) or ERROR
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Diagnosis:
    kind: str  # "run folder", "checkpoint", "weights" or "data"
    path: str
    findings: tuple[Finding, ...]

    @property
    def intact(self) -> bool:
        return all(it.level != ERROR for it in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "path": self.path,
            "intact": self.intact,
            "findings": [asdict(it) for it in self.findings],
        }


def examine(path: str | Path, progress: Progress = iter) -> Diagnosis:
    """Reads everything in a run folder, weights (a file, or NETWORK@SOURCE) or data set (a folder, or KIND:DIR).

    Raises UserError for a path that does not exist, for a file of another kind, and for published weights that are not
    on this machine.
    """
    at = Path(path)
    if not at.exists() and "@" in str(path):
        return Diagnosis("weights", str(path), tuple(check_published(find_published(str(path)))))
    if not at.exists():
        kind, at = located(str(path))
        return Diagnosis("data", str(path), tuple(check_data(str(path), kind, at, progress)))
    if at.is_dir():
        if any((at / name).exists() for name in (FILE, *RESUMABLE, checkpoint.BEST)):
            return Diagnosis("run folder", str(path), tuple(check_run(at)))
        return Diagnosis("data", str(path), tuple(check_data(str(path), "", at, progress)))
    if at.suffix == ".safetensors" and is_checkpoint(at):
        return Diagnosis("checkpoint", str(path), (check_checkpoint(at)[0],))
    known = tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)
    if at.name.lower().endswith(known):
        return Diagnosis("weights", str(path), tuple(check_weights(at)))
    raise UserError(
        f"{path} cannot be checked",
        f"give a run folder, a checkpoint, weights ({', '.join(known)}) or a data folder",
    )


def failure(error: UserError) -> Finding:
    return Finding(ERROR, error.what, error.remedy)


# run folders


def check_run(folder: Path) -> Iterator[Finding]:
    """Checks run.json, each checkpoint against it, what --resume would do, the log, and what killed processes left."""
    try:
        run = open_run(folder)
        with on_meta():
            expected = run.record.build().state_dict()
    except Exception as error:  # a hand-edited record makes constructors raise anything
        if isinstance(error, UserError):
            yield failure(error)
        else:
            yield Finding(
                ERROR, f"{folder}/{FILE} does not describe a network that can be built ({error!r})", "restore it"
            )
        yield from (check_checkpoint(folder / name)[0] for name in CHECKPOINTS if (folder / name).exists())
        return
    size = "x".join(map(str, run.preprocess.input))
    yield Finding(OK, f"{FILE}: {run.network} on {run.record.data.get('name')}, {size}, recipe {run.recipe.name}")
    states: dict[str, State] = {}  # of the checkpoints that are intact
    for name in CHECKPOINTS:
        if (folder / name).exists():
            finding, state = check_checkpoint(folder / name, run, expected)
            yield finding
            if state is not None:
                states[name] = state
    yield from check_resume(run, states)
    yield from check_log(run, states)
    yield from check_leftovers(folder)


def check_checkpoint(
    path: Path, run: Run | None = None, expected: dict[str, Tensor] | None = None
) -> tuple[Finding, State | None]:
    """The finding, and the state if the checkpoint is intact. `expected` is the state dict of the run's network."""
    try:
        tensors, about = checkpoint.load(path)
    except UserError as error:
        return failure(error), None
    state = about.get("state", {})
    try:
        if "state" in about:
            Position.from_json(state)
    except (KeyError, TypeError) as error:
        what = f"{path.name} does not say how far its training has come ({first_line(error)})"
        return Finding(ERROR, what, "use another checkpoint"), None
    if name := first_not_finite(tensors):
        return Finding(ERROR, f"{path.name}: {name} is not finite", "use another checkpoint; training diverged"), None
    if run is not None and expected is not None:
        if any(about.get(key) != value for key, value in run.record.identity.items()):
            return Finding(
                ERROR, f"{path.name} belongs to another run ({about.get('network')})", "restore this run's checkpoint"
            ), None
        weights = averaged(tensors)
        for name, tensor in expected.items():
            if name not in weights or weights[name].shape != tensor.shape:
                wrong = "missing key" if name not in weights else "size mismatch"
                what = f"{path.name} does not fit {run.network}: {wrong} {name}"
                return Finding(ERROR, what, "use another checkpoint"), None
    when = "" if path.name == checkpoint.BEST else f" after epoch {state.get('epoch')}"
    when += f" and {state['step']} steps" if when and state.get("step") else ""
    return Finding(OK, f"{path.name}: {about.get('network')}{when}, {len(tensors)} tensors, checksum matches"), state


def newest(states: dict[str, State]) -> str | None:
    """The checkpoint that --resume would take."""
    return next((name for name in RESUMABLE if name in states), None)


def check_resume(run: Run, states: dict[str, State]) -> Iterator[Finding]:
    """How far training got, and whether it can be resumed."""
    name = newest(states)
    if name is None:
        if any((run.folder / name).exists() for name in RESUMABLE):
            yield Finding(
                ERROR, "no checkpoint to resume from is intact", "restore a copy, or delete them and start over"
            )
        else:
            yield Finding(NOTE, "there is no checkpoint to resume from yet", "--resume starts from the first step")
        return
    if name != checkpoint.LAST:
        yield Finding(ERROR, f"{checkpoint.LAST} is missing or damaged", f"--resume continues from {name}")
    done, epochs = int(states[name].get("epoch", 0)), run.recipe.epochs
    if done < epochs:
        yield Finding(NOTE, f"{done} of {epochs} epochs are done", "continue with --resume")
    else:
        yield Finding(OK, f"all {epochs} epochs are done")
    best = states[name].get("best_epoch")
    if best and checkpoint.BEST not in states:
        yield Finding(
            ERROR,
            f"{checkpoint.BEST} (epoch {best}) is missing or damaged",
            "use --which last, or resume: a better epoch replaces it",
        )


def check_log(run: Run, states: dict[str, State]) -> Iterator[Finding]:
    path = run.folder / "log.jsonl"
    every, lines = lines_of(path), run.log()
    if None in every[:-1]:
        damaged = f"log.jsonl is damaged at line {every.index(None) + 1} of {len(every)}"
        yield Finding(ERROR, damaged, "restore it; the weights are not affected")
    elif None in every:
        yield Finding(NOTE, "the last line of log.jsonl is cut short", "--resume removes it")
    if twice := doubled(lines):
        yield Finding(
            ERROR,
            f"log.jsonl has {twice} more than once: two processes have trained in this folder at the same time",
            "train again in a folder of its own",
        )
    name, logged = newest(states), len(run.epochs())
    done = int(states[name].get("epoch", 0)) if name else 0
    if logged < done:
        yield Finding(
            ERROR, f"log.jsonl has {logged} epochs, but {done} are done", "restore it; the weights are not affected"
        )
    elif path.exists():
        yield Finding(OK, f"log.jsonl: {len(lines)} lines; epochs logged: {logged}")
    if bad := next((line for line in lines if line["kind"] == "diverged"), None):
        named = next((names for key in ("files", "images") if isinstance(names := bad.get(key), list)), [])
        images = ", ".join(map(str, named[:8]))
        yield Finding(
            NOTE,
            f"training diverged at step {bad['step']}: {bad.get('what')} ({images})",
            "inspect these images, or lower the learning rate",
        )


def doubled(lines: list[dict[str, Any]]) -> str:
    """The first epoch, or step, that is logged more than once; empty if there is none."""
    for kind in ("epoch", "step"):
        counts = Counter(line[kind] for line in lines if line["kind"] == kind)
        for number, times in counts.items():
            if times > 1:
                return f"{kind} {number}"
    return ""


def check_leftovers(folder: Path) -> Iterator[Finding]:
    """Locks, half-written files, and damaged checkpoints that were set aside."""
    if process := holder(folder):
        who = f"process {process}" if process > 0 else "another process"
        yield Finding(NOTE, f"{who} is training in this folder, so its files may be changing")
        return
    if left := sorted(f.name for f in folder.glob(".*.new")):
        yield Finding(NOTE, f"{', '.join(left)}: half-written by a killed process", "--resume removes it")
    if (folder / ".lock").exists():
        yield Finding(NOTE, "a killed process left a stale lock", "--resume takes it over")
    for broken in sorted(folder.glob(f"*{checkpoint.BROKEN}*")):
        yield Finding(NOTE, f"{broken.name} is a damaged checkpoint that was set aside", "delete it if not needed")


# weights and data


def check_weights(path: Path) -> Iterator[Finding]:
    """Whether all of the file is read and finite, whose it is by its digest, and which networks it fits."""
    try:
        weights = read_weights(path)
    except UserError as error:
        yield failure(error)
        return
    if name := first_not_finite(weights.tensors):
        yield Finding(ERROR, f"{name} is not finite", "download it again, or use another file")
        return
    values = sum(t.numel() for t in weights.tensors.values())
    yield Finding(OK, f"{path.name}: {len(weights.tensors)} tensors, {values:,} values, nothing else")
    row = recognised(path)
    if row:
        yield Finding(OK, f"its digest is that of {row.name}")
    elif twin := next((it for it in published().values() if it.file == path.name and it.digest), None):
        yield Finding(ERROR, f"it is called as {twin.name} is, and has another digest", "download it again")
    else:
        yield Finding(NOTE, "no published weights have its digest")
    try:
        fitting = [it.variant.name for it in rows_of(weights, path.name, [row.network] if row else None)]
    except UserError as misfit:
        yield Finding(NOTE, misfit.what, misfit.remedy)
        return
    several = len(fitting) > 1
    yield Finding(
        NOTE if several else OK,
        f"every tensor has its place in {' and in '.join(fitting)}",
        "say which with --network" if several else "",
    )


def check_published(row: Published) -> Iterator[Finding]:
    """The file of published weights that is on this machine. Raises UserError if there is none."""
    file = at_hand(row)
    if file is None:
        raise UserError(f"{row.name} is not on this machine", f"fetch it with `convatlas weights get {row.name}`")
    folder = folder_of(file)
    if row.digest and not has_digest(file, row.digest):
        yield Finding(ERROR, f"{file} does not have the digest {row.digest}", "delete it; it is then fetched again")
    elif folder is None:
        yield from check_weights(file)
    elif folder.is_dir():
        yield from check_weights(checkpoint_in(folder))
    else:
        yield Finding(NOTE, f"{file} is an archive that was not unpacked yet", "evaluate it, or load it")


def check_data(source: str, kind: str, path: Path, progress: Progress) -> Iterator[Finding]:
    """Decodes every image of a folder, verifies every checksum of a pack, and reads every file of other data sets."""
    packed = pack.find(path) if kind in ("", "pack") else None
    try:
        if packed and (bad_shards := pack.verify(packed, progress)):
            for name in bad_shards:
                yield Finding(ERROR, f"{name} is missing or damaged", "pack the set again, or restore the file")
        elif kind in ("", "folder") and is_image_folder(path):
            yield from check_images(path, progress)
        else:
            data = load_data(source)
            counts = ", ".join(f"{len(split):,} {split.name}" for split in data.splits)
            yield Finding(OK, f"{data.name}: {counts} images")
            yield from (Finding(NOTE, text) for text in data.notes)
    except UserError as error:
        yield failure(error)


def check_images(folder: Path, progress: Progress) -> Iterator[Finding]:
    whole = laid_out(folder)
    files = [file for part in whole.parts.values() for files in part.values() for file in files]
    bad = find_bad(files, decode=True, progress=progress)
    for it in bad:
        yield Finding(ERROR, it.reason, it.remedy or "delete it")
    good = len(files) - len(bad)
    yield Finding(NOTE if bad else OK, f"{good:,} of {len(files):,} files are intact images")
    yield from (Finding(NOTE, text) for text in whole.notes)
