"""Image files of every kind that has been met, each with its right answer stated beside it, not asked of a decoder."""

from __future__ import annotations

import gzip
import os
import random
import signal
import socket
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data.check.bad import find_bad
from convatlas.data.decode.reference import read_image
from convatlas.errors import UserError
from tests.images import BLUE, GREEN, QUARTERS, RED, WHITE, encoded, png, without_adobe

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's own, of what it passes over


@dataclass(frozen=True)
class Right:
    """The pixels (H, W, 3), and how far off one may be."""

    pixels: np.ndarray
    tolerance: int = 0


@dataclass(frozen=True)
class Refused:
    """A UserError that says this."""

    why: str


NO_IMAGE = Refused("is not a JPEG, PNG, WebP, BMP or GIF image")
BROKEN = Refused("is a broken image")
TOO_LARGE = Refused("has more than 50 megapixels")
SAME, NEAR = Right(QUARTERS), Right(QUARTERS, 3)
Answer = Right | Refused
Kinds = dict[str, tuple[bytes, Answer] | tuple[bytes, Answer, Answer]]  # two answers: either will do

PLAIN = Image.fromarray(QUARTERS)
JPEG = encoded(PLAIN, "JPEG", quality=100, subsampling=0)
PNG, GIF, BMP = (encoded(PLAIN, kind) for kind in ("PNG", "GIF", "BMP"))
WEBP = encoded(PLAIN, "WEBP", lossless=True)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
COLOURS = Right(np.array([[RED, GREEN], [BLUE, (9, 9, 9)]], np.uint8))


def flat(colour: tuple[int, ...], height: int = 8, width: int = 8, tolerance: int = 2) -> Right:
    return Right(np.full((height, width, 3), colour, np.uint8), tolerance)


def grey(rows: list[list[int]], tolerance: int = 0) -> Right:
    return Right(np.repeat(np.array(rows, np.uint8)[:, :, None], 3, 2), tolerance)


