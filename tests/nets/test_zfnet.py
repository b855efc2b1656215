"""ZFNet: the sizes of Fig. 3, the lectures' network told apart from it, and ONNX's."""

import pytest
import torch
from torch import nn

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import LRN, ConvNet
from convatlas.nets.alexnet import VARIANTS as ALEXNETS
from convatlas.nets.zfnet import VARIANTS

ROWS = {v.name: v for v in VARIANTS}


def on_meta(name: str = "zfnet", **options: object) -> ConvNet:
    with torch.device("meta"):
        return ROWS[name].build(**options)


def test_the_sizes_of_figure_3() -> None:
    rows = {r.path: r.shape for r in account(ROWS["zfnet"]).rows}
    printed = {
        "stem.conv": (96, 110, 110), "stem.pool": (96, 55, 55),
        "stages.conv2.conv": (256, 26, 26), "stages.conv2.pool": (256, 13, 13),
        "stages.conv3.conv": (384, 13, 13), "stages.conv4.conv": (384, 13, 13),
        "stages.conv5.conv": (256, 13, 13), "stages.conv5.pool": (256, 6, 6), "head.fc6": (4096,),
    }  # fmt: skip
    assert {path: rows[path] for path in printed} == printed


def params_by_hand(c3: int, c4: int, c5: int) -> int:
    convolutions = sum(
        k * k * cin * cout + cout for k, cin, cout in ((7, 3, 96), (5, 96, 256), (3, 256, c3), (3, c3, c4), (3, c4, c5))
    )
    return convolutions + (36 * c5 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 1000 + 1000)


def test_the_papers_and_the_lectures_networks() -> None:
    assert account(ROWS["zfnet"]).totals.params == params_by_hand(384, 384, 256) == 62_357_608
    assert account(ROWS["zfnet_512"]).totals.params == params_by_hand(512, 1024, 512) == 107_627_624
    rows = {r.path: r for r in account(ROWS["zfnet_512"]).rows}
    assert [rows[f"stages.conv{i}.conv"].shape[0] for i in (3, 4, 5)] == [512, 1024, 512]
    assert rows["stages.conv2.conv"].stride == (2, 2)  # which the lectures leave out


def test_what_sets_it_apart_from_alexnet() -> None:
    """A smaller stride in conv1; no towers; normalisation after the pooling."""
    alexnet = {r.path: r for r in account(ALEXNETS[0]).rows}
    zfnet = {r.path: r for r in account(ROWS["zfnet"]).rows}
    assert (alexnet["stem.conv"].kernel, alexnet["stem.conv"].stride) == ((11, 11), (4, 4))
    assert (zfnet["stem.conv"].kernel, zfnet["stem.conv"].stride) == ((7, 7), (2, 2))
    assert {r.groups for r in zfnet.values()} == {1}
    assert [type(m) for m in on_meta().stem] == [nn.Conv2d, nn.ReLU, nn.MaxPool2d, LRN]
    assert [type(m) for m in on_meta("zfnet_512_onnx").stem] == [nn.Conv2d, nn.ReLU, LRN, nn.MaxPool2d]


def test_onnx_zfnet_512() -> None:
    rows = {r.path: r.shape for r in account(ROWS["zfnet_512_onnx"]).rows}
    assert [rows[p] for p in ("stem.conv", "stem.pool", "stages.conv2.conv", "stages.conv2.pool")] == [
        (96, 109, 109), (96, 54, 54), (256, 25, 25), (256, 12, 12),
    ]  # fmt: skip
    assert rows["stages.conv5.pool"] == (512, 6, 6)
    assert rows["head.fc7"] == (1024,)


def test_the_first_linear_layer_fits_the_image() -> None:
    assert on_meta(input=(1, 128, 96)).head.fc6.in_features == 256 * 3 * 2
    with pytest.raises(
        UserError, match=r"input 3x50x50 does not fit the network; the smallest square that does is 3x53x53"
    ):
        on_meta(input=(3, 50, 50))


def test_options_and_initialisation() -> None:
    torch.manual_seed(0)
    net = ROWS["zfnet"].build(input=(3, 80, 80), hidden=(64, 32), dropout=0.1, classes=5)
    assert net(torch.randn(2, 3, 80, 80)).shape == (2, 5)
    assert [net.head.fc6.out_features, net.head.fc7.out_features] == [64, 32]
    assert {m.p for m in net.modules() if isinstance(m, nn.Dropout)} == {0.1}
    assert net.stages.conv4.conv.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert net.stages.conv4.conv.bias.abs().max() == 0
