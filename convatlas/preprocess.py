"""Preprocess: how an image becomes a network's input. Plain data, stored with weights, runs and exports."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from .checked import Checked, Positive, Range
from .errors import UserError

ResizeMode = Literal["stretch", "crop", "pad"]
Whitening = Literal["channel", "mean", "pixel", "gcn_zca"]
LARGEST = 1_000_000  # pixels of a side
MEASURED = ("pixel", "gcn_zca")  # these need tensors measured on the training images (data/normalise.py)


@dataclass(frozen=True)
class Preprocess(Checked):
    """Geometry first (on uint8 pixels), then `(pixels / scale - mean) / std` for each channel.

    `whiten` "mean" is that with a `scale` and `std` of 1: only the channels' mean is subtracted.
    "pixel" subtracts the mean of each pixel instead, "gcn_zca" normalises contrast and decorrelates.

    `resize_mode` is how an image of another size is brought to height x width: `stretch` scales both sides (with
    `resize`, to that many pixels each, and takes the centre); `crop` scales the short side to `resize` pixels and
    takes the centre; `pad` centres it on `background` (scaled down first if it is larger). Downscaling is antialiased,
    as in Pillow.
    `order` is the order of a colour image's channels, and so of `mean` and `std`; grey networks get the luma
    (ITU-R 601) of a colour image, colour networks get a grey image repeated three times.
    """

    input: tuple[int, int, int]  # C x H x W
    mean: tuple[Annotated[float, Range(-1e6, 1e6)], ...]
    std: tuple[Positive, ...]
    resize_mode: ResizeMode = "stretch"
    resize: int | None = None  # pixels of the short side before the centre crop; None: the larger of H and W
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    background: Annotated[int, Range(0, 255)] = 0
    order: Literal["RGB", "BGR"] = "RGB"
    scale: Positive = 255.0
    whiten: Whitening = "channel"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input[0] not in (1, 3) or not all(0 < side <= LARGEST for side in self.input):
            size = "x".join(map(str, self.input))
            raise UserError(f"input {size} is not an image size", "give 1xHxW (grey) or 3xHxW (colour)")
        channels, height, width = self.input
        for name in ("mean", "std"):
            if len(getattr(self, name)) != channels:
                raise UserError(
                    f"{name} has {len(getattr(self, name))} values for {channels} channels", "give one for each"
                )
        if self.resize is not None and self.resize < max(height, width):
            raise UserError(
                f"resize={self.resize} is too small to crop {height}x{width} from",
                f"give at least {max(height, width)}",
            )

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(Preprocess)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Preprocess:
        """The inverse of `to_json`. Raises UserError for a field that is unknown, missing or of the wrong type."""
        return cls.from_values("preprocessing", record)
