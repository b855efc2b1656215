"""A transfer imports what it needs, and no more: imports are most of the time of one from the cache."""

import subprocess
import sys
from pathlib import Path

from convatlas.weights.convert import convert
from tests.tuning.models import model_of, photos

HEAVY = {"torch._dynamo", "sympy", "matplotlib", "onnx", "openvino"}
PROGRAM = "import sys; from convatlas.cli import main; assert not main(sys.argv[1:]); print(*sys.modules)"


def test_no_compiler_and_no_plots_are_imported(tmp_path: Path) -> None:
    model, data = convert(model_of("resnet20", {}), tmp_path / "model"), photos(tmp_path / "photos", 4)
    words = ["transfer", str(model), "--data", str(data), "-o", str(tmp_path / "run"), "--mode", "features"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "sklearn.linear_model" in loaded
    assert not loaded & HEAVY
