"""Calibrating, and the verbs that print estimates: on a profile of our own, whose estimates are known."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convatlas.cli import main
from convatlas.engines.latency import calibrate as calibration
from convatlas.engines.latency import profile as profiles
from convatlas.engines.latency.estimate import estimate
from convatlas.engines.latency.profile import Profile, key_here, save
from convatlas.tables import index

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without profiles, but with what lists have kept of the tables."""
    monkeypatch.setenv("CONVATLAS_CACHE", str(folder))
    for file in profiles.folder().glob("*-*.json"):
        file.unlink()


@pytest.fixture
def profile() -> Profile:
    seconds = {"3x3 macs": 1.0, "1x1 macs": 1.0, "large macs": 1.0, "image macs": 1.0, "fc weights": 1.0}
    made = Profile(key_here("onnxruntime"), seconds, 0.8, 1.25, 200, 0, 2e-3)
    save(made)
    return made


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_show_adds_the_estimate(profile: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    found = estimate("resnet18", profile)
    assert f"  {found}: onnxruntime" in printed(capsys, "show", "resnet18", "--latency")
    (told,) = json.loads(printed(capsys, "show", "resnet18", "--latency", "--json"))["latency"]
    assert (told["median_s"], told["batch"], told["key"]["engine"]) == (found.median_s, 1, "onnxruntime")


def test_show_of_a_batch(profile: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("show", "lenet5", "--latency", "--batch", "4", "--json")
    (told,) = json.loads(printed(capsys, *words))["latency"]
    assert told["median_s"] == pytest.approx(estimate("lenet5", profile, batch=4).median_s)
    assert "of 4 images, estimated" in printed(capsys, *words[:-1])


def test_show_of_ones_own_network(profile: Profile, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(8, 64, 3, padding=1))\n")
    words = ("show", f"{file}:make", "--input", "8x32x32", "--latency", "--json")
    (told,) = json.loads(printed(capsys, *words))["latency"]
    assert told["median_s"] == pytest.approx(64 * 8 * 9 * 32 * 32 / 50e9)


def test_a_limit_lists_what_is_estimated_within(profile: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    networks = json.loads(printed(capsys, "list", "mobile", "--limit", "latency<=15ms", "--json"))["networks"]
    expected = {name for name in index() if "mobile" in name and estimate(name, profile).median_s <= 0.015}
    assert networks
    assert {network["name"] for network in networks} == expected
    for network in networks:
        told = network["latency"]
        assert told["undecided"] is (told["high_s"] > 0.015), network["name"]


def test_the_column_of_times(profile: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "list", "resnet*", "--family", "resnet", "--limit", "latency<80ms", "--sort", "latency")
    times = re.findall(r"^resnet.* (\S+) ms(\??)", text, re.MULTILINE)
    assert [float(ms) for ms, _ in times] == sorted(float(ms) for ms, _ in times)
    assert {mark for _, mark in times} == {"", "?"}
    assert "undecided: the limit lies inside the interval" in text
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "list", "resnet18", "--sort", "latency", "--csv"))))
    row = next(row for row in rows if row["model"] == "resnet18")
    assert float(row["latency_s"]) == pytest.approx(estimate("resnet18", profile).median_s)
    assert float(row["latency_low_s"]) < float(row["latency_s"]) < float(row["latency_high_s"])


def test_without_a_limit_on_it_no_list_has_latencies(profile: Profile, capsys: pytest.CaptureFixture[str]) -> None:
    assert "latency" not in printed(capsys, "list", "resnet18")


@pytest.mark.parametrize("words", [["show", "lenet5", "--latency"], ["list", "--limit", "latency<=15ms"]])
def test_without_a_profile_one_line_says_how(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "`convatlas calibrate`" in err


@pytest.mark.parametrize("engine", ["openvino", "tensorrt"])
def test_profiles_of_another_engine_are_named(
    engine: str, profile: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--sort", "latency", "--engine", engine]) == 2
    assert f"no profile of {engine} in fp32 on 1 thread holds here; there are onnxruntime" in capsys.readouterr().err


def test_calibrate_saves_what_it_learns(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {}
    monkeypatch.setattr(calibration, "calibrate", lambda *words, **more: asked.update(more, words=words) or profile)
    told = json.loads(printed(capsys, "calibrate", "--engine", "openvino", "--seconds", "9", "--seed", "3", "--json"))
    assert asked.pop("tell")
    assert asked == {"words": ("openvino", "fp32", 1), "seconds": 9.0, "seed": 3}
    assert profiles.load(Path(told["file"])) == profile
    assert "from 200 random networks" in printed(capsys, "calibrate")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "openvno"], "no engine named 'openvno'; did you mean openvino"),
        (["--precision", "bf16"], "onnxruntime does not compute in bf16; give fp32, int8"),
        (["--precision", "fp64"], "onnxruntime does not compute in fp64"),
        (["--seconds", "0"], "--seconds 0 is out of range; give 1 to 3600"),
        (["--seed", "-1"], "--seed -1 is out of range"),
        (["--threads", "0"], "--threads 0 is too small; give at least 1"),
    ],
)
def test_what_cannot_be_calibrated(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", *words]) == 2
    assert message in capsys.readouterr().err


def test_lists_need_no_torch(profile: Profile) -> None:
    code = (
        "import sys; from convatlas.cli import main; main(['list', 'resnet18', '--limit', 'latency<=1s']);"
        "print({'torch', 'scipy', 'onnx', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
