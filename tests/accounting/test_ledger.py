"""Every figure of the ledger of published facts that can be counted: what we count, or a claim that says why not.

The ledger (reference.toml, found through CONVATLAS_LEDGER) has one entry a network or a study. A figure holds when we
count it to one unit of its last printed digit, an exact one when we count just that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, partial
from typing import Any

import pytest

from convatlas import names, tables
from convatlas.accounting import Account, account
from convatlas.accounting.claims import counted, printed_value
from convatlas.catalogue import Claim, find, plain
from convatlas.nets import mobilenet_v1, mobilenet_v2

Entry = dict[str, Any]
Fact = dict[str, Any]
Count = Callable[[Account], int]

# --- which fields of a fact are counts ---

COUNTABLE = re.compile(
    r"param|macs|mult_add|flop|weights_|_weights|activation_values|connection|ops|MB|_mb$|neuron|computation|^paper$|with_fc|with_bias"
)
UNCOUNTED = {  # key or field: why nothing counts it
    "connections": "test_lenet.py counts them",
    "neurons_paper": "a rounded figure in words, of units that it does not list",
    "params_modern": "another library's, whose SE units have at least 8 values in between",
    "params_stem_bn": "another library's, with one batch norm more",
    "params_wrong_port": "another library's slip",
    "macs_port": "another library's padding",
    "params_other_stem": "the released code's stem, not the paper's",
    "compression": "a ratio of files",
    "MB_before": "a file's size",
    "MB_after": "a file's size",
    "size_MB": "a file's size",
    "model_size_mb": "a file's size",
    "squeezenet_params_after_pruning": "of pruned weights",
    "squeezenet_params": "of pruned weights",
    "mult_adds_split_percent": "test_mobilenet_v1.py has Table 2",
    "gops_convention": "a definition",
    "flops_convention": "a definition",
}


def countable(fact: Fact) -> set[str]:
    """The fields of a fact that look like counts, "value" under the name of the fact's key."""
    inner = set(fact["value"]) if isinstance(fact["value"], dict) else set()
    return {name for name in {fact["key"], *fact, *inner} if COUNTABLE.search(name) and name not in UNCOUNTED}


# --- which network an entry, or a fact of it, is about ---

