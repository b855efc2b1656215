"""VGG against Table 1 of its paper, the lectures' table of VGG-16, and its own fully convolutional reading."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import LRN, ConvNet, dense, shape_after, stack
from convatlas.nets.vgg import TABLE_1, VARIANTS, VGG

VARIANT = {v.name: v for v in VARIANTS}

PAPER = {  # read off the paper: channels made at 224, 112, 56, 28 and 14 pixels; negative: by a 1x1 convolution
    "vgg11": ([64], [128], [256, 256], [512, 512], [512, 512]),
    "vgg13": ([64, 64], [128, 128], [256, 256], [512, 512], [512, 512]),
    "vgg16_c": ([64, 64], [128, 128], [256, 256, -256], [512, 512, -512], [512, 512, -512]),
    "vgg16": ([64, 64], [128, 128], [256] * 3, [512] * 3, [512] * 3),
    "vgg19": ([64, 64], [128, 128], [256] * 4, [512] * 4, [512] * 4),
}

LECTURES = [  # layer, C x H x W, activation values, weights: the table of VGG-16, its 22 rows below the input's
    ("CONV3-64", (64, 224, 224), 3_211_264, 1_728),
    ("CONV3-64", (64, 224, 224), 3_211_264, 36_864),
    ("POOL2", (64, 112, 112), 802_816, 0),
    ("CONV3-128", (128, 112, 112), 1_605_632, 73_728),
    ("CONV3-128", (128, 112, 112), 1_605_632, 147_456),
    ("POOL2", (128, 56, 56), 401_408, 0),
    ("CONV3-256", (256, 56, 56), 802_816, 294_912),
    ("CONV3-256", (256, 56, 56), 802_816, 589_824),
    ("CONV3-256", (256, 56, 56), 802_816, 589_824),
    ("POOL2", (256, 28, 28), 200_704, 0),
    ("CONV3-512", (512, 28, 28), 401_408, 1_179_648),
    ("CONV3-512", (512, 28, 28), 401_408, 2_359_296),
    ("CONV3-512", (512, 28, 28), 401_408, 2_359_296),
    ("POOL2", (512, 14, 14), 100_352, 0),
    ("CONV3-512", (512, 14, 14), 100_352, 2_359_296),
    ("CONV3-512", (512, 14, 14), 100_352, 2_359_296),
    ("CONV3-512", (512, 14, 14), 100_352, 2_359_296),
    ("POOL2", (512, 7, 7), 25_088, 0),
    ("FC", (4096,), 4_096, 102_760_448),
    ("FC", (4096,), 4_096, 16_777_216),
    ("FC", (1000,), 1_000, 4_096_000),
]


@pytest.mark.parametrize("name", PAPER)
def test_counts_follow_from_the_papers_table(name: str) -> None:
    weights, biases, macs, cin = 0, 0, 0, 3
    for size, couts in zip((224, 112, 56, 28, 14), PAPER[name], strict=True):
        for cout in couts:
            layer = cin * cout if cout < 0 else 9 * cin * cout
            weights, biases, macs = weights + abs(layer), biases + abs(cout), macs + abs(layer) * size**2
            cin = abs(cout)
    fc = 7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000
    counted = account(VARIANT[name]).totals
    assert (counted.weights, counted.biases, counted.macs) == (weights + fc, biases + 2 * 4096 + 1000, macs + fc)


def test_the_lectures_table_of_vgg16_row_by_row() -> None:
    counted = account(VARIANT["vgg16"])
    rows = counted.table("layer")
    assert [(r.shape, r.activations, r.weights) for r in rows] == [row[1:] for row in LECTURES]
    for row, (layer, *_) in zip(rows, LECTURES, strict=True):
        geometry = {"C": ((3, 3), (1, 1), (1, 1)), "P": ((2, 2), (2, 2), (0, 0)), "F": ((), (), ())}[layer[0]]
        assert (row.kernel, row.stride, row.padding) == geometry
    assert sum(row[3] for row in LECTURES) == 138_344_128  # one lecture prints 128 million
    assert 3 * 224 * 224 + sum(row[2] for row in LECTURES) == 15_237_608  # both print 24 million
    assert (counted.totals.weights, counted.totals.params) == (138_344_128, 138_357_544)
    assert counted.totals.activations == 15_237_608


def small(config: str, size: int = 64, **options: object) -> VGG:
    torch.manual_seed(0)
    return VGG(config, input=(3, size, size), classes=5, **options).eval()  # type: ignore[arg-type]


def livelier(net: ConvNet) -> None:
    """N(0, 0.01) leaves logits of 1e-9: weights with which signals neither die nor explode."""
    for m in net.modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(m.weight)
            nn.init.uniform_(m.bias, -0.5, 0.5)


def test_dense_equals_the_network_on_its_own_input_and_slides_over_a_larger_one() -> None:
    net = small("A").double()
    livelier(net)
    full = net.dense()
    assert not any(isinstance(m, nn.Linear) for m in full.modules())
    with torch.no_grad():
        x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
        logits = net(x)
        assert logits.std() > 0.1
        torch.testing.assert_close(full(x).flatten(1), logits, rtol=1e-12, atol=1e-12)
        large = torch.randn(1, 3, 128, 96, dtype=torch.float64)
        scores = full(large)
        assert scores.shape == (1, 5, 3, 2)  # the map of 4x3 positions holds 3x2 windows of 2x2
        windows = net.stages(large).unfold(2, 2, 1).unfold(3, 2, 1)[0].permute(1, 2, 0, 3, 4)
        torch.testing.assert_close(scores[0].permute(1, 2, 0).flatten(0, 1), net.head(windows.flatten(0, 1)))
    assert any(isinstance(m, nn.Linear) for m in net.modules()), "the network itself is left as it was"


def test_dense_reads_global_average_pooling_and_refuses_what_it_cannot_read() -> None:
    net = ConvNet()
    net.input = (2, 6, 6)
    net.stem, net.stages = nn.Sequential(), stack(conv=nn.Conv2d(2, 4, 3))
    net.head = stack(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(4, 3, bias=False))
    x = torch.randn(2, 2, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(dense(net)(x).flatten(1), net(x))
        assert dense(net)(torch.randn(1, 2, 9, 8)).shape == (1, 3, 4, 3)
    net.head = stack(flatten=nn.Flatten(), rbf=nn.Bilinear(4, 4, 3))
    with pytest.raises(UserError, match="ConvNet cannot be applied densely: its head has a Bilinear"):
        dense(net)


def test_a_lrn_is_a_with_one_normalisation_before_the_first_pool() -> None:
    plain, lrn = small("A", 32), small("A-LRN", 32)
    assert [n for n, m in lrn.named_modules() if isinstance(m, LRN)] == ["stages.block1.lrn"]
    livelier(plain)
    lrn.load_state_dict(plain.state_dict())
    with torch.no_grad():
        x = 30 * torch.randn(1, 3, 32, 32)
        a = F.relu(plain.stages.block1.conv1(x))
        squares = torch.stack([(a[:, max(c - 2, 0) : c + 3] ** 2).sum(1) for c in range(64)], 1)
        normed = F.max_pool2d(a / (2 + 1e-4 * squares) ** 0.75, 2)
        torch.testing.assert_close(lrn.stages.block1(x), normed, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(lrn(x), plain(x))


@pytest.mark.parametrize("config", ["A", "C"])
def test_initialisation_is_normal_with_std_001_and_zero_biases(config: str) -> None:
    for m in small(config, 32).modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            assert m.bias is not None
            assert not m.bias.any()
            if m.weight.numel() > 10_000:
                assert abs(m.weight.std() - 0.01) < 3e-4
                assert abs(m.weight.mean()) < 3e-4


def test_dropout_follows_the_first_two_linear_layers_only() -> None:
    head = list(small("A", 32, dropout=0.25).head)
    assert [i for i, m in enumerate(head) if isinstance(m, nn.Dropout)] == [3, 6]
    assert [m.p for m in head if isinstance(m, nn.Dropout)] == [0.25, 0.25]


def test_batch_norm_rows_normalise_every_convolution_and_keep_its_bias() -> None:
    net = small("B", 32, norm=nn.BatchNorm2d)
    kinds = [type(m) for m in net.stages.modules() if not list(m.children())]
    at = [i for i, kind in enumerate(kinds) if kind is nn.Conv2d]
    assert len(at) == 10
    assert all(kinds[i : i + 3] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] for i in at)
    assert sum(p.numel() for p in net.parameters()) - sum(p.numel() for p in small("B", 32).parameters()) == 5888


def test_every_parameter_gets_a_gradient() -> None:
    net = small("A", 33, dropout=0.0)  # an odd size: the pools drop the last row and column
    livelier(net)
    net(torch.randn(2, 3, 33, 33)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


def test_wrong_configurations_and_sizes_are_refused_in_words() -> None:
    with pytest.raises(UserError, match=r"no VGG configuration named 'F'; choose from A, A-LRN, B, C, D, E"):
        VGG("F")
    with pytest.raises(
        UserError, match="'4-64' is not a layer of a VGG configuration; write kernel-channels, such as 3-64"
    ):
        VGG("3-64 | 4-64")
    with pytest.raises(
        UserError, match="input 3x31x31 does not fit the network; the smallest square that does is 3x32x32"
    ):
        VARIANT["vgg16"].build(input=(3, 31, 31))
    with torch.device("meta"):
        net = VARIANT["vgg16"].build()
    for other in (
        (3, 299, 299),
        (1, 224, 224),
    ):  # its fully connected layers and its first convolution know their sizes
        with pytest.raises(
            UserError, match=r"does not fit the network; the network was built for 3x224x224; build it with another"
        ):
            shape_after(net, other)
    assert set(TABLE_1) == {"A", "A-LRN", "B", "C", "D", "E"}
