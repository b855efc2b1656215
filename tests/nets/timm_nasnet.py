"""timm's names of NASNet's tensors, as ours."""

from __future__ import annotations

import re
from collections.abc import Callable

TIMM: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [  # timm's names, ours
    (r"^conv0\.", "stem.conv."),
    (r"^cell_stem_0\.", "stem.cell1."),
    (r"^cell_stem_1\.", "stem.cell2."),
    (r"^reduction_cell_0\.", "stages.reduction1."),
    (r"^reduction_cell_1\.", "stages.reduction2."),
    (r"^cell_(\d+)\.", lambda m: f"stages.normal{int(m[1]) // 6 + 1}.cell{int(m[1]) % 6 + 1}."),
    (r"^last_linear\.", "head.linear."),
    (r"conv_1x1\.", "fit_last."),
    (r"conv_prev_1x1\.", "fit_older."),
    (r"path_(\d)\.conv", r"fit_older.conv\1"),
    (r"final_path_bn", "fit_older.bn"),
    (r"comb_iter_(\d)_(left|right)\.", r"blocks.\1.\2."),
    (r"separable_(\d)\.(depth|point)wise_conv2d", r"\2wise\1"),
    (r"bn_sep_(\d)", r"bn\1"),
]


def ours(name: str) -> str:
    for pattern, replacement in TIMM:
        name = re.sub(pattern, replacement, name)
    return name
