"""timm's published results, read: lines of results/benchmark-infer-*.csv of the repository at commit 7479d45."""

from __future__ import annotations

from pathlib import Path

import pytest

from convatlas.engines import timm_results
from convatlas.errors import UserError
from tests.engines.records import record

CPU = "benchmark-infer-fp32-nchw-pt240-cpu-i9_10940x-dynamo.csv"
HEADER = (
    "model,infer_img_size,infer_samples_per_sec,infer_step_time,infer_batch_size,param_count,infer_gmacs,infer_macts"
)
LINES = f"""{HEADER}
resnet18,224,126.23,7.907,1,11.69,1.82,2.48
mobilenetv2_100,224,188.22,5.299,1,3.5,0.31,6.68
mobilenetv3_large_150d,224,92.84,10.756,1,14.62,,
resnet50,160,77.2,12.938,1,25.56,2.1,5.67
"""


def written(folder: Path, text: str = LINES, name: str = CPU) -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_the_figures_and_what_the_file_name_says(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert timm_results.is_timms(file)
    (resnet18, mobilenet, other, resnet50), damages = timm_results.read(file)
    assert not damages
    assert (resnet18.model, resnet18.network, resnet18.batch, resnet18.input) == (
        "resnet18",
        "resnet18",
        1,
        (3, 224, 224),
    )
    assert resnet18.images_per_s == pytest.approx(126.23, rel=5e-3)
    assert (resnet18.seconds.clock, resnet18.seconds.mean, resnet18.seconds.spread) == ("wall", 0.007907, ())  # type: ignore[union-attr]
    assert (resnet18.params, resnet18.macs, resnet18.multiplied_activations) == (11_690_000, 1_820_000_000, 2_480_000)
    assert (resnet18.engine, resnet18.precision, resnet18.threads, resnet18.device) == (
        "torch.compile",
        "fp32",
        None,
        "cpu",
    )
    assert resnet18.machine == {"processor": "i9_10940x", "versions": {"torch": "2.4.0"}}
    assert resnet18.source == "timm"
    assert (mobilenet.network, other.network, other.macs) == ("mobilenet_v2_symmetric", "", None)
    assert (resnet50.network, resnet50.input) == ("resnet50_v1_5", (3, 160, 160))


@pytest.mark.parametrize(
    ("name", "device", "engine", "precision", "torch", "machine"),
    [
        ("benchmark-infer-amp-nhwc-pt113-cu117-rtx3090.csv", "cuda", "torch", "amp", "1.13", "rtx3090"),
        (
            "benchmark-infer-fp32-nchw-pt221-cpu-i7_12700h-dynamo.csv",
            "cpu",
            "torch.compile",
            "fp32",
            "2.2.1",
            "i7_12700h",
        ),
        (
            "benchmark-infer-bf16-nchw-pt291-cu130-pro6000maxq-dynamo.csv",
            "cuda",
            "torch.compile",
            "bf16",
            "2.9.1",
            "pro6000maxq",
        ),
    ],
)
def test_other_names(
    tmp_path: Path, name: str, device: str, engine: str, precision: str, torch: str, machine: str
) -> None:
    (first, *_), _ = timm_results.read(written(tmp_path, name=name))
    assert (first.device, first.engine, first.precision) == (device, engine, precision)
    assert first.machine == {"gpu" if device == "cuda" else "processor": machine, "versions": {"torch": torch}}


def test_headers_without_the_prefix(tmp_path: Path) -> None:
    """timm drops it from files of inference alone."""
    (first, *_), _ = timm_results.read(written(tmp_path, LINES.replace("infer_", "")))
    assert first.step_s == 0.007907


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x,224,1,fast,1,1,1,1", "'fast' is not a number"),
        ("x,224,1,0,1,1,1,1", "out of range"),
        ("x,224,1,nan,1,1,1,1", "not a number"),
        ("x,224,1,5,0,1,1,1", "not a whole number"),
        ("x,2.5,1,5,1,1,1,1", "not a whole number"),
        ("x,224,1,5,1", "argument 2 is shorter"),
        ("x,224,1,5,1,-3,1,1", "params=-3000000 is out of range"),
    ],
)
def test_damaged_lines_are_named(tmp_path: Path, line: str, why: str) -> None:
    records, (damage,) = timm_results.read(written(tmp_path, f"{LINES}{line}\n"))
    assert len(records) == 4
    assert damage.line == 6
    assert why in damage.why


def test_files_that_are_not_timms(tmp_path: Path) -> None:
    assert not timm_results.is_timms(written(tmp_path, "model,top1\nx,1\n", "a.csv"))
    assert not timm_results.is_timms(tmp_path / "none.csv")
    with pytest.raises(UserError, match="does not say on which machine it was measured; keep the name"):
        timm_results.read(written(tmp_path, name="mine.csv"))
    with pytest.raises(UserError, match="there are no results in"):
        timm_results.read(written(tmp_path, f"{HEADER}\n"))


def test_our_records_under_timms_headers(tmp_path: Path) -> None:
    """Its own line, read and written again, is the same to timm's digits."""
    (_, _, _, resnet50), _ = timm_results.read(written(tmp_path))
    cells = timm_results.header(resnet50)
    assert list(cells) == [
        *("model", "infer_img_size", "infer_samples_per_sec", "infer_step_time", "infer_batch_size"),
        *("param_count", "infer_gmacs", "infer_macts"),
    ]
    assert list(cells.values()) == ["resnet50", 160, pytest.approx(77.2, rel=2e-3), 12.938, 1, 25.56, 2.1, 5.67]
    failed = timm_results.header(record(seconds=None, failed="out of memory"))
    assert (failed["infer_step_time"], failed["infer_samples_per_sec"]) == (None, None)
