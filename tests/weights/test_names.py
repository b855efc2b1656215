"""Name tables: the weights of torchvision's and timm's networks, loaded by their names, give the same logits.

float64, random weights and statistics: a branch in another's place shows. The large networks are in the slow group; of
those that alone have a table, names and shapes are compared every time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convatlas.catalogue import find
from convatlas.layers import ConvNet, on_meta
from convatlas.weights import name_tables, names
from convatlas.weights.names import blocks_of, compiled, rename, renamed
from tests import oracles

SMALL, INCEPTION, FULL = (66, 71), (107, 129), (224, 224)

# Their network: ours, the size at which logits are compared, whether that is quick
TORCHVISION: dict[str, tuple[str, tuple[int, int], bool]] = {
    "alexnet": ("alexnet_owt", FULL, False),
    **{f"vgg{n}{end}": (f"vgg{n}{end}", FULL, False) for n in (11, 13, 16, 19) for end in ("", "_bn")},
    "googlenet": ("googlenet_bn_3x3", INCEPTION, True),
    "inception_v3": ("inception_v3_tv", (299, 299), False),
    **{f"resnet{n}": (f"resnet{n}", SMALL, n == 18) for n in (18, 34)},
    **{f"resnet{n}": (f"resnet{n}_v1_5", SMALL, False) for n in (50, 101, 152)},
    **{f"wide_resnet{n}_2": (f"wrn{n}_2", SMALL, False) for n in (50, 101)},
    **{f"resnext{form}": (f"resnext{form}", SMALL, False) for form in ("50_32x4d", "101_32x8d", "101_64x4d")},
    **{f"squeezenet1_{n}": (f"squeezenet1_{n}", SMALL, True) for n in (0, 1)},
    **{f"densenet{n}": (f"densenet{n}", SMALL, n == 121) for n in (121, 161, 169, 201)},
    "mobilenet_v2": ("mobilenet_v2_symmetric", SMALL, True),
    **{f"efficientnet_b{n}": (f"efficientnet_b{n}_symmetric", SMALL, n == 0) for n in range(8)},
}
TIMM: dict[str, tuple[str, tuple[int, int], bool]] = {
    **{f"vgg{n}{end}": (f"vgg{n}{end}", FULL, False) for n in (11, 13, 16, 19) for end in ("", "_bn")},
    "inception_v3": ("inception_v3_tv", INCEPTION, False),
    "inception_v4": ("inception_v4", INCEPTION, False),
    "inception_resnet_v2": ("inception_resnet_v2_timm", INCEPTION, False),
    **{f"resnet{n}": (f"resnet{n}", SMALL, False) for n in (18, 34)},
    **{f"resnet{n}": (f"resnet{n}_v1_5", SMALL, False) for n in (50, 101, 152)},
    **{f"wide_resnet{n}_2": (f"wrn{n}_2", SMALL, False) for n in (50, 101)},
    **{f"resnext{form}": (f"resnext{form}", SMALL, False) for form in ("50_32x4d", "101_32x4d", "101_64x4d")},
    **{f"resnetv2_{n}": (f"preact_resnet{n}_timm", SMALL, False) for n in (50, 101, 152)},
    **{f"densenet{n}": (f"densenet{n}", SMALL, False) for n in (121, 161, 169, 201)},
    "mobilenetv1_100": ("mobilenet_v1_timm", SMALL, True),
    "mobilenetv2_100": ("mobilenet_v2_symmetric", SMALL, False),
    "mobilenetv2_140": ("mobilenet_v2_1_4_224_symmetric", SMALL, False),
    **{f"tf_efficientnet_b{n}": (f"efficientnet_b{n}", SMALL, n == 0) for n in range(8)},
    **{f"efficientnet_b{n}": (f"efficientnet_b{n}_symmetric", SMALL, False) for n in range(5)},
    **{f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}", SMALL, n == 0) for n in range(5)},
    "efficientnet_lite0": ("efficientnet_lite0_symmetric", SMALL, False),
    "nasnetalarge": ("nasnet_a_large_timm", (97, 110), False),
    **{f"legacy_seresnet{n}": (f"se_resnet{n}", SMALL, False) for n in (50, 101, 152)},
    **{f"legacy_seresnext{n}_32x4d": (f"se_resnext{n}_32x4d", SMALL, False) for n in (50, 101)},
    **{f"seresnet{n}": (f"se_resnet{n}_v1_5", SMALL, False) for n in (50, 101, 152)},
    "legacy_senet154": ("senet154", SMALL, False),
}
CASES = [("torchvision", *item) for item in TORCHVISION.items()] + [("timm", *item) for item in TIMM.items()]


def theirs(library: str, name: str) -> nn.Module:
    if library == "timm":
        made: nn.Module = oracles.timm().create_model(name)
        return made
    starts = dict(init_weights=False) if name in ("googlenet", "inception_v3") else {}
    return getattr(oracles.torchvision_models(), name)(**starts)  # type: ignore[no-any-return]


def layers(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[0] for name in names))


def mapped(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Their tensors under our names, by the tables alone."""
    found = renamed(layers(state), layers(net.state_dict()))
    assert found is not None, "no table has these names"
    new = {f"{found.layers[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": t for name, t in state.items()}
    assert len(new) == len(state)
    return new


