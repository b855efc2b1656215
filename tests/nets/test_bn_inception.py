"""BN-Inception against Figure 5 of its paper: its output sizes, and the first layer that it describes in words."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convatlas.accounting import account
from convatlas.nets.bn_inception import FIGURE_5, VARIANTS, Inception, SeparableSame

VARIANT = {v.name: v for v in VARIANTS}

OUTPUTS = [  # module, C x H x W as Figure 5 prints it (but 3c and 4e, whose stride is inside: the next row's size)
    ("conv1", (64, 112, 112)),
    ("pool1", (64, 56, 56)),
    ("conv2_reduce", (64, 56, 56)),
    ("conv2", (192, 56, 56)),
    ("pool2", (192, 28, 28)),
    ("inception3a", (256, 28, 28)),
    ("inception3b", (320, 28, 28)),
    ("inception3c", (576, 14, 14)),
    ("inception4a", (576, 14, 14)),
    ("inception4b", (576, 14, 14)),
    ("inception4c", (576, 14, 14)),
    ("inception4d", (576, 14, 14)),
    ("inception4e", (1024, 7, 7)),
    ("inception5a", (1024, 7, 7)),
    ("inception5b", (1024, 7, 7)),
    ("pool", (1024, 1, 1)),
    ("linear", (1000,)),
]


def test_the_blocks_have_the_sizes_of_figure_5() -> None:
    rows = account(VARIANT["bn_inception"]).table("block")
    assert [(r.path.rpartition(".")[2], r.shape) for r in rows] == OUTPUTS


def test_the_printed_projections_contradict_the_printed_sizes() -> None:
    rows = {r.path: r.shape[0] for r in account(VARIANT["bn_inception_caffe"]).table("block")}
    assert [rows[f"stages.inception4{m}"] for m in "cde"] == [
        608,
        608,
        1056,
    ]  # with 128; Figure 5 prints 576, 576, 1024


def test_the_counts_follow_from_figure_5() -> None:
    weights = 7 * 7 * 3 * 64 + 64 * 64 + 9 * 64 * 192 + 1024 * 1000
    norms = 64 + 64 + 192
    cin = 192
    for _, n1, r3, n3, r33, n33, _, proj in FIGURE_5:
        weights += cin * (n1 + r3 + r33 + proj) + 9 * (r3 * n3 + r33 * n33 + n33 * n33)
        norms += n1 + r3 + n3 + r33 + 2 * n33 + proj
        cin = n1 + n3 + n33 + (proj or cin)
    totals = account(VARIANT["bn_inception"]).totals
    assert totals.params == weights + 2 * norms + 1000
    slim = account(VARIANT["bn_inception_slim"]).totals
    assert slim.weights == weights - 7 * 7 * 3 * 64 + (7 * 7 * 3 * 8 + 24 * 64)
    assert slim.biases == norms + 1000  # shifts of batch norm, and the bias of the separable convolution
    caffe = account(VARIANT["bn_inception_caffe"]).totals
    assert caffe.biases == 1000 + 2 * 10_016  # a bias and a shift for each of 10,016 filters


def test_a_module_is_its_branches_in_order() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 8, 8)
    for n1, pool, proj in ((3, "avg", 4), (3, "max", 4), (0, "max", 0)):
        module = Inception(6, n1, 2, 3, 2, 5, pool, proj).eval()
        kernel: dict[str, nn.Module] = dict(module.named_modules())

        def conv(path: str, x: torch.Tensor, stride: int = 1, kernel: dict[str, nn.Module] = kernel) -> torch.Tensor:
            weight = kernel[f"{path}.conv"].weight
            return F.conv2d(x, weight, padding=weight.shape[-1] // 2, stride=stride).clamp(min=0) / (1 + 1e-5) ** 0.5

        with torch.no_grad():
            stride = 1 if n1 else 2
            branches = [conv("branch1", x)] if n1 else []
            branches.append(conv("branch3.conv", conv("branch3.reduce", x), stride))
            branches.append(conv("branch33.conv2", conv("branch33.conv1", conv("branch33.reduce", x)), stride))
            if not n1:
                branches.append(F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2))
            elif pool == "max":
                branches.append(conv("branch_pool.proj", F.max_pool2d(x, 3, 1, 1)))
            else:
                mean = F.avg_pool2d(x, 3, 1, 1) / F.avg_pool2d(torch.ones_like(x), 3, 1, 1)
                branches.append(conv("branch_pool.proj", mean))
            torch.testing.assert_close(module(x), torch.cat(branches, 1))
            assert module.cout == module(x).shape[1]


def test_the_release_has_as_many_values_as_its_authors_test_says() -> None:
    """inception_v2_test.py: 10,173,112 up to Mixed_5c, with the running statistics; and dropout that keeps 0.8."""
    net = VARIANT["bn_inception_slim"].build()
    kept = {k: t for k, t in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert sum(t.numel() for k, t in kept.items() if not k.startswith("head")) == 10_173_112
    assert not any(k.endswith("bn.weight") for k in kept)
    assert net.head.dropout.p == 0.2
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {m.momentum for m in norms} == {0.0003}


def test_the_separable_first_layer() -> None:
    layer = SeparableSame(3, 64, 7, 2)
    nn.init.uniform_(layer.pointwise.bias)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        padded = F.pad(x, (2, 3, 2, 3))  # TensorFlow's: five pixels, the odd one after
        eight = [F.conv2d(padded[:, c : c + 1], layer.depthwise.weight[8 * c : 8 * c + 8], stride=2) for c in range(3)]
        want = F.conv2d(torch.cat(eight, 1), layer.pointwise.weight, layer.pointwise.bias).clamp(min=0)
        torch.testing.assert_close(layer(x), want)


@pytest.mark.parametrize("name", VARIANT)
def test_batch_norm_epsilons(name: str) -> None:
    with torch.device("meta"):
        net = VARIANT[name].build()
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {0.001 if "slim" in name else 1e-5}


def test_strided_branches_agree_in_size_whatever_comes_in() -> None:
    """On even sizes the pool is Caffe's, rounded up; on odd ones only a padded pool keeps step."""
    module = Inception(4, 0, 1, 1, 1, 1, "max", 0).eval()
    for size in range(1, 9):
        x = torch.randn(1, 4, size, 12 - size)
        with torch.no_grad():
            assert module(x).shape == (1, 6, (size + 1) // 2, (13 - size) // 2)
            if size % 2 == 0:
                torch.testing.assert_close(module(x)[:, 2:], F.max_pool2d(x, 3, 2, ceil_mode=True))
