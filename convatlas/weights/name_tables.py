"""The names of layers in torchvision, timm and other sources, as ours: see names.py for how a row is read.

Parallel branches have rows of their own, so that branches of equal shapes cannot change places, and so have auxiliary
classifiers, so that none is taken for the network's last layer.
"""

from __future__ import annotations

Rows = list[tuple[str, str]]  # theirs, ours


def under(theirs: str, ours: str, rows: Rows) -> Rows:
    """The rows of a part, within the part of that name."""
    return [(f"{theirs}.{a}", f"{ours}.{b}") for a, b in rows]


def conv_bn(*rows: tuple[str, str]) -> Rows:
    """Layers that are a convolution `conv` and its batch norm `bn`, there as here."""
    return [(f"{a}.{part}", f"{b}.{part}") for a, b in rows for part in ("conv", "bn")]


def pairs(*rows: tuple[str, str, str]) -> Rows:
    """Rows (their convolution, their batch norm, ours of both)."""
    return [pair for conv, bn, ours in rows for pair in ((conv, f"{ours}.conv"), (bn, f"{ours}.bn"))]


# --- plain chains ---

ALEXNET: Rows = [
    ("features.0", "stem.conv"),
    *((f"features.{n}", f"stages.conv{i}.conv") for n, i in ((3, 2), (6, 3), (8, 4), (10, 5))),
    *((f"classifier.{n}", f"head.fc{i}") for n, i in ((1, 6), (4, 7), (6, 8))),
]
VGG_HEADS: dict[str, Rows] = {
    "torchvision": [("classifier.0", "head.fc6"), ("classifier.3", "head.fc7"), ("classifier.6", "head.fc8")],
    "timm": [("pre_logits.fc1", "head.fc6"), ("pre_logits.fc2", "head.fc7"), ("head.fc", "head.fc8")],
}
VGG_CONVS = {"11": (1, 1, 2, 2, 2), "13": (2, 2, 2, 2, 2), "16": (2, 2, 3, 3, 3), "19": (2, 2, 4, 4, 4)}


def vgg(convs: tuple[int, ...], normed: bool) -> Rows:
    """`features` numbers convolutions, batch norms, ReLUs and pools alike."""
    rows: Rows = []
    n = 0
    for block, count in enumerate(convs, 1):
        for i in range(1, count + 1):
            rows.append((f"features.{n}", f"stages.block{block}.conv{i}"))
            if normed:
                rows.append((f"features.{n + 1}", f"stages.block{block}.norm{i}"))
            n += 3 if normed else 2
        n += 1
    return rows


def squeezenet(fires: tuple[int, ...]) -> Rows:
    parts: Rows = [("squeeze", "squeeze1x1"), ("expand1x1", "expand1x1"), ("expand3x3", "expand3x3")]
    modules = [row for i, n in enumerate(fires, 2) for row in under(f"features.{n}", f"stages.fire{i}", parts)]
    return [("features.0", "stem.conv1"), *modules, ("classifier.1", "head.conv10")]


# --- ResNets, and what is built like them ---

LAYERS: Rows = [
    *under("layer{s}.{b}", "stages.conv{s+1}.block{b+1}", pairs(
        ("conv{i}", "bn{i}", "branch.conv{i}"), ("downsample.0", "downsample.1", "shortcut"),
    )),
]  # fmt: skip
SE_LAYERS: Rows = [
    (f"layer{{s}}.{{b}}.{module}.{fc}", f"stages.conv{{s+1}}.block{{b+1}}.branch.se.{ours}")
    for module in ("se", "se_module")
    for fc, ours in (("fc1", "reduce"), ("fc2", "expand"))
]
RESNET: Rows = [*pairs(("conv1", "bn1", "stem.conv1")), *LAYERS, *SE_LAYERS, ("fc", "head.linear")]
SENET: Rows = [
    *pairs(("layer0.conv{i}", "layer0.bn{i}", "stem.conv{i}")), *LAYERS, *SE_LAYERS, ("last_linear", "head.linear"),
]  # fmt: skip
AKAMASTER: Rows = [
    *pairs(("conv1", "bn1", "stem.conv1")),
    *under("layer{s}.{b}", "stages.conv{s+1}.block{b+1}", pairs(
        ("conv{i}", "bn{i}", "branch.conv{i}"), ("shortcut.0", "shortcut.1", "shortcut"),
    )),
    ("linear", "head.linear"),
]  # fmt: skip
RESNET_V2: Rows = [
    ("stem.conv", "stem.conv1"),
    *under("stages.{s}.blocks.{b}", "stages.conv{s+2}.unit{b+1}", [
        ("norm1", "preact.bn"), ("norm{i}", "branch.bn{i}"), ("conv{i}", "branch.conv{i}"),
        ("downsample.conv", "shortcut"),
    ]),
    ("norm", "head.bn"),
    ("head.fc", "head.linear"),
]  # fmt: skip
DENSENET: Rows = [
    ("features.conv0", "stem.conv"),
    ("features.norm0", "stem.norm"),
    *under("features.denseblock{s}.denselayer{b}", "stages.dense{s}.layers.{b-1}", [
        ("norm1", "squeeze.norm"), ("conv1", "squeeze.conv"), ("norm2", "grow.norm"), ("conv2", "grow.conv"),
        # as in the files that torchvision published, which it renames when it loads them
        ("norm.1", "squeeze.norm"), ("conv.1", "squeeze.conv"), ("norm.2", "grow.norm"), ("conv.2", "grow.conv"),
    ]),
    ("features.transition{s}.norm", "stages.transition{s}.norm"),
    ("features.transition{s}.conv", "stages.transition{s}.conv"),
    ("features.norm5", "head.norm"),
    ("classifier", "head.linear"),
]  # fmt: skip

