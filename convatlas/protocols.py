"""Evaluation protocols: which views of an image a network is shown, and how its answers are averaged. Plain data.

A protocol is either views of the image as its preprocessing makes it (`views`), or cuts of the whole image, scaled so
that its short side has given lengths (`cuts`), which then replace the preprocessing's own scaling and crop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

from .errors import unknown

Average = Literal["logits", "probabilities"]
Size = tuple[int, int]  # height, width
AS_224 = (
    224,
    227,
)  # inputs for which the papers' sides are meant: AlexNet's 224 pixels are 227 where it is implemented


@dataclass(frozen=True)
class View:
    """One view of an image of the network's size, and the weight of its logits."""

    shift_px: int = 0  # to the lower right; the gap is filled by reflection
    mirrored: bool = False
    weight: float = 1.0


@dataclass(frozen=True)
class Cut:
    """A part of an image that was scaled to `scaled`: the box, scaled to the network's size unless it is dense."""

    scaled: Size
    box: tuple[int, int, int, int]  # left, top, right, bottom, in pixels of the scaled image
    mirrored: bool
    weight: float
    dense: bool = False  # the network runs on all of the box at once, and its map of logits is averaged


@dataclass(frozen=True)
class Cuts:
    """Cuts of an image at several scales, each cut and its mirror image.

    `short` are the lengths of the scaled image's short side, for a network of 224 pixels. At each scale `squares` says
    what is cut: the whole image (0), its centre square (1), or squares at the left, centre and right, or at the top,
    centre and bottom (3). Of each, `crops` are taken: 5 (corners and centre), 25 (a regular grid), or "dense".
    """

    short: tuple[int, ...]
    squares: Literal[0, 1, 3]
    crops: Literal[5, 25, "dense"]
    whole: bool = False  # each square is shown too, scaled to the network's size
    share: float = 1.0  # of the average

    def cuts(self, height: int, width: int, side: int) -> Iterator[Cut]:
        """All cuts of an image of height x width for a network of side x side pixels."""
        boxes = []
        for short in self.short:
            short = max(short, side) if side in AS_224 else round(short * side / 224)
            scaled = (short, short * width // height) if height <= width else (short * height // width, short)
            for left, top, right, bottom in squares(scaled, self.squares):
                if self.crops == "dense":
                    boxes.append((scaled, (left, top, right, bottom)))
                    continue
                for y, x in places((bottom - top, right - left), side, self.crops):
                    boxes.append((scaled, (left + x, top + y, left + x + side, top + y + side)))
                if self.whole:
                    boxes.append((scaled, (left, top, right, bottom)))
        for (scaled, box), mirrored in product(boxes, (False, True)):
            yield Cut(scaled, box, mirrored, self.share / len(boxes) / 2, self.crops == "dense")


def squares(size: Size, count: int) -> list[tuple[int, int, int, int]]:
    """Boxes: all of the image (0), its centre square (1), or the squares at its ends and in its centre (3)."""
    height, width = size
    if count == 0:
        return [(0, 0, width, height)]
    side, spare = min(size), abs(height - width)
    starts = (round(spare / 2),) if count == 1 else (0, round(spare / 2), spare)
    return [(x, y, x + side, y + side) for x, y in ((s, 0) if width >= height else (0, s) for s in starts)]


def places(size: Size, side: int, count: int) -> list[Size]:
    """The top left corners of `count` crops of side x side."""
    below, right = size[0] - side, size[1] - side
    if count == 5:
        return [(0, 0), (0, right), (below, 0), (below, right), (round(below / 2), round(right / 2))]
    steps = range(k := round(count**0.5))
    return [(round(below * i / (k - 1)), round(right * j / (k - 1))) for i, j in product(steps, steps)]


@dataclass(frozen=True)
class Protocol:
    name: str
    what: str  # in a phrase
    average: Average = "logits"
    views: tuple[View, ...] = ()
    cuts: tuple[Cuts, ...] = ()
    source: str = ""
    printed: str = r"$^"  # how the sources of claims name it: a pattern

    def __post_init__(self) -> None:
        assert bool(self.views) != bool(self.cuts)
        shares = [it.weight for it in self.views] + [it.share for it in self.cuts]
        assert abs(sum(shares) - 1) < 1e-9, "the weights of the views add up to 1"

    def cut(self, height: int, width: int, side: int) -> list[Cut]:
        """The cuts of an image of height x width, for a network of side x side pixels."""
        return [cut for cuts in self.cuts for cut in cuts.cuts(height, width, side)]

    @property
    def passes(self) -> int:
        """How many images the network sees for one."""
        return len(self.views) or len(self.cut(480, 640, 224))


RESNET_SIDES, VGG_SIDES = (224, 256, 384, 480, 640), (256, 384, 512)
TEN_CROPS = Cuts((256,), 1, 5)
GOOGLENET_CROPS = Cuts((256, 288, 320, 352), 3, 5, whole=True)
VGG_DENSE, VGG_CROPS = Cuts(VGG_SIDES, 0, "dense"), Cuts(VGG_SIDES, 0, 25)

CENTER = Protocol(
    "center",
    "each image once, as its preprocessing crops it",
    views=(View(),),
    printed=r"single crop|cent(er|re) crop|\b1 crop",
)
PROTOCOLS = {
    it.name: it
    for it in (
        CENTER,
        Protocol(
            "flip",
            "the average logits of each image and its mirror image",
            views=(View(weight=0.5), View(mirrored=True, weight=0.5)),
        ),
        Protocol(
            "airbench6",
            "half the logits of `flip`, half those of the image moved by a pixel both ways",
            views=tuple(View(by, mirrored, 0.125 if by else 0.25) for by in (0, 1, -1) for mirrored in (False, True)),
            source="Jordan (2024), section 3.5",
        ),
        Protocol(
            "alexnet10",
            "corners and centre of the centre square of 256 pixels, mirrored too: 10 crops",
            "probabilities",
            cuts=(TEN_CROPS,),
            source="Krizhevsky et al. (2012), section 4.1",
            printed=r"\b10[- ]crop",
        ),
        Protocol(
            "resnet10",
            "AlexNet's 10 crops",
            "probabilities",
            cuts=(TEN_CROPS,),
            source="He et al. (2015), section 3.4",
            printed=r"\b10[- ]crop",
        ),
        Protocol(
            "googlenet144",
            "4 scales, 3 squares, 6 crops, mirrored too: 144 crops",
            "probabilities",
            cuts=(GOOGLENET_CROPS,),
            source="Szegedy et al. (2014), section 7",
            printed=r"\b144 crop",
        ),
        Protocol(
            "inception144",
            "GoogLeNet's 144 crops, the scales in proportion to the input",
            "probabilities",
            cuts=(GOOGLENET_CROPS,),
            source="Szegedy et al. (2015), Tables 4 and 5, which name GoogLeNet's; the scales are not printed",
            printed=r"\b144 crop",
        ),
        Protocol(
            "resnet_multiscale",
            "the whole image at 5 scales, fully convolutional, mirrored too",
            "probabilities",
            cuts=(Cuts(RESNET_SIDES, 0, "dense"),),
            source="He et al. (2015), section 3.4; mirror images as in VGG's, which it follows",
            printed=r"at scales 224",
        ),
        Protocol(
            "vgg_dense",
            "the whole image at 3 scales, fully convolutional, mirrored too",
            "probabilities",
            cuts=(VGG_DENSE,),
            source="Simonyan and Zisserman (2014), section 3.2 and Table 4",
            printed=r"^Table \d, dense .*Q=256,384,512",
        ),
        Protocol(
            "vgg_dense256",
            "as vgg_dense, at 224, 256 and 288 pixels, for networks trained at 256 alone",
            "probabilities",
            cuts=(Cuts((224, 256, 288), 0, "dense"),),
            source="Simonyan and Zisserman (2014), section 4.2 and Table 4",
            printed=r"^Table \d, dense .*Q=224,256,288",
        ),
        Protocol(
            "vgg_multicrop",
            "3 scales, a grid of 5 x 5 crops, mirrored too: 150 crops",
            "probabilities",
            cuts=(VGG_CROPS,),
            source="Simonyan and Zisserman (2014), section 3.2 and Table 5",
            printed=r"^Table \d, multi-crop evaluation",
        ),
        Protocol(
            "vgg_both",
            "the average of vgg_dense and vgg_multicrop",
            "probabilities",
            cuts=tuple(Cuts(it.short, it.squares, it.crops, share=0.5) for it in (VGG_DENSE, VGG_CROPS)),
            source="Simonyan and Zisserman (2014), section 3.2 and Table 5",
            printed=r"^Table \d, multi-crop and dense evaluation",
        ),
    )
}


def find_protocol(name: str) -> Protocol:
    """Raises UserError with the near names."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
