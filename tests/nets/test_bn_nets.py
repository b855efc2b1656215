"""BN-AlexNet and BN-NIN: what batch normalisation adds to the networks that they are made of."""

import pytest
import torch
from torch import nn

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.nets import alexnet, bn_alexnet, bn_nin, nin

OWT = next(v for v in alexnet.VARIANTS if v.name == "alexnet_owt")
BN_ALEXNET = bn_alexnet.VARIANTS[0]
BN_NIN = {v.name: v for v in bn_nin.VARIANTS}


def test_bn_alexnet_is_alexnet_owt_with_batch_norm() -> None:
    plain, normed = account(OWT).totals, account(BN_ALEXNET).totals
    maps = 64 + 192 + 384 + 256 + 256 + 4096 + 4096
    assert normed.params == plain.params + 2 * maps == 61_119_528  # the biases stay
    assert normed.macs == plain.macs


def test_with_neutral_statistics_it_computes_what_alexnet_owt_does() -> None:
    torch.manual_seed(0)
    ours, plain = BN_ALEXNET.build(classes=5).double().eval(), OWT.build(classes=5).double().eval()
    own = [m for m in ours.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for m, n in zip(own, (m for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Linear)), strict=True):
        n.load_state_dict(m.state_dict())
    for m in ours.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            assert m.eps == 1e-3
            m.running_var.fill_(1 - 1e-3)  # with epsilon, 1
            nn.init.ones_(m.weight)
    x = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    assert torch.allclose(ours(x), plain(x), rtol=1e-9)


def test_bn_alexnet_fits_the_image() -> None:
    with torch.device("meta"):
        assert BN_ALEXNET.build(input=(3, 128, 128)).head.fc6.in_features == 256 * 3 * 3
        assert BN_ALEXNET.build(dropout=0.3).head.dropout6.p == 0.3
        with pytest.raises(UserError, match="the smallest square that does is 3x63x63"):
            BN_ALEXNET.build(input=(3, 32, 32))


def test_bn_nin_by_hand() -> None:
    """Torch's ninbn: blocks of a convolution and two 1x1 of as many maps, all with batch norm; then a linear layer."""
    total, cin = 0, 3
    for kernel, maps in ((11, 96), (5, 256), (3, 384), (3, 1024)):
        total += kernel * kernel * cin * maps + 2 * maps * maps + 3 * maps + 3 * 2 * maps
        cin = maps
    assert account(BN_NIN["bn_nin"]).totals.params == total + 1024 * 1000 + 1000 == 8_655_336
    rows = {r.path: r.shape for r in account(BN_NIN["bn_nin"]).rows}
    assert [rows[p] for p in ("stem.conv.conv", "stages.pool1", "stages.pool2", "stages.pool3", "head.pool")] == [
        (96, 56, 56), (96, 28, 28), (256, 14, 14), (384, 7, 7), (1024, 1, 1),
    ]  # fmt: skip


def test_bn_nin_zoo_is_nin_with_batch_norm() -> None:
    plain, normed = account(nin.VARIANTS[0]).totals, account(BN_NIN["bn_nin_zoo"]).totals
    maps = 3 * (96 + 256 + 384) + 1024 + 1024 + 1000
    assert normed.params == plain.params + 2 * maps
    assert normed.macs == plain.macs


@pytest.mark.parametrize("name", list(BN_NIN))
def test_each_convolution_has_its_batch_norm(name: str) -> None:
    with torch.device("meta"):
        net = BN_NIN[name].build(classes=3, channels=1)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == len([m for m in net.modules() if isinstance(m, nn.Conv2d)]) == 12
    assert {m.eps for m in norms} == {1e-3}
