"""Every network starts with the weights that its paper names, or its file says.

START has, for each class of networks, where its initialisation comes from and a rule for each kind of parameter. Each
tensor must have its rule's spread, and all tensors of a rule together its shape (normal, uniform or cut off). A class
or a parameter without a rule fails. Batch norm starts from scale 1 and shift 0 where a network's rules do not say more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from math import inf, sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from convatlas import tables
from convatlas.catalogue import Variant, variants
from convatlas.nets.airbench import Airbench

SIDE = 107  # in pixels, at most: small linear layers, and every network takes it


@dataclass(frozen=True)
class Spread:
    """A distribution in units of its scale: standard deviation, kurtosis, the largest deviation from its mean, mean."""

    std: float
    kurtosis: float
    largest: float = inf
    mean: float = 0


NORMAL = Spread(1, 3)
UNIFORM = Spread(1 / sqrt(3), 1.8, 1)
SHARE = Spread(1 / sqrt(12), 1.8, 0.5, mean=0.5)  # uniform in (0, 1)
CUT = Spread(0.8796, 2.3657, 2)  # a normal one cut at two deviations
Rule = tuple[str, Spread | float, Callable[[nn.Module], float]]  # parameters (a regex), distribution or value, scale


def constant(names: str, value: float) -> Rule:
    return names, value, lambda m: 1.0


def normal(names: str, std: Callable[[nn.Module], float] | float) -> Rule:
    return names, NORMAL, std if callable(std) else lambda m: std


def uniform(names: str, bound: Callable[[nn.Module], float] | float) -> Rule:
    return names, UNIFORM, bound if callable(bound) else lambda m: bound


def cut(names: str, std: Callable[[nn.Module], float] | float) -> Rule:
    return names, CUT, std if callable(std) else lambda m: std


def fan_in(m: Any) -> int:
    return m.weight[0].numel()


def fan_out(m: Any) -> int:
    """Of all groups together, as Torch's code and PyTorch have it."""
    return m.weight[:, 0].numel()


def fan_out_of_a_group(m: Any) -> float:
    return fan_out(m) / getattr(m, "groups", 1)


ZERO = constant(r"\bbias", 0)
TORCH = uniform("", lambda m: fan_in(m) ** -0.5)  # what PyTorch starts convolutions and linear layers with, and biases
TORCH7: Rule = (r"norm weight", SHARE, lambda m: 1.0)  # batch norm's; its convolutions and linear layers start as TORCH
NORMS = [constant("norm weight", 1), constant("norm bias", 0)]
LINEAR = uniform(r"linear\.", TORCH[2])
NO_BIAS = constant(r"linear\.bias", 0)
HE_IN = [LINEAR, normal("weight", lambda m: sqrt(2 / fan_in(m))), ZERO]
HE_OUT = [LINEAR, normal("weight", lambda m: sqrt(2 / fan_out(m))), ZERO]
HE_SE = normal(r"\bse\d?\.(reduce|expand)\.weight", lambda m: sqrt(2 / fan_in(m)))
CAFFE = [uniform("weight", lambda m: sqrt(3 / fan_in(m))), ZERO]  # Caffe's "xavier"
GAUSSIAN = [normal("weight", 0.01), ZERO]
SLIM = [cut("weight", 0.09), ZERO]
TF_FAN_OUT = lambda m: sqrt(1.3 * 2 / fan_out_of_a_group(m))  # noqa: E731
OURS = "the paper gives none; He's"
HE = "He et al. (2015)"

