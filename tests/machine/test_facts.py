"""What a machine says of itself, on this one and on others that are written down."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from convatlas.machine import facts

INTEL = """processor\t: 0
model name\t: Some(R) Processor @ 2.60GHz
flags\t\t: fpu smep sse sse2 sse4_1 avx avx2 fma rdrand avx512f avx512_vnni

processor\t: 1
model name\t: Another
flags\t\t: fpu amx_tile
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd aes asimddp sve sme2 bf16 i8mm\n"


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        (INTEL, "Some(R) Processor @ 2.60GHz", ("avx", "avx2", "avx512_vnni", "avx512f", "fma", "sse4_1")),
        (ARM, platform.machine(), ("asimd", "asimddp", "bf16", "i8mm", "sme2", "sve")),
        ("", platform.machine(), ()),
        (None, platform.machine(), ()),
    ],
)
def test_the_processor_and_its_arithmetic(tmp_path: Path, text: str | None, name: str, flags: tuple[str, ...]) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text, encoding="utf-8")
    assert facts.processor(tmp_path) == name
    assert facts.flags(tmp_path) == flags


def test_this_machine_is_plain_data_that_names_nobody() -> None:
    found = facts.machine()
    assert json.loads(json.dumps(found)) == found
    assert found["versions"]["torch"] == torch.__version__
    assert found["cores"] <= (os.cpu_count() or 1)
    assert "gpu" not in found
    assert not {platform.node(), os.environ.get("USER", "nobody")} & {str(value) for value in found.values()}


def test_cores_are_those_that_this_process_may_use() -> None:
    code = "import os; from convatlas.machine.facts import cores; os.sched_setaffinity(0, {0}); print(cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_machines_are_alike_whatever_their_software() -> None:
    here = facts.machine()
    assert facts.alike(here, {**here, "versions": {}, "system": "another", "memory_bytes": 1})
    assert not facts.alike(here, {**here, "flags": [*here["flags"], "amx_tile"]})
    assert not facts.alike(here, {**here, "cores": here["cores"] + 1})
    assert not facts.alike(here, {**here, "gpu": "a GPU"})


def test_no_torch_is_needed() -> None:
    code = "import sys; from convatlas.machine.facts import machine; machine(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
