"""The public face: names, verbs and flags that others rely on, dependencies, and a source tree that runs as it is."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import convatlas

ROOT = Path(convatlas.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTION = {"PIL": "pillow", "sklearn": "scikit-learn", "cv2": "opencv-python-headless"}  # by what is imported
EXTRA = {"simplejpeg": "fast", "opencv-python-headless": "fast", "pyarrow": "hub", "igraph": "draw"}
UNIMPORTED = {"tensorboard"}  # torch.utils.tensorboard imports it

UNINSTALLED = """
import importlib.metadata as metadata
found = metadata.distribution
def distribution(name):
    if name == "convatlas":
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.distribution = distribution
from convatlas.cli import main
raise SystemExit(main({args!r}))
"""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", text.strip())[0].lower() for text in requirements}


def imported() -> set[str]:
    """The distributions that the package imports, those that it can do without included."""
    found = set()
    for file in ROOT.joinpath("convatlas").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                found.add(node.module.partition(".")[0])
    return {DISTRIBUTION.get(name, name) for name in found - sys.stdlib_module_names}


def test_dependencies_are_what_is_imported() -> None:
    extras = {name for texts in PROJECT["optional-dependencies"].values() for name in names(texts)}
    assert names(PROJECT["dependencies"]) == {name for name in imported() if name not in EXTRA}
    for name, extra in EXTRA.items():
        assert name in names(PROJECT["optional-dependencies"][extra])
    assert extras >= UNIMPORTED


def test_everything_that_make_installs_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower() for line in lines if "==" in line}
    used = names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["dev"]) - {"convatlas"}
    used |= {n for extra in ("draw", "fast", "hub", "log") for n in names(PROJECT["optional-dependencies"][extra])}
    assert used <= pinned


def test_a_source_tree_runs_without_being_installed(tmp_path: Path) -> None:
    args = ["train", "chain_n1_m1_k0", "--data", "digits", "--recipe", "digits", "--input", "1x8x8", "--epochs", "1"]
    args += ["--set", "net.widths=[2]", "--set", "batch=512"]
    done = subprocess.run(
        [sys.executable, "-c", UNINSTALLED.format(args=args)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
