"""What Keras' applications call the layers of networks with parallel branches: see names.py for how a row is read.

The other networks of keras.applications are one layer after the other, or told by order and shape.
"""

from __future__ import annotations

from .name_tables import Rows, pairs

INCEPTION = "Keras Inception"  # the layers that have names; names.py counts the others


def nasnet(cells: int) -> Rows:
    """NASNet-A of so many normal cells a stage. Keras numbers cells through, and leaves out a number at a reduction."""
    rows: Rows = [*pairs(("stem_conv1", "stem_bn1", "stem.conv")), ("predictions", "head.linear")]
    for i in range(3 * cells):
        ours = f"stages.normal{i // cells + 1}.cell{i % cells + 1}"
        rows += cell(
            "normal", f"{i + (i >= cells)}", ours, [(side, i, i - 1) for side in ("left", "right") for i in (1, 2, 5)]
        )
    branches = [("left", 1, 0), ("right", 1, 0), ("right", 2, 1), ("right", 3, 2), ("left", 4, 4)]
    for name, ours in (
        ("stem_1", "stem.cell1"),
        ("stem_2", "stem.cell2"),
        (f"reduce_{cells}", "stages.reduction1"),
        (f"reduce_{2 * cells}", "stages.reduction2"),
    ):
        rows += cell("reduction", name, ours, branches)
    return rows


def cell(kind: str, name: str, ours: str, branches: list[tuple[str, int, int]]) -> Rows:
    """A cell's rows; `branches` are (side, number there, index of the block here) of separable convolutions."""
    parts: Rows = [
        *pairs((f"{kind}_conv_1_{name}", f"{kind}_bn_1_{name}", "fit_last")),
        *pairs((f"adjust_conv_projection_{name}", f"adjust_bn_{name}", "fit_older")),
        *((f"adjust_conv_{n}_{name}", f"fit_older.conv{n}") for n in (1, 2)),
    ]
    for side, number, block in branches:
        at = f"{kind}_{side}{number}_{name}"
        for n in (1, 2):
            parts += [
                (f"separable_conv_{n}_{at}.depthwise", f"blocks.{block}.{side}.depthwise{n}"),
                (f"separable_conv_{n}_{at}.pointwise", f"blocks.{block}.{side}.pointwise{n}"),
                (f"separable_conv_{n}_bn_{at}", f"blocks.{block}.{side}.bn{n}"),
            ]
    return [(theirs, f"{ours}.{part}") for theirs, part in parts]


TABLES: dict[str, Rows] = {
    INCEPTION: [
        *(
            (f"block{kind}_{{n}}_conv", f"stages.block_{ours}{{n}}.widen")
            for kind, ours in ((35, "a"), (17, "b"), (8, "c"))
        ),
        *pairs(("conv_7b", "conv_7b_bn", "stages.conv")),
        ("predictions", "head.linear"),
    ],
    "Keras NASNet-A mobile": nasnet(4),
    "Keras NASNet-A large": nasnet(6),
}
