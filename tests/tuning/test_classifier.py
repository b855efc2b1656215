"""The network that a transfer starts from has the probe's logits, whatever its head is."""

from dataclasses import replace

import pytest
import torch

from convatlas.catalogue import find
from convatlas.data.normalise import Normalizer
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.tuning.classifier import final_layer, gain_of, has_bias, suited, with_probe
from convatlas.tuning.features import trunk_of
from convatlas.tuning.probe import Probe
from tests.trained import digits
from tests.tuning.models import model_of

HEADS = {  # network: its options; small ones of each kind of head
    "resnet20": {},
    "squeezenet1_0_caffe": {"fires": [("fire2", 4, 8, 8), ("fire3", 4, 8, 8)], "pools": ()},  # padding, then a ReLU
    "nin_cifar": {},  # the classifier is in the last stage, before a ReLU
    "bn_nin_zoo": {"table": [(3, 2, 1, (8, 8), (0.1, 0.1), "max"), (3, 1, 1, (8,), (0.1, 0.1), "")]},
    "airbench94": {"widths": (8, 16, 16)},  # no bias, and a ninth
    "lenet_caffe": {"maps": (4, 6), "hidden": (12,)},  # two linear layers
    "densenet_40_12": {"depth": 10},
}


def some_probe(features: int, classes: int = 3, bias: bool = True) -> Probe:
    random = torch.Generator().manual_seed(1)
    weight = torch.randn(classes, features, generator=random)
    weight[0] = -weight[0].abs()  # a ReLU would cut its logits off
    offset = torch.randn(classes, generator=random) if bias else torch.zeros(classes)
    return Probe(weight, offset, 1.0, {}, torch.zeros(0, classes))


@pytest.mark.parametrize("name", HEADS)
def test_its_logits_are_the_probes(name: str) -> None:
    model = model_of(name, HEADS[name])
    x = torch.randn(4, *model.preprocess.input)
    with torch.inference_mode():
        features = trunk_of(model)(x)
        probe = some_probe(features.shape[1], bias=has_bias(model, 3))
        expected = probe(features)
        logits = with_probe(model, probe)(x)
    assert expected.min() < 0
    torch.testing.assert_close(logits, expected, atol=1e-3, rtol=1e-4)


def test_the_weights_epsilons_are_kept() -> None:
    model = model_of("resnet20", {})
    x = torch.randn(4, 3, 32, 32)
    layers = [name for name, m in model.net.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for name in layers:
        model.net.get_submodule(name).eps = 1e-2
    probe = some_probe(64)
    with torch.inference_mode():
        expected = probe(trunk_of(model)(x))
        kept = with_probe(replace(model, eps=dict.fromkeys(layers, 1e-2)), probe)(x)
        lost = with_probe(model, probe)(x)
    torch.testing.assert_close(kept, expected, atol=1e-4, rtol=1e-4)
    assert (lost - expected).abs().max() > 1e-3


def test_a_classifier_of_codes_is_refused() -> None:
    net = find("lenet5").build()
    with pytest.raises(UserError, match="lenet5 ends in GaussianConnections, which is not a linear layer; transfer"):
        final_layer(net)


def test_what_follows_the_layer_must_be_linear() -> None:
    net = find("squeezenet1_1").build(input=(3, 64, 64), classes=3)  # with its ReLU
    torch.nn.init.constant_(net.head.conv10.bias, -1.0)
    with pytest.raises(UserError, match="the logits of squeezenet1_1 are not linear in its features"):
        gain_of(net.eval(), net.head.conv10)


def test_grey_images_go_through_a_stem_summed_over_its_channels() -> None:
    model, data = model_of("resnet20", {}), digits()
    grey = suited(model, data)
    assert grey.preprocess.input == (1, 32, 32)
    assert isinstance(grey.net, ConvNet)
    x = torch.rand(2, 1, 32, 32)
    coloured = model_of("resnet20", {})
    with torch.inference_mode():
        torch.testing.assert_close(grey.net(x), coloured.net(x.repeat(1, 3, 1, 1)), atol=1e-5, rtol=1e-4)


def test_another_size_and_images_of_one_size_whole() -> None:
    model = model_of("resnet20", {})
    cropped = replace(model.preprocess, resize_mode="crop", resize=36)
    model = replace(model, normalizer=Normalizer(cropped))
    data = replace(digits(), mean=(0.5,) * 3, std=(0.2,) * 3)
    assert suited(model, data).preprocess.resize == 32
    assert suited(model, replace(data, shape=None)).preprocess.resize == 36
    larger = suited(model, replace(data, shape=None), (3, 64, 64)).preprocess
    assert (larger.input, larger.resize) == ((3, 64, 64), 72)
    with pytest.raises(UserError, match="these weights are for images of 3x32x32; leave out --input"):
        suited(model, data, (1, 64, 64))


def test_only_a_convnet_is_transferred() -> None:
    model = replace(model_of("resnet20", {}), net=torch.nn.Linear(2, 2))
    with pytest.raises(UserError, match="resnet20 is not a ConvNet, and cannot be transferred; give a network"):
        suited(model, digits())
