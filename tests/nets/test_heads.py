"""reset_head: the new classifier starts as the network's own does."""

import pytest
import torch

from convatlas.catalogue import find
from convatlas.errors import UserError
from tests.nets.structures import structures

CHEAPEST = {v.net: v.name for v in reversed(structures())}


@pytest.mark.parametrize("name", [name for net, name in CHEAPEST.items() if net.__name__ != "LeNet5"])
def test_a_new_classifier_starts_as_its_network_does(name: str) -> None:
    """One network of each class; LeNet-5's codes are not drawn at random."""
    torch.manual_seed(0)
    net = find(name).build(classes=200)
    own = [net.get_submodule(path) for path in net.logits_layers]
    net.reset_head(200)
    for path, before in zip(net.logits_layers, own, strict=True):
        layer = net.get_submodule(path)
        assert layer is not before
        assert type(layer) is type(before)
        ours, its = (dict(m.named_parameters()) for m in (layer, before))
        assert ours.keys() == its.keys()
        for key, new in ours.items():
            new, old = new.detach(), its[key].detach()
            assert new.any() == old.any(), key
            if new.dim() > 1:
                assert not torch.equal(new, old)
                assert new.std().item() == pytest.approx(old.std().item(), rel=0.05)
                assert new.abs().max().item() == pytest.approx(old.abs().max().item(), rel=0.35)


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
