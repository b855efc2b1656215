"""Inception-v2, v3, v4 and Inception-ResNet: the drawn notation, the papers' sizes and depths, the auxiliary head."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import Concat, ConvNet
from convatlas.nets import inception_resnet, inception_v2, inception_v3, inception_v4
from convatlas.nets.inception_resnet import Residual
from convatlas.nets.inception_v3 import Inception, InceptionV3, conv, path
from tests.oracles import compare, torchvision_models

FILES = (inception_v2, inception_v3, inception_v4, inception_resnet)
VARIANT = {v.name: v for file in FILES for v in file.VARIANTS}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {r.path: r.shape for r in account(VARIANT[name]).table("block")}


def on_meta(name: str, **options: object) -> ConvNet:
    with torch.device("meta"):
        return VARIANT[name].build(**options)  # type: ignore[arg-type]


def test_the_notation_draws_convolutions() -> None:
    made, cout = conv(5, "3x3/2 V 7")
    assert (made.conv.kernel_size, made.conv.stride, made.conv.padding, cout) == ((3, 3), (2, 2), (0, 0), 7)
    made, _ = conv(5, "1x7 7")
    assert (made.conv.kernel_size, made.conv.stride, made.conv.padding) == ((1, 7), (1, 1), (0, 3))
    assert made.bn.eps == 0.001
    layers, cout = path(4, "avg, 1x1 6, max")
    assert [n for n, _ in layers.named_children()] == ["pool1", "conv2", "pool3"]
    assert cout == 6
    with pytest.raises(AssertionError, match="'3x3' does not describe a convolution"):
        conv(5, "3x3")


def test_a_drawn_module_computes_what_it_draws() -> None:
    """Branches, layers, forks and pools, written out by hand."""
    torch.manual_seed(0)
    module = Inception(3, "1x1 2 | 1x1 4, 1x3 5 & 3x1 6 | avg, 3x3 2 | 3x3 3, 7x1 2").eval()
    x = torch.randn(2, 3, 9, 8)

    def at(place: str, x: torch.Tensor, pad: tuple[int, int]) -> torch.Tensor:
        return F.conv2d(x, module.get_submodule(place).conv.weight, padding=pad).clamp(min=0) / 1.001**0.5

    with torch.no_grad():
        narrow = at("branch2.conv1", x, (0, 0))
        mean = F.avg_pool2d(x, 3, 1, 1) / F.avg_pool2d(torch.ones_like(x), 3, 1, 1)
        want = [
            at("branch1.conv1", x, (0, 0)),
            at("branch2.fork2.branch1.conv1", narrow, (0, 1)),
            at("branch2.fork2.branch2.conv1", narrow, (1, 0)),
            at("branch3.conv2", mean, (1, 1)),
            at("branch4.conv2", at("branch4.conv1", x, (1, 1)), (3, 0)),
        ]
        torch.testing.assert_close(module(x), torch.cat(want, 1))
    assert module.cout == 2 + 5 + 6 + 2 + 2


def test_inception_v2_has_the_sizes_of_table_1() -> None:
    found = list(shapes("inception_v2").values())
    stem = [(32, 149, 149), (32, 147, 147), (64, 147, 147), (64, 73, 73), (80, 71, 71), (192, 35, 35), (288, 35, 35)]
    modules = [(288, 35, 35)] * 3 + [(768, 17, 17)] * 6 + [(1280, 8, 8)] + [(2048, 8, 8)] * 2
    assert found == [*stem, *modules, (2048, 1, 1), (1000,)]


def test_inception_v3_has_the_sizes_of_the_released_network() -> None:
    found = list(shapes("inception_v3").values())
    stem = [(32, 149, 149), (32, 147, 147), (64, 147, 147), (64, 73, 73), (80, 73, 73), (192, 71, 71), (192, 35, 35)]
    modules = [(256, 35, 35), *[(288, 35, 35)] * 2, *[(768, 17, 17)] * 5, (1280, 8, 8), *[(2048, 8, 8)] * 2]
    assert found == [*stem, *modules, (2048, 1, 1), (1000,)]


SIZES = {  # channels at 35x35, 17x17 and 8x8: Figures 9 and 15, with what the reductions make
    "inception_v4": (384, 1024, 1536),
    "inception_resnet_v1": (256, 896, 1792),
    "inception_resnet_v2": (384, 384 + 384 + 384, 384 + 288 + 320 + 1152),  # printed: 1154, 2048
    "inception_resnet_v2_slim": (320, 1088, 2080),
}


@pytest.mark.parametrize("name", SIZES)
def test_the_grids_have_the_papers_channels(name: str) -> None:
    found = shapes(name)
    first = {shape[1]: shape[0] for shape in reversed(found.values()) if len(shape) == 3}
    last = {shape[1]: shape[0] for path, shape in found.items() if path.startswith("stages") and path != "stages.conv"}
    assert [last[n] for n in (35, 17, 8)] == list(SIZES[name])
    assert first[149] == 32


def depth(module: nn.Module) -> int:
    """Convolutions on the longest way through."""
    if isinstance(module, nn.Conv2d):
        return 1
    below = [depth(m) for m in module.children()]
    return max(below) if isinstance(module, Concat) else sum(below)


def test_the_depths_that_the_lectures_add_up() -> None:
    v4, resnet = on_meta("inception_v4"), on_meta("inception_resnet_v2")
    assert [depth(v4.stem), *(depth(v4.stages[i]) for i in (0, 4, 5, 12, 13))] == [9, 3, 3, 5, 4, 4]
    assert depth(v4.stem) + depth(v4.stages) == 9 + 4 * 3 + 3 + 7 * 5 + 4 + 3 * 4 == 75
    assert depth(resnet.stem) + depth(resnet.stages) == 9 + 5 * 4 + 3 + 10 * 4 + 3 + 5 * 4 == 95


def test_inception_resnet_blocks_count_as_drawn() -> None:
    """Weights of the first block of each kind, from the figures: (cin, cout, kernel area) of every convolution."""
    a = [(384, 32, 1), (384, 32, 1), (32, 32, 9), (384, 32, 1), (32, 48, 9), (48, 64, 9), (128, 384, 1)]
    b = [(1152, 192, 1), (1152, 128, 1), (128, 160, 7), (160, 192, 7), (384, 1152, 1)]
    c = [(2144, 192, 1), (2144, 192, 1), (192, 224, 3), (224, 256, 3), (448, 2144, 1)]
    net = on_meta("inception_resnet_v2")
    for place, convs in (("block_a1", a), ("block_b1", b), ("block_c1", c)):
        block = net.stages.get_submodule(place)
        found = [
            (m.in_channels, m.out_channels, m.weight[0, 0].numel()) for m in block.modules() if type(m) is nn.Conv2d
        ]
        assert found == convs
        assert block.widen.bias is not None
    counts = [sum(n.startswith(f"block_{k}") for n, _ in net.stages.named_children()) for k in "abc"]
    assert counts == [5, 10, 5]


def test_a_residual_adds_its_scaled_correction() -> None:
    block = Residual(4, "1x1 2 | 1x1 2, 3x3 3", 0.17).eval()
    bare = Residual(4, "1x1 2 | 1x1 2, 3x3 3", 0.17, relu=False).eval()
    bare.load_state_dict(block.state_dict())
    x = torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        y = x + 0.17 * F.conv2d(block.branches(x), block.widen.weight, block.widen.bias)
        torch.testing.assert_close(bare(x), y)
        torch.testing.assert_close(block(x), y.clamp(min=0))
        assert (y < 0).any()


def test_scales_and_tails() -> None:
    paper, slim = on_meta("inception_resnet_v2"), on_meta("inception_resnet_v2_slim")
    kinds = {n[6]: (m.scale, m.relu) for n, m in paper.stages.named_children() if isinstance(m, Residual)}
    assert kinds == {"a": (0.17, True), "b": (0.10, True), "c": (0.20, True)}
    blocks = [(m.scale, m.relu) for m in slim.stages if isinstance(m, Residual)]
    assert blocks == [(0.17, True)] * 10 + [(0.10, True)] * 20 + [(0.20, True)] * 9 + [(1.0, False)]
    scaled = on_meta("inception_resnet_v1", scales=(0.3, 0.3, 0.3))
    assert {m.scale for m in scaled.modules() if isinstance(m, Residual)} == {0.3}


def test_the_auxiliary_head_reads_the_end_of_17x17() -> None:
    net = on_meta("inception_v3", classes=7)
    assert isinstance(net, InceptionV3)
    seen: list[torch.Size] = []
    head = net.aux["inception_b4"]
    for m in (head.pool, head.conv1, head.conv2):
        m.register_forward_hook(lambda m, i, o: seen.append(o.shape[1:]))
    logits, extra = net.eval().forward_aux(torch.empty(2, 3, 299, 299, device="meta"))
    assert seen == [(768, 5, 5), (128, 5, 5), (768, 1, 1)]
    assert logits.shape == extra["inception_b4"].shape == (2, 7)
    assert sum(p.numel() for p in on_meta("inception_v3").parameters()) == 27_161_264
    with pytest.raises(UserError, match="for an auxiliary classifier; aux=False removes those"):
        on_meta("inception_v3", input=(3, 200, 200))


def test_forward_aux_agrees_with_forward_and_small_images_do_without() -> None:
    torch.manual_seed(0)
    small = VARIANT["inception_v3"].build(aux=False, classes=3, input=(3, 75, 75)).eval()
    assert isinstance(small, InceptionV3)
    x = torch.randn(1, 3, 75, 75)
    with torch.no_grad():
        logits, extra = small.forward_aux(x)
        torch.testing.assert_close(logits, small(x))
    assert extra == {}


def test_only_torchvisions_row_averages_its_padding() -> None:
    ones = torch.ones(1, 1, 4, 4)
    corners = {}
    for name in ("inception_v3", "inception_v3_tv"):
        pools = [m for m in on_meta(name).modules() if isinstance(m, nn.AvgPool2d) and m.padding]
        assert len(pools) == 9
        corners[name] = [p(ones)[0, 0, 0, 0].item() for p in pools]
    assert corners["inception_v3"] == [1.0] * 9
    assert corners["inception_v3_tv"] == pytest.approx([4 / 9] * 9)


def test_inception_v3_slim_has_as_many_values_as_its_authors_test_says() -> None:
    """inception_v3_test.py: 21,802,784 up to Mixed_7c, with the running statistics."""
    kept = {k: t for k, t in on_meta("inception_v3_slim").state_dict().items() if "num_batches" not in k}
    assert sum(t.numel() for k, t in kept.items() if not k.startswith(("head", "aux"))) == 21_802_784


RELEASED = {"inception_v3_slim": "inception_v3", "inception_v4_slim": "inception_v4"}
RELEASED["inception_resnet_v2_slim"] = "inception_resnet_v2_timm"


@pytest.mark.parametrize("name", RELEASED)
def test_the_release_is_the_scaled_network_with_scales_of_one(name: str) -> None:
    slim, scaled = (on_meta(n).state_dict() for n in (name, RELEASED[name]))
    gammas = {k for k in scaled if k.endswith("bn.weight")}
    assert scaled.keys() - slim.keys() == gammas
    assert {k: t.shape for k, t in slim.items()} == {k: t.shape for k, t in scaled.items() if k not in gammas}
    lost = sum(scaled[k].numel() for k in gammas if not k.startswith("aux"))
    assert account(RELEASED[name]).totals.params - account(name).totals.params == lost
    assert account(RELEASED[name]).totals.macs == account(name).totals.macs


def test_an_unscaled_batch_norm_shifts_only() -> None:
    torch.manual_seed(0)
    slim, scaled = (
        VARIANT[n].build(aux=False, classes=3, input=(3, 75, 75)).eval() for n in ("inception_v3_slim", "inception_v3")
    )
    scaled.load_state_dict(slim.state_dict(), strict=False)
    x = torch.randn(2, 3, 75, 75)
    with torch.no_grad():
        torch.testing.assert_close(slim(x), scaled(x))
        for m in slim.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.reset_parameters()  # which would fail on a scale that is not there
        torch.testing.assert_close(slim(x), scaled(x))
        scaled.stem.conv1.bn.weight.fill_(1.5)
        assert (slim(x) - scaled(x)).abs().max() > 1e-3


@pytest.mark.parametrize("name", VARIANT)
def test_epsilons_and_dropout(name: str) -> None:
    net = on_meta(name)
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {0.001}
    assert net.head.dropout.p == (0.5 if name == "inception_v3_tv" else 0.2)


def test_initialisation_is_hes() -> None:
    torch.manual_seed(0)
    net = VARIANT["inception_v3"].build(aux=False, classes=2)
    for name, m in net.named_modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 50_000:
            assert m.weight.std().item() == pytest.approx((2 / m.weight[0].numel()) ** 0.5, rel=0.03), name


@pytest.mark.oracles
def test_the_auxiliary_head_is_torchvisions() -> None:
    library = torchvision_models().inception_v3(init_weights=False, aux_logits=True)
    ours = VARIANT["inception_v3_tv"].build()
    assert isinstance(ours, InceptionV3)
    found = compare(ours.aux["inception_b4"], library.AuxLogits, (768, 17, 17))
    assert max(found.values()) <= 1e-9, found
