"""Readers of files that were changed anyhow: a right-shaped answer or one clear error, no other exception, no hang."""

from __future__ import annotations

import copy
import gzip
import json
import pickle
import random
import shutil
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from convatlas.data.sources import load_data
from convatlas.data.sources.mnist import read_idx
from convatlas.data.sources.pickled import read_pickle
from convatlas.data.types import Data
from convatlas.doctor import examine
from convatlas.errors import UserError
from convatlas.preprocess import Preprocess
from convatlas.recipe import Recipe, with_settings
from convatlas.recipe.settings import settings_of
from convatlas.runs import checkpoint
from convatlas.runs.curves import draw_curves
from convatlas.runs.folder import Run, open_run
from convatlas.runs.log import Log, read_log
from tests.damages import edits, mangled, read_or_refused

AT_8 = Preprocess((3, 8, 8), (0.0,) * 3, (1.0,) * 3)
GOLDEN = Path(__file__).parents[1] / "goldens" / "run"
EXAMPLES = settings(
    max_examples=150,
    deadline=5000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def right(data: Data) -> None:
    """What every set must be, whatever it was read from."""
    for split in (data.train, data.test):
        assert len(split) == len(split.labels) > 0
        assert split.labels.min() >= 0
        assert split.labels.max() < len(split.classes)
        assert split.classes == data.classes


# sets of images

CIFAR = {
    name: pickle.dumps({b"data": np.zeros((3, 3072), np.uint8), b"labels": [1, 2, 3]}, protocol=2)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
} | {"batches.meta": pickle.dumps({b"label_names": [b"c%d" % i for i in range(10)]}, protocol=2)}
BINARY = {
    name: b"".join(bytes([label]) + bytes(3072) for label in (1, 2, 3))
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
} | {"batches.meta.txt": b"\n".join(b"c%d" % i for i in range(10))}


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


MNIST = {
    f"{part}-{what}": idx(values)
    for part in ("train", "t10k")
    for what, values in (
        ("images-idx3-ubyte", np.zeros((4, 5, 6), np.uint8)),
        ("labels-idx1-ubyte", np.arange(4, dtype=np.uint8)),
    )
}
ZIPPED = {f"{name}.gz": gzip.compress(content) for name, content in MNIST.items()}
SETS = {"cifar10": CIFAR, "cifar10, binary": BINARY, "mnist": MNIST, "mnist, gzipped": ZIPPED}


def lay_out(folder: Path, files: dict[str, bytes]) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", SETS)
def test_the_sets_are_whole_to_begin_with(tmp_path: Path, kind: str) -> None:
    right(load_data(f"{kind.partition(',')[0]}:{lay_out(tmp_path / 'x', SETS[kind])}"))


@pytest.mark.parametrize("kind", SETS)
@given(which=st.integers(0, 99), changes=edits)
@EXAMPLES
def test_sets_with_a_mangled_file(tmp_path: Path, kind: str, which: int, changes: list) -> None:
    files = dict(SETS[kind])
    name = sorted(files)[which % len(files)]
    files[name] = mangled(files[name], changes)
    source = f"{kind.partition(',')[0]}:{lay_out(tmp_path / 'x', files)}"
    if data := read_or_refused(lambda: load_data(source)):
        right(data)


@given(content=st.binary(max_size=200))
@EXAMPLES
def test_anything_as_a_pickle(content: bytes) -> None:
    record = read_or_refused(lambda: read_pickle(content + b".", "it"))
    assert record is None or isinstance(record, dict)


@given(content=st.binary(max_size=200), head=st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x0d\x02\0\0\0\1"]))
@EXAMPLES
def test_anything_as_idx(tmp_path: Path, content: bytes, head: bytes) -> None:
    for name in ("x", "x.gz"):
        (tmp_path / name).write_bytes(head + content)
        array = read_or_refused(lambda: read_idx(tmp_path / name))  # noqa: B023 (called at once)
        assert array is None or isinstance(array, np.ndarray)


names = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))


