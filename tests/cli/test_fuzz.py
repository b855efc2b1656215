"""Whatever the arguments and the files, a verb does its work, or ends with status 2 and one line that says why.

Arguments and files are valid ones with random changes (fuzz.py), by a seed: a sample by default, 500 a kind as faults.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from safetensors.torch import save

from convatlas.cli import main, parser
from convatlas.limits import QUANTITIES
from convatlas.recipe import AUGMENTATIONS
from convatlas.recipe.components import KINDS
from convatlas.recipe.settings import settings_of, shown
from convatlas.recipes import find_recipe, recipes
from convatlas.runs import checkpoint
from convatlas.tables import index
from convatlas.train import fit
from tests.cli import fuzz

GOLDENS = Path(__file__).parents[1] / "goldens"
SECONDS = 60  # of the processor, for one case; the slowest, a large network traced, take 5
WAITING_S = 120  # for one case
BYTES = 6 << 30  # of address space, more than before
SAMPLE, WHOLE = 6, 500
STOPPED = 130  # training, before its first step
NET = "chain_n1_m1_k0"
TRAIN = ["train", NET, "--data", "digits", "--recipe", "digits", "--input", "1x8x8", "--out", "out", "--device", "cpu"]

PHOTOS = ["train", NET, "--data", "photos", "--recipe", "digits", "--out", "out", "--device", "cpu"]
INPUTS = ["3x224x224", "1x28x28", "3×32×32", "1x8x8", "3x8x8"]
LIMITS = [f"{quantity}{op}{value}" for quantity, op, value in zip(QUANTITIES, ["<=", ">=", "<", ">", "="] * 3, [
    "5M", "5_000_000", "100MB", "3.9G", "1e12", "10k", "18", "224px", "3", "2015", "75%", "92.2"])]  # fmt: skip
LAYERS = ["conv 64 3x3 pad 1", "conv 8 5 stride 2 dilation 2 nobias", "conv 64 3 groups 8 pad same", "pool 2", "fc 10",
          "pool 3x2 stride 2 pad 1 ceil", "fc 4096 nobias"]  # fmt: skip
RECIPE = find_recipe("digits")


def settings() -> list[str]:
    every = {"warmup": "linear", "warmup.epochs": 1, "ema.decay": 0.9, "lookahead.decay": 0.8, "milestones": "1,2"}
    every |= {"net.widths": "[2]", "net.widths.0": 2, "augment": "pad_crop:1,flip", "augment.0": "cutout:3"}
    for recipe in recipes().values():
        every |= {name: shown(value) for name, value in settings_of(recipe).items() if not name.startswith("net.")}
    made = [f"{name}={value}" for name, value in every.items()]
    made += [f"{part}={kind}" for part, kinds in KINDS.items() for kind in kinds]
    return made + [f"augment={name}" for name in AUGMENTATIONS]


SETTINGS = settings()


def one_of(rng: Random, *verbs: list[str]) -> list[str]:
    return list(rng.choice(verbs))


def of_settings(rng: Random) -> list[str]:
    return [*TRAIN, *(part for _ in range(rng.choice((1, 1, 2))) for part in ("--set", fuzz.text(rng, SETTINGS)))]


def of_input(rng: Random) -> list[str]:
    verbs = ["show", "lenet5"], ["memory", "lenet5"], ["show", "resnet20"], ["draw", "lenet5", "-o", "a.svg"], PHOTOS
    return [*one_of(rng, *verbs), "--input", fuzz.text(rng, INPUTS)]


def of_data(rng: Random) -> list[str]:
    given = fuzz.text(rng, ["digits", *(f"{kind}:{place}" for kind in SOURCES for place in SOURCES), *SOURCES])
    verbs = [*TRAIN[:2], *TRAIN[4:], "--data"], ["evaluate", "run", "--data"], ["doctor"], ["data", "scan"]
    verb = one_of(rng, *verbs, ["data", "pack", "--out", "packed", "--size", "8"], ["predict", "run"])
    return [*verb, given]


def of_names(rng: Random) -> list[str]:
    name = fuzz.text(rng, NAMES)
    verbs = ["show"], ["claims"], ["recipes"], ["list"], ["list", "--family"], ["list", "--sort"], ["diff", "lenet5"]
    more = ["doctor"], ["memory"], ["evaluate", "--data", "digits"], ["show", "lenet5", "--convention"]
    options = (
        [*TRAIN, "--device"],
        [*TRAIN[:4], "--recipe"],
        ["list", "--dataset"],
        [*TRAIN, "--bad"],
        [*TRAIN, "--init"],
    )
    verb = one_of(rng, *verbs, *more, *options, ["evaluate", "run", "--data", "digits", "--protocol"])
    return [*verb, name]


def of_limits(rng: Random) -> list[str]:
    return [
        rng.choice(["list", "choose"]),
        *(part for _ in range(rng.randint(1, 2)) for part in ("--limit", fuzz.text(rng, LIMITS))),
    ]


def of_amounts(rng: Random) -> list[str]:
    verbs = ["show", "lenet5", "--under"], ["memory", "lenet5", "--fit"], [*TRAIN, "--save-every"]
    return [*one_of(rng, *verbs), fuzz.text(rng, ["1GMAC", "569M", "8GB", "1.5GiB", "30m", "90s", "2h", "500ms"])]


def of_layers(rng: Random) -> list[str]:
    if rng.random() < 0.5:
        return ["layer", "stack", "--input", fuzz.text(rng, INPUTS), *(fuzz.text(rng, LAYERS) for _ in range(2))]
    kind = rng.choice(["conv", "pool", "transposed", "fc"])
    options = {
        "--input": ["3x8x8", "3x224x224"],
        "--kernel": ["3", "1x7"],
        "--stride": ["1", "2x2"],
        "--padding": ["1"],
    }
    options |= {"--dilation": ["1", "2"]} | ({} if kind == "pool" else {"--filters": ["8"], "--groups": ["1", "2"]})
    if kind == "fc":
        options = {"--input": ["3x8x8", "100"], "--units": ["10"]}
    changed = rng.choice(list(options))
    values = {name: fuzz.text(rng, valid) if name == changed else valid[0] for name, valid in options.items()}
    return ["layer", kind, *(f"{name}={value}" for name, value in values.items())]


def of_numbers(rng: Random) -> list[str]:
    verb, flag, valid = rng.choice(numeric())
    return [*verb, f"{flag}={fuzz.text(rng, [valid, *fuzz.NUMBERS])}"]


def of_run_json(rng: Random) -> list[str]:
    folder = rng.choice(["run", "stopped"])
    file = Path(folder, "run.json")
    file.write_bytes(fuzz.record(rng, json.loads(file.read_text())))
    return of_run(rng, folder)


def of_log(rng: Random) -> list[str]:
    file = Path("run", "log.jsonl")
    lines = file.read_bytes().splitlines()
    at = rng.randrange(len(lines))
    lines[at] = fuzz.record(rng, json.loads(lines[at]))
    file.write_bytes(b"\n".join(lines) + b"\n" * rng.randint(0, 1))
    shutil.copy(file, "stopped")
    return of_run(rng, rng.choice(["run", "stopped"]))


def of_checkpoint(rng: Random) -> list[str]:
    """Its state is changed, and its checksum is right: what is not damage must be refused all the same."""
    file = Path("stopped", checkpoint.LAST)
    tensors, state = checkpoint.load(file)
    text = fuzz.record(rng, state).decode("utf-8", "replace")
    file.write_bytes(save(tensors, {checkpoint.KEY: text, checkpoint.DIGEST: checkpoint.digest(text, tensors)}))
    return rng.choice([["doctor", str(file)], ["evaluate", str(file), "--data", "digits"], of_run(rng, "stopped")])


def of_run(rng: Random, folder: str) -> list[str]:
    data, resumed = ["--data", "digits"], ["--out", folder, "--resume"]
    verbs = ["doctor", folder], ["evaluate", folder, *data], ["evaluate", folder, "--which", "last", *data, "--json"]
    more = ["predict", folder, "photos/a/0.png"], ["show", folder], ["evaluate", folder, *data, "--confusion", "a.png"]
    trains = [*TRAIN, *resumed], [*TRAIN, *resumed], [*TRAIN, *resumed, "--json"], [*TRAIN, "--init", folder]
    return one_of(rng, *verbs, *more, *trains, ["diff", folder, "lenet5"])


def of_pack_json(rng: Random) -> list[str]:
    Path("pack/pack.json").write_bytes(fuzz.record(rng, PACK))
    train = [*TRAIN[:2], *TRAIN[4:], "--data", "pack"]
    return one_of(rng, ["doctor", "pack"], ["data", "scan", "pack"], train, ["evaluate", "run", "--data", "pack"])


Make = Callable[[Random], list[str]]
KINDS_OF = [
    *(of_settings, of_input, of_data, of_names, of_limits, of_amounts, of_layers, of_numbers),
    *(of_run_json, of_log, of_checkpoint, of_pack_json),
]
NAMES = [*list(index())[::9], "ResNet-50", "resnet*", "digits", "resnet_cifar", "imagenet", "cpu", "run", "top1"]
NAMES += ["fvcore", "net.py:make", "a.onnx", "skip", "quarantine:bad", "center", "params"]
SOURCES = ["photos", "list", "shards", "pack", "cifar10", "run", "net.py", "mnist:photos", "empty"]
PACK = json.loads((GOLDENS / "pack_1_raw" / "pack.json").read_text())


def numeric() -> list[tuple[list[str], str, str]]:
    """Every option that is a number: a verb with what it needs, the flag, a value that is right."""
    conv = ["--input", "3x8x8", "--kernel", "3", "--filters", "4"]
    needs = {
        "train": TRAIN,
        "lr": ["lr", *TRAIN[1:8], "--device", "cpu"],
        "evaluate": ["evaluate", "run", "--data", "digits"],
        "predict": ["predict", "run", "photos/a/0.png"],
        **{verb: [verb, "lenet5"] for verb in ("memory", "show", "reconcile")},
        "measure": ["measure", "--read", "results.jsonl"],
        "list": ["list", "lenet"],
        "choose": ["choose", "--limit", "params<=5M"],
        "transfer": ["transfer", "run", "--data", "photos", "--device", "cpu"],
        "draw": ["draw", "lenet5", "-o", "a.svg"],
        "diff": ["diff", "lenet5", "alexnet"],
        "data scan": ["data", "scan", "photos"],
        "data pack": ["data", "pack", "photos", "--out", "packed", "--size", "8"],
        "layer conv": ["layer", "conv", *conv],
        "layer transposed": ["layer", "transposed", *conv],
        "layer fc": ["layer", "fc", "--input", "3x8x8", "--units", "4"],
    }
    found = []

    def walk(of: argparse.ArgumentParser, name: str) -> None:
        for action in of._actions:
            if isinstance(action, argparse._SubParsersAction):
                for verb, below in action.choices.items():
                    walk(below, f"{name} {verb}".strip())
            elif action.type in (int, float) and name not in ("demo", "calibrate"):  # which take their time
                found.append((needs[name], action.option_strings[-1], "2" if action.type is int else "0.5"))

    walk(parser(), "")
    return [*found, (needs["evaluate"], "--top", "1,5"), (needs["show"], "--epoch", "50000")]


def stop(*_: object) -> float:
    """Ends a training before its first step, as Ctrl-C does."""
    raise KeyboardInterrupt


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    fuzz.write_files(folder / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "rate", stop)
        assert main([*TRAIN, "--out", str(folder / "whole" / "stopped")]) == STOPPED
    return folder


@pytest.fixture
def _bounded(files: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A folder of their own, a bound on memory, and trainings that end before their first step."""

    monkeypatch.setattr(fit, "rate", stop)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def afresh(folder: Path) -> None:
    shutil.rmtree(folder / "now", ignore_errors=True)
    shutil.copytree(folder / "whole", folder / "now")
    os.chdir(folder / "now")