# --- MobileNets and EfficientNets ---


def torchvision_efficientnet(stage: str, expands: bool) -> Rows:
    parts = ["expand"] * expands + ["depthwise", "se", "project"]
    rows: Rows = []
    for i, part in enumerate(parts):
        if part == "se":
            rows += [(f"block.{i}.fc1", "se.gate.reduce"), (f"block.{i}.fc2", "se.gate.expand")]
        else:
            rows += pairs((f"block.{i}.0", f"block.{i}.1", part))
    return under(f"features.{stage}.{{b}}", f"stages.stage{stage}.block{{b+1}}.branch", rows)


TORCHVISION_EFFICIENTNET: Rows = [
    *pairs(("features.0.0", "features.0.1", "stem.conv"), ("features.8.0", "features.8.1", "stages.last")),
    *torchvision_efficientnet("1", expands=False),
    *torchvision_efficientnet("{s}", expands=True),
    ("classifier.1", "head.linear"),
]
TORCHVISION_MOBILENET_V2: Rows = [
    *pairs(("features.0.0", "features.0.1", "stem.conv"), ("features.18.0", "features.18.1", "stages.last")),
    *under("features.1.conv", "stages.stage1.block1.branch", pairs(
        ("0.0", "0.1", "depthwise"), ("1", "2", "project"),
    )),
    *under("features.{n}.conv", "{blocks[n-1]}.branch", pairs(
        ("0.0", "0.1", "expand"), ("1.0", "1.1", "depthwise"), ("2", "3", "project"),
    )),
    ("classifier.1", "head.linear"),
]  # fmt: skip
SE_GATE: Rows = [("se.conv_reduce", "se.gate.reduce"), ("se.conv_expand", "se.gate.expand")]
TIMM_EFFICIENTNET: Rows = [  # and MobileNetV2
    *pairs(("conv_stem", "bn1", "stem.conv"), ("conv_head", "bn2", "stages.last")),
    *under("blocks.0.{b}", "stages.stage1.block{b+1}.branch", [
        *pairs(("conv_dw", "bn1", "depthwise"), ("conv_pw", "bn2", "project")), *SE_GATE,
    ]),
    *under("blocks.{s}.{b}", "stages.stage{s+1}.block{b+1}.branch", [
        *pairs(("conv_pw", "bn1", "expand"), ("conv_dw", "bn2", "depthwise"), ("conv_pwl", "bn3", "project")), *SE_GATE,
    ]),
    ("classifier", "head.linear"),
]  # fmt: skip
TIMM_MOBILENET_V1: Rows = [
    *pairs(("conv_stem", "bn1", "stem.conv")),
    *(row for s, before in enumerate((1, 2, 4, 6, 12)) for row in under(
        f"blocks.{s}.{{b}}", f"stages.block{{b+{before}}}",
        pairs(("conv_dw", "bn1", "depthwise"), ("conv_pw", "bn2", "pointwise")),
    )),
    ("classifier", "head.linear"),
]  # fmt: skip
LUKEMELAS_EFFICIENTNET: Rows = [
    *pairs(("_conv_stem", "_bn0", "stem.conv"), ("_conv_head", "_bn1", "stages.last")),
    *under("_blocks.{n}", "{blocks[n]}.branch", [
        *pairs(
            ("_expand_conv", "_bn0", "expand"), ("_depthwise_conv", "_bn1", "depthwise"),
            ("_project_conv", "_bn2", "project"),
        ),
        ("_se_reduce", "se.gate.reduce"), ("_se_expand", "se.gate.expand"),
    ]),
    ("_fc", "head.linear"),
]  # fmt: skip

# --- parallel branches ---

