"""docs/scaling.md has what benchmarks/scaling.py computes."""

import subprocess
import sys
from pathlib import Path

import pytest

from convatlas.tables import entry

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def printed() -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / "scaling.py")]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_the_table_is_the_scripts_output(printed: str) -> None:
    table = "\n".join(line for line in TEXT.splitlines() if line.startswith("|"))
    assert table == printed.strip()


def test_the_parameters_are_those_counted() -> None:
    for network in ("resnet20", "resnet50"):
        assert f"{entry(network)['totals']['params']:,}" in TEXT


def test_an_all_reduce_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import scaling  # type: ignore[import-not-found]

    link = scaling.Link(bandwidth=1e9, hop_s=1e-3)
    assert scaling.all_reduce_s(1e9, 1, link) == 0
    assert scaling.all_reduce_s(1e9, 4, link) == pytest.approx(1.5 + 6e-3)
    one = scaling.Measured("resnet20", "a test", 100, 100)  # a step of 1 s: 1,078,888 bytes in one bucket
    assert scaling.images_per_s(one, 16, link) == pytest.approx(1600 / (1 + 1.875 * 1_078_888e-9 + 30e-3))
    slow = scaling.Link(bandwidth=1e6, hop_s=0)  # three of ResNet-50's buckets take longer than the backward pass
    fifty = scaling.Measured("resnet50", "a test", 100, 100)
    early, last = 3 * (25 << 20), 4 * 25_557_032 - 3 * (25 << 20)
    seconds = 1 / 3 + 1.875 * (early + last) / 1e6
    assert scaling.images_per_s(fifty, 16, slow) == pytest.approx(1600 / seconds)