def late(*_: object) -> None:
    raise AssertionError("it hangs")


def ends(args: list[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """What is wrong with how a call of the command line ends; None if nothing is."""
    before = {number: signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.alarm(WAITING_S)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        status = main(args)
    except SystemExit as end:  # --help and --version
        status = end.code
    except BaseException as error:
        return f"raises {error!r}"
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    err = capsys.readouterr().err
    if status == 2 and err.count("\n") == 1 and err.startswith("convatlas: ") and len(err) < 2500:
        return None
    trained = args[0] in ("train", "lr") and status == STOPPED
    found = args[0] in ("doctor", "data") and status == 1
    predicted = args[0] == "predict" and status in (1, 2) and "Traceback" not in err
    return None if status == 0 or trained or found or predicted else f"status {status}, {err[-2000:]!r}"


@pytest.mark.usefixtures("_bounded")
@pytest.mark.parametrize("part", [
    pytest.param(range(SAMPLE), id="sample"), pytest.param(range(WHOLE), id="whole", marks=pytest.mark.faults)
])  # fmt: skip
@pytest.mark.parametrize("make", KINDS_OF, ids=lambda make: make.__name__)
def test_one_line_or_none(
    make: Make, part: range, files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    wrong = []
    for i in part:
        afresh(files)
        args = make(Random(f"{make.__name__} {i}"))
        if problem := ends(args, capsys):
            wrong.append(f"{i}: {[a[:100] for a in args]}: {problem}")
    assert not wrong, f"{len(wrong)} of {len(part)}:\n" + "\n".join(wrong)