GOOGLENET: Rows = [
    *conv_bn(
        ("conv1", "stem.conv1"), ("conv2", "stem.conv2.reduce"), ("conv3", "stem.conv2.conv"),
        *under("inception{m}", "stages.inception{m}", [
            ("branch1", "branch1"),
            ("branch2.0", "branch3.reduce"), ("branch2.1", "branch3.conv"),
            ("branch3.0", "branch5.reduce"), ("branch3.1", "branch5.conv"),
            ("branch4.1", "branch_pool.proj"),
        ]),
        ("aux1.conv", "aux.4a.conv"), ("aux2.conv", "aux.4d.conv"),
    ),
    *((f"{theirs}.{fc}", f"{ours}.{fc}") for theirs, ours in (("aux1", "aux.4a"), ("aux2", "aux.4d"))
      for fc in ("fc1", "fc2")),
    ("fc", "head.linear"),
]  # fmt: skip

POOLED: Rows = [("branch1x1", "branch1.conv1"), ("branch_pool", "branch4.conv2")]
V3_A: Rows = [*POOLED, ("branch5x5_{i}", "branch2.conv{i}"), ("branch3x3dbl_{i}", "branch3.conv{i}")]
V3_B: Rows = [*POOLED, ("branch7x7_{i}", "branch2.conv{i}"), ("branch7x7dbl_{i}", "branch3.conv{i}")]
V3_C: Rows = [
    *POOLED,
    ("branch3x3_1", "branch2.conv1"),
    ("branch3x3_2a", "branch2.fork2.branch1.conv1"),
    ("branch3x3_2b", "branch2.fork2.branch2.conv1"),
    ("branch3x3dbl_1", "branch3.conv1"),
    ("branch3x3dbl_2", "branch3.conv2"),
    ("branch3x3dbl_3a", "branch3.fork3.branch1.conv1"),
    ("branch3x3dbl_3b", "branch3.fork3.branch2.conv1"),
]
INCEPTION_V3: Rows = [
    *conv_bn(
        ("Conv2d_1a_3x3", "stem.conv1"), ("Conv2d_2a_3x3", "stem.conv2"), ("Conv2d_2b_3x3", "stem.conv3"),
        ("Conv2d_3b_1x1", "stem.conv5"), ("Conv2d_4a_3x3", "stem.conv6"),
        *(row for i, m in enumerate("bcd", 1) for row in under(f"Mixed_5{m}", f"stages.inception_a{i}", V3_A)),
        ("Mixed_6a.branch3x3", "stages.reduction_a.branch1.conv1"),
        ("Mixed_6a.branch3x3dbl_{i}", "stages.reduction_a.branch2.conv{i}"),
        *(row for i, m in enumerate("bcde", 1) for row in under(f"Mixed_6{m}", f"stages.inception_b{i}", V3_B)),
        ("Mixed_7a.branch3x3_{i}", "stages.reduction_b.branch1.conv{i}"),
        ("Mixed_7a.branch7x7x3_{i}", "stages.reduction_b.branch2.conv{i}"),
        *(row for i, m in enumerate("bc", 1) for row in under(f"Mixed_7{m}", f"stages.inception_c{i}", V3_C)),
        ("AuxLogits.conv0", "aux.inception_b4.conv1"), ("AuxLogits.conv1", "aux.inception_b4.conv2"),
    ),
    ("AuxLogits.fc", "aux.inception_b4.logits.linear"),
    ("fc", "head.linear"),
]  # fmt: skip

