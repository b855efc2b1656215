"""How an image file says that its pixels are turned: in Exif, else in XMP, whatever the format and the decoder.

The first of the two that gives an orientation from 1 to 8 counts, as in the Metadata Working Group's guidelines (2010).
Exif is in JPEG's APP1, PNG's eXIf (or ImageMagick's "Raw profile type exif") and WebP's EXIF; XMP in JPEG's APP1, PNG's
iTXt and WebP's XMP.
"""

from __future__ import annotations

import re

from PIL import Image

TAG = 0x0112  # in Exif
PROPERTY = re.compile(rb"""tiff:Orientation\s*(?:=\s*["']|>)\s*([1-8])\s*["'<]""")  # in XMP
MARKS = (b"Exif\0\0", b"tiff:Orientation")  # a JPEG file's header without either turns nothing
UPRIGHT = {  # undoes each orientation but 1
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn(image: Image.Image) -> Image.Transpose | None:
    """What makes the image upright; None if it is. A PNG may say it behind its pixels: load those first."""
    return UPRIGHT.get(of_exif(image) or of_xmp(image) or 1)


def of_exif(image: Image.Image) -> int | None:
    exif = Image.Exif()
    try:
        if "exif" in image.info:
            exif.load(image.info["exif"])
        elif text := image.info.get("Raw profile type exif"):
            exif.load(bytes.fromhex("".join(text.split("\n")[3:])))
        found = exif.get(TAG)
    except MemoryError:
        raise
    except Exception:  # a broken block makes Pillow raise anything; the image is not broken
        return None
    return found if isinstance(found, int) and 1 <= found <= 8 else None


def of_xmp(image: Image.Image) -> int | None:
    text = image.info.get("xmp")
    found = PROPERTY.search(text) if isinstance(text, bytes) else None
    return int(found[1]) if found else None
