"""How many injected faults changed nothing, counted from the output of `make test-faults`.

    make test-faults && .venv/bin/python benchmarks/faults.py build/faults/*.xml

The files are pytest's, in the order in which they were written; if a case ran more than once, the last run counts.
Each count is given with the total number of cases. `make test-faults ONLY="-k rmsprop"` runs a part, so that the whole
can be run in pieces. Writes results/faults.json.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from report import write

ROOT = Path(__file__).parent.parent


def cases() -> list[str]:
    """Every case of `make test-faults`, as pytest names it: tests/test_faults.py::test_...[...]."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-m", "faults", "tests"]
    out = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [line for line in out.splitlines() if "::" in line]


def results(paths: list[Path]) -> dict[str, tuple[bool, float]]:
    """For each case that ran, whether it passed, and its duration in seconds."""
    found: dict[str, tuple[bool, float]] = {}
    suites = [suite for path in paths for suite in ElementTree.parse(path).getroot().iter("testsuite")]
    for suite in sorted(suites, key=lambda suite: suite.attrib["timestamp"]):
        for case in suite.iter("testcase"):
            name = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name']}"
            found[name] = (
                len(case) == 0,
                float(case.attrib["time"]),
            )  # otherwise it contains a failure, an error or a skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    ran = results(parser.parse_args().files)
    figures: dict[str, dict[str, float]] = {}
    for case in cases():
        name = case.partition("[")[0]
        figure = figures.setdefault(name, {"cases": 0, "passed": 0, "failed": 0, "minutes": 0.0})
        figure["cases"] += 1
        if case in ran:
            passed, seconds = ran[case]
            figure["passed" if passed else "failed"] += 1
            figure["minutes"] += seconds / 60
    for name, figure in figures.items():
        figure["minutes"] = round(figure["minutes"], 1)
        print(f"{figure['passed']:4} of {figure['cases']:4}  {name}")
    write("faults", "cases, and minutes that they took on a machine that did other work besides", figures)


if __name__ == "__main__":
    main()
