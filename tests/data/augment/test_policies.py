"""AutoAugment, RandAugment and TrivialAugment against torchvision's and Pillow's operations, one image at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from convatlas.data.augment import Colours, augment, draw
from convatlas.data.augment.keys import Draw, uniform
from convatlas.data.augment.policies import OPERATIONS, POLICIES, SPACES, apply
from tests.data.augment.pictures import GREY, pictures, pillow, tensor
from tests.oracles import torchvision_models

FOURTEEN = (  # RandAugment, Figure 2
    *("Identity", "AutoContrast", "Equalize", "Rotate", "Solarize", "Color", "Posterize"),
    *("Contrast", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateX", "TranslateY"),
)
ENHANCERS = {
    "Color": ImageEnhance.Color,
    "Contrast": ImageEnhance.Contrast,
    "Brightness": ImageEnhance.Brightness,
    "Sharpness": ImageEnhance.Sharpness,
}


def applied(space: str, name: str, images: Tensor, level: int, fill: Sequence[int] = GREY) -> Tensor:
    """The images, all by one operation at one level."""
    n = len(images)
    return apply(space, images, torch.full((n,), OPERATIONS.index(name)), torch.full((n,), level), tuple(fill))


def assert_torchvisions(space: str, name: str, value: float, level: int) -> None:
    """The operation at that level changes every picture as torchvision's does at that value."""
    from torchvision.transforms.autoaugment import _apply_op
    from torchvision.transforms.functional import InterpolationMode

    images = pictures()
    for image, result in zip(images, applied(space, name, images, level), strict=True):
        expected = tensor(_apply_op(pillow(image), name, value, InterpolationMode.NEAREST, list(GREY)))
        apart = (result.int() - expected.int()).abs()
        # torchvision's factors are rounded to float32, which moves a blend across a whole level at times
        assert apart.max() <= (name in ENHANCERS), (name, level)


# AutoAugment


@pytest.mark.oracles
@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "Identity"])
def test_autoaugments_operations_are_those_of_torchvision_on_pillow_images(name: str) -> None:
    torchvision_models()
    from torchvision.transforms.autoaugment import AutoAugment

    magnitudes, signed = AutoAugment()._augmentation_space(10, (24, 37))[name]
    for m in range(10 if magnitudes.ndim else 1):
        for sign in (1, -1):
            value = (sign if signed else 1) * float(magnitudes[m]) if magnitudes.ndim else 0.0
            assert_torchvisions("autoaugment", name, value, sign * m)


@pytest.mark.oracles
def test_autoaugments_tables_are_those_of_torchvision() -> None:
    torchvision_models()
    from torchvision.transforms.autoaugment import AutoAugment, AutoAugmentPolicy

    for ours, theirs in (("autoaugment", "IMAGENET"), ("autoaugment_cifar10", "CIFAR10")):
        published = AutoAugment(AutoAugmentPolicy[theirs]).policies
        assert [tuple((op, p, m or 0) for op, p, m in sub) for sub in published] == list(POLICIES[ours])


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_is_followed_image_by_image(policy: str) -> None:
    """By the keys' own numbers, one image at a time; every sub-policy comes up."""
    images, at = pictures(1).expand(300, -1, -1, -1), torch.arange(300)
    out = augment(images, at, ops=(policy,), seed=3, epoch=4, colours=Colours(GREY))
    seen = set()
    for i in range(0, 300, 5):
        chosen = int(draw(at[i : i + 1], 25, 3, 4, Draw.POLICY))
        seen.add(chosen)
        image = images[i : i + 1]
        for place, (name, probability, magnitude) in enumerate(POLICIES[policy][chosen]):
            if float(uniform(at[i : i + 1], 3, 4, Draw.POLICY + 1 + place)) < probability:
                backward = bool(draw(at[i : i + 1], 2, 3, 4, Draw.POLICY + 3 + place))
                image = applied("autoaugment", name, image, -magnitude if backward else magnitude)
        assert torch.equal(out[i], image[0])
    assert len(seen) > 15


# RandAugment


def test_the_fourteen_operations_are_those_of_figure_2() -> None:
    assert OPERATIONS[:14] == FOURTEEN


