"""The papers' evaluation protocols: every box, against what the papers say."""

from __future__ import annotations

import numpy as np
import pytest

from convatlas.errors import UserError
from convatlas.protocols import PROTOCOLS, Cut, find_protocol

SIZES = [(375, 500), (500, 375), (224, 224), (300, 1200), (257, 256)]


def cuts(name: str, height: int, width: int, side: int = 224) -> list[Cut]:
    return find_protocol(name).cut(height, width, side)


@pytest.mark.parametrize(
    ("name", "passes"),
    list(zip(PROTOCOLS, (1, 2, 6, 10, 10, 144, 144, 10, 6, 6, 150, 156), strict=True)),
)
def test_as_many_views_as_the_papers_say(name: str, passes: int) -> None:
    assert PROTOCOLS[name].passes == passes


@pytest.mark.parametrize("name", [name for name, it in PROTOCOLS.items() if it.cuts])
@pytest.mark.parametrize("size", SIZES)
def test_cuts_lie_in_their_image_and_weigh_one(name: str, size: tuple[int, int]) -> None:
    found = cuts(name, *size)
    assert sum(cut.weight for cut in found) == pytest.approx(1)
    for cut in found:
        left, top, right, bottom = cut.box
        height, width = cut.scaled
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert abs(width / height - size[1] / size[0]) < 0.01 * size[1] / size[0], "the aspect ratio is kept"
    mirrored = [(cut.scaled, cut.box) for cut in found if cut.mirrored]
    assert mirrored == [(cut.scaled, cut.box) for cut in found if not cut.mirrored]


def test_alexnet() -> None:
    """Section 4.1: the four corner patches and the centre patch of the central 256 x 256, and their reflections."""
    found = cuts("alexnet10", 512, 1024)  # scaled to 256 x 512, whose centre square begins at column 128
    assert {cut.scaled for cut in found} == {(256, 512)}
    assert sorted(cut.box[:2] for cut in found if not cut.mirrored) == [
        (128, 0), (128, 32), (144, 16), (160, 0), (160, 32)
    ]  # fmt: skip
    assert all((right - left, bottom - top) == (224, 224) for left, top, right, bottom in (c.box for c in found))
    assert {cut.weight for cut in found} == {0.1}


def test_the_sides_of_227_pixels_are_those_of_224() -> None:
    assert {cut.scaled for cut in cuts("alexnet10", 300, 300, 227)} == {(256, 256)}
    assert {cut.box[2] - cut.box[0] for cut in cuts("alexnet10", 300, 300, 227)} == {227}
    shorts = {min(cut.scaled) for cut in cuts("resnet_multiscale", 300, 400, 227)}
    assert shorts == {227, 256, 384, 480, 640}, "no smaller than the input"


def test_googlenet() -> None:
    """Section 7: short sides of 256, 288, 320, 352; left, centre and right squares (top, centre, bottom of portraits);
    of each the 4 corners, the centre, and the square itself at 224; all mirrored."""
    found = [cut for cut in cuts("googlenet144", 600, 800) if not cut.mirrored]
    assert {min(cut.scaled) for cut in found} == {256, 288, 320, 352}
    expected = set()
    for short, long in ((256, 341), (288, 384), (320, 426), (352, 469)):
        for x in (0, round((long - short) / 2), long - short):
            expected.add(((short, long), (x, 0, x + short, short)))
            far, mid = short - 224, (short - 224) // 2
            for dy, dx in ((0, 0), (0, far), (far, 0), (far, far), (mid, mid)):
                expected.add(((short, long), (x + dx, dy, x + dx + 224, dy + 224)))
    assert {(cut.scaled, cut.box) for cut in found} == expected
    assert len(expected) == 72
    upright = [cut for cut in cuts("googlenet144", 800, 600) if not cut.mirrored]
    turned = {((w, h), (top, left, bottom, right)) for (h, w), (left, top, right, bottom) in expected}
    assert {(cut.scaled, cut.box) for cut in upright} == turned


def test_inception_scales_in_proportion() -> None:
    assert sorted({min(cut.scaled) for cut in cuts("inception144", 999, 999, 299)}) == [342, 384, 427, 470]


def test_vgg_grid() -> None:
    """Section 3.2: a regular grid of 5 x 5 crops with 2 flips at each of 3 scales, over the whole image."""
    found = [cut for cut in cuts("vgg_multicrop", 512, 512) if not cut.mirrored and cut.scaled == (384, 384)]
    assert sorted({cut.box[0] for cut in found}) == [0, 40, 80, 120, 160]
    assert len({cut.box for cut in found}) == 25


def test_dense_cuts_are_the_whole_image() -> None:
    of_vgg = [("vgg_dense", [256, 384, 512]), ("vgg_dense256", [224, 256, 288])]
    for name, shorts in (*of_vgg, ("resnet_multiscale", [224, 256, 384, 480, 640])):
        found = cuts(name, 300, 400)
        assert sorted({min(cut.scaled) for cut in found}) == shorts
        assert all(cut.dense and cut.box == (0, 0, cut.scaled[1], cut.scaled[0]) for cut in found)


def test_both_weighs_dense_and_crops_alike() -> None:
    found = cuts("vgg_both", 300, 400)
    assert np.isclose(sum(cut.weight for cut in found if cut.dense), 0.5)


def test_an_unknown_protocol() -> None:
    with pytest.raises(UserError, match="no protocol named 'googlenet'; did you mean googlenet144"):
        find_protocol("googlenet")
