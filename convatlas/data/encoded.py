"""Splits whose images are kept encoded (files, members of an archive, rows of a table) and decoded when fetched."""

from __future__ import annotations

import numpy as np

from ..preprocess import Preprocess
from .decode import Window, read_into
from .image import MAX_PIXELS, Content
from .streamed import StreamedSplit


class EncodedSplit(StreamedSplit):
    """What is common to them; a subclass says how many images there are, and gives the content of each."""

    max_pixels: int = MAX_PIXELS  # larger images are refused

    def content(self, i: int) -> Content:
        """The content of the image's file. Raises UserError where it cannot be read."""
        raise NotImplementedError

    def put(self, out: np.ndarray, i: int, preprocess: Preprocess, window: Window | None) -> None:
        read_into(out, self.content(i), preprocess, window, self.max_pixels)
