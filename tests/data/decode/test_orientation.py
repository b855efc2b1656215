"""Turned images: written in Exif, in XMP, in both, in every format that has them, and read by either decoder."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.data.decode import fast
from convatlas.data.decode.fast import plain_pixels, read
from convatlas.data.decode.reference import MAX_PIXELS, read_image
from convatlas.data.sources import load_data, pack
from convatlas.preprocess import Preprocess
from tests.images import QUARTERS, encoded

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's own, of what it passes over
EIGHT = range(1, 9)
# rows and columns as the Exif standard names the sides of each orientation
STORED = {
    1: QUARTERS,
    2: QUARTERS[:, ::-1],
    3: QUARTERS[::-1, ::-1],
    4: QUARTERS[::-1],
    5: QUARTERS.transpose(1, 0, 2),
    6: QUARTERS.transpose(1, 0, 2)[::-1],  # row 0 is the right side, column 0 the top
    7: QUARTERS.transpose(1, 0, 2)[::-1, ::-1],
    8: QUARTERS.transpose(1, 0, 2)[:, ::-1],
}
OPTIONS: dict[str, dict] = {"JPEG": {"quality": 100, "subsampling": 0}, "PNG": {}, "WEBP": {"lossless": True}}


def tiff(orientation: int, kind: int = 3, order: str = "<") -> bytes:
    """Exif by hand: one entry, tag 0x0112, by default a SHORT."""
    value = struct.pack(order + ("HH" if kind == 3 else "I"), *((orientation, 0) if kind == 3 else (orientation,)))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    return head + struct.pack(order + "HHHI", 1, 0x0112, kind, 1) + value + bytes(4)


def without_orientation() -> bytes:
    """Exif with one entry, the resolution's unit."""
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 0x0128, 3, 1, 2, 0, 0)


def xmp(orientation: object, form: str = "attribute") -> bytes:
    own = {
        "attribute": f'<rdf:Description tiff:Orientation="{orientation}"/>',
        "apostrophes": f"<rdf:Description tiff:Orientation = '{orientation}'/>",
        "element": f"<rdf:Description><tiff:Orientation>{orientation}</tiff:Orientation></rdf:Description>",
        "lines": f"<rdf:Description><tiff:Orientation>\n {orientation}\n</tiff:Orientation></rdf:Description>",
    }[form]
    names = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"'
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {names}>{own}</rdf:RDF></x:xmpmeta>'.encode()


def image_of(kind: str, stored: np.ndarray, exif: bytes | None = None, meta: bytes | None = None) -> bytes:
    """The image with these blocks, put where the formats' specifications have them."""
    plain = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, **OPTIONS[kind])
    if kind == "JPEG":
        blocks = [b"Exif\0\0" + exif] if exif is not None else []
        blocks += [b"http://ns.adobe.com/xap/1.0/\0" + meta] if meta is not None else []
        segments = (struct.pack(">BBH", 0xFF, 0xE1, len(block) + 2) + block for block in blocks)
        return plain[:2] + b"".join(segments) + plain[2:]
    if kind == "PNG":
        parts = [(b"eXIf", exif)] if exif is not None else []
        parts += [(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + meta)] if meta is not None else []
        chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
        return plain[:33] + b"".join(chunks) + plain[33:]
    height, width = stored.shape[:2]
    flags = (8 if exif is not None else 0) | (4 if meta is not None else 0)
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    parts = [(b"VP8X", bytes([flags, 0, 0, 0]) + size), (plain[12:16], plain[20:])]
    parts += [(b"EXIF", exif)] if exif is not None else []
    parts += [(b"XMP ", meta)] if meta is not None else []
    body = b"".join(k + struct.pack("<I", len(d)) + d + b"\0" * (len(d) % 2) for k, d in parts)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


@pytest.fixture(params=[True, False], ids=["fast", "pillow"])
def _decoders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not fast.FAST:
        pytest.skip("simplejpeg and opencv are not installed (extra `fast`)")
    monkeypatch.setattr(fast, "FAST", request.param)


def shown_upright(content: bytes) -> None:
    """By the reference, and as whole images and as crops by the decoder in use."""
    assert read_image(content, 3).shape == (3, 16, 24)
    assert np.abs(read_image(content, 3).permute(1, 2, 0).numpy().astype(int) - QUARTERS).max() <= 3
    as_it_is = Preprocess((3, 16, 24), (0.0,) * 3, (1.0,) * 3, resize_mode="stretch")
    for crop in (None, lambda h, w: (0, 0, w, h)):
        pixels = read(content, as_it_is, crop).permute(1, 2, 0).numpy()
        assert np.abs(pixels.astype(int) - QUARTERS).max() <= 3


