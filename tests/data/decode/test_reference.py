"""read_image: every odd kind of file, each against colours known beforehand."""

import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageFile

from convatlas.data.decode.reference import read_image
from convatlas.errors import UserError
from tests.images import BLUE, GREEN, QUARTERS, RED, WHITE, encoded, png, without_adobe


def hwc(content: bytes | Path, channels: int = 3) -> np.ndarray:
    return read_image(content, channels).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP", "JPEG"])
def test_every_format_in_colour_and_in_grey(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(QUARTERS)
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    path = tmp_path / f"x.{kind.lower()}"
    path.write_bytes(encoded(image, kind, **options))
    tolerance = 2 if kind == "JPEG" else 0
    assert np.abs(hwc(path).astype(int) - QUARTERS).max() <= tolerance
    assert np.abs(hwc(path, 1)[:, :, 0].astype(int) - np.asarray(image.convert("L"))).max() <= tolerance
    assert np.array_equal(hwc(path.read_bytes()), hwc(str(path)))


def test_a_wrong_suffix_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(Image.fromarray(QUARTERS), "PNG"))
    assert np.array_equal(hwc(path), QUARTERS)


@pytest.mark.parametrize("options", [{"progressive": True}, {"subsampling": 2}, {"restart_marker_rows": 1}])
def test_other_jpegs_differ_little_from_plain_ones(options: dict) -> None:
    ramp = np.linspace(0, 255, 32).astype(np.uint8)
    image = Image.fromarray(np.stack([np.tile(ramp, (32, 1))] * 3, -1))
    assert np.abs(hwc(encoded(image, "JPEG", quality=95, **options)).astype(int) - np.asarray(image)).max() <= 6


def test_grey_files_become_colour_and_bits_become_0_and_255() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    out = hwc(encoded(Image.fromarray(grey), "PNG"))
    assert all(np.array_equal(out[:, :, c], grey) for c in range(3))
    assert np.array_equal(hwc(encoded(Image.fromarray(grey > 99), "PNG"), 1)[:, :, 0], (grey > 99) * 255)


def test_a_palette_gives_its_colours_and_its_transparent_entry_white() -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), "L").convert("P")
    image.putpalette([*RED, *GREEN, *BLUE, 9, 9, 9])
    assert hwc(encoded(image, "PNG")).tolist() == [[[*RED], [*GREEN]], [[*BLUE], [9, 9, 9]]]
    for kind in ("PNG", "GIF"):
        assert hwc(encoded(image, kind, transparency=1)).tolist() == [[[*RED], [*WHITE]], [[*BLUE], [9, 9, 9]]]
    half = encoded(image, "PNG", transparency=bytes([255, 0, 128, 255]))
    assert hwc(half).tolist() == [[[*RED], [*WHITE]], [[127, 127, 255], [9, 9, 9]]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_lies_over_white(kind: str) -> None:
    image = Image.fromarray(np.array([[[*RED, 255], [*RED, 0]], [[0, 0, 0, 51], [*BLUE, 128]]], np.uint8))
    content = encoded(image, kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    assert hwc(content).tolist() == [[[*RED], [*WHITE]], [[204] * 3, [127, 127, 255]]]
    assert hwc(content, 1)[1, 0, 0] == 204


def test_transparency_of_grey_and_of_one_colour() -> None:
    grey = Image.fromarray(np.array([[[0, 255], [0, 0]], [[0, 51], [90, 255]]], np.uint8), "LA")
    assert hwc(encoded(grey, "PNG"), 1)[:, :, 0].tolist() == [[0, 255], [204, 90]]
    assert hwc(encoded(Image.new("L", (1, 1), 7), "PNG", transparency=7)).tolist() == [[[*WHITE]]]
    assert hwc(encoded(Image.new("RGB", (1, 1), RED), "PNG", transparency=RED)).tolist() == [[[*WHITE]]]


def test_16_bits_keep_their_high_byte() -> None:
    grey = png(3, 1, 16, 0, b"\0" + struct.pack(">3H", 0x0001, 0x80FF, 0xFFFF))
    assert hwc(grey, 1)[0, :, 0].tolist() == [0, 0x80, 0xFF]
    assert hwc(grey)[0].tolist() == [[0] * 3, [0x80] * 3, [0xFF] * 3]
    colour = png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0x1234, 0x8001, 0xFF00))
    assert hwc(colour).tolist() == [[[0x12, 0x80, 0xFF]]]
    alpha = png(1, 1, 16, 6, b"\0" + struct.pack(">4H", 0, 0, 0, 0x33FF))
    assert hwc(alpha).tolist() == [[[204] * 3]]
    written = encoded(Image.fromarray(np.full((2, 2), 0xABCD, np.uint16)), "PNG")
    assert (hwc(written, 1) == 0xAB).all()


