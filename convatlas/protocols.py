"""Evaluation protocols: which views of an image a network is shown, and how their logits are weighted."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import unknown


@dataclass(frozen=True)
class View:
    """One view of an image, and the weight of its logits."""

    shift_px: int = 0  # to the lower right; the gap is filled by reflection
    mirrored: bool = False
    weight: float = 1.0


@dataclass(frozen=True)
class Protocol:
    name: str
    views: tuple[View, ...]
    what: str  # in a phrase
    source: str = ""

    def __post_init__(self) -> None:
        assert abs(sum(view.weight for view in self.views) - 1) < 1e-9, "the weights of the views add up to 1"


CENTER = Protocol("center", (View(),), "each image once, as its preprocessing crops it")
FLIP = Protocol(
    "flip",
    (View(weight=0.5), View(mirrored=True, weight=0.5)),
    "the average logits of each image and its mirror image",
)
AIRBENCH6 = Protocol(
    "airbench6",
    tuple(View(by, mirrored, 0.25 if by == 0 else 0.125) for by in (0, 1, -1) for mirrored in (False, True)),
    "half the logits of `flip`, half those of the image moved by a pixel both ways",
    "Jordan (2024), section 3.5",
)
PROTOCOLS = {protocol.name: protocol for protocol in (CENTER, FLIP, AIRBENCH6)}


def find_protocol(name: str) -> Protocol:
    """Raises UserError with the near names."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