def segment(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data


def with_segment(kind: int, data: bytes) -> bytes:
    """The JPEG with one more segment after its first marker."""
    return JPEG[:2] + segment(kind, data) + JPEG[2:]


def frame_changed(jpeg: bytes, offset: int, values: bytes) -> bytes:
    """The JPEG with bytes of its frame header replaced: 0 the marker's second, 3 the precision, 4 the height."""
    at = jpeg.index(b"\xff\xc0") + 1
    return jpeg[: at + offset] + values + jpeg[at + offset + len(values) :]


def several_pictures() -> bytes:
    return encoded(PLAIN, "MPO", quality=100, subsampling=0, save_all=True, append_images=[NOISE])


def many_scans(n: int) -> bytes:
    """A progressive JPEG whose last scan comes n times more."""
    whole = encoded(PLAIN, "JPEG", progressive=True)
    at = whole.rindex(b"\xff\xda")
    return whole[:at] + whole[at:-2] * (n + 1) + whole[-2:]


def ycck(y: int, cb: int, cr: int, k: int) -> bytes:
    """A JPEG whose samples are these, its Adobe marker saying that the first three are YCbCr of the inks' inverse."""
    stored = encoded(Image.new("CMYK", (8, 8), (255 - y, 255 - cb, 255 - cr, 255 - k)), "JPEG", quality=100)
    at = stored.index(b"Adobe") + 11
    assert stored[at] == 0
    return stored[:at] + b"\x02" + stored[at + 1 :]


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    check = zlib.crc32(kind + data) if crc is None else crc
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def chunks(*parts: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def header(width: int, height: int, depth: int, colour: int, interlaced: int = 0) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def adam7(pixels: list[list[int]]) -> bytes:
    """An interlaced grey PNG of 8 bits: the seven passes of the specification, one after another."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for x, y, dx, dy in passes:
        for row in pixels[y::dy]:
            if row[x::dx]:
                rows += b"\0" + bytes(row[x::dx])
    height, width = len(pixels), len(pixels[0])
    return chunks(header(width, height, 8, 0, 1), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))


def split_idat() -> bytes:
    """The PNG with its data in chunks of one byte."""
    at = PNG.index(b"IDAT")
    (length,) = struct.unpack(">I", PNG[at - 4 : at])
    data = PNG[at + 4 : at + 4 + length]
    return PNG[: at - 4] + b"".join(chunk(b"IDAT", data[i : i + 1]) for i in range(length)) + chunk(b"IEND", b"")


def saved(kind: str) -> bytes:
    return encoded(PLAIN, kind)


def zipped() -> bytes:
    out = BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("x.png", PNG)
    return out.getvalue()


def exif(orientation: int) -> bytes:
    """By hand: little-endian TIFF with one entry, tag 0x0112, type SHORT."""
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)


GRADIENT = [[(16 * r + c) % 256 for c in range(11)] for r in range(13)]
RAMP_2BIT = png(4, 1, 2, 0, b"\0\x1b")  # 00 01 10 11
BOMB_TEXT = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(200_000_000), 9))
BOMB_PROFILE = chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(200_000_000), 9))


def kinds() -> Kinds:
    found: Kinds = {
        # JPEG
        "jpeg": (JPEG, NEAR),
        "jpeg, progressive": (encoded(PLAIN, "JPEG", quality=100, subsampling=0, progressive=True), NEAR),
        "jpeg with restarts": (encoded(PLAIN, "JPEG", quality=100, subsampling=0, restart_marker_rows=1), NEAR),
        "jpeg that stores rgb": (encoded(PLAIN, "JPEG", quality=100, keep_rgb=True), NEAR),
        "jpeg, grey": (encoded(Image.new("L", (8, 8), 77), "JPEG", quality=100), flat((77, 77, 77))),
        "jpeg, cmyk of adobe": (encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100), flat(RED)),
        "jpeg, cmyk plain": (
            without_adobe(encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 255)), "JPEG", quality=100)),
            flat(RED),
        ),
        # inks cyan 0, magenta 255, yellow 255, black 0: as RGB (0, 255, 255), whose YCbCr (JFIF) is this
        "jpeg, ycck": (ycck(179, 171, 1, 255), flat(RED, tolerance=4)),
        "jpeg of several pictures": (several_pictures(), NEAR),
        "jpeg, 1 x 1": (encoded(Image.new("RGB", (1, 1), BLUE), "JPEG", quality=100), flat(BLUE, 1, 1)),
        "jpeg of 12 bits": (frame_changed(JPEG, 3, b"\x0c"), BROKEN, NO_IMAGE),
        "jpeg, lossless": (frame_changed(JPEG, 0, b"\xc3"), BROKEN, NO_IMAGE),
        "jpeg of height 0": (frame_changed(JPEG, 4, b"\0\0"), BROKEN, NO_IMAGE),
        "jpeg of 65,500 x 65,500": (frame_changed(JPEG, 4, b"\xff\xdc\xff\xdc"), TOO_LARGE),
        "jpeg, half": (JPEG[: len(JPEG) // 2], BROKEN, NO_IMAGE),
        "jpeg, its second half zeroed": (JPEG[: len(JPEG) // 2] + bytes(len(JPEG) // 2), BROKEN, NO_IMAGE),
        "jpeg, noise, its last tenth zeroed": (zeroed_end(encoded(NOISE, "JPEG")), BROKEN),
        "jpeg without its end": (JPEG[:-2], BROKEN),
        "jpeg that ends with its header": (JPEG[: JPEG.index(b"\xff\xda")], BROKEN, NO_IMAGE),
        "jpeg and more": (JPEG + b"\xff\xda more \xff\xd8" * 99, NEAR),
        "jpeg after something else": (b"\n\n" + JPEG, NO_IMAGE),
        "jpeg of 1,000 scans": (many_scans(1000), Refused("has more than 200 scans")),
        "jpeg of few scans": (many_scans(3), Right(QUARTERS, 255)),
        "jpeg, broken exif": (with_segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"), NEAR),
        "jpeg, exif cut short": (with_segment(0xE1, b"Exif\0\0"), NEAR),
        "jpeg, two exifs": (with_segment(0xE1, exif(1) + exif(3)), NEAR),
        "jpeg, broken profile": (with_segment(0xE2, b"ICC_PROFILE\0\x01\x01nonsense"), NEAR),
        "jpeg, thumbnail in its exif": (with_segment(0xE1, exif(1) + encoded(NOISE, "JPEG")), NEAR),
        "jpeg with a long comment": (with_segment(0xFE, b"\0" * 65_000), NEAR),
        # PNG
        "png": (PNG, SAME),
        "png, interlaced": (adam7(GRADIENT), grey(GRADIENT)),
        "png of 16 bits": (png(1, 1, 16, 2, b"\0" + struct.pack(">3H", 0x1234, 0x8001, 0xFF00)), one(0x12, 0x80, 0xFF)),
        "png of 16 bits, grey": (png(2, 1, 16, 0, b"\0\x80\xff\x01\x00"), grey([[0x80, 1]])),
        "png of 16 bits, grey and alpha": (png(1, 1, 16, 4, b"\0\0\0\x33\xff"), grey([[204]], 1)),
        "png of 1 bit": (encoded(Image.fromarray(np.eye(3) > 0), "PNG"), grey((255 * np.eye(3, dtype=int)).tolist())),
        "png of 2 bits": (RAMP_2BIT, grey([[0, 85, 170, 255]])),
        "png of 4 bits": (png(2, 1, 4, 0, b"\0\x1f"), grey([[17, 255]])),
        "png, palette": (palette("PNG"), COLOURS),
        "png, palette with a transparent colour": (palette("PNG", transparency=1), white_at_01()),
        "png, palette with half transparency": (palette("PNG", transparency=bytes([255, 0, 255, 255])), white_at_01()),
        "png, palette missing": (png(1, 1, 8, 3, b"\0\0"), BROKEN, NO_IMAGE),
        "png, grey and alpha": (png(2, 1, 8, 4, b"\0\x00\xff\x00\x00"), grey([[0, 255]])),
        "png, transparent": (encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "PNG"), one(*WHITE)),
        "png, animated": (encoded(PLAIN, "PNG", save_all=True, append_images=[PLAIN.rotate(180)]), SAME),
        "png, 1 x 1": (png(1, 1, 8, 2, b"\0\1\2\3"), one(1, 2, 3)),
        "png, 1 pixel high": (png(3, 1, 8, 0, b"\0\1\2\3"), grey([[1, 2, 3]])),
        "png of no width": (png(0, 4, 8, 2, b"\0" * 4), BROKEN, NO_IMAGE),
        "png of no height": (png(4, 0, 8, 2, b""), BROKEN, NO_IMAGE),
        "png of 60,000 x 60,000": (png(60_000, 60_000, 8, 2, b""), TOO_LARGE),
        "png of 2^31 x 2^31": (png(2**31 - 1, 2**31 - 1, 8, 2, b""), TOO_LARGE),
        "png, half": (PNG[: len(PNG) // 2], BROKEN, NO_IMAGE),
        "png without its end": (PNG[:-12], SAME, BROKEN),
        "png and more": (PNG + b"\0more" * 999, SAME),
        "png, wrong checksum of its header": (PNG[:29] + b"\0\0\0\0" + PNG[33:], BROKEN, NO_IMAGE),
        "png, wrong checksum of its data": (PNG[:-16] + b"\0\0\0\0" + PNG[-12:], SAME, BROKEN),
        "png, a byte of its data changed": (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], BROKEN),
        "png, too much data": (png(1, 1, 8, 0, b"\0\7" + bytes(9_000_000)), grey([[7]]), BROKEN),
        "png in chunks of a byte": (split_idat(), SAME),
        "png, text bomb": (chunks(PNG[8:33], BOMB_TEXT, PNG[33:]), SAME, NO_IMAGE),
        "png, profile bomb": (chunks(PNG[8:33], BOMB_PROFILE, PNG[33:]), SAME, NO_IMAGE),
        "png, an unknown depth": (png(1, 1, 7, 0, b"\0\0"), BROKEN, NO_IMAGE),
        "png, an unknown filter": (png(1, 1, 8, 0, b"\x09\0"), BROKEN),
        "png, crlf become lf": (PNG.replace(b"\r\n", b"\n"), NO_IMAGE),
        # GIF, BMP, WebP
        "gif": (GIF, SAME),
        "gif, animated": (encoded(PLAIN, "GIF", save_all=True, append_images=[PLAIN.rotate(180)]), SAME),
        "gif, transparent colour": (palette("GIF", transparency=1), white_at_01()),
        "gif, half": (GIF[: len(GIF) // 2], BROKEN, NO_IMAGE),
        "gif of 65,535 x 65,535": (GIF[:6] + b"\xff" * 4 + GIF[10:], TOO_LARGE),
        "gif without a frame": (GIF[:13] + b";", BROKEN, NO_IMAGE),
        "bmp": (BMP, SAME),
        "bmp upside down": (bmp_top_down(), SAME),
        "bmp, half": (BMP[: len(BMP) // 2], BROKEN),
        "bmp of 60,000 x 60,000": (BMP[:18] + struct.pack("<ii", 60_000, 60_000) + BMP[26:], TOO_LARGE),
        "bmp of width 0": (BMP[:18] + struct.pack("<ii", 0, 16) + BMP[26:], BROKEN, NO_IMAGE),
        "webp": (WEBP, SAME),
        "webp, animated": (
            encoded(PLAIN, "WEBP", save_all=True, append_images=[PLAIN.rotate(180)], lossless=True),
            SAME,
        ),
        "webp, transparent": (encoded(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "WEBP", lossless=True), one(*WHITE)),
        "webp, half": (WEBP[: len(WEBP) // 2], BROKEN, NO_IMAGE),
        "webp and more": (WEBP + b"more", SAME, NO_IMAGE),
        # no images
        "nothing": (b"", NO_IMAGE),
        "a zero byte": (b"\0", NO_IMAGE),
        "zeros": (bytes(5000), NO_IMAGE),
        "text": (b"not an image\n" * 50, NO_IMAGE),
        "html": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>", NO_IMAGE),
        "svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', NO_IMAGE),
        "xml with entities": (b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "/etc/x">]><a>&b;</a>', NO_IMAGE),
        "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n%%EOF\n", NO_IMAGE),
        "pdf": (saved("PDF"), NO_IMAGE),
        "tiff": (saved("TIFF"), NO_IMAGE),
        "ico": (saved("ICO"), NO_IMAGE),
        "ppm": (saved("PPM"), NO_IMAGE),
        "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), NO_IMAGE),
        "avif": (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miafMA1B" + bytes(99), NO_IMAGE),
        "a zip of images": (zipped(), NO_IMAGE),
        "a gzipped png": (gzip.compress(PNG), NO_IMAGE),
        "a pickle": (b"\x80\x04\x95cbuiltins\neval\n(S'1/0'\ntR.", NO_IMAGE),
    }  # fmt: skip
    stored = {
        1: QUARTERS,
        2: QUARTERS[:, ::-1],
        3: QUARTERS[::-1, ::-1],
        4: QUARTERS[::-1],
        5: QUARTERS.transpose(1, 0, 2),
        6: QUARTERS.transpose(1, 0, 2)[::-1],
        7: QUARTERS.transpose(1, 0, 2)[::-1, ::-1],
        8: QUARTERS.transpose(1, 0, 2)[:, ::-1],
    }
    for orientation, pixels in stored.items():
        plain = encoded(Image.fromarray(np.ascontiguousarray(pixels)), "JPEG", quality=100, subsampling=0)
        found[f"jpeg, orientation {orientation}"] = plain[:2] + segment(0xE1, exif(orientation)) + plain[2:], NEAR
    return found


def one(*colour: int) -> Right:
    return Right(np.array([[colour]], np.uint8))


def palette(kind: str, **options: object) -> bytes:
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), "L").convert("P")
    image.putpalette([*RED, *GREEN, *BLUE, 9, 9, 9])
    return encoded(image, kind, **options)


def white_at_01() -> Right:
    pixels = COLOURS.pixels.copy()
    pixels[0, 1] = WHITE
    return Right(pixels)


def zeroed_end(content: bytes) -> bytes:
    n = len(content) // 10
    return content[:-n] + bytes(n)


def bmp_top_down() -> bytes:
    """The rows from the top, and the height negative, as the format says of them."""
    width, height = struct.unpack("<ii", BMP[18:26])
    (start,) = struct.unpack("<I", BMP[10:14])
    stride = (3 * width + 3) // 4 * 4
    rows = [BMP[start + i * stride : start + (i + 1) * stride] for i in range(height)]
    return BMP[:18] + struct.pack("<ii", width, -height) + BMP[26:start] + b"".join(rows[::-1])


KINDS = kinds()


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """Nothing may hang."""
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def late(*_: object) -> None:
    raise AssertionError("it hangs")


def answer_holds(answer: Answer, outcome: np.ndarray | str) -> bool:
    if isinstance(answer, Refused):
        return isinstance(outcome, str) and answer.why in outcome
    if isinstance(outcome, str) or outcome.shape != answer.pixels.shape:
        return False
    return int(np.abs(outcome.astype(int) - answer.pixels).max()) <= answer.tolerance


def outcome_of(path: Path) -> np.ndarray | str:
    try:
        return read_image(path, 3).permute(1, 2, 0).numpy()
    except UserError as error:
        return str(error)


def test_there_are_many_kinds() -> None:
    assert len(KINDS) >= 100


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_right_answer(tmp_path: Path, kind: str) -> None:
    content, *answers = KINDS[kind]
    path = tmp_path / "it.jpg"
    path.write_bytes(content)
    outcome = outcome_of(path)
    assert any(answer_holds(answer, outcome) for answer in answers), outcome
    bad = find_bad([path], decode=True)
    assert [f"{it.reason}; {it.remedy}" for it in bad] == ([outcome] if isinstance(outcome, str) else [])
    if isinstance(outcome, str):
        assert outcome.startswith(f"{path} ")
        assert "\n" not in outcome


# what is not a plain file


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("pipe", "is a pipe; give image files"),
        ("socket", "is a socket; give image files"),
        ("folder", "is a folder; give image files"),
        ("link to /dev/zero", "is a device; give image files"),
        ("link to /dev/null", "is a device; give image files"),
        ("link to itself", "cannot be read (Too many levels of symbolic links)"),
        ("link to nothing", "cannot be read (No such file or directory)"),
        ("name too long", "cannot be read (File name too long)"),
    ],
)
def test_what_is_no_plain_file_is_refused_and_does_not_hang(tmp_path: Path, kind: str, why: str) -> None:
    path = tmp_path / "it.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as it:
            it.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "name too long":
        path = tmp_path / ("x" * 300)
    else:
        path.symlink_to({"itself": path, "nothing": tmp_path / "none"}.get(kind[8:], kind[8:]))
    assert outcome_of(path) == f"{path} {why}" or str(outcome_of(path)).startswith(f"{path} {why}")


def test_a_link_to_an_image_is_the_image(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(PNG)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert answer_holds(SAME, outcome_of(tmp_path / "b"))


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    path.chmod(0)
    outcome = outcome_of(path)
    if os.access(path, os.R_OK):  # the superuser may read it
        assert answer_holds(SAME, outcome)
    else:
        assert str(outcome).startswith(f"{path} cannot be read (Permission denied)")


def test_the_limit_is_a_setting(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("L", (1000, 1001), 5), "PNG"))
    assert read_image(path, 1, 1_001_000).shape == (1, 1001, 1000)
    with pytest.raises(UserError, match=r"a.png has more than 1 megapixels; scale it down, or raise --max-megapixels"):
        read_image(path, 1, 1_000_000)


def test_a_limit_beyond_pillows_own_is_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("L", (100, 100), 5), "PNG"))
    with pytest.raises(UserError, match=r"has more than 0\.0015 megapixels"):
        read_image(path, 1, 1500)
    assert read_image(path, 1, 20_000).shape == (1, 100, 100)


# fuzzed


def mangled(content: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, some taken out, some put in, or the end cut off."""
    whole = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at, what = rng.randrange(len(whole) + 1), rng.randrange(5)
        if what == 0:
            del whole[at : at + rng.randint(1, 40)]
        elif what == 1:
            whole[at:at] = rng.randbytes(rng.randint(1, 40))
        elif what == 2:
            del whole[max(at, 1) :]
        else:
            whole[at : at + 1] = bytes([rng.choice((0, 255, rng.randrange(256)))])
    return bytes(whole)


SEEDS = [content for content, *answers in KINDS.values() if isinstance(answers[0], Right) and len(content) < 20_000]


def fuzz(n: int, seed: int) -> tuple[int, int]:
    """How many of n mangled files gave an image, and how many an error; nothing else may come."""
    rng = random.Random(seed)
    images = errors = 0
    for i in range(n):
        content = mangled(rng.choice(SEEDS), rng)
        image, said = None, ""
        try:
            image = read_image(content, rng.choice((1, 3)), 2_000_000)
        except UserError as error:
            said = str(error)
        if image is None:
            assert said.startswith("the image "), (seed, i)
            errors += 1
            continue
        assert image.ndim == 3, (seed, i)
        assert 0 < image[0].numel() <= 2_000_000, (seed, i)
        images += 1
    return images, errors


def test_mangled_files_give_an_image_or_an_error() -> None:
    images, errors = fuzz(1500, 0)
    assert images > 100
    assert errors > 100


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(1, 21))
def test_a_hundred_thousand_mangled_files_give_an_image_or_an_error(seed: int) -> None:
    fuzz(5000, seed)