def without_aux(library: str, ours: str) -> dict[str, Any]:
    """timm drops the auxiliary classifiers from the weights that it loads."""
    return dict(aux=False) if library == "timm" and ours.startswith(("inception_v3", "nasnet")) else {}


@pytest.mark.oracles
@pytest.mark.parametrize(
    ("library", "name"),
    [
        *(("torchvision", name) for name in ("alexnet", "vgg16", "vgg11_bn", "inception_v3", "resnet50")),
        *(("timm", name) for name in ("vgg13", "inception_v4", "inception_resnet_v2", "nasnetalarge", "resnetv2_50")),
        *(("timm", name) for name in ("seresnet50", "legacy_senet154")),
    ],
)
def test_names_and_shapes(library: str, name: str) -> None:
    """Every tensor has one place, of as many values, and none is left."""
    ours, *_ = (TORCHVISION if library == "torchvision" else TIMM)[name]
    with on_meta():
        state, net = theirs(library, name).state_dict(), find(ours).build(**without_aux(library, ours))
    wanted = {key: t.numel() for key, t in net.state_dict().items()}
    assert {key: t.numel() for key, t in mapped(state, net).items()} == wanted


@pytest.mark.oracles
@pytest.mark.parametrize(
    ("library", "name", "case"),
    [
        pytest.param(library, name, case, id=f"{library}-{name}", marks=() if case[2] else pytest.mark.slow)
        for library, name, case in CASES
    ],
)
def test_the_same_logits(library: str, name: str, case: tuple[str, tuple[int, int], bool]) -> None:
    ours, size, _ = case
    other, net = theirs(library, name).double(), find(ours).build(**without_aux(library, ours)).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    oracles.drops_off(other)
    oracles.drops_off(net)
    oracles.randomise(other)
    oracles.calibrate(other, x)
    load(net, mapped(other.state_dict(), net))
    with torch.no_grad():
        expected = other.eval()(x)
        assert oracles.difference(net.eval()(x), expected) <= 1e-9
        assert oracles.difference(expected[:1], expected[1:]) > 0.01
        if net.has_aux:
            logits, *aux = other.train()(x)
            got, by_stage = net.train().forward_aux(x)
            aux = aux[::-1]  # torchvision gives the last first
            for mine, of in zip((got, *by_stage.values()), (logits, *aux), strict=True):
                assert oracles.difference(mine, of) <= 1e-9


def load(net: ConvNet, tensors: Mapping[str, Tensor]) -> None:
    own = net.state_dict()
    net.load_state_dict({name: tensor.view_as(own[name]) for name, tensor in tensors.items()})


