"""What `--json` prints, kept as goldens: `python -m tests.json_goldens` writes them anew, to be read as a diff.

A key that goes, or changes its meaning, raises `convatlas.report.tables.SCHEMA`; a new key does not.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from convatlas.cli import main

FOLDER = Path(__file__).parent / "goldens" / "json"
RESULTS = FOLDER.parent / "results.jsonl"
COMMANDS = {
    "show": "show lenet5 --level stage --json",
    "show_other_input": "show lenet5 --level stage --input 3x36x36 --classes 7 --convention fvcore --json",
    "show_under": "show resnet20 --under 10MMAC --json",
    "list": "list lenet5 --json",
    "claims": "claims lenet5 --json",
    "claims_start": "claims lenet5_tanh --start --json",
    "layer": "layer conv --input 3x227x227 --filters 96 --kernel 11 --stride 4 --json",
    "memory": "memory lenet5 --batch 8 --fit 1GB --json",
    "measure": f"measure --read {RESULTS} --json",
    "measure_against": f"measure --read {RESULTS} --against {RESULTS} --json",
    "reconcile": "reconcile lenet5 --json",
    "diff": "diff lenet5 lenet5_two_fc --weights --json",
}


def printed(command: str) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(command.split())
    assert status == 0, command
    return out.getvalue()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, command in COMMANDS.items():
        (FOLDER / f"{name}.json").write_text(printed(command), encoding="utf-8")
