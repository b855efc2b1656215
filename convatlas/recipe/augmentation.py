"""The grammar of `Recipe.augment`: entries "name" or "name:1st:2nd", such as "flip", "scale_crop:256:480"."""

from __future__ import annotations

from itertools import zip_longest
from math import inf, isfinite

from ..errors import UserError, unknown

AUGMENTATIONS: dict[str, tuple[tuple[str, type[float], float, float, float], ...]] = {
    # name: its arguments, each (what it is, int or float, default, lowest, highest)
    # crops: which part of the stored image is resized to the network's input; at most one, and first
    "area_crop": (  # aspect 3/4 to 4/3
        ("lowest share of the area", float, 0.08, 0.001, 1),
        ("highest share", float, 1, 0.001, 1),
    ),
    "scale_crop": (("lowest short side", int, 256, 1, inf), ("highest short side", int, 256, 1, inf)),
    "square_crop": (("short side", int, 256, 1, inf),),  # inside the central square of the scaled image
    "warp_crop": (("side of the square that the whole image is warped to", int, 256, 1, inf),),
    # operations on the pixels of a batch
    "pad_crop": (("number of pixels added on each side", int, 4, 0, inf),),
    "reflect_crop": (("number of pixels added on each side", int, 4, 0, inf),),
    "flip": (),
    "alternate_flip": (),
    "photometric": (("strength", float, 0.4, 0, 1),),
    "lighting": (("standard deviation", float, 0.1, 0, inf),),
    "autoaugment": (),
    "autoaugment_cifar10": (),
    "randaugment": (("number of operations", int, 2, 1, 10), ("magnitude", int, 9, 0, 31)),
    "trivialaugment": (),
    "cutout": (("side of the square", int, 16, 1, inf),),
    # mixes of images with each other, and of their labels; at most one, and last
    "mixup": (("alpha", float, 0.2, 0, inf),),
    "cutmix": (("alpha", float, 1, 0, inf),),
}
CROPS = ("area_crop", "scale_crop", "square_crop", "warp_crop")
MIXES = ("mixup", "cutmix")


def operation(op: str) -> tuple[str, tuple[float, ...]]:
    """The name and arguments of an entry, with defaults filled in: "cutout:8" -> ("cutout", (8.0,)).

    Raises UserError for a name that is not in AUGMENTATIONS, and for too many or out-of-range arguments.
    """
    name, *texts = op.split(":")
    if name not in AUGMENTATIONS:
        raise unknown("augmentation", name, AUGMENTATIONS)
    expected = AUGMENTATIONS[name]
    form = ":".join((name, *(f"<{what}>" for what, *_ in expected)))
    if len(texts) > len(expected):
        raise UserError(f"augmentation {op!r} has too many arguments", f"write {form}")
    values = []
    for (what, kind, default, lowest, highest), text in zip_longest(expected, texts):
        try:
            value = default if not text else float(text)
        except ValueError as error:
            raise UserError(f"augmentation {op!r} has an argument that is not a number", f"write {form}") from error
        if not (isfinite(value) and lowest <= value <= highest):
            top = "" if highest == inf else f" and at most {highest}"
            raise UserError(f"augmentation {op!r}: the {what} is out of range", f"give at least {lowest}{top}")
        if kind is int and value % 1:
            raise UserError(f"augmentation {op!r}: the {what} is not a whole number", f"write {form}")
        values.append(float(value))
    if name in CROPS and len(values) == 2 and values[0] > values[1]:
        raise UserError(f"augmentation {op!r}: the {expected[0][0]} is above the {expected[1][0]}", f"write {form}")
    return name, tuple(values)


def check_order(ops: tuple[str, ...]) -> None:
    """Raises UserError for an invalid entry, a random crop that is not first, or a mix that is not last."""
    names = [operation(op)[0] for op in ops]
    for kind, those, position in (("random crop", CROPS, 0), ("mix", MIXES, len(names) - 1)):
        if at := [i for i, name in enumerate(names) if name in those and i != position]:
            raise UserError(
                f"augment={','.join(ops)} has {names[at[0]]} in the wrong position",
                f"a {kind} ({', '.join(those)}) comes {('first' if position == 0 else 'last')}, and only once",
            )
