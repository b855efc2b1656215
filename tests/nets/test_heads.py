"""reset_head: the new classifier starts as the network's own does."""

import pytest
import torch

from convatlas.catalogue import find
from convatlas.errors import UserError

INITIALISED = {  # network with a head of its own initialisation: a small input that it takes
    "densenet_40_12": (3, 32, 32),
    "efficientnet_b0": (3, 32, 32),
    "fractalnet_20": (3, 32, 32),
    "googlenet": (3, 224, 224),
    "mobilenet_v1_0_25_128": (3, 32, 32),
    "mobilenet_v2": (3, 32, 32),
    "nasnet_a_mobile": (3, 224, 224),
    "nin_cifar": (3, 32, 32),
    "squeezenet1_1": (3, 64, 64),
    "alexnet": (3, 67, 67),
    "vgg11": (3, 32, 32),
    "zfnet": (3, 64, 64),
    "resnet18": (3, 32, 32),
    "resnet20": (3, 32, 32),
    "preact_resnet110": (3, 32, 32),
    "preact_resnet50": (3, 32, 32),
    "resnext29_1x64d": (3, 32, 32),
    "wrn16_4": (3, 32, 32),
    "stochastic_depth_resnet110": (3, 32, 32),
}


@pytest.mark.parametrize("name", INITIALISED)
def test_a_new_classifier_starts_as_its_network_does(name: str) -> None:
    torch.manual_seed(0)
    net = find(name).build(input=INITIALISED[name], classes=200)
    own = [net.get_submodule(path) for path in net.logits_layers]
    net.reset_head(200)
    for path, before in zip(net.logits_layers, own, strict=True):
        layer = net.get_submodule(path)
        assert layer is not before
        weight, other = layer.weight.detach(), before.weight.detach()
        assert not torch.equal(weight, other)
        assert weight.std().item() == pytest.approx(other.std().item(), rel=0.05)
        assert weight.abs().max().item() == pytest.approx(other.abs().max().item(), rel=0.35)
        assert (layer.bias is None) == (before.bias is None)
        if layer.bias is not None:
            assert layer.bias.any() == before.bias.any()


def test_lenet5_gets_other_codes() -> None:
    net = find("lenet5").build()
    net.reset_head(26)
    assert net(torch.zeros(1, 1, 32, 32)).shape == (1, 26)
    with pytest.raises(UserError, match="lenet5 has codes for at most 168 classes, not 200; use lenet5_tanh"):
        net.reset_head(200)


def test_the_head_keeps_type_mode_and_device() -> None:
    net = find("resnet20").build().double().eval()
    net.reset_head(3)
    layer = net.get_submodule("head.linear")
    assert layer.weight.dtype == torch.float64
    assert not layer.training
    net.reset_head(0)
    assert net(torch.zeros(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 64)
    net.reset_head(5)
    assert net(torch.zeros(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 5)


@pytest.mark.parametrize("classes", [-1, 2.5, True])
def test_what_is_not_a_count_is_refused(classes: int) -> None:
    with pytest.raises(
        UserError, match=f"classes={classes} is not a number of classes; give at least 1, or 0 for features"
    ):
        find("resnet20").build().reset_head(classes)
