"""Decoding for training: libjpeg-turbo through simplejpeg, and OpenCV's resizing (extra `fast`), if installed.

Whole images have the pixels of `read_image` whatever is installed: simplejpeg decodes plain JPEG files to exactly
Pillow's pixels, and Pillow decodes the rest. A crop is decoded at 1/2, 1/4 or 1/8 of the size where that still
has enough pixels, and resized by OpenCV or else by Pillow; so it depends on what is installed, which the run records.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import PIL
import torch
from torch import Tensor

from ...errors import UserError
from ...preprocess import Preprocess
from ..pixels import RESAMPLE, Box, crop_and_resize, recolour, to_input_size
from .orientation import MARKS, turn
from .reference import ALONE, MAX_PIXELS, MAX_SCANS, SCAN, check_jpeg, open_image, read_image

try:
    import cv2
    import simplejpeg
except ImportError:
    FAST = False
else:
    FAST = True
    cv2.setNumThreads(0)  # the workers already use all cores

Crop = Callable[[int, int], Box]  # from an image's height and width
REDUCTIONS = (8, 4, 2)  # factors by which a JPEG decoder can downscale while decoding


def decoder() -> str:
    """The decoder in use, with its version."""
    return f"simplejpeg {simplejpeg.__version__}, opencv {cv2.__version__}" if FAST else f"pillow {PIL.__version__}"


def read(content: bytes, preprocess: Preprocess, crop: Crop | None = None, max_pixels: int = MAX_PIXELS) -> Tensor:
    """The content of an image file as uint8 (C, H, W) for the network: whole, or its crop, scaled.

    Raises UserError as `read_image` does.
    """
    channels, height, width = preprocess.input
    out = np.empty((height, width, channels), np.uint8)
    read_into(out, content, preprocess, crop, max_pixels)
    return chw(out)


def read_into(out: np.ndarray, content: bytes, preprocess: Preprocess, crop: Crop | None, max_pixels: int) -> None:
    """As `read`, into a slot of a batch: `out`, uint8 (H, W, C)."""
    channels = preprocess.input[0]
    if crop is None:
        chw(out).copy_(to_input_size(decoded_whole(content, channels, max_pixels)[None], preprocess)[0])
    elif FAST and (found := fast_crop(content, crop, preprocess, max_pixels)) is not None:
        scale_into(out, found, preprocess)
    elif not FAST and (scaled := pillow_crop(content, crop, preprocess, max_pixels)) is not None:
        chw(out).copy_(ordered(scaled, preprocess))
    else:
        chw(out).copy_(crop_and_resize(read_image(content, channels, max_pixels)[None], [crop], preprocess)[0])


def read_whole(content: bytes, channels: int, max_pixels: int) -> Tensor:
    """All of the image at its own size, uint8 (channels, h, w). Raises UserError as `read_image` does."""
    return recolour(decoded_whole(content, channels, max_pixels)[None], channels)[0]


def decoded_whole(content: bytes, channels: int, max_pixels: int) -> Tensor:
    """uint8 (3, h, w) of a plain JPEG file, uint8 (channels, h, w) of any other."""
    pixels = plain_pixels(content, max_pixels)
    return read_image(content, channels, max_pixels) if pixels is None else chw(pixels)


def crop_into(out: np.ndarray, pixels: np.ndarray, crop: Crop, preprocess: Preprocess) -> None:
    """The crop of a decoded image, uint8 (h, w, 3), scaled into `out`, uint8 (H, W, C)."""
    if FAST:
        left, top, right, bottom = crop(*pixels.shape[:2])
        scale_into(out, pixels[top:bottom, left:right], preprocess)
    else:
        chw(out).copy_(crop_and_resize(chw(pixels.copy())[None], [crop], preprocess)[0])


def ordered(image: Tensor, preprocess: Preprocess) -> Tensor:
    """uint8 (3, H, W) in RGB, converted to the network's channels and their order."""
    image = recolour(image[None], preprocess.input[0])[0]
    return image.flip(0) if preprocess.order == "BGR" and len(image) == 3 else image


def plain_pixels(content: bytes, max_pixels: int) -> np.ndarray | None:
    """uint8 (h, w, 3) of a JPEG file that simplejpeg reads as Pillow does; None for any other."""
    return None if (size := plain_size(content, max_pixels)) is None else decoded(content, size)


