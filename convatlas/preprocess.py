"""Preprocess: how an image becomes a network's input. Plain data, stored with weights, runs and exports."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from .errors import UserError, unknown

RESIZE_MODES = ("stretch", "crop", "pad")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
WHITENINGS = ("channel", "mean", "pixel", "gcn_zca")
MEASURED = ("pixel", "gcn_zca")  # these need tensors measured on the training images (data/normalise.py)


@dataclass(frozen=True)
class Preprocess:
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
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_mode: str = "stretch"
    resize: int | None = None  # pixels of the short side before the centre crop; None: the larger of H and W
    interpolation: str = "bilinear"
    background: int = 0
    order: str = "RGB"
    scale: float = 255.0
    whiten: str = "channel"

    def __post_init__(self) -> None:
        if self.resize_mode not in RESIZE_MODES:
            raise unknown("resize mode", self.resize_mode, RESIZE_MODES)
        if self.interpolation not in INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, INTERPOLATIONS)
        if self.whiten not in WHITENINGS:
            raise unknown("whitening", self.whiten, WHITENINGS)
        if self.order not in ("RGB", "BGR"):
            raise unknown("channel order", self.order, ("RGB", "BGR"))
        size = "x".join(map(str, self.input))
        if len(self.input) != 3 or self.input[0] not in (1, 3) or min(self.input) < 1:
            raise UserError(f"input {size} is not an image size", "give 1xHxW (grey) or 3xHxW (colour)")
        channels, height, width = self.input
        for name in ("mean", "std"):
            if len(getattr(self, name)) != channels:
                raise UserError(
                    f"{name} has {len(getattr(self, name))} values for {channels} channels", "give one for each"
                )
        if min(*self.std, self.scale) <= 0:
            raise UserError(f"std={self.std} and scale={self.scale} are not all positive", "give values above 0")
        if self.resize is not None and self.resize < max(height, width):
            raise UserError(
                f"resize={self.resize} is too small to crop {height}x{width} from",
                f"give at least {max(height, width)}",
            )
        if not 0 <= self.background <= 255:
            raise UserError(f"background={self.background} is not a pixel value", "give 0 to 255")

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(Preprocess)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Preprocess:
        known = {f.name for f in fields(cls)}
        for name in record:
            if name not in known:
                raise unknown("preprocessing field", name, sorted(known))
        for name in ("input", "mean", "std"):
            if not isinstance(record.get(name), list | tuple):
                raise UserError(f"the preprocessing record has no list {name!r}", "it is incomplete")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise UserError(f"the preprocessing record holds a value of the wrong type ({error})") from error