@pytest.mark.oracles
def test_exchanged_branches_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes do not tell an auxiliary classifier's last layer from the network's: the rows must."""
    other_way = {"fc": "aux.4d.fc2", "aux2.fc2": "head.linear"}
    rows = [(theirs, other_way.get(theirs, ours)) for theirs, ours in name_tables.GOOGLENET]
    monkeypatch.setitem(names.TABLES, "torchvision GoogLeNet", rows)
    compiled.cache_clear()
    with pytest.raises(AssertionError):
        test_the_same_logits("torchvision", "googlenet", TORCHVISION["googlenet"])
    compiled.cache_clear()


@pytest.mark.parametrize(
    ("name", "convs"),
    [  # the weights that keras 3.15 gives layers of these numbers
        ("inception_v3_slim", {
            0: (32, 3, 3, 3), 5: (64, 192, 1, 1), 6: (48, 192, 1, 1), 9: (96, 64, 3, 3), 11: (32, 192, 1, 1),
            26: (384, 288, 3, 3), 30: (192, 768, 1, 1), 37: (128, 128, 7, 1), 40: (192, 768, 1, 1),
            48: (192, 160, 1, 7), 76: (320, 1280, 1, 1), 77: (384, 1280, 1, 1), 83: (384, 384, 3, 1),
            84: (192, 1280, 1, 1), 93: (192, 2048, 1, 1),
        }),
        ("inception_resnet_v2_slim", {
            5: (96, 192, 1, 1), 7: (64, 48, 5, 5), 10: (96, 96, 3, 3), 11: (64, 192, 1, 1), 12: (32, 320, 1, 1),
            14: (32, 32, 3, 3), 75: (384, 256, 3, 3), 76: (192, 1088, 1, 1), 115: (192, 160, 7, 1),
            202: (256, 224, 3, 1),
        }),
    ],
)  # fmt: skip
@pytest.mark.parametrize("first", [0, 1])
def test_what_keras_numbers(name: str, convs: dict[int, tuple[int, ...]], first: int) -> None:
    """Keras counts from "conv2d", or goes on from an earlier network; a file has the layers in another order."""
    with on_meta():
        ours = find(name).build(**({"aux": False} if "v3" in name else {})).state_dict()
    own = layers(ours)
    many = sum(layer.endswith(".conv") for layer in own) - 1 * (
        name == "inception_resnet_v2_slim"
    )  # conv_7b has a name

    def auto(kind: str, n: int) -> str:
        return f"{kind}_{n + first}" if n + first else kind

    theirs = [auto(kind, n) for n in range(many) for kind in ("batch_normalization", "conv2d")] + ["predictions"]
    if name == "inception_resnet_v2_slim":
        blocks = ((35, 10), (17, 20), (8, 10))
        theirs += ["conv_7b", "conv_7b_bn", *(f"block{k}_{n}_conv" for k, many in blocks for n in range(1, many + 1))]
    found = renamed(sorted(theirs), own)
    assert found is not None
    assert set(found.layers.values()) == set(own)
    assert {n: tuple(ours[found.layers[auto("conv2d", n)] + ".weight"].shape) for n in convs} == convs
    for n in range(many):
        conv, norm = (found.layers[auto(kind, n)] for kind in ("conv2d", "batch_normalization"))
        assert norm == conv.removesuffix(".conv") + ".bn"
    by_position = [layer if layer != "predictions" else "dense" for layer in theirs]
    assert renamed(by_position, own) is None


@pytest.mark.parametrize(("name", "cells"), [("nasnet_a_mobile", 4), ("nasnet_a_large", 6)])
def test_keras_nasnets(name: str, cells: int) -> None:
    with on_meta():
        own = layers(find(name).build(aux=False).state_dict())
    theirs = [theirs for theirs, ours in names.TABLES[f"Keras NASNet-A {name[9:]}"] if ours in own]
    found = renamed(theirs, own)
    assert found is not None
    assert set(found.layers.values()) == set(own)
    last = f"separable_conv_2_normal_left5_{3 * cells}.depthwise"  # the number of the first reduction is left out
    assert found.layers[last] == f"stages.normal3.cell{cells}.blocks.4.left.depthwise2"
    assert (
        found.layers[f"separable_conv_1_bn_reduction_right3_reduce_{2 * cells}"]
        == "stages.reduction2.blocks.2.right.bn1"
    )


def test_a_name_by_hand() -> None:
    with on_meta():
        blocks = blocks_of(layers(find("efficientnet_b0").build().state_dict()))
    assert (len(blocks), blocks[3]) == (16, "stages.stage3.block1")  # 1 + 2 blocks before
    assert (
        rename("_blocks.3._expand_conv", "lukemelas EfficientNet", blocks) == "stages.stage3.block1.branch.expand.conv"
    )
    assert rename("_blocks.16._expand_conv", "lukemelas EfficientNet", blocks) is None
    assert rename("layer4.2.conv3", "torchvision and timm ResNet") == "stages.conv5.block3.branch.conv3.conv"
    assert rename("layer4.2.conv3.extra", "torchvision and timm ResNet") is None
    assert rename("layer4.2a.conv3", "torchvision and timm ResNet") is None
    assert rename("features.denseblock2.denselayer7.norm.2", "torchvision and timm DenseNet") == (
        "stages.dense2.layers.6.grow.norm"
    )


def test_other_networks_are_not_renamed() -> None:
    with on_meta():
        resnet, vgg = (layers(find(name).build().state_dict()) for name in ("resnet18", "vgg16"))
    assert renamed(["conv1", "bn1", "layer1.0.conv1", "fc"], resnet) is not None
    assert renamed(["conv1", "bn1", "layer1.0.conv1", "fc"], vgg) is None
    assert renamed(["conv1", "bn1", "layer1.0.conv1", "somewhere"], resnet) is None
    assert renamed([], resnet) is None


def test_akamasters_resnets(real_packs: Any) -> None:
    for name in ("resnet20-12fca82f", "resnet44-014dd654"):
        held = torch.load(real_packs / f"weights/akamaster/{name}.th", map_location="cpu", weights_only=True)
        state = {key.removeprefix("module."): tensor for key, tensor in held["state_dict"].items()}
        net = find(name[:8]).build()
        load(net, {"head.linear.bias": net.head.linear.bias.detach(), **mapped(state, net)})
        assert torch.equal(net.stages.conv3.block2.branch.conv1.conv.weight, state["layer2.1.conv1.weight"])
