"""features(): the maps of each stage, by name."""

import pytest
import torch
from torch import nn

import convatlas
from convatlas.catalogue import find
from convatlas.errors import UserError


def test_features_of_each_stage() -> None:
    net = find("resnet20").build().train()
    images = torch.randn(2, 3, 32, 32)
    maps = convatlas.features(net, images)
    assert {name: tuple(y.shape) for name, y in maps.items()} == {
        "conv2": (2, 16, 32, 32),
        "conv3": (2, 32, 16, 16),
        "conv4": (2, 64, 8, 8),
    }
    assert [(f.name, f.channels, 32 // f.stride) for f in net.feature_info] == [
        (name, y.shape[1], y.shape[2]) for name, y in maps.items()
    ]
    assert net.training
    assert not any(y.requires_grad for y in maps.values())
    with torch.no_grad():
        assert torch.equal(net.head(maps["conv4"]), net.eval()(images))
    assert list(convatlas.features("lenet5", torch.zeros(1, 1, 32, 32))) == ["s2", "c3", "s4", "c5"]


def test_another_module_has_no_stages() -> None:
    with pytest.raises(UserError, match="Linear is not a ConvNet, so its stages are not known; give a network of the"):
        convatlas.features(nn.Linear(3, 2), torch.zeros(1, 3))
