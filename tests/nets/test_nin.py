"""Network in Network: layer arithmetic, and what an mlpconv is."""

import pytest
import torch
from torch import nn

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.nets.nin import VARIANTS, ConvReLU, MLPConv

ROWS = {v.name: v for v in VARIANTS}


def build(name: str, **options: object) -> ConvNet:
    return ROWS[name].build(**options)


def by_hand(blocks: list[tuple[int, tuple[int, ...]]]) -> int:
    """Weights and biases; a block is the kernel of its convolution and the maps of it and of the 1x1 ones after."""
    total, cin = 0, 3
    for kernel, maps in blocks:
        for k, cout in zip((kernel, *[1] * len(maps)), maps, strict=False):
            total += k * k * cin * cout + cout
            cin = cout
    return total


def test_parameters_by_hand() -> None:
    imagenet = [(11, (96,) * 3), (5, (256,) * 3), (3, (384,) * 3), (3, (1024, 1024, 1000))]
    assert account(ROWS["nin"]).totals.params == by_hand(imagenet) == 7_595_176
    for classes, counted in ((10, 966_986), (100, 984_356)):
        cifar = [(5, (192, 160, 96)), (5, (192, 192, 192)), (3, (192, 192, classes))]
        assert account(ROWS["nin_cifar"], classes=classes).totals.params == by_hand(cifar) == counted


def test_sizes_round_up() -> None:
    rows = {r.path: r.shape for r in account(ROWS["nin"]).rows}
    assert [rows[p] for p in ("stem.conv.conv", "stages.pool1", "stages.pool2", "stages.pool3")] == [
        (96, 54, 54), (96, 27, 27), (256, 13, 13), (384, 6, 6),
    ]  # fmt: skip
    rows = {r.path: r.shape for r in account(ROWS["nin_cifar"]).rows}
    assert [rows[p] for p in ("stages.pool1", "stages.pool2", "head.pool")] == [(96, 16, 16), (192, 8, 8), (10, 1, 1)]


def test_an_mlpconv_is_a_perceptron_at_every_place() -> None:
    torch.manual_seed(0)
    block = MLPConv(3, 3, 1, 0, (4, 5, 6), ConvReLU)
    x = torch.randn(1, 3, 7, 7)
    patch = x[0, :, 2:5, 1:4].flatten()
    for conv in (block.conv.conv, block.cccp1.conv, block.cccp2.conv):
        patch = (conv.weight.flatten(1) @ patch + conv.bias).relu()
    assert torch.allclose(block(x)[0, :, 2, 1], patch, atol=1e-6)


def test_the_blocks_read_as_mlpconvs() -> None:
    blocks = [r.op for r in account(ROWS["nin"]).table("block")]
    assert blocks.count("MLPConv") == 4
    assert "Linear" not in {r.op for r in account(ROWS["nin"]).rows}  # classes come of global average pooling


def test_options() -> None:
    net = build("nin_cifar", dropout=0.2, classes=7, channels=1)
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.2, 0.2]
    assert net(torch.randn(2, 1, 20, 27)).shape == (2, 7)
    assert [type(m) for n, m in net.stages.named_children() if "pool" in n] == [nn.MaxPool2d, nn.AvgPool2d]
    with pytest.raises(UserError, match="the smallest square that does is 3x39x39"):
        build("nin", input=(3, 38, 38))


def test_initialisation() -> None:
    torch.manual_seed(0)
    net = build("nin_cifar")
    assert net.stages.mlpconv2.conv.conv.weight.std().item() == pytest.approx(0.05, rel=0.01)
    assert net.stages.mlpconv2.cccp1.conv.bias.abs().max() == 0


def test_initialisation_of_the_zoos_network() -> None:
    """As in the prototxt of the Caffe model zoo: conv1, conv3 and the last layer 0.01, the others 0.05; no biases."""
    torch.manual_seed(0)
    net = build("nin")
    convs = {path: m for path, m in net.named_modules() if isinstance(m, nn.Conv2d)}
    small = {"stem.conv.conv", "stages.mlpconv3.conv.conv", "stages.mlpconv4.cccp2.conv"}
    assert len(convs) == 12
    assert small < set(convs)
    for path, conv in convs.items():
        assert conv.weight.std().item() == pytest.approx(0.01 if path in small else 0.05, rel=0.03), path
        assert (conv.bias == 0).all()
    net.reset_head(7)
    assert net.stages.mlpconv4.cccp2.conv.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_the_zoos_network_starts_from_the_loss_of_chance() -> None:
    """On noise with the spread of pixels in [0, 255], as Caffe reads them; from 0.05 everywhere it starts above 30."""
    torch.manual_seed(0)
    net = build("nin").eval()
    with torch.no_grad():
        logits = net(70 * torch.randn(2, 3, 67, 67))
    loss = (logits.logsumexp(1) - logits.mean(1)).mean().item()  # averaged over the class that is right
    assert loss == pytest.approx(6.92, abs=0.02)
    assert logits.std() > 0
