"""The fast decoder against Pillow, the reference; windows decoded scaled down; what falls back."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from convatlas.data.decode import fast as decode
from convatlas.data.decode.fast import decoder, plain_pixels, plain_size, read, reduction_for
from convatlas.data.decode.reference import MAX_PIXELS, MAX_SCANS, Content, read_image
from convatlas.data.pixels import crop_and_resize, to_input_size
from convatlas.errors import UserError
from convatlas.preprocess import Preprocess

fast = pytest.mark.skipif(not decode.FAST, reason="simplejpeg and opencv are not installed (extra `fast`)")
SMALL = Preprocess((3, 20, 24), (0.0,) * 3, (1.0,) * 3, resize_mode="crop", resize=30)


def photo(width: int = 120, height: int = 90, seed: int = 0) -> Image.Image:
    """Smooth, coloured, with edges: as JPEG files are made of."""
    g = np.random.default_rng(seed)
    coarse = Image.fromarray(g.integers(0, 256, (6, 8, 3), np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    image.paste((250, 30, 40), (width // 3, height // 3, width // 2, height // 2))
    return image


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def named(content: bytes) -> Content:
    content = Content(content)
    content.name = "here/ant.jpg"
    return content


def whole(h: int, w: int) -> tuple[int, int, int, int]:
    return 0, 0, w, h


JPEGS = {
    "plain": encoded(photo(), quality=90),
    "4:4:4": encoded(photo(), quality=95, subsampling=0),
    "progressive": encoded(photo(), progressive=True),
    "odd size": encoded(photo(101, 67)),
    "restarts": encoded(photo(), restart_marker_rows=1),
}
OTHERS = {
    "grey": encoded(photo().convert("L")),
    "cmyk": encoded(photo().convert("CMYK")),
    "png": encoded(photo(), "PNG"),
    "png 16": encoded(Image.fromarray(np.full((40, 50), 0xABCD, np.uint16)), "PNG"),
    "gif": encoded(photo(), "GIF", save_all=True, append_images=[photo(seed=1)]),
    "webp": encoded(photo(), "WEBP"),
}
for turn in range(1, 9):
    exif = Image.Exif()
    exif[0x0112] = turn
    (OTHERS if turn > 1 else JPEGS)[f"turned {turn}"] = encoded(photo(), exif=exif)


@pytest.fixture(params=[True, False], ids=["fast", "pillow"])
def decoders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param and not decode.FAST:
        pytest.skip("simplejpeg and opencv are not installed (extra `fast`)")
    monkeypatch.setattr(decode, "FAST", request.param)
    return request.param


@fast
@pytest.mark.parametrize("kind", JPEGS)
def test_plain_jpegs_are_decoded_to_the_very_pixels_of_pillow(kind: str) -> None:
    pixels = plain_pixels(JPEGS[kind], MAX_PIXELS)
    assert pixels is not None
    assert np.array_equal(pixels, np.asarray(Image.open(BytesIO(JPEGS[kind])).convert("RGB")))


@fast
def test_real_photographs_are_decoded_to_the_very_pixels_of_pillow(real_data: Path) -> None:
    plain = 0
    for path in (
        sorted((real_data / "imagenet1000").glob("*.jpg"))[::25]
        + sorted((real_data / "hymenoptera").rglob("*.jpg"))[::20]
    ):
        pixels = plain_pixels(path.read_bytes(), MAX_PIXELS)
        if pixels is not None:
            plain += 1
            assert np.array_equal(pixels, read_image(path, 3).permute(1, 2, 0)), path
    assert plain > 40


@fast
def test_a_file_of_endless_scans_is_left_to_pillow() -> None:
    content = JPEGS["plain"]
    at = content.index(b"\xff\xda")
    assert plain_size(content[:at] + b"\xff\xda" * MAX_SCANS + content[at:], MAX_PIXELS) is None


@fast
def test_where_a_file_tells_how_it_is_turned() -> None:
    """As Pillow has it: in any segment before the first scan, whatever an earlier one holds; and not behind it."""
    content = JPEGS["plain"]
    turned = OTHERS["turned 6"]
    at = turned.index(b"\xff\xe1")
    exif = turned[at : at + 2 + int.from_bytes(turned[at + 2 : at + 4])]
    thumbnail = b"\xff\xe0" + (30).to_bytes(2) + b"JFXX\0\x10\xff\xd8\xff\xda".ljust(28, b"\1")
    size = plain_size(content, MAX_PIXELS)
    for before, turns in (((), False), ((thumbnail,), False), ((thumbnail, exif), True), ((b"\xff", exif), True)):
        file = b"".join((content[:2], *before, content[2:]))
        assert (Image.open(BytesIO(file)).getexif().get(0x0112) == 6) is turns
        assert plain_size(file, MAX_PIXELS) == (None if turns else size), before
    scan = content.index(b"\xff\xda")
    behind = content[:scan] + content[scan:-2] + exif + content[-2:]
    assert plain_size(behind, MAX_PIXELS) == size
    assert read_image(behind, 3).shape == (3, *size)


@fast
@pytest.mark.parametrize("kind", OTHERS)
def test_all_else_is_left_to_pillow(kind: str) -> None:
    assert plain_size(OTHERS[kind], MAX_PIXELS) is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [*JPEGS, *OTHERS])
@pytest.mark.usefixtures("decoders")
def test_a_whole_image_is_the_reference_whatever_is_installed(kind: str, channels: int) -> None:
    content = (JPEGS | OTHERS)[kind]
    preprocess = Preprocess((channels, 20, 24), (0.0,) * channels, (1.0,) * channels, resize_mode="crop", resize=30)
    expected = to_input_size(read_image(content, channels)[None], preprocess)[0]
    assert torch.equal(read(content, preprocess), expected)


def apart(a: Tensor, b: Tensor) -> tuple[float, int]:
    difference = (a.int() - b.int()).abs()
    return difference.double().mean().item(), int(difference.max())


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [*JPEGS, *OTHERS])
def test_a_window_shows_what_is_in_it(kind: str, channels: int, order: str, decoders: bool) -> None:
    """Against the reference decoded whole, cut out and resized by Pillow: a few levels apart, where nothing shrinks."""
    content = (JPEGS | OTHERS)[kind]
    preprocess = Preprocess((channels, 20, 24), (0.0,) * channels, (1.0,) * channels, order=order)

    def window(h: int, w: int) -> tuple[int, int, int, int]:
        return w // 4, h // 4, w // 4 + 26, h // 4 + 22

    expected = crop_and_resize(read_image(content, channels)[None], [window], preprocess)[0]
    out = read(content, preprocess, window)
    assert out.shape == expected.shape
    mean, most = apart(out, expected)
    if kind in OTHERS or not decoders:
        assert most <= 2 * (channels == 1)  # rounded twice: scaled, then grey; or grey, then scaled
    else:  # OpenCV's bilinear looks at four pixels, Pillow's at a few more: edges come out sharper
        assert mean < 2.5


@pytest.mark.parametrize(
    ("side", "reduction"), [(31, 1), (47, 1), (48, 2), (95, 2), (96, 4), (191, 4), (192, 8), (999, 8)]
)
def test_the_largest_reduction_that_covers_the_window(side: int, reduction: int) -> None:
    square = Preprocess((3, 24, 24), (0.0,) * 3, (1.0,) * 3)
    assert reduction_for((5, 7, 5 + side, 7 + side), square) == reduction


@pytest.mark.parametrize("size", [(400, 300), (403, 307), (97, 1000)])
def test_large_windows_are_decoded_small_and_still_show_the_same(size: tuple[int, int], decoders: bool) -> None:
    content = encoded(photo(*size), quality=95)
    for window in (whole, lambda h, w: (w // 2, h // 3, w, h)):
        expected = crop_and_resize(read_image(content, 3)[None], [window], SMALL)[0]
        mean, most = apart(read(content, SMALL, window), expected)
        assert mean < 4, decoders  # of 255: two ways to average
        assert most < 110  # at the edges of the pasted square


@pytest.mark.usefixtures("decoders")
@pytest.mark.parametrize("window", [None, whole])
@pytest.mark.parametrize("share", [0.02, 0.4, 0.9])
def test_a_broken_file_is_named(share: float, window) -> None:
    content = JPEGS["plain"]
    with pytest.raises(UserError, match=r"here/ant\.jpg is (a broken|not a .*) image"):
        read(named(content[: int(share * len(content))]), SMALL, window)


@pytest.mark.usefixtures("decoders")
@pytest.mark.parametrize("window", [None, whole])
def test_an_image_too_large_is_refused(window) -> None:
    with pytest.raises(UserError, match=r"ant\.jpg has more than"):
        read(named(JPEGS["plain"]), SMALL, window, 9999)


def test_what_decodes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    if decode.FAST:
        assert decoder().startswith("simplejpeg ")
    monkeypatch.setattr(decode, "FAST", False)
    assert decoder().startswith("pillow ")