@pytest.mark.oracles
@pytest.mark.parametrize("name", FOURTEEN)
def test_randaugments_operations_are_torchvisions_on_the_papers_scale(name: str) -> None:
    """torchvision in 11 magnitudes, 0 to 10, and not by its default in 31."""
    torchvision_models()
    from torchvision.transforms.autoaugment import RandAugment

    assert set(RandAugment()._augmentation_space(11, (24, 37))) == set(FOURTEEN)
    magnitudes, signed = RandAugment()._augmentation_space(11, (24, 37))[name]
    for m in range(11 if magnitudes.ndim else 1):
        for sign in (1, -1):
            value = (sign if signed else 1) * float(magnitudes[m]) if magnitudes.ndim else 0.0
            assert_torchvisions("randaugment", name, value, sign * m)


@pytest.mark.oracles
@pytest.mark.parametrize(
    ("name", "magnitude", "value"),
    [
        ("ShearX", 28, 0.84),
        ("ShearY", -17, -0.51),
        ("TranslateX", 20, 33),  # 2 x 150 / 331 of 37 pixels
        ("TranslateY", -15, -16),  # 1.5 x 150 / 331 of 24
        ("Rotate", 28, 84),
        ("Rotate", -30, -90),
        ("Color", 28, 2.52),
        ("Color", -28, -1),  # a factor of 0, not below
        ("Brightness", 12, 1.08),
        ("Sharpness", -11, -0.99),
        ("Contrast", -12, -1),
        ("Solarize", 11, 0),  # everything inverted
        ("Posterize", 17, 1),
        ("Posterize", 31, 1),
    ],
)
def test_magnitudes_above_10_extend_the_ranges_as_far_as_they_go(name: str, magnitude: int, value: float) -> None:
    torchvision_models()
    assert_torchvisions("randaugment", name, value, magnitude)


@pytest.mark.parametrize(("number", "magnitude"), [(1, 0), (2, 9), (3, 28)])
def test_randaugment_draws_each_operation_from_all_fourteen(number: int, magnitude: int) -> None:
    """By the keys' own numbers, which are fixed for ever; with replacement: some images get one operation twice."""
    images, at = pictures(1).expand(200, -1, -1, -1), torch.arange(1000, 1200)
    out = augment(images, at, ops=(f"randaugment:{number}:{magnitude}",), seed=3, epoch=4, colours=Colours(GREY))
    chosen = torch.stack([draw(at, 14, 3, 4, 120 + 2 * place) for place in range(number)], 1).tolist()
    backward = torch.stack([draw(at, 2, 3, 4, 121 + 2 * place) for place in range(number)], 1).tolist()
    for i in range(0, 200, 4):
        image = images[i : i + 1]
        for name, other in zip((FOURTEEN[k] for k in chosen[i]), backward[i], strict=True):
            image = applied("randaugment", name, image, -magnitude if other else magnitude)
        assert torch.equal(out[i], image[0]), i
    assert {k for row in chosen for k in row} == set(range(14))
    assert {k for row in backward for k in row} == {0, 1}
    assert number == 1 or any(len(set(row)) < number for row in chosen)


def test_randaugment_without_arguments_is_the_papers_for_resnet50() -> None:
    images, at = pictures(50), torch.arange(50)
    ours, papers = (augment(images, at, ops=(op,), seed=1, epoch=2) for op in ("randaugment", "randaugment:2:9"))
    assert torch.equal(ours, papers)


# TrivialAugment


def trivial(image: Image.Image, name: str, level: int, sign: int) -> Image.Image:
    """One operation of the Wide space as its authors' code has it, on Pillow's image: strengths 0 ... 30."""
    whole = {"Rotate": 135, "TranslateX": 32, "TranslateY": 32, "Solarize": 256, "Posterize": 6}
    if name in whole:
        value = level * whole[name] // 30
    if name in ENHANCERS:
        return ENHANCERS[name](image).enhance(level * 1.99 / 30 + 0.01)
    if name in ("ShearX", "ShearY"):
        slope = sign * level * 0.99 / 30
        matrix = (1, slope, 0, 0, 1, 0) if name == "ShearX" else (1, 0, 0, slope, 1, 0)
        return image.transform(image.size, Image.Transform.AFFINE, matrix)
    if name in ("TranslateX", "TranslateY"):
        matrix = (1, 0, -sign * value, 0, 1, 0) if name == "TranslateX" else (1, 0, 0, 0, 1, -sign * value)
        return image.transform(image.size, Image.Transform.AFFINE, matrix)
    return {
        "Identity": lambda: image,
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Equalize": lambda: ImageOps.equalize(image),
        "Rotate": lambda: image.rotate(sign * value),
        "Solarize": lambda: ImageOps.solarize(image, 256 - value),
        "Posterize": lambda: ImageOps.posterize(image, 8 - value),
    }[name]()