@pytest.mark.usefixtures("_decoders")
@pytest.mark.parametrize("orientation", EIGHT)
@pytest.mark.parametrize("kind", OPTIONS)
def test_either_block_turns_the_image(kind: str, orientation: int) -> None:
    stored, turns, meta = STORED[orientation], tiff(orientation), xmp(orientation)
    for exif, text in [
        (turns, None),
        (tiff(orientation, order=">"), None),
        (tiff(orientation, kind=4), None),
        (None, meta),
        (turns, meta),
        (without_orientation(), meta),
        *((None, xmp(orientation, form)) for form in ("apostrophes", "element", "lines")),
    ]:
        shown_upright(image_of(kind, stored, exif, text))


@pytest.mark.usefixtures("_decoders")
@pytest.mark.parametrize("kind", OPTIONS)
def test_exif_counts_where_the_two_differ(kind: str) -> None:
    for in_exif, in_xmp in product(EIGHT, (1, 3, 6)):
        shown_upright(image_of(kind, STORED[in_exif], tiff(in_exif), xmp(in_xmp)))


BROKEN = {
    "nothing": b"",
    "no tiff": b"nonsense",
    "no entries": b"II*\0\x08\0\0\0\0\0\0\0\0\0",
    "an offset beyond the end": b"II*\0\xff\xff\xff\xff",
    "cut short": tiff(6)[:12],
    "orientation 0": tiff(0),
    "orientation 9": tiff(9),
    "orientation 65535": tiff(65535),
    "a text": tiff(6, kind=2),
}


@pytest.mark.usefixtures("_decoders")
@pytest.mark.parametrize("exif", BROKEN)
@pytest.mark.parametrize("kind", OPTIONS)
def test_a_broken_exif_leaves_it_to_xmp(kind: str, exif: str) -> None:
    if kind == "WEBP" and not BROKEN[exif]:
        return
    for orientation in EIGHT:
        shown_upright(image_of(kind, STORED[orientation], BROKEN[exif], xmp(orientation)))
    shown_upright(image_of(kind, QUARTERS, BROKEN[exif]))


@pytest.mark.usefixtures("_decoders")
@pytest.mark.parametrize("orientation", [0, 9, 10, 68, "", "six", "-6"])
@pytest.mark.parametrize("kind", OPTIONS)
def test_xmp_without_an_orientation_turns_nothing(kind: str, orientation: object) -> None:
    for form in ("attribute", "element"):
        shown_upright(image_of(kind, QUARTERS, None, xmp(orientation, form)))
    shown_upright(image_of(kind, QUARTERS, None, b"\xff\xfe tiff:Orientation"))


@pytest.mark.usefixtures("_decoders")
def test_a_png_may_say_it_behind_its_pixels() -> None:
    for block in ({"exif": tiff(6)}, {"meta": xmp(6)}):
        content = image_of("PNG", STORED[6], **block)
        size = struct.unpack(">I", content[33:37])[0] + 12
        shown_upright(content[:33] + content[33 + size : -12] + content[33 : 33 + size] + content[-12:])


@pytest.mark.usefixtures("_decoders")
@pytest.mark.parametrize("orientation", EIGHT)
def test_other_ways_to_store_the_blocks(orientation: int) -> None:
    """ImageMagick's text in a PNG, compressed XMP, and Exif with its JPEG prefix in a WebP."""

    def with_chunk(kind: bytes, data: bytes) -> bytes:
        plain = image_of("PNG", STORED[orientation])
        chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        return plain[:33] + chunk + plain[33:]

    exif = b"Exif\0\0" + tiff(orientation)
    text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    shown_upright(with_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    shown_upright(with_chunk(b"tEXt", b"Raw profile type exif\0" + text))
    compressed = zlib.compress(xmp(orientation))
    shown_upright(with_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + compressed))
    shown_upright(image_of("WEBP", STORED[orientation], exif))


@pytest.mark.skipif(not fast.FAST, reason="simplejpeg and opencv are not installed (extra `fast`)")
def test_only_turned_jpegs_are_left_to_pillow() -> None:
    for in_exif, in_xmp in product((None, 1, 6), (None, 1, 6)):
        exif = None if in_exif is None else tiff(in_exif)
        content = image_of("JPEG", QUARTERS, exif, None if in_xmp is None else xmp(in_xmp))
        assert (plain_pixels(content, MAX_PIXELS) is None) is ((in_exif or in_xmp) == 6)


@pytest.mark.usefixtures("_decoders")
def test_a_pack_and_its_source_show_the_same(tmp_path: Path) -> None:
    """A small JPEG is copied as it is, unless it is turned."""
    for name in "ab":
        for orientation in EIGHT:
            file = tmp_path / f"set/{name}/{orientation}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(image_of("JPEG", STORED[orientation], None, xmp(orientation)))
    data = load_data(str(tmp_path / "set"), val=0)
    pack.pack(data, tmp_path / "packed", format="raw", size=16)
    small = Preprocess((3, 16, 24), (0.0,) * 3, (1.0,) * 3, resize_mode="stretch")
    packed = load_data(str(tmp_path / "packed"))
    everything = range(len(data.train))
    assert torch.equal(packed.train.fetch(everything, small), data.train.fetch(everything, small))
    assert Image.open(BytesIO(data.train.content(0))).size in ((16, 24), (24, 16))