def decoded(content: bytes, size: tuple[int, int], reduction: int = 1) -> np.ndarray | None:
    """uint8 (h, w, 3) of a JPEG file of that `plain_size`; None if it is broken: Pillow then reports the error."""
    height, width = (-(-side // reduction) for side in size)
    try:
        return simplejpeg.decode_jpeg(content, min_height=height, min_width=width, min_factor=reduction)
    except ValueError:
        return None


def plain_size(content: bytes, max_pixels: int) -> tuple[int, int] | None:
    """Height and width of an upright YCbCr JPEG file; None for any other file."""
    if not FAST or not content.startswith(b"\xff\xd8"):
        return None
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError:
        return None
    if space != "YCbCr" or height * width > max_pixels or scans(content) > MAX_SCANS:
        return None
    end = first_scan(content)
    if any(content.find(mark, 0, end) >= 0 for mark in MARKS) and turned(content):  # most files have none
        return None
    return height, width


def scans(content: bytes) -> int:
    """The number of scan markers in a JPEG file."""
    values = np.frombuffer(content, np.uint8)  # four times as fast as bytes.count
    return int(np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == SCAN)))


def first_scan(content: bytes) -> int:
    """Where a JPEG file's header ends, up to which Pillow looks for Exif and XMP; the file's end if it is malformed."""
    at = 2
    while content[at : at + 1] == b"\xff":
        kind = content[at + 1]
        if kind == SCAN:
            return at
        if kind == 0xFF or kind in ALONE:
            break
        at += 2 + int.from_bytes(content[at + 2 : at + 4])
    return len(content)


def turned(content: bytes) -> bool:
    try:
        with open_image(content) as image:
            return turn(image) is not None
    except UserError:  # Pillow reports the error later
        return True


def fast_crop(content: bytes, crop: Crop, preprocess: Preprocess, max_pixels: int) -> np.ndarray | None:
    """The crop of a JPEG file, uint8 (h, w, 3), possibly downscaled; None for any other file."""
    size = plain_size(content, max_pixels)
    if size is None:
        return None
    box = crop(*size)
    reduction = reduction_for(box, preprocess)
    pixels = decoded(content, size, reduction)
    if pixels is None:
        return None
    left, top, right, bottom = reduced(box, reduction, pixels.shape[:2])
    return pixels[top:bottom, left:right]


def scale_into(out: np.ndarray, pixels: np.ndarray, preprocess: Preprocess) -> None:
    """Resizes uint8 (h, w, 3) to (H, W, C): bilinear, or area-averaged if it shrinks by 2 or more."""
    channels, height, width = preprocess.input
    h, w = pixels.shape[:2]
    shrinks = h >= 2 * height or w >= 2 * width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    if channels == 1 or preprocess.order == "BGR":
        scaled = cv2.resize(pixels, (width, height), interpolation=how)
        chw(out).copy_(ordered(chw(scaled), preprocess))
    elif (h, w) == (height, width):
        np.copyto(out, pixels)
    else:
        cv2.resize(pixels, (width, height), dst=out, interpolation=how)


def pillow_crop(content: bytes, crop: Crop, preprocess: Preprocess, max_pixels: int) -> Tensor | None:
    """The crop of a JPEG file scaled by Pillow, uint8 (3, H, W); None for any other file."""
    with open_image(content, max_pixels) as image:
        if image.format != "JPEG" or image.mode != "RGB" or turn(image) is not None:
            return None
        width, height = image.size
        box = crop(height, width)
        reduction = reduction_for(box, preprocess)
        image.draft("RGB", (width // reduction, height // reduction))
        try:
            check_jpeg(content)
            image.load()
        except MemoryError:
            raise
        except Exception:  # read_image reports the error
            return None
        box = reduced(box, reduction, image.size[::-1])
        scaled = image.crop(box).resize(preprocess.input[:0:-1], RESAMPLE[preprocess.interpolation])
        return chw(np.array(scaled))


def reduction_for(box: Box, preprocess: Preprocess) -> int:
    """The largest reduction that leaves the box at least as many pixels as the network's input."""
    _, height, width = preprocess.input
    left, top, right, bottom = box
    covers = (k for k in REDUCTIONS if right - left >= k * width and bottom - top >= k * height)
    return next(covers, 1)


def reduced(box: Box, reduction: int, size: tuple[int, ...]) -> Box:
    """The box in an image of `size` (height, width) that was downscaled by `reduction` while decoding."""
    if reduction == 1:
        return box
    left, top, right, bottom = (round(edge / reduction) for edge in box)
    return left, top, min(right, size[1]), min(bottom, size[0])


def chw(pixels: np.ndarray) -> Tensor:
    """uint8 (h, w, 3) as a tensor (3, h, w) that shares its memory."""
    return torch.from_numpy(pixels).permute(2, 0, 1)