@pytest.mark.parametrize("name", FOURTEEN)
def test_trivialaugments_operations_are_those_of_its_authors(name: str) -> None:
    """Bit for bit, at every strength in either direction; on squares as well, which Pillow turns by 90 degrees."""
    for images in (pictures(), pictures(h=16, w=16)):
        for level in range(31):
            for sign in (1, -1):
                out = applied("trivialaugment", name, images, sign * level, (0,))
                for image, result in zip(images, out, strict=True):
                    assert torch.equal(result, tensor(trivial(pillow(image), name, level, sign))), (level, sign)


@pytest.mark.oracles
def test_trivialaugments_ranges_are_torchvisions_where_torchvision_follows_the_paper() -> None:
    torchvision_models()
    from torchvision.transforms.autoaugment import TrivialAugmentWide

    space = TrivialAugmentWide()._augmentation_space(31)
    assert set(space) == set(FOURTEEN)
    ranges, highest = SPACES["trivialaugment"]
    for name in ("ShearX", "ShearY", "TranslateX", "TranslateY"):
        values, signed = space[name]
        assert signed
        assert len(values) == highest + 1
        whole = name.startswith("Translate")
        for level, value in enumerate(values.double().tolist()):
            ours = ranges[name](level, 24, 37)
            assert ours == (int(value + 1e-5) if whole else pytest.approx(value, abs=1e-7))
            assert ranges[name](-level, 24, 37) == -ours


def test_trivialaugment_draws_an_operation_a_strength_and_a_sign() -> None:
    """By the keys' own numbers, which are fixed for ever; all operations, all strengths; black where pixels left."""
    images, at = pictures(1).expand(400, -1, -1, -1), torch.arange(500, 900)
    out = augment(images, at, ops=("trivialaugment",), seed=3, epoch=4, colours=Colours(GREY))
    numbers = [draw(at, n, 3, 4, 110 + i).tolist() for i, n in enumerate((14, 31, 2))]
    for i in range(0, 400, 4):
        chosen, level, backward = (row[i] for row in numbers)
        expected = trivial(pillow(images[i]), FOURTEEN[chosen], level, -1 if backward else 1)
        assert torch.equal(out[i], tensor(expected)), i
    assert [set(row) for row in numbers] == [set(range(n)) for n in (14, 31, 2)]


# All


def test_no_two_purposes_share_a_random_number() -> None:
    """How many numbers each purpose of `Draw` takes; every augmentation must be independent of the others."""
    taken = {
        **{Draw.SHUFFLE: 1, Draw.ROWS: 1, Draw.COLUMNS: 1, Draw.FLIP: 1, Draw.CUTOUT: 2, Draw.LIGHTING: 3},
        **{Draw.PHOTOMETRIC: 4, Draw.POLICY: 5, Draw.PARTNER: 1, Draw.SHARE: 1, Draw.PATCH: 2, Draw.SCALE: 1},
        **{Draw.CROP: 2, Draw.AREA: 40, Draw.TRIVIALAUGMENT: 3, Draw.RANDAUGMENT: 20},
    }
    assert set(taken) == set(Draw)
    numbers = [first + i for first, count in taken.items() for i in range(count)]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("space", SPACES)
def test_what_a_gpu_computes_for_all_images_is_what_a_cpu_computes_for_some(
    space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU: every operation on all images, and its results taken where it was chosen."""
    from convatlas.data.augment import colour

    images, highest = pictures(90), SPACES[space][1]
    chosen, levels = torch.arange(90) % 15, torch.arange(90) % (2 * highest + 1) - highest
    some = apply(space, images, chosen, levels, GREY)

    def everywhere(chosen: Tensor, change: Callable[..., Tensor], images: Tensor, values: Tensor) -> Tensor:
        return torch.where(chosen[:, None, None, None], change(images, values), images)

    monkeypatch.setattr(colour, "where", everywhere)
    assert torch.equal(apply(space, images, chosen, levels, GREY), some)