IDS = {  # entry: our variant, where the name does not tell
    "lenet5_original": "lenet5",
    "zfnet_deck": "zfnet_512",
    "vgg_c_bn": "vgg16_c_bn",
    "googlenet_torchvision": "googlenet_bn_3x3",
    "inception_resnet_v2": "inception_resnet_v2_slim",  # the released network
    "preresnet50": "preact_resnet50",
    "preresnet101": "preact_resnet101",
    "preresnet152": "preact_resnet152",
    "resnet101_1x100d": "resnext101_1x100d",
    "stochastic_depth_110": "stochastic_depth_resnet110",
    "stochastic_depth_1202": "stochastic_depth_resnet1202",
    "stochastic_depth_152": "stochastic_depth_resnet152",
    "mobilenet_v1_100": "mobilenet_v1",
    "mobilenet_v1_075": "mobilenet_v1_0_75_224",
    "mobilenet_v1_050": "mobilenet_v1_0_5_224",
    "mobilenet_v1_025": "mobilenet_v1_0_25_224",
    "mobilenet_v2_100": "mobilenet_v2",
    "mobilenet_v2_140": "mobilenet_v2_1_4_224",
    "mobilenet_v2_130": "mobilenet_v2_1_3_224",
    "mobilenet_v2_050": "mobilenet_v2_0_5_224",
    "se_ablation": "se_resnet50",
    "wrn_block_study": "wrn40_2",
    "bn_nin": "bn_nin_zoo",  # what the ledger derives; bn_nin is Torch's, of other layers
}
NO_NETWORK = {  # entry: why none of our variants is its network
    "vgg_ensemble": "several networks",
    "vgg_stack_arithmetic": "formulas",
    "datasets": "images",
    "ilsvrc_winners": "a chart",
    "inception_naive": "two modules by themselves; test_googlenet.py and test_arithmetic.py count them",
    "resnet_ensemble": "several networks",
    "preact_ablation": "each row names its own network",
    "wrn_imagenet_basic": "each row names its own network",
    "resnext_misc": "each row names its own network",
    "fractalnet_depth_study": "each row names its own network",
    "deep_compression": "compressed files",
    "senet_ensemble": "several networks",
    "mobilenet_v1_comparisons": "each row names its own network",
    "mobilenet_v2_comparisons": "each row names its own network",
    "nasnet_a_cells": "cells",
    "nasnet_b_4_1536": "not recovered, see docs/not-recovered.md",
    "nasnet_b_4_1152_cifar": "not recovered, see docs/not-recovered.md",
    "nasnet_c_4_640_cifar": "not recovered, see docs/not-recovered.md",
    "nasnet_c_3_960": "not recovered, see docs/not-recovered.md",
    "nasnet_comparisons": "each row names its own network",
    "nas_v2": "not recovered, see docs/not-recovered.md",
    "nas_v3": "not recovered, see docs/not-recovered.md",
    "nas_v3_more_filters": "not recovered, see docs/not-recovered.md",
    "nas_search": "a procedure",
    "compound_scaling": "each row names its own network",
    "enet": "the segmentation network; ours is a classifier on its encoder",
    "yosinski_transfer": "a study",
    "canziani_analysis": "a study",
    "bianco_benchmark": "a study",
}
LABELS: dict[str, tuple[str, dict[str, Any]]] = {  # `network` of a fact: our variant, options of account()
    "full-convolution MobileNet": ("mobilenet_v1_conv", {}),
    "shallow MobileNet": ("mobilenet_v1_shallow", {}),
    "Shallow MobileNet (five 14x14x512 layers removed)": ("mobilenet_v1_shallow", {}),
    "MobileNet": ("mobilenet_v1", {}),
    "MobileNet-224": ("mobilenet_v1", {}),
    "Inception V1": ("googlenet_bn_3x3", {}),  # tf-slim's has batch norm, and 3x3 for 5x5
    "Inception V2": ("bn_inception_slim", {}),
    "Inception ResNet V2": ("inception_resnet_v2_slim", {}),
    "ResNeXt-101 (64x4d)": ("resnext101_64x4d", dict(input=(3, 320, 320))),
    "SENet": ("senet154_320", {}),
    "NASNet-A": ("nasnet_a_mobile", {}),
    "MobileNetV1 baseline": ("mobilenet_v1", {}),
    "MobileNetV1 w=2": ("mobilenet_v1", dict(width=2.0)),
    "MobileNetV1 r=2": ("mobilenet_v1", dict(input=(3, 448, 448))),
    "MobileNetV2 baseline": ("mobilenet_v2", {}),
    "MobileNetV2 w=2": ("mobilenet_v2", dict(width=2.0)),
    "MobileNetV2 r=2": ("mobilenet_v2", dict(input=(3, 448, 448))),
    "ResNet-50 baseline": ("resnet50_v1_5", {}),
    "ResNet-50 r=2": ("resnet50_v1_5", dict(input=(3, 448, 448))),
    "ResNet-50 d=4": ("resnet50_v1_5", dict(depths=(12, 16, 24, 12))),
    "ResNet-50 w=2": ("resnet50_v1_5", dict(widths=(512, 1024, 2048, 4096))),
    "B0 baseline": ("efficientnet_b0", {}),
    "B0 depth d=4": ("efficientnet_b0", dict(depth=4.0)),
    "B0 width w=2": ("efficientnet_b0", dict(width=2.0)),
    "B0 resolution r=2": ("efficientnet_b0", dict(input=(3, 448, 448))),
    "B0 compound d=1.4 w=1.2 r=1.3": ("efficientnet_b0", dict(depth=1.4, width=1.2, input=(3, 291, 291))),
    "+ RMSProp": ("inception_v2", {}),
    "+ label smoothing": ("inception_v2", {}),
    "+ factorised 7x7": ("inception_v3", {}),
    "+ BN auxiliary = Inception-v3": ("inception_v3", {}),
}
UNLABELLED = {  # `network` of a fact: why we have none
    "ShuffleNet": "not in the lectures",
    "ShuffleNet 2x": "not in the lectures",
    "ShuffleNet 1.5": "not in the lectures",
    "ShuffleNet x2": "not in the lectures",
    "MobileNetV2 d=4": "our MobileNetV2 has no multiplier of depth",
    "MobileNetV1 compound": "coefficients not printed",
    "MobileNetV2 compound": "coefficients not printed",
    "ResNet-50 compound": "coefficients not printed",
    "BN-GoogLeNet": "GoogLeNet with batch norm, of which only torchvision's, with 3x3 for 5x5, is ours",
}

