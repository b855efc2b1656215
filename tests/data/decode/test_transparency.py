"""Every kind of PNG over white, against the specification written out in numpy (https://www.w3.org/TR/png-3/)."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from convatlas.data.decode import fast
from convatlas.data.decode.fast import read
from convatlas.data.decode.reference import read_image
from convatlas.preprocess import Preprocess

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, COLOUR: 3, PALETTE: 1, GREY_ALPHA: 2, COLOUR_ALPHA: 4}
DEPTHS = {
    GREY: (1, 2, 4, 8, 16),
    COLOUR: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GREY_ALPHA: (8, 16),
    COLOUR_ALPHA: (8, 16),
}
MODES = [(kind, depth) for kind, depths in DEPTHS.items() for depth in depths]
PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
HEIGHT, WIDTH = 9, 13


def packed(row: np.ndarray, depth: int) -> bytes:
    """A filter byte, none, and the samples of a row."""
    if depth == 16:
        return b"\0" + row.astype(">u2").tobytes()
    bits = "".join(f"{value:0{depth}b}" for value in row.ravel().tolist())
    bits += "0" * (-len(bits) % 8)
    return b"\0" + bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))


def png(samples: np.ndarray, kind: int, depth: int, *blocks: tuple[bytes, bytes], interlaced: bool = False) -> bytes:
    passes = PASSES if interlaced else [(0, 0, 1, 1)]
    rows = b"".join(packed(row, depth) for x, y, dx, dy in passes for row in samples[y::dy, x::dx] if row.size)
    header = struct.pack(">IIBBBBB", samples.shape[1], samples.shape[0], depth, kind, 0, 0, interlaced)
    parts = [(b"IHDR", header), *blocks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def over_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """float64 (H, W, 3) from 8-bit colours and opacity in 0 to 1."""
    return np.broadcast_to(alpha[..., None] * colour + (1 - alpha[..., None]) * 255, (*alpha.shape, 3))


def eight_bits(samples: np.ndarray, depth: int) -> np.ndarray:
    return samples >> 8 if depth == 16 else samples * 255 // ((1 << depth) - 1)


@pytest.fixture(params=[True, False], ids=["fast", "pillow"])
def _decoders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not fast.FAST:
        pytest.skip("simplejpeg and opencv are not installed (extra `fast`)")
    monkeypatch.setattr(fast, "FAST", request.param)


def reads_as(content: bytes, expected: np.ndarray, within: float = 0) -> None:
    as_it_is = Preprocess((3, HEIGHT, WIDTH), (0.0,) * 3, (1.0,) * 3, resize_mode="stretch")
    for crop in (None, lambda h, w: (0, 0, w, h)):
        pixels = read(content, as_it_is, crop).permute(1, 2, 0).numpy()
        assert np.abs(pixels - expected).max() <= within
    grey = read_image(content, 1)[0].numpy()
    assert np.abs(grey - expected @ [0.299, 0.587, 0.114]).max() <= within + 0.51


@pytest.mark.usefixtures("_decoders")
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), MODES)
def test_every_mode_and_depth(kind: int, depth: int, interlaced: bool) -> None:
    g = np.random.default_rng(10 * kind + depth)
    samples = g.integers(0, 1 << depth, (HEIGHT, WIDTH, CHANNELS[kind]))
    blocks = []
    if kind == PALETTE:
        table = g.integers(0, 256, (1 << depth, 3))
        opacity = g.integers(0, 256, (1 << depth) - (depth > 1))  # the entries beyond are opaque
        blocks = [(b"PLTE", bytes(table.ravel().tolist())), (b"tRNS", bytes(opacity.tolist()))]
        opacity = np.append(opacity, [255] * (depth > 1))
        expected = over_white(table[samples[..., 0]], opacity[samples[..., 0]] / 255)
    elif kind in (GREY_ALPHA, COLOUR_ALPHA):
        values = eight_bits(samples, depth)
        expected = over_white(values[..., :-1], values[..., -1] / 255)
    else:
        key = samples[4, 5]
        samples[0, :5] = key
        samples[1, :4] = key ^ 1  # differs in the lowest bit
        blocks = [(b"tRNS", struct.pack(f">{len(key)}H", *key.tolist()))]
        expected = over_white(eight_bits(samples, depth), 1.0 - (samples == key).all(2))
        assert (expected[0, :5] == 255).all()
    reads_as(png(samples, kind, depth, *blocks, interlaced=interlaced), expected, 0 if kind in (GREY, COLOUR) else 1)


@pytest.mark.usefixtures("_decoders")
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), [mode for mode in MODES if mode[0] in (GREY, COLOUR)])
def test_without_a_transparent_colour(kind: int, depth: int, interlaced: bool) -> None:
    samples = np.random.default_rng(depth).integers(0, 1 << depth, (HEIGHT, WIDTH, CHANNELS[kind]))
    expected = over_white(eight_bits(samples, depth), np.ones((HEIGHT, WIDTH)))
    reads_as(png(samples, kind, depth, interlaced=interlaced), expected)


@pytest.mark.usefixtures("_decoders")
@pytest.mark.parametrize(("kind", "depth"), [(GREY, 2), (GREY, 4), (GREY, 8), (COLOUR, 8)])
def test_bits_of_the_transparent_colour_beyond_the_depth_do_not_count(kind: int, depth: int) -> None:
    samples = np.random.default_rng(depth).integers(0, 1 << depth, (HEIGHT, WIDTH, CHANNELS[kind]))
    key = samples[2, 2]
    block = b"tRNS", struct.pack(f">{len(key)}H", *((key | 1 << depth) & 0xFFFF).tolist())
    expected = over_white(eight_bits(samples, depth), 1.0 - (samples == key).all(2))
    reads_as(png(samples, kind, depth, block), expected)


@pytest.mark.usefixtures("_decoders")
def test_the_transparent_colour_of_16_bits_is_one_of_65536() -> None:
    """Pixels that share its high byte, or have its value as their high byte, are opaque."""
    for kind in (GREY, COLOUR):
        samples = np.full((HEIGHT, WIDTH, CHANNELS[kind]), 0x1234)
        samples[0], samples[1], samples[2] = 0x1235, 0x0012, 0x1200
        for key, seen_through in ((0x1234, slice(3, None)), (0x0012, slice(1, 2)), (0xFFFF, slice(0, 0))):
            expected = np.repeat(samples[..., :1] >> 8, 3, 2)
            expected[seen_through] = 255
            reads_as(png(samples, kind, 16, (b"tRNS", struct.pack(">H", key) * CHANNELS[kind])), expected)