Start = list[Rule] | Callable[[dict[str, Any]], list[Rule]]  # of the options, where they decide
START: dict[str, tuple[str, Start]] = {
    "LeNet5": ("Appendix: uniform, 2.4 / fan-in", [
        uniform(r"subsample\.weight", 2.4 / 4), uniform("weight", lambda m: 2.4 / fan_in(m)), ZERO]),
    "LeNetLike": ("PyTorch's, as its file says", [TORCH]),
    "AlexNet": ("section 5; Caffe's prototxts", lambda options: [
        constant(r"(conv[245]\.conv|fc[67])\.bias", options["bias"]),
        normal(r"fc[67]\.weight", options["fc_std"]), *GAUSSIAN]),
    "AlexNetOWT": ("torchvision", [TORCH]),
    "Airbench": ("section 3.2: torch's, behind filters that pass on", [constant(r"whiten\.bias", 0), TORCH]),
    "BNAlexNet": ("imagenet-multiGPU.torch: Torch's", [TORCH7, TORCH]),
    "ZFNet": ("section 3", GAUSSIAN),
    "NiN": ("the author's release; with batch norm, Torch's", lambda options: (
        [TORCH7, TORCH] if options["unit"] else [normal("weight", 0.05), ZERO])),
    "BNNiN": ("imagenet-multiGPU.torch: Torch's", [TORCH7, TORCH]),
    "VGG": ("section 3.1", GAUSSIAN),
    "GoogLeNet": ("bvlc_googlenet", [
        constant(r"(head\.linear|fc2)\.bias", 0), constant("bias", 0.2), CAFFE[0]]),
    "GoogLeNetBN3x3": ("torchvision", [normal("weight", 0.01), TORCH]),
    "BNInception": (OURS, HE_IN),
    "InceptionV2": (OURS, HE_IN),
    "InceptionV3": (OURS, HE_IN),
    "InceptionV4": (OURS, HE_IN),
    "InceptionResNet": (OURS, HE_IN),
    "Chain": (OURS, [uniform(r"head\.", TORCH[2]), *HE_IN]),
    "ResNet": (f"section 3.4: {HE}; fb.resnet.torch", lambda options: [
        NO_BIAS, *(HE_IN if options["fan"] == "fan_in" else HE_OUT)]),
    "CifarResNet": (f"section 4.2: {HE}", [NO_BIAS, *HE_IN]),
    "StochasticDepth": ("as ResNet", [NO_BIAS, *HE_IN]),
    "CifarStochasticDepth": ("the released main.lua", [TORCH7, *HE_IN]),
    "PreActResNet": ("resnet-1k-layers", [NO_BIAS, *HE_OUT]),
    "TimmPreActResNet": ("resnet-1k-layers", [NO_BIAS, *HE_OUT]),
    "CifarPreActResNet": ("resnet-1k-layers", [NO_BIAS, *HE_OUT]),
    "WideResNet": ("pretrained/wide-resnet.lua of the released code", [NO_BIAS, *HE_IN]),
    "CifarWideResNet": ("models/wide-resnet.lua and utils.lua of the released code", [TORCH7, NO_BIAS, *HE_IN]),
    "ResNeXt": ("the released code", [NO_BIAS, *HE_OUT]),
    "CifarResNeXt": ("the released code", [NO_BIAS, *HE_OUT]),
    "DenseNet": (f"section 4.2: {HE}; the authors' Torch code", [NO_BIAS, *HE_OUT]),
    "CIFARDenseNet": (f"section 4.2: {HE}; the authors' Torch code", [NO_BIAS, *HE_OUT]),
    "ENetEncoder": ("Torch's", [TORCH7, constant("prelu", 0.25), TORCH]),
    "FractalNet": ("section 4: Xavier, by Caffe", CAFFE),
    "NAS": (OURS, HE_OUT),
    "SqueezeNet": ("the released prototxt", [normal(r"conv10\.weight", 0.01), *CAFFE]),
    "SEResNet": (HE, HE_IN),
    "SEVGG": (f"VGG's, {HE} in the SE units", [HE_SE, *GAUSSIAN]),
    "SEBNInception": (HE, HE_IN),
    "SEInceptionResNet": (HE, HE_IN),
    "SEMobileNetV1": ("MobileNet's", SLIM),
    "SECifarResNet": ("the ResNet's", [NO_BIAS, *HE_IN]),
    "SECifarPreActResNet": (f"the pre-activation ResNet's, {HE} in the SE units", [HE_SE, NO_BIAS, *HE_OUT]),
    "SECifarWideResNet": (f"the Wide ResNet's, {HE} in the SE units", [TORCH7, NO_BIAS, *HE_IN]),
    "MobileNetV1": ("tf-slim", SLIM),
    "MobileNetV2": ("tf-slim", SLIM),
    "NASNet": ("tf-slim: variance scaling by fan-out, cut at two deviations", [cut("weight", TF_FAN_OUT), ZERO]),
    "EfficientNet": ("tensorflow/tpu", [
        uniform(r"linear\.weight", lambda m: m.weight.shape[0] ** -0.5),
        normal("weight", lambda m: sqrt(2 / fan_out_of_a_group(m))), ZERO]),
}  # fmt: skip
START["EfficientNetLite"] = START["EfficientNet"]