# --- what a fact prints ---

WHOLE = {  # key or field: the quantity, and the suffix that its printed number lacks
    "params": ("params", ""),
    "params_cifar100": ("params", ""),
    "params_option": ("params", ""),
    "params_original_unit": ("params", ""),
    "params_caffe": ("params", ""),
    "with_fc_bias": ("params", ""),
    "params_M": ("params", "M"),
    "params_paper_M": ("params", "M"),
    "weights_only": ("weights", ""),
    "macs": ("macs", ""),
    "macs_v1_5": ("macs", ""),
    "macs_288": ("macs", ""),
    "million_macs": ("mmacs", ""),
    "million_mult_adds": ("mmacs", ""),
    "ops_paper_sum_M": ("mmacs", ""),
    "MFLOPs": ("mmacs", ""),
    "giga_mult_adds": ("gmacs", ""),
    "gmacs_paper": ("gmacs", ""),
    "macs_paper_flops": ("gmacs", ""),
    "gflops": ("gmacs", ""),
    "bn_ops": ("gmacs", ""),
    "activation_values_total": ("activations", ""),
}
PROSE = {  # entry, key: the figures that its text holds
    ("alexnet_two_gpu", "params_paper"): [("params", "60M")],
    ("alexnet_single", "params_deck"): [("params", "62.3M")],
    ("alexnet_single", "computations_deck"): [("gmacs", "1.1")],
    ("alexnet_two_gpu", "weights_conv1_deck"): [("weights stem", "34,848")],
    ("bn_nin", "params"): [("params", "7.6M")],
    ("googlenet", "params_paper_sum"): [("params", "6.8M")],
    ("googlenet", "params_deck"): [("params", "5M")],
    ("googlenet", "macs_paper"): [("gmacs", "1.5")],
    ("bn_inception", "params_paper"): [("params", "13.6M")],
    ("bn_inception", "macs_paper"): [("gmacs", "2.0")],
    ("inception_v3", "params_paper"): [("params", "23.8M")],
    ("inception_v3", "macs_paper"): [("gmacs", "4.8"), ("gmacs", "5.72")],
    ("inception_v4", "params_efficientnet_paper"): [("params", "48M")],
    ("inception_v4", "macs_paper"): [("gmacs", "13")],
    ("inception_resnet_v2", "params_paper"): [("params", "55.8M")],
    ("inception_resnet_v2", "macs_paper"): [("gmacs", "13.2"), ("gmacs", "11.75")],
    ("resnet1202_cifar", "params_misprint"): [("params", "10.2M")],
    ("stochastic_depth_1202", "params_misprint"): [("params", "10.2M")],
    ("preresnet200", "params_paper"): [("params", "64.7M")],
    ("resnext101_64x4d", "params_paper"): [("params", "83.6M"), ("gmacs", "31.5")],
    ("senet_154", "params_paper_other"): [("params", "145.8M"), ("gmacs", "42.3")],
}
LAYERS = {  # entry, layer: our path
    **{("lenet5_original", layer): path for layer, path in (
        ("C1", "stem.c1"), ("S2", "stages.s2"), ("C3", "stages.c3"), ("S4", "stages.s4"), ("C5", "stages.c5"),
        ("F6", "head.f6"), ("OUTPUT", "head.output"))},
    **{(entry, layer): path for entry in ("alexnet_two_gpu", "alexnet_single") for layer, path in (
        ("conv1", "stem"), ("conv2", "stages.conv2"), ("conv3", "stages.conv3"), ("conv4", "stages.conv4"),
        ("conv5", "stages.conv5"), ("fc6", "head.fc6"), ("fc7", "head.fc7"), ("fc8", "head.fc8"))},
    ("googlenet", "conv1 7x7/2 64"): "stem.conv1",
    ("googlenet", "conv2 1x1 64 + 3x3 192"): "stem.conv2",
    **{("googlenet", f"inception {n}"): f"stages.inception{n}"
       for n in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")},
    ("googlenet", "linear"): "head.linear",
}  # fmt: skip
MOBILENETS = {  # entry: the rows of a width at every size
    "mobilenet_v1_100": (mobilenet_v1.name, 1.0),
    "mobilenet_v1_075": (mobilenet_v1.name, 0.75),
    "mobilenet_v1_050": (mobilenet_v1.name, 0.5),
    "mobilenet_v1_025": (mobilenet_v1.name, 0.25),
    "mobilenet_v2_100": (mobilenet_v2.name, 1.0),
    "mobilenet_v2_140": (mobilenet_v2.name, 1.4),
    "mobilenet_v2_130": (mobilenet_v2.name, 1.3),
    "mobilenet_v2_075": (mobilenet_v2.name, 0.75),
    "mobilenet_v2_050": (mobilenet_v2.name, 0.5),
    "mobilenet_v2_035": (mobilenet_v2.name, 0.35),
}
BASES = {  # entry of an SE network: the network without SE that its paper trained again
    "se_resnet_50": "resnet50",
    "se_resnet_101": "resnet101",
    "se_resnet_152": "resnet152",
    "se_resnext_50": "resnext50_32x4d",
    "se_resnext_101": "resnext101_32x4d",
    "se_vgg_16": "vgg16",
    "se_bn_inception": "bn_inception_caffe",
    "se_inception_resnet_v2": "inception_resnet_v2_slim",
}
OTHER_VARIANT = {  # key: the variant of that entry's family
    "params_caffe": "bn_inception_caffe",
    "params_separable_stem": "bn_inception_slim",
    "r_table_baseline": "resnet50",
}


def statistics(a: Account) -> int:
    """Batch norm's running means and variances: as many as its scales and shifts."""
    return sum(r.params for r in a.rows if r.op == "BatchNorm2d")


def of(op: str, a: Account) -> int:
    return sum(r.weights for r in a.rows if r.op == op)


def of_biases(op: str, a: Account) -> int:
    return sum(r.biases for r in a.rows if r.op == op)


def without_se_biases(a: Account) -> int:
    return a.totals.params - sum(r.biases for r in a.rows if ".se." in r.path)


SPECIAL: dict[str, Count] = {  # key: what it counts, where that is no Claim's quantity
    "params_with_aux": lambda a: a.totals.params + a.totals.idle,
    "params_with_conv_bias": lambda a: a.totals.params + statistics(a) // 2,  # one a map
    # with scales, and with batch norm in place of the separable convolution's bias
    "params_separable_stem": lambda a: a.totals.params + statistics(a) + of_biases("Conv2d", a),
    "params_bn_affine": lambda a: a.totals.params + of_biases("Conv2d", a),
    "weights_conv": partial(of, "Conv2d"),
    "weights_fc": partial(of, "Linear"),
    "activation_values_conv_fc_only": lambda a: sum(r.activations for r in a.rows if r.macs),
    "r_params": without_se_biases,
}
KERAS = {  # entry: what keras counts besides parameters, in values a map of batch norm: 2 running statistics, and
    "inception_v3": 1,  # no scale
    "inception_resnet_v2": 1,
    "resnet50": 3,  # a bias before it
    "resnet101": 3,
    "resnet152": 3,
    "mobilenet_v1_100": 2,
    "mobilenet_v2_100": 2,
    "nasnet_a_4_1056": 2,
    "nasnet_a_6_4032": 2,
    "efficientnet_b0": 2,
}
KERAS_NORMALISATION = {"efficientnet_b0": 7}  # mean and variance of three channels, and their count


@dataclass(frozen=True)
class Figure:
    """A printed figure: of which network, and what to count."""

    where: str  # entry and key
    variant: str
    claim: Claim
    options: dict[str, Any] = field(default_factory=dict)
    count: Count | None = None  # of a quantity that Claim does not know

    def counted(self) -> int:
        a = counts_of(self.variant, tuple(self.options.items()))
        found = self.count(a) if self.count else counted(self.claim, a)
        assert found is not None
        return found

    def verdict(self) -> str:
        """Empty where the figure holds, or a claim of the variant has it with a gap."""
        ours = self.counted()
        what = self.claim.what if self.count is None else "params"
        value, unit = printed_value(Claim(what, self.claim.printed, ""))
        if abs(ours - value) < unit:
            return ""
        for claim in find(self.variant).claims:
            if claim.gap and same(claim, self.claim) and set(self.options) <= {"input"}:
                return ""
        return f"{self.where}: {self.variant} {self.claim.what} {self.claim.printed}, we count {ours:,}"


def same(a: Claim, b: Claim) -> bool:
    """Whether two claims print the same figure of the same quantity, whatever its unit."""

    def key(claim: Claim) -> tuple[str, str, Decimal] | None:
        what, _, path = claim.what.partition(" ")
        name = {"mmacs": "macs", "gmacs": "macs"}.get(what, what)
        return (name, path, printed_value(claim)[0]) if name in ("params", "weights", "macs", "activations") else None

    return key(a) == key(b) is not None


@cache
def counts_of(name: str, options: tuple[tuple[str, Any], ...]) -> Account:
    if not options and (tables.FOLDER / f"{name}.csv").exists():
        return tables.load(name)
    return account(name, **dict(options))


def printed(value: Any, suffix: str = "") -> str:
    return f"{value:,}{suffix}" if isinstance(value, int) else f"{value}{suffix}"


def label_of(fact: Fact) -> str | None:
    """The network that a fact names, in a table that compares several."""
    row = fact["value"] if isinstance(fact["value"], dict) else {}
    label: str | None = fact.get("network") or row.get("variant") or fact.get("backbone")
    return label


def network(entry: Entry, fact: Fact) -> tuple[str, dict[str, Any]] | None:
    """Our variant that a fact is about, and the options of account() that make it; None where there is none."""
    label = label_of(fact)
    if label:
        if label in LABELS:
            return LABELS[label]
        return None if label in UNLABELLED else (find(label).name, {})
    if "columns" in fact:
        return f"fractalnet_{5 * 2 ** (fact['columns'] - 1)}_narrow", {}
    if "block" in fact:
        block = re.sub(r"\D", "", fact["block"])
        return f"wrn{fact['depth']}_2" + ("" if block == "33" else f"_b{block}"), {}
    if "r" in fact:
        return "se_resnet50", dict(reduction=fact["r"])
    key = fact["key"]
    if key in OTHER_VARIANT:
        return OTHER_VARIANT[key], {}
    if key == "baseline_reimplemented":
        return BASES[entry["id"]], {}
    name = ours(entry["id"])
    if name is None:
        return None
    if entry["id"] in MOBILENETS and "input" in fact:
        spell, width = MOBILENETS[entry["id"]]
        side = fact["input"] if isinstance(fact["input"], int) else fact["input"][1]
        return spell(width, side, "_slim" if "v1" in name and key == "slim_checkpoint" else ""), {}
    if (entry["id"], key) in {("inception_resnet_v2", "params"), ("inception_resnet_v2", "params_keras")}:
        return "inception_resnet_v2_timm", {}  # the released network as timm counts it, with scales
    if key == "macs_v1_5":
        return f"{name}_v1_5", {}
    if key == "params_original_unit":
        return f"{name}_original", {}
    if key == "params_paper_other":
        return "senet154_320", {}
    if (entry["id"], key) == ("resnext101_64x4d", "params_paper"):
        return name, dict(input=(3, 320, 320))
    if key == "macs_288":
        return name, dict(input=(3, 288, 288))
    if key == "params_cifar100":
        return name, dict(classes=100)
    if key == "params_option":
        return name, dict(shortcut="B" if fact["option"] == "projection" else fact["option"])
    if key == "macs" and tuple(fact["input"]) != find(name).input:
        return name, dict(input=tuple(fact["input"]))
    return name, {}


def ours(entry: str) -> str | None:
    """The variant of an entry: as IDS has it, or as its name spells it."""
    if entry in IDS or entry in NO_NETWORK:
        return IDS.get(entry)
    spelled = {plain(spelling): n for n in names() for spelling in (*find(n).aliases, n)}
    return next(
        spelled[plain(s)] for s in (entry, entry.removesuffix("_cifar"), entry.removesuffix("_imagenet"))
        if plain(s) in spelled
    )  # fmt: skip


def read(entry: Entry, fact: Fact) -> Iterator[tuple[str, Figure]]:
    """The figures of a fact that we can count, each with the field that prints it."""
    found = network(entry, fact) if countable(fact) else None
    if found is None:
        return
    variant, options = found
    key, value, where = fact["key"], fact["value"], f"{entry['id']} {fact['key']}"

    def figure(what: str, number: Any, suffix: str = "", count: Count | None = None, name: str = variant) -> Figure:
        return Figure(where, name, Claim(what, printed(number, suffix), fact["source"]), options, count)

    if (entry["id"], key) in PROSE:
        for what, number in PROSE[entry["id"], key]:
            yield key, figure(what, number)
        return
    if key == "layer_params":
        path = LAYERS[entry["id"], fact["layer"]]
        quantity = "weights" if entry["id"] == "googlenet" else "params"
        yield key, figure(f"{quantity} {path}", value)
        for name, what in (("with_bias", "params"), ("macs", "macs"), ("paper", "weights"), ("ops_paper", "macs")):
            if name in fact:
                yield name, figure(f"{what} {path}", fact[name])
        return
    if key == "deck_rows_weights":
        rows = [r.path for r in counts_of(variant, ()).rows if r.macs]
        for path, number in zip(rows, value, strict=True):
            yield key, figure(f"weights {path}", number)
    if key == "params_keras":
        many, extra = KERAS[entry["id"]], KERAS_NORMALISATION.get(entry["id"], 0)
        yield key, figure(key, value, count=lambda a: a.totals.params + many * statistics(a) // 2 + extra)
    if key in SPECIAL or where == "googlenet_caffe params":
        yield key, figure(key, value, count=SPECIAL.get(key, SPECIAL["params_with_aux"]))
    if key == "params_split":
        yield key, figure("fc", value["fc"], count=partial(of, "Linear"))
        yield (
            key,
            figure("depthwise", value["depthwise"], count=lambda a: sum(r.weights for r in a.rows if r.groups > 1)),
        )
        yield key, figure("pointwise", value["pointwise"], count=pointwise)
    if key == "extra_params_resnet50":
        plain_params = counts_of("resnet50", ()).totals.params
        for name, number in ((key, value["exact_no_bias"]), ("paper", "2.5M")):
            yield name, figure(key, number, count=lambda a: without_se_biases(a) - plain_params)
    if key == "light_backbone":
        for name, mmacs, params in zip(("mobilenet_v1", "se_mobilenet_v1"), fact["MFLOPs"], fact["params_M"]):
            yield "MFLOPs", figure("mmacs", mmacs, name=name)
            yield "params_M", figure("params", params, "M", name=name)
        return
    fields = {key: value} | {k: v for k, v in fact.items() if k not in ("key", "value")}
    if key == "ablation_single_crop":
        fields |= value
    for name, number in fields.items():
        if name in WHOLE and where != "googlenet_caffe params":
            what, suffix = WHOLE[name]
            yield name, figure(what, number, suffix)


def depthwise(a: Account) -> int:
    return sum(r.weights for r in a.rows if r.groups > 1)


def pointwise(a: Account) -> int:
    return sum(r.weights for r in a.rows if r.kernel == (1, 1))


GAPS = {  # key, network and figure that a paper prints of another's network, or of one made from it: why we differ
    **{
        f"compound_scaling {figure}": "not reproduced: the paper gives the multiplier alone"
        for figure in (
            "resnet50_v1_5 gmacs 16.2",
            "resnet50_v1_5 gmacs 14.7",
            "efficientnet_b0 gmacs 1.8",
            "efficientnet_b0 gmacs 1.9",
        )
    },
}


# --- the tests ---


@pytest.fixture(scope="module")
def entries(ledger: Mapping[str, Any]) -> list[Entry]:
    found: list[Entry] = ledger["entry"]
    return found


def test_every_figure_holds_or_has_a_gap_and_none_is_passed_over(entries: list[Entry]) -> None:
    """What looks like a count is read, or said to be uncountable, or of a network that we have not."""
    figures, left = [], []
    for entry in entries:
        for fact in entry["facts"]:
            found = list(read(entry, fact))
            figures += [figure for _, figure in found]
            fields = countable(fact)
            if fields and network(entry, fact) is None:
                assert entry["id"] in NO_NETWORK or label_of(fact) in UNLABELLED
            elif fields:
                left += [f"{entry['id']} {fact['key']} {n}" for n in fields - {name for name, _ in found}]
    assert not left, "\n".join(left)
    assert len(figures) > 600
    failures = {f"{f.where.split()[0]} {f.variant} {f.claim.what} {f.claim.printed}": f for f in figures if f.verdict()}
    assert not failures.keys() - GAPS, "\n".join(f.verdict() for key, f in failures.items() if key not in GAPS)
    assert not GAPS.keys() - failures, "these hold: their gaps are to be deleted"


def test_every_entry_is_known(entries: list[Entry]) -> None:
    ids = {entry["id"] for entry in entries}
    assert {*IDS, *NO_NETWORK} <= ids
    for entry in ids - set(NO_NETWORK):
        name = ours(entry)
        assert name, entry
        assert find(name).name == name


def test_a_wrong_figure_is_noticed() -> None:
    entry = {"id": "vgg_d"}
    fact = {"key": "params", "value": 138_357_545, "source": "nowhere"}
    (_, figure), *_ = read(entry, fact)
    assert figure.verdict() == "vgg_d params: vgg16 params 138,357,545, we count 138,357,544"
    (_, figure), *_ = read(entry, fact | {"key": "macs_paper_flops", "value": Decimal("15.2")})
    assert figure.verdict() == "vgg_d macs_paper_flops: vgg16 gmacs 15.2, we count 15,470,264,320"
    (_, figure), *_ = read(entry, fact | {"key": "macs_paper_flops", "value": Decimal("15.3")})
    assert not figure.verdict()  # its gap is written