@given(tree=st.dictionaries(names, st.dictionaries(names, st.integers(0, 3), max_size=4), max_size=4))
@EXAMPLES
def test_folders_of_any_names(tmp_path: Path, tree: dict[str, dict[str, int]]) -> None:
    root = tmp_path / "set"
    shutil.rmtree(root, ignore_errors=True)
    image = Image.new("RGB", (4, 4))
    for folder, files in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, kind in files.items():
            at = root / folder / name
            if kind == 0:
                at.mkdir(exist_ok=True)
            elif kind == 1:
                at.write_bytes(b"no image")
            else:
                image.save(at, "PNG")
    root.mkdir(exist_ok=True)
    for bad in ("fail", "skip"):
        message = None
        try:
            right(load_data(f"folder:{root}", bad=bad))
        except UserError as error:
            message = str(error)
        assert message is None or message


# plain data


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 40)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from([10**30, "resnet20", "sgd", "flip", "step"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place within nested dicts and lists."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield (*at, key)
        yield from places(below, (*at, key))


def changed(record: Any, where: int, new: Any, delete: bool) -> Any:
    """The record with one place of it replaced, or taken out."""
    record = copy.deepcopy(record)
    *path, key = list(places(record))[where % len(list(places(record)))]
    holder = record
    for step in path:
        holder = holder[step]
    if delete:
        del holder[key]
    else:
        holder[key] = new
    return record


RUN = json.loads((GOLDEN / "run.json").read_text())


@given(where=st.integers(0, 10_000), new=values, delete=st.booleans())
@EXAMPLES
def test_recipes_with_a_change(where: int, new: Any, delete: bool) -> None:
    record = changed(RUN["recipe"], where, new, delete)
    recipe = read_or_refused(lambda: Recipe.from_json(record))
    assert recipe is None or Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


RECIPE = Recipe.from_json(RUN["recipe"])


@given(
    text=st.text(max_size=30),
    field=st.sampled_from(["", "warmup.epochs=", *(f"{name}=" for name in settings_of(RECIPE))]),
)
@EXAMPLES
def test_settings_of_any_text(text: str, field: str) -> None:
    message = None
    try:
        assert isinstance(with_settings(RECIPE, [field + text]), Recipe)
    except UserError as error:
        message = str(error)
    assert message is None or message


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path_factory.mktemp("mangled") / "run"))


def all_of(folder: Path) -> Run:
    run = open_run(folder)
    assert run.recipe.epochs > 0
    assert run.preprocess.input
    assert run.classes
    run.load("last")
    return run


@given(where=st.integers(0, 10_000), new=values, delete=st.booleans())
@EXAMPLES
def test_run_json_with_a_change(run_folder: Path, where: int, new: Any, delete: bool) -> None:
    record = changed(RUN, where, new, delete)
    assume(not any(isinstance(v, int) and v > 1000 for v in (record.get("options") or {}).values()) if delete else True)
    (run_folder / "run.json").write_text(json.dumps(record))
    read_or_refused(lambda: all_of(run_folder))
    examine(run_folder)


@given(changes=edits)
@EXAMPLES
def test_run_json_mangled(run_folder: Path, changes: list) -> None:
    (run_folder / "run.json").write_bytes(mangled((GOLDEN / "run.json").read_bytes(), changes))
    read_or_refused(lambda: all_of(run_folder))


