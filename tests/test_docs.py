"""The README is true because it runs: its commands, the output that it shows of the fast ones, and its Python."""

import pickle
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convatlas
from convatlas.catalogue import build
from convatlas.cli import VERBS, main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs/api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(console|python)\n(.*?)```", README, re.DOTALL)
SHOWN = ("list", "show", "choose", "chart", "diff", "draw", "claims", "recipes")  # whose printed output is compared


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README's commands name: a small CIFAR-10, a folder of photos, a digit, weights."""
    here = tmp_path_factory.mktemp("readme")
    rng = np.random.default_rng(0)
    cifar = here / "cifar-10-batches-py"
    cifar.mkdir()
    for batch in ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        record = {b"data": rng.integers(0, 255, (40, 3072), dtype=np.uint8), b"labels": [i % 10 for i in range(40)]}
        (cifar / batch).write_bytes(pickle.dumps(record, protocol=2))
    (cifar / "batches.meta").write_bytes(pickle.dumps({b"label_names": [b"c%d" % i for i in range(10)]}, protocol=2))
    for label in ("ants", "bees"):
        (here / "photos" / label).mkdir(parents=True)
        for i in range(10):
            pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(here / "photos" / label / f"{i}.jpg")
    Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(here / "digit.png")
    tensors = {f"module.net.{name}": tensor for name, tensor in build("resnet20").state_dict().items()}
    torch.save({"state_dict": tensors}, here / "resnet20.th")
    return here


def commands() -> list[tuple[str, list[str]]]:
    """Each `$ convatlas ...` of the README with the lines of output that are shown below it."""
    found: list[tuple[str, list[str]]] = []
    for kind, text in BLOCKS:
        for line in text.splitlines() if kind == "console" else []:
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return [(command, shown) for command, shown in found if command.startswith("convatlas ")]


def test_commands_and_python_run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("CONVATLAS_CACHE", str(workplace / "cache"))
    for command, shown in commands():
        words = shlex.split(command)[1:]
        assert main(words) == 0, f"{command}: {capsys.readouterr().err}"
        printed = {line.strip() for line in capsys.readouterr().out.splitlines()}
        if words[0] in SHOWN:
            assert shown, f"{command}: the README shows nothing of what it prints"
            missing = [line for line in shown if line.strip() not in printed and line.strip() != "..."]
            assert not missing, f"{command} does not print {missing}"
    for kind, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "README.md", "exec"), {})


def test_the_api_by_task_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its snippets one after the other; together they use every public function."""
    monkeypatch.chdir(workplace)
    names: dict[str, Any] = {}
    for text in re.findall(r"```python\n(.*?)```", API, re.DOTALL):
        exec(compile(text, "docs/api.md", "exec"), names)
    for name in convatlas.__all__:
        if not isinstance(getattr(convatlas, name), type) and name != "__version__":
            assert f"convatlas.{name}" in API, f"docs/api.md does not show {name}"


def test_links_lead_somewhere() -> None:
    for file in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        text = file.read_text(encoding="utf-8")
        for place, section in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
            target = file.parent / place if place else file
            assert target.exists(), f"{file.name} links to {place}"
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert section in {"", *(re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings)}


def test_every_verb_is_documented() -> None:
    for verb in VERBS:
        assert f"## {verb}\n" in README, f"README.md has no section on `convatlas {verb}`"


def test_the_two_commands_are_named() -> None:
    assert "$ make demo" in README
    assert "$ make test" in README
    ci = (Path(__file__).parent.parent / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in ci
