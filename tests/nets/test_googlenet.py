"""GoogLeNet against Table 1 of its paper, the naive module against the lectures, and torchvision's auxiliary heads."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import LRN
from convatlas.nets.googlenet import TABLE_1_COSTS, VARIANTS, GoogLeNet, Inception, NaiveInception
from convatlas.nets.googlenet_bn_3x3 import GoogLeNetBN3x3
from tests.oracles import compare, torchvision_models

VARIANT = {v.name: v for v in VARIANTS}

PAPER = [  # type, C x H x W, weights, multiply-adds: Table 1 with the costs that its own widths give
    ("conv1", (64, 112, 112), 9_408, 118_013_952),
    ("pool1", (64, 56, 56), 0, 0),
    ("lrn1", (64, 56, 56), 0, 0),
    ("conv2", (192, 56, 56), 114_688, 359_661_568),
    ("lrn2", (192, 56, 56), 0, 0),
    ("pool2", (192, 28, 28), 0, 0),
    ("inception3a", (256, 28, 28), 163_328, 128_049_152),
    ("inception3b", (480, 28, 28), 388_096, 304_267_264),
    ("pool3", (480, 14, 14), 0, 0),
    ("inception4a", (512, 14, 14), 375_552, 73_608_192),
    ("inception4b", (512, 14, 14), 448_512, 87_908_352),
    ("inception4c", (512, 14, 14), 509_440, 99_850_240),
    ("inception4d", (528, 14, 14), 604_672, 118_515_712),
    ("inception4e", (832, 14, 14), 867_328, 169_996_288),
    ("pool4", (832, 7, 7), 0, 0),
    ("inception5a", (832, 7, 7), 1_042_432, 51_079_168),
    ("inception5b", (1024, 7, 7), 1_442_816, 70_697_984),
    ("pool", (1024, 1, 1), 0, 0),
    ("linear", (1000,), 1_024_000, 1_024_000),
]


def test_the_blocks_are_the_rows_of_table_1() -> None:
    counted = account(VARIANT["googlenet"])
    rows = counted.table("block")
    assert [(r.path.rpartition(".")[2], r.shape, r.weights, r.macs) for r in rows] == PAPER
    assert (rows[0].kernel, rows[0].stride) == ((7, 7), (2, 2))
    assert {(r.kernel, r.stride) for r in rows if r.op == "MaxPool2d"} == {((3, 3), (2, 2))}
    assert counted.totals.params == 6_998_552
    assert counted.totals.params + counted.totals.idle == 13_378_280  # with both heads, as in Caffe's file


def test_the_params_of_table_1_are_in_units_of_1024_where_they_follow_from_its_widths() -> None:
    weights = {path: w for path, _, w, _ in PAPER}
    follow = {
        path.rpartition(".")[2]
        for path, printed, *_ in TABLE_1_COSTS
        if abs(weights[path.rpartition(".")[2]] / 1024 - float(printed[:-1])) <= 1
    }
    assert follow == {"conv2", "inception3a", "inception3b", "inception4b", "linear"}
    for path, _, counted, *_ in TABLE_1_COSTS:
        assert f"{weights[path.rpartition('.')[2]] / 1024:.1f}" == counted.split()[0]
    assert 7 * 7 * 3 * 8 + 24 * 64 == 2712  # the separable first layer that 2.7K and 34M fit
    assert round(2712 * 112**2 / 1e6) == 34


def on_meta(net: nn.Module, *shape: int) -> Tensor:
    out = net.to("meta")(torch.empty(1, *shape, device="meta"))
    assert isinstance(out, Tensor)
    return out


def test_the_lectures_arithmetic_of_the_naive_module() -> None:
    """What a 1x1 reduction saves: 120.4 against 12.4 million for a 5x5; the module on 28x28x256."""
    naive = account(NaiveInception(192, 64, 128, 32), input=(192, 28, 28))
    direct = next(r.macs for r in naive.rows if r.path == "branch5.conv")
    assert direct == 28 * 28 * 32 * 5 * 5 * 192 == 120_422_400
    reduced = account(Inception(192, 64, 96, 128, 16, 32, 32), input=(192, 28, 28))
    pair = sum(r.macs for r in reduced.rows if r.path.startswith("branch5"))
    assert pair == 28 * 28 * 16 * 192 + 28 * 28 * 32 * 5 * 5 * 16 == 12_443_648
    assert direct / pair == pytest.approx(9.677, abs=1e-3)

    wide = NaiveInception(256, 128, 192, 96)
    assert account(wide, input=(256, 28, 28)).totals.macs == 854_196_224
    assert on_meta(wide, 256, 28, 28).shape == (1, 672, 28, 28)
    narrow = Inception(256, 128, 64, 192, 64, 96, 64)
    assert account(narrow, input=(256, 28, 28)).totals.macs == 271_351_808
    assert on_meta(narrow, 256, 28, 28).shape == (1, 480, 28, 28)


def test_pooling_keeps_all_channels_so_the_naive_network_grows() -> None:
    rows = [r for r in account(VARIANT["googlenet_naive"]).table("block") if r.op == "NaiveInception"]
    assert [r.shape[0] for r in rows] == [416, 832, 1280, 1728, 2176, 2640, 3344, 4048, 4944]
    module = NaiveInception(4, 1, 2, 3)
    x = torch.randn(1, 4, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(module(x)[:, 6:], F.max_pool2d(x, 3, 1, 1))
        torch.testing.assert_close(module(x)[:, :1], F.relu(module.branch1.conv(x)))


def test_a_module_is_its_four_branches_in_the_papers_order() -> None:
    module = Inception(5, 1, 2, 3, 1, 2, 4)
    x = torch.randn(2, 5, 7, 6)

    def conv(block: nn.Module, x: Tensor) -> Tensor:
        weight, bias = block.conv.weight, block.conv.bias
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2).clamp(min=0)

    with torch.no_grad():
        want = [
            conv(module.branch1, x),
            conv(module.branch3.conv, conv(module.branch3.reduce, x)),
            conv(module.branch5.conv, conv(module.branch5.reduce, x)),
            conv(module.branch_pool.proj, F.max_pool2d(x, 3, 1, 1)),
        ]
        torch.testing.assert_close(module(x), torch.cat(want, 1))
    assert [tuple(p.shape[2:]) for n, p in module.named_parameters() if n.endswith("weight")] == [
        (1, 1),
        (1, 1),
        (3, 3),
        (1, 1),
        (5, 5),
        (1, 1),
    ]
    assert module.cout == 10


def test_the_auxiliary_heads_are_those_of_section_5() -> None:
    with torch.device("meta"):
        net, x = VARIANT["googlenet"].build(classes=10), torch.empty(2, 3, 224, 224)
    assert isinstance(net, GoogLeNet)
    shapes: dict[str, torch.Size] = {}
    for name in ("4a", "4d"):
        net.aux[name].pool.register_forward_hook(lambda m, i, o, name=name: shapes.update({name: o.shape[1:]}))
        assert net.aux[name].dropout.p == 0.7
    logits, extra = net.forward_aux(x)
    assert logits.shape == (2, 10)
    assert {k: v.shape for k, v in extra.items()} == {"4a": (2, 10), "4d": (2, 10)}
    assert shapes == {"4a": (512, 4, 4), "4d": (528, 4, 4)}
    assert [net.aux["4a"][i].out_features for i in (3, 6)] == [1024, 10]
    assert net.head.dropout.p == 0.4


def small(**options: object) -> GoogLeNet:
    torch.manual_seed(0)
    return GoogLeNet(input=(3, 97, 97), classes=4, **options)  # type: ignore[arg-type]


def test_forward_aux_agrees_with_forward_and_reads_where_it_says() -> None:
    net = small().eval()
    x = torch.randn(2, 3, 97, 97)
    with torch.no_grad():
        logits, extra = net.forward_aux(x)
        torch.testing.assert_close(logits, net(x))
        features = net.stages[:4](net.stem(x))  # 3a, 3b, pool3, 4a
        torch.testing.assert_close(extra["4a"], net.aux["4a"](features))
    plain = small(aux=False).eval()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("aux")})
    with torch.no_grad():
        lone, none = plain.forward_aux(x)
    torch.testing.assert_close(lone, logits)
    assert none == {}


def test_every_parameter_gets_a_gradient_from_the_three_losses() -> None:
    net = small(dropout=0.0).train()
    for head in net.aux.values():
        head.dropout.p = 0.0
    logits, extra = net.forward_aux(torch.randn(3, 3, 97, 97))
    (logits.square().sum() + 0.3 * sum(e.square().sum() for e in extra.values())).backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_normalisation_has_the_papers_places_and_caffes_row_its_constants() -> None:
    net = small(aux=False)
    assert [n for n, _ in net.stem.named_children()] == ["conv1", "relu1", "pool1", "lrn1", "conv2", "lrn2", "pool2"]
    with torch.device("meta"):
        caffe = VARIANT["googlenet_caffe"].build()
    found = [(m.n, m.alpha, m.beta, m.k, m.divided) for m in caffe.modules() if isinstance(m, LRN)]
    assert found == [(5, 1e-4, 0.75, 1.0, True)] * 2
    assert [(m.k, m.divided) for m in net.modules() if isinstance(m, LRN)] == [(2.0, False)] * 2


def test_initialisation_is_caffes() -> None:
    net = small()
    for name, m in net.named_modules():
        if isinstance(m, (nn.Conv2d, nn.Linear)):
            assert m.bias is not None
            last = name in ("head.linear", "aux.4a.fc2", "aux.4d.fc2")
            assert (m.bias == (0.0 if last else 0.2)).all(), name
            bound = (3 / m.weight[0].numel()) ** 0.5
            assert m.weight.abs().max() <= bound
            if m.weight.numel() > 20_000:
                assert m.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03), name


def test_images_too_small_are_refused_in_words() -> None:
    # 79 -> 40 -> 20 -> 10 -> 5 pixels, rounded up: what an auxiliary head's 5x5 pooling needs
    with pytest.raises(
        UserError, match="the smallest square that does is 3x79x79, for an auxiliary classifier; aux=False"
    ):
        VARIANT["googlenet"].build(input=(3, 78, 78))
    assert small(aux=False).eval()(torch.randn(1, 3, 32, 32)).shape == (1, 4)


@pytest.mark.oracles
def test_the_auxiliary_heads_are_torchvisions() -> None:
    torch.manual_seed(1)
    library = torchvision_models().googlenet(init_weights=False, aux_logits=True, num_classes=11)
    ours = GoogLeNetBN3x3(classes=11)
    for place, theirs in (("4a", library.aux1), ("4d", library.aux2)):
        found = compare(ours.aux[place], theirs, (theirs.conv.conv.in_channels, 14, 14))
        assert max(found.values()) <= 1e-9, f"{place}: {found}"