@given(changes=edits, more=st.binary(max_size=40))
@EXAMPLES
def test_log_jsonl_mangled(tmp_path: Path, changes: list, more: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(mangled((GOLDEN / "log.jsonl").read_bytes(), changes) + more)
    lines = read_log(path)
    Log(path, 1, 3)
    assert len(read_log(path)) <= len(lines)
    assert all(line["step"] <= 3 for line in read_log(path))


@pytest.mark.parametrize("format", ["jpeg", "raw"])
@pytest.mark.parametrize("name", ["pack.json", "train-00000.npz", "train-00000"])
@given(changes=edits)
@settings(EXAMPLES, max_examples=60)
def test_packs_mangled(tmp_path: Path, format: str, name: str, changes: list) -> None:
    folder = Path(shutil.copytree(GOLDEN.parent / f"pack_1_{format}", tmp_path / "pack", dirs_exist_ok=True))
    path = next(folder.glob(f"{name}*" if "." in name else f"{name}.[tr]*"))
    path.write_bytes(mangled(path.read_bytes(), changes))
    data = read_or_refused(lambda: load_data(f"pack:{folder}"))
    for split in data.splits if data else ():
        for i in range(len(split)):
            pixels = read_or_refused(lambda: split.fetch([i], AT_8))  # noqa: B023 (called at once)
            assert pixels is None or pixels.shape == (1, 3, 8, 8)
    read_or_refused(lambda: examine(folder))


@pytest.mark.parametrize("format", ["jpeg", "raw"])
@given(where=st.integers(0, 10_000), new=values, delete=st.booleans())
@settings(EXAMPLES, max_examples=80)
def test_pack_json_with_a_change(tmp_path: Path, format: str, where: int, new: Any, delete: bool) -> None:
    folder = Path(shutil.copytree(GOLDEN.parent / f"pack_1_{format}", tmp_path / "pack", dirs_exist_ok=True))
    record = json.loads((folder / "pack.json").read_text())
    (folder / "pack.json").write_text(json.dumps(changed(record, where, new, delete)))
    data = read_or_refused(lambda: load_data(f"pack:{folder}"))
    for split in data.splits if data else ():
        read_or_refused(lambda: split.fetch(range(len(split)), AT_8))  # noqa: B023 (called at once)
    read_or_refused(lambda: examine(folder))


@given(line=values)
@EXAMPLES
def test_any_json_as_a_line_of_the_log(tmp_path: Path, line: Any) -> None:
    (tmp_path / "log.jsonl").write_text(
        json.dumps(line) + "\n" + json.dumps({"kind": "epoch", "step": 1, "epoch": line})
    )
    read_log(tmp_path / "log.jsonl")
    Log(tmp_path / "log.jsonl", 1, 3)


def test_a_deep_line_and_a_deep_run_are_refused(tmp_path: Path, run_folder: Path) -> None:
    deep = "[" * 100_000
    (tmp_path / "log.jsonl").write_text(deep)
    assert read_log(tmp_path / "log.jsonl") == []
    (run_folder / "run.json").write_text(deep)
    with pytest.raises(UserError, match="was not written by `convatlas train`"):
        open_run(run_folder)


@given(where=st.integers(0, 10_000), new=values, delete=st.booleans())
@EXAMPLES
def test_checkpoints_that_say_other_things(tmp_path: Path, where: int, new: Any, delete: bool) -> None:
    """Written whole, with what is not JSON of ours, or not as we write it."""
    with safe_open(GOLDEN / "last.safetensors", framework="pt") as file:
        state = json.loads(file.metadata()["convatlas"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path = tmp_path / "last.safetensors"
    save_file(tensors, path, metadata={"convatlas": json.dumps(changed(state, where, new, delete))})
    assert read_or_refused(lambda: checkpoint.load(path)) is None  # for its checksum is missing
    examine(path)


@given(changes=edits)
@EXAMPLES
def test_checkpoints_mangled(tmp_path: Path, changes: list) -> None:
    path = tmp_path / "last.safetensors"
    whole = (GOLDEN / "last.safetensors").read_bytes()
    content = mangled(whole, changes)
    path.write_bytes(content)
    found = read_or_refused(lambda: checkpoint.load(path))
    assert found is None or found[1] == checkpoint.load(GOLDEN / "last.safetensors")[1]
    examine(path)


def test_curves_of_a_log_that_was_read_can_be_drawn(tmp_path: Path) -> None:
    rng, record = random.Random(0), open_run(GOLDEN).record
    whole = (GOLDEN / "log.jsonl").read_bytes()
    for _ in range(20):
        i = rng.randrange(len(whole))
        (tmp_path / "log.jsonl").write_bytes(whole[:i] + bytes([rng.randrange(256)]) + whole[i + 1 :])
        draw_curves(Run(tmp_path, record), tmp_path / "curves.png")
