"""A transfer imports what it needs, and no more: imports are most of the time of one from the cache."""

import subprocess
import sys
from pathlib import Path

from convatlas.cli import main
from convatlas.weights.convert import convert
from tests.tuning.models import model_of, photos

HEAVY = {"torch._dynamo", "sympy", "matplotlib", "onnx", "openvino", "sklearn", "scipy"}
PROGRAM = "import sys; from convatlas.cli import main; assert not main(sys.argv[1:]); print(*sys.modules)"


def test_one_from_the_cache_imports_no_compiler_no_plots_and_no_solver(tmp_path: Path) -> None:
    model, data = convert(model_of("resnet20", {}), tmp_path / "model"), photos(tmp_path / "photos", 4)
    words = ["transfer", str(model), "--data", str(data), "--mode", "features", "-o"]
    assert main([*words, str(tmp_path / "first")]) == 0
    again = [sys.executable, "-c", PROGRAM, *words, str(tmp_path / "again")]
    done = subprocess.run(again, capture_output=True, text=True, check=True)
    assert "8 of 8 images from the cache" in done.stderr
    assert not set(done.stdout.splitlines()[-1].split()) & HEAVY