@pytest.mark.parametrize(("ink", "colour"), [((0, 255, 255, 0), RED), ((0, 0, 0, 255), (0, 0, 0)), ((0,) * 4, WHITE)])
def test_cmyk_with_and_without_adobes_inversion(ink: tuple, colour: tuple) -> None:
    image = Image.new("CMYK", (8, 8), ink)
    adobe = encoded(image, "JPEG", quality=100)  # Pillow writes Adobe's marker, and inverts
    plain = without_adobe(encoded(ImageChops.invert(image), "JPEG", quality=100))
    for content in (adobe, plain):
        assert np.abs(hwc(content).astype(int) - colour).max() <= 2


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int, kind: str) -> None:
    """What a camera would store: rows and columns as the EXIF standard names the sides of each orientation."""
    upright = QUARTERS
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],  # row 0 is the right side, column 0 the top
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}, "PNG": {}}[kind]
    content = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    assert hwc(content).shape == upright.shape
    assert np.abs(hwc(content).astype(int) - upright).max() <= 2
    assert hwc(content, 1).shape == (16, 24, 1)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0nonsense", b"Exif\0\0MM\0*\0\0\0\x08\0\x09"]
)
@pytest.mark.filterwarnings("ignore:.*EXIF.*", "ignore:.*[Tt]runcated.*")
def test_a_broken_exif_block_is_passed_over(exif: bytes) -> None:
    content = encoded(Image.fromarray(QUARTERS), "JPEG", quality=100, subsampling=0, exif=exif)
    assert np.abs(hwc(content).astype(int) - QUARTERS).max() <= 2


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_passed_over(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert np.array_equal(hwc(encoded(Image.fromarray(QUARTERS), "PNG", exif=exif)), QUARTERS)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_an_animation_gives_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
    assert Image.open(BytesIO(content)).n_frames == 3
    assert (hwc(content) == RED).all()


def test_the_result_may_be_written_to() -> None:
    image = read_image(encoded(Image.fromarray(QUARTERS), "PNG"), 3)
    image.zero_()


# What is no image.


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jpg cannot be read \(No such file"):
        read_image(tmp_path / "none.jpg", 3)
    with pytest.raises(UserError, match="is a folder; give image files"):
        read_image(tmp_path, 3)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"hello\n" * 99, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", POSTSCRIPT]
)
def test_what_is_no_image_is_refused_and_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "notes.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"notes\.jpg is not a JPEG, PNG, WebP, BMP or GIF image"):
        read_image(tmp_path / "notes.jpg", 3)
    with pytest.raises(UserError, match="the image is not"):
        read_image(content, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_cut_short_is_refused_and_named(tmp_path: Path, kind: str, share: float) -> None:
    generator = np.random.default_rng(0)
    content = encoded(Image.fromarray(generator.integers(0, 256, (64, 64, 3), np.uint8)), kind)
    path = tmp_path / "half.img"
    path.write_bytes(content[: int(share * len(content))])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(UserError, match=r"half\.img is (a broken|not a .*) image"):
        read_image(path, 3)


def test_a_damaged_png_is_refused() -> None:
    content = bytearray(encoded(Image.fromarray(QUARTERS), "PNG"))
    content[content.index(b"IDAT") + 12] ^= 0xFF
    with pytest.raises(UserError, match="the image is a broken image"):
        read_image(bytes(content), 3)


@pytest.mark.parametrize("side", [7072, 9_000, 12_000, 30_000, 65_000])  # 7071^2 is 49,999,041
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    """No pixels follow these headers: the size alone must decide."""
    (tmp_path / "bomb.png").write_bytes(png(side, side, 8, 2, b""))
    with pytest.raises(UserError, match=r"bomb\.png has more than 50 megapixels"):
        read_image(tmp_path / "bomb.png", 3)


def test_fifty_megapixels_are_not_too_many() -> None:
    with pytest.raises(UserError, match="is a broken image"):  # for lack of its pixels
        read_image(png(7071, 7071, 8, 2, b""), 3)


MODES = {"JPEG": "RGB L CMYK", "PNG": "RGB L P RGBA 1", "WEBP": "RGB RGBA", "BMP": "RGB P", "GIF": "P"}
IMAGES = [
    encoded(Image.fromarray(QUARTERS).convert(mode), kind) for kind, modes in MODES.items() for mode in modes.split()
]


@given(
    st.sampled_from(IMAGES),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.integers(0, 2000),
)
@settings(max_examples=300)
@pytest.mark.filterwarnings("ignore")  # Pillow's own, of what it mends
def test_a_mangled_file_gives_an_image_or_one_clear_error(content: bytes, changes: list, cut: int) -> None:
    mangled = bytearray(content)
    for at, value in changes:
        mangled[at % len(mangled)] = value
    image, message = None, ""
    try:
        image = read_image(bytes(mangled[: len(mangled) - cut // 20]), 3)
    except UserError as error:
        message = str(error)
    assert message.startswith("the image ") if image is None else image.shape[0] == 3