BRANCHES: Rows = [  # a 1x1, two chains, and a 1x1 after pooling
    ("branch0", "branch1.conv1"), ("branch1.{i}", "branch2.conv{i+1}"), ("branch2.{i}", "branch3.conv{i+1}"),
    ("branch3.1", "branch4.conv2"),
]  # fmt: skip
V4_C: Rows = [
    *BRANCHES,
    ("branch1_0", "branch2.conv1"),
    ("branch1_1a", "branch2.fork2.branch1.conv1"),
    ("branch1_1b", "branch2.fork2.branch2.conv1"),
    *((f"branch2_{i}", f"branch3.conv{i + 1}") for i in range(3)),
    ("branch2_3a", "branch3.fork4.branch1.conv1"),
    ("branch2_3b", "branch3.fork4.branch2.conv1"),
]
INCEPTION_V4: Rows = [
    *conv_bn(
        *((f"features.{i}", f"stem.conv{i + 1}") for i in range(3)),
        ("features.3.conv", "stem.mixed1.branch2.conv1"),
        ("features.4.branch0.{i}", "stem.mixed2.branch1.conv{i+1}"),
        ("features.4.branch1.{i}", "stem.mixed2.branch2.conv{i+1}"),
        ("features.5.conv", "stem.mixed3.branch1.conv1"),
        *(row for i in range(4) for row in under(f"features.{6 + i}", f"stages.inception_a{i + 1}", BRANCHES)),
        *under("features.10", "stages.reduction_a", BRANCHES),
        *(row for i in range(7) for row in under(f"features.{11 + i}", f"stages.inception_b{i + 1}", BRANCHES)),
        ("features.18.branch0.{i}", "stages.reduction_b.branch1.conv{i+1}"),
        *under("features.18", "stages.reduction_b", BRANCHES),
        *(row for i in range(3) for row in under(f"features.{19 + i}", f"stages.inception_c{i + 1}", V4_C)),
    ),
    ("last_linear", "head.linear"),
]  # fmt: skip
INCEPTION_RESNET_V2: Rows = [
    *conv_bn(
        ("conv2d_1a", "stem.conv1"), ("conv2d_2a", "stem.conv2"), ("conv2d_2b", "stem.conv3"),
        ("conv2d_3b", "stem.conv5"), ("conv2d_4a", "stem.conv6"),
        *under("mixed_5b", "stem.mixed", BRANCHES),
        *under("repeat.{n}", "stages.block_a{n+1}.branches", BRANCHES),
        *under("mixed_6a", "stages.reduction_a", BRANCHES),
        *under("repeat_1.{n}", "stages.block_b{n+1}.branches", BRANCHES),
        ("mixed_7a.branch0.{i}", "stages.reduction_b.branch1.conv{i+1}"),
        *under("mixed_7a", "stages.reduction_b", BRANCHES),
        *under("repeat_2.{n}", "stages.block_c{n+1}.branches", BRANCHES),
        *under("block8", "stages.block_c10.branches", BRANCHES),
        ("conv2d_7b", "stages.conv"),
    ),
    ("repeat.{n}.conv2d", "stages.block_a{n+1}.widen"),
    ("repeat_1.{n}.conv2d", "stages.block_b{n+1}.widen"),
    ("repeat_2.{n}.conv2d", "stages.block_c{n+1}.widen"),
    ("block8.conv2d", "stages.block_c10.widen"),
    ("classif", "head.linear"),
]  # fmt: skip

CELL: Rows = [
    *conv_bn(("conv_1x1", "fit_last"), ("conv_prev_1x1", "fit_older")),
    ("path_{i}.conv", "fit_older.conv{i}"),
    ("final_path_bn", "fit_older.bn"),
    *(row for side in ("left", "right") for row in under(f"comb_iter_{{i}}_{side}", f"blocks.{{i}}.{side}", [
        ("separable_{j}.depthwise_conv2d", "depthwise{j}"), ("separable_{j}.pointwise_conv2d", "pointwise{j}"),
        ("bn_sep_{j}", "bn{j}"),
    ])),
]  # fmt: skip
NASNET: Rows = [
    *conv_bn(("conv0", "stem.conv")),
    *under("cell_stem_{n}", "stem.cell{n+1}", CELL),
    *under("reduction_cell_{n}", "stages.reduction{n+1}", CELL),
    *under("cell_{n}", "{blocks[n]}", CELL),
    ("last_linear", "head.linear"),
]

TABLES: dict[str, Rows] = {
    "torchvision AlexNet": ALEXNET,
    **{
        f"{library} VGG-{depth}{' with batch norm' if normed else ''}": vgg(convs, normed) + head
        for library, head in VGG_HEADS.items()
        for depth, convs in VGG_CONVS.items()
        for normed in (False, True)
    },
    "torchvision SqueezeNet 1.0": squeezenet((3, 4, 5, 7, 8, 9, 10, 12)),
    "torchvision SqueezeNet 1.1": squeezenet((3, 4, 6, 7, 9, 10, 11, 12)),
    "torchvision and timm ResNet": RESNET,
    "timm SENet": SENET,
    "akamaster ResNet": AKAMASTER,
    "timm ResNetV2": RESNET_V2,
    "torchvision and timm DenseNet": DENSENET,
    "torchvision MobileNetV2": TORCHVISION_MOBILENET_V2,
    "torchvision EfficientNet": TORCHVISION_EFFICIENTNET,
    "timm MobileNetV1": TIMM_MOBILENET_V1,
    "timm EfficientNet": TIMM_EFFICIENTNET,
    "lukemelas EfficientNet": LUKEMELAS_EFFICIENTNET,
    "torchvision GoogLeNet": GOOGLENET,
    "torchvision and timm Inception-v3": INCEPTION_V3,
    "timm Inception-v4": INCEPTION_V4,
    "timm Inception-ResNet-v2": INCEPTION_RESNET_V2,
    "timm NASNet": NASNET,
}
