"""RAPL's counters, as files that the test turns."""

from __future__ import annotations

from pathlib import Path

import pytest

from convatlas.machine.energy import joules_a_call, meter, rapl


def zone(powercap: Path, name: str, kind: str, microjoules: int, most: int = 1_000_000) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{kind}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def test_packages_are_summed_and_their_parts_are_not(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 100_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 200_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 50_000)  # part of package-0
    zone(tmp_path, "intel-rapl:2", "psys", 900_000)  # the whole machine: the packages are in it
    read = rapl(tmp_path)
    assert read is not None
    assert read() == pytest.approx(0.3)


def test_a_counter_that_starts_again(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    read = rapl(tmp_path)
    assert read is not None
    start = read()
    zone(tmp_path, "intel-rapl:0", "package-0", 100_000)
    assert read() - start == pytest.approx(0.2)
    zone(tmp_path, "intel-rapl:0", "package-0", 50_000)
    assert read() - start == pytest.approx(1.15)


def test_a_machine_that_does_not_tell_has_no_meter(tmp_path: Path) -> None:
    assert meter("cpu", tmp_path / "none") is None
    assert meter("cpu", tmp_path) is None
    (zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").write_text("\n")
    assert meter("cpu", tmp_path) is None
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()  # as where only root may read it
    assert meter("cpu", tmp_path) is None


def test_joules_of_a_call() -> None:
    clock, used = [0.0], [5.0]

    def call() -> None:
        clock[0] += 0.5
        used[0] += 3.0

    assert joules_a_call(call, lambda: used[0], 2.0, lambda: clock[0]) == pytest.approx(3)
    assert joules_a_call(call, lambda: used[0], 0.0, lambda: clock[0]) == pytest.approx(3)
    assert joules_a_call(lambda: None, lambda: 7.0, 0.0, lambda: 0.0) is None  # a counter that does not move


def test_a_counter_that_fails_gives_nothing() -> None:
    def gone() -> float:
        raise OSError

    assert joules_a_call(lambda: None, gone, 0.0, lambda: 0.0) is None
