"""What `fit` does to images: every augmentation trains, is written in run.json, and resumes to the last bit."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from convatlas.catalogue import find
from convatlas.data.augment import Colours
from convatlas.data.sources.memory import memory_data
from convatlas.data.statistics import principal_axes
from convatlas.data.types import Data, MemorySplit
from convatlas.errors import UserError
from convatlas.preprocess import Preprocess
from convatlas.recipe import SGD, Recipe, with_epochs, with_settings
from convatlas.recipes import find_recipe
from convatlas.runs import checkpoint
from convatlas.train.fit import Stopped, fit
from convatlas.train.setup import sized

RECIPE = Recipe(name="tiny", source="a test", epochs=2, batch=8, optimizer=SGD(0.02), net=(("widths", (4,)),))
EVERYTHING = (
    ("area_crop:0.2:1", "flip", "photometric", "lighting", "cutout:3", "mixup:0.4"),
    ("scale_crop:8:16", "autoaugment_cifar10", "cutmix"),
    ("pad_crop:2", "randaugment:2:9", "trivialaugment"),
)


@pytest.fixture(scope="module")
def data() -> Data:
    """32 + 8 images of 8 x 8 pixels whose colours have an axis."""
    g = torch.Generator().manual_seed(0)
    grey = torch.randint(20, 220, (40, 1, 8, 8), generator=g)
    images = (grey + torch.randint(0, 30, (40, 3, 8, 8), generator=g)).to(torch.uint8)
    labels = torch.arange(40) % 3
    splits = {"train": (images[:32], labels[:32]), "val": (images[32:], labels[32:])}
    return memory_data("noise", splits, ("a", "b", "c"), {"source": "a test"}, resize_mode="crop")


def test_principal_axes_are_those_of_numpy(data: Data) -> None:
    assert isinstance(data.train, MemorySplit)
    images = data.train.images
    pixels = images.permute(0, 2, 3, 1).reshape(-1, 3).numpy().astype(float)
    values, vectors = np.linalg.eigh(np.cov(pixels.T, bias=True))
    axes = principal_axes(images)
    for axis, value, vector in zip(axes, values[::-1], vectors.T[::-1]):
        assert axis.norm() == pytest.approx(value**0.5)
        assert abs(float(axis @ torch.from_numpy(vector.copy()))) == pytest.approx(value**0.5)
        assert axis[axis.abs().argmax()] > 0
    assert torch.allclose(axes, principal_axes(images.flip(0)))


def test_one_colour_has_an_axis_of_its_own() -> None:
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert principal_axes(grey).item() == pytest.approx(grey.double().std(correction=0).item())
    assert principal_axes(torch.full((2, 3, 4, 4), 9, dtype=torch.uint8)).abs().max() == 0


def test_colours_are_measured_only_where_they_are_needed(data: Data) -> None:
    preprocess = Preprocess((3, 8, 8), data.mean, data.std)
    plain = Colours.of(data.train, preprocess, ("flip", "cutout"))
    assert plain.axes == ()
    assert plain.mean == tuple(round(255 * m) for m in data.mean)
    lit = Colours.of(data.train, preprocess, ("lighting:0.2",))
    assert np.allclose(lit.axes, principal_axes(data.train.images), atol=1e-4)
    assert Colours.from_json(json.loads(json.dumps(asdict(lit)))) == lit


@pytest.mark.parametrize("ops", EVERYTHING)
def test_every_augmentation_trains_and_resumes_to_the_last_bit(
    tmp_path: Path, data: Data, ops: tuple[str, ...]
) -> None:
    recipe = replace(RECIPE, augment=ops)

    def train(name: str, **more):
        return fit("chain_n1_m1_k0", data, recipe, out=tmp_path / name, device="cpu", input=(3, 8, 8), **more)

    whole = train("whole")
    assert (whole.record.colours["axes"] != []) == ("lighting" in ops)
    steps = []

    def stop(event) -> None:
        steps.append(event["kind"] == "step")
        if sum(steps) == 6 and steps[-1]:
            import signal

            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped):
        train("parts", on_event=stop)
    train("parts", resume=True)
    a, b = (checkpoint.load(tmp_path / name / "last.safetensors")[0] for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)
    losses = [line["train"]["loss"] for line in whole.epochs()]
    assert all(0 < loss < 10 for loss in losses)


def test_a_view_that_does_not_fit_leaves_no_folder(tmp_path: Path, data: Data) -> None:
    with pytest.raises(UserError, match="'scale_crop:4:8' scales images below the 8x8 crop"):
        fit(
            "chain_n1_m1_k0",
            data,
            replace(RECIPE, augment=("scale_crop:4:8",)),
            out=tmp_path / "run",
            input=(3, 8, 8),
            device="cpu",
        )
    assert not (tmp_path / "run").exists()


def test_what_a_recipe_scales_images_to_goes_with_the_input(tmp_path: Path, data: Data) -> None:
    recipe = with_epochs(find_recipe("squeezenet"), 1)
    run = fit("squeezenet", data, recipe, input=(3, 56, 56), out=tmp_path / "run", device="cpu")
    assert run.recipe.augment[0] == "warp_crop:63"
    assert run.recipe.departures[-1].startswith("56 pixels, not 227; images resized in proportion")
    again = fit("squeezenet", data, recipe, input=(3, 56, 56), out=tmp_path / "run", device="cpu", resume=True)
    assert again.record == run.record


def test_an_augmentation_that_was_set_is_left_alone() -> None:
    vgg, recipe = find("vgg11"), find_recipe("vgg")
    assert sized(recipe, vgg, None) is recipe
    assert sized(recipe, vgg, (3, 224, 224)) is recipe
    half = sized(recipe, vgg, (3, 112, 112))
    assert half.augment[0] == "scale_crop:128:256"
    assert sized(half, vgg, (3, 112, 112)) is half
    set_so = with_settings(recipe, ["augment=scale_crop:120:300,flip"])
    assert sized(set_so, vgg, (3, 112, 112)) is set_so
    own = replace(recipe, name="my_own")
    assert sized(own, vgg, (3, 112, 112)) is own