def representatives() -> dict[str, Variant]:
    """Of each class, the smallest row of each set of options that are no numbers (blocks, convolutions, fans)."""
    found: dict[str, Variant] = {}
    for v in sorted(variants().values(), key=lambda v: tables.index()[v.name]["totals"]["weights"]):
        args = {k: x for k, x in v.args.items() if callable(x) or isinstance(x, str)}
        found.setdefault(f"{v.net.__name__} {args}", v)
    return {v.name: v for v in found.values()}


def rule(rules: list[Rule], name: str) -> int:
    for i, (names, _, _) in enumerate(rules):
        if re.search(names, name):
            return i
    raise AssertionError(f"START has no rule for {name}")


@pytest.mark.parametrize("variant", representatives().values(), ids=representatives())
def test_the_first_weights(variant: Variant) -> None:
    source, start = START[variant.net.__name__]
    rules = start(variant.options) if callable(start) else start
    rules = [*(r for r in rules if r is TORCH7), *NORMS, *rules]
    assert variant.input is not None
    channels, side, _ = variant.input
    options: dict[str, Any] = {}
    if "input" in variant.options and "aux" not in variant.options:
        options["input"] = (channels, min(side, SIDE), min(side, SIDE))
    torch.manual_seed(0)
    net = variant.build(**options)
    drawn: dict[int, list[Tensor]] = {}
    for path, m in net.named_modules():
        for own, p in m.named_parameters(recurse=False):
            name, values = f"{path}.{own}", p.detach().flatten()
            if variant.net is Airbench and p.shape[2:] == (3, 3):
                passing, values = values.tensor_split([p.shape[1] * p[0].numel()])
                assert torch.equal(passing, nn.init.dirac_(p.detach()[: p.shape[1]].clone()).flatten()), name
                if not len(values):
                    continue
            i = rule(rules, f"norm {own}" if isinstance(m, _BatchNorm) else name)
            _, spread, scale = rules[i]
            if not isinstance(spread, Spread):
                assert (values == spread).all(), f"{name}: {source}"
                continue
            values = values / scale(m) - spread.mean
            assert values.abs().max() <= spread.largest * (1 + 1e-6), f"{name}: {source}"
            drawn.setdefault(i, []).append(values / spread.std)
            error = sqrt((spread.kurtosis - 1) / 4 / len(values))  # of a standard deviation estimated
            if len(values) > 30:
                assert values.std().item() / spread.std == pytest.approx(1, abs=6 * error), f"{name}: {source}"
    for i, tensors in drawn.items():
        values, spread = torch.cat(tensors), rules[i][1]
        assert isinstance(spread, Spread)
        assert values.mean().item() == pytest.approx(0, abs=6 / sqrt(len(values)))
        if len(values) > 10_000:  # enough to tell normal, cut and uniform ones apart
            kurtosis = values.pow(4).mean() / values.square().mean() ** 2
            assert kurtosis.item() == pytest.approx(spread.kurtosis, abs=6 * sqrt(24 / len(values)))


def test_every_class_has_its_start_and_a_source() -> None:
    assert set(START) == {v.net.__name__ for v in variants().values()}
    assert all(source for source, _ in START.values())
