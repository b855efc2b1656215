"""read_image: the reference decoder (Pillow), the one place that decides how unusual image files become pixels."""

from __future__ import annotations

import re
from io import BytesIO
from os import PathLike, fspath
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageChops
from torch import Tensor

from ...errors import UserError, pass_on, unread
from ...files.regular import read_bytes, regular
from .orientation import turn
from .transparency import low_bytes, needs_low, over_white, raw_mode

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # no others: some of Pillow's readers run external programs
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
UNREAD = (".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl", ".dng", ".cr2", ".nef", ".arw", ".psd", ".svg")
MAX_PIXELS = 50_000_000
MAX_SCANS = 200  # of a JPEG: cameras and encoders write 1 to about 20; each costs a pass over all pixels
MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # except restarts; in scan data 0xff is followed by 0
SCAN, END, ALONE = 0xDA, 0xD9, (0x01, 0xD8)  # ALONE, without a length: TEM and SOI
REMEDY = "give image files"

Source = str | PathLike[str] | bytes  # a path, or the content of a file


class Content(bytes):
    """The content of a file, and its name for messages."""

    name: str


def read_image(source: Source, channels: int, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The image as uint8 (channels, H, W), upright, grey (`channels` 1) or RGB (3).

    Takes the first frame of an animation, blends transparency over white, as browsers do, and keeps the high byte of
    16-bit samples; CMYK is inverted if it has an Adobe marker; colour profiles are ignored. Raises UserError, naming
    the file, if it is not an image, is broken, or has more than `max_pixels`.
    """
    try:
        with open_image(source, max_pixels) as image:
            if image.format in ("JPEG", "MPO"):
                check_jpeg(source)
            raw, low = raw_mode(image), None
            if needs_low(image):
                with open_image(source, max_pixels) as again:
                    low = low_bytes(again)
            image.load()
            pixels = np.array(flat(image, raw, low).convert("L" if channels == 1 else "RGB"))
    except UserError:
        raise
    except Exception as error:  # a broken file makes Pillow raise anything: OSError, SyntaxError, struct.error ...
        pass_on(name_of(source), error)
        raise UserError(f"{name_of(source)} is a broken image ({error})", "replace it or remove it") from error
    return torch.from_numpy(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1))


def open_image(source: Source, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Opens the image and checks its size, decoding no pixels. Raises UserError as read_image does."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow's process-wide limit; ours below is stricter
    try:
        if not isinstance(source, bytes):
            regular(source, most_bytes(max_pixels), REMEDY)
        image = Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(source, max_pixels) from error
    except UserError:
        raise
    except Exception as error:  # see read_image
        pass_on(name_of(source), error)
        raise UserError(f"{name_of(source)} is not a JPEG, PNG, WebP, BMP or GIF image", "remove it") from error
    if image.width * image.height > max_pixels:
        image.close()
        raise too_large(source, max_pixels)
    if not image.width * image.height:
        image.close()
        raise UserError(f"{name_of(source)} is a broken image (it has no pixels)", "replace it or remove it")
    return image


def content_of(path: Path, max_pixels: int = MAX_PIXELS) -> Content:
    """The bytes of the image file. Raises UserError if it cannot be read, or is larger than images are."""
    try:
        content = Content(read_bytes(path, most_bytes(max_pixels), REMEDY))
    except OSError as error:
        raise unread(path, error) from error
    content.name = str(path)
    return content


def most_bytes(max_pixels: int) -> int:
    """That an image's file has at most: four channels of 16 bits, uncompressed, and 64 MiB for what goes with them."""
    return 8 * max_pixels + (1 << 26)


def too_large(source: Source, max_pixels: int) -> UserError:
    return UserError(
        f"{name_of(source)} has more than {max_pixels / 1e6:g} megapixels", "scale it down, or raise --max-megapixels"
    )


def check_jpeg(source: Source) -> None:
    """Walks through the segments. Raises UserError if the end is missing, which would decode as grey, or for more than
    MAX_SCANS scans.

    Bytes changed within a scan go undetected: JPEG has no checksum.
    """
    content = source if isinstance(source, bytes) else Path(source).read_bytes()
    at, scans = 2, 0
    while marker := MARKER.search(content, at):
        kind, at = marker[0][1], marker.end()
        if kind == END:
            return
        if kind not in ALONE:
            at += int.from_bytes(content[at : at + 2])
        if kind == SCAN:
            scans += 1
            if scans > MAX_SCANS:
                raise UserError(f"{name_of(source)} has more than {MAX_SCANS} scans", "re-save it or remove it")
    raise UserError(f"{name_of(source)} is a broken image (its end is missing)", "replace it or remove it")


def flat(image: Image.Image, raw: str, low: np.ndarray | None) -> Image.Image:
    """The loaded image upright, opaque, with 8 bits a sample; for `raw` and `low` see `over_white`."""
    turned = turn(image)
    if image.mode == "CMYK" and "adobe" not in image.info:  # Pillow always inverts
        image = ImageChops.invert(image)
    image = over_white(image, raw, low)
    return image if turned is None else image.transpose(turned)


def name_of(source: Source) -> str:
    return getattr(source, "name", "the image") if isinstance(source, bytes) else fspath(source)
