"""Images over white, with 8 bits a sample; PNG's transparent colour is compared with every bit of the samples."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

LOW = {"RGB;16B": "RGB;16L"}  # Pillow's ways to take the high byte of each sample, and the low one
DEPTHS = {"L;2": 2, "L;4": 4, "L": 8, "RGB": 8}  # bits of a sample, for those that Pillow stores in 8


def raw_mode(image: Image.Image) -> str:
    """How the samples of a PNG file that is not loaded yet are stored, in Pillow's words: "L;2", "RGB;16B" ..."""
    mode = image.tile[0].args if isinstance(image, PngImageFile) and image.tile else ""
    return mode if isinstance(mode, str) else ""


def needs_low(image: Image.Image) -> bool:
    """Whether a PNG file that is not loaded yet has a transparent colour of 16-bit samples of which Pillow keeps 8."""
    return raw_mode(image) in LOW and "transparency" in image.info


def low_bytes(image: Image.Image) -> np.ndarray:
    """The low bytes of a PNG file's 16-bit samples, uint8 (H, W, 3); the image is not loaded yet."""
    assert isinstance(image, PngImageFile)
    image.tile = [tile._replace(args=LOW[raw_mode(image)]) for tile in image.tile]
    return np.asarray(image)


def over_white(image: Image.Image, raw: str, low: np.ndarray | None) -> Image.Image:
    """The loaded image; `raw` is its `raw_mode`, `low` its `low_bytes` if it `needs_low`."""
    key = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16-bit grey; older versions of Pillow open it as 32-bit
        samples = np.clip(np.asarray(image), 0, 65535)
        return Image.fromarray(np.where(samples == key, 255, samples >> 8).astype(np.uint8))
    if low is not None:
        high = np.asarray(image)
        seen_through = (high == np.array(key) >> 8) & (low == np.array(key) & 255)
        return Image.fromarray(np.where(seen_through.all(2, keepdims=True), np.uint8(255), high))
    if not image.has_transparency_data:
        return image
    if raw in DEPTHS and key is not None:
        image.info["transparency"] = scaled(key, DEPTHS[raw])
    opaque = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)


def scaled(key: Any, depth: int) -> Any:
    """A transparent colour with samples of `depth` bits, of which higher ones do not count, in 8 bits."""
    if isinstance(key, tuple):
        return tuple(scaled(sample, depth) for sample in key)
    most = (1 << depth) - 1
    return (key & most) * 255 // most
