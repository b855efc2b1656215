"""EfficientNet: Table 1 line by line, compound scaling and its arithmetic, drop path."""

from math import log

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.accounting import account
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.layers import ConvBN, ConvNet, ConvSame, DropPath
from convatlas.nets.efficientnet import (
    ALPHA,
    BETA,
    COEFFICIENTS,
    GAMMA,
    SAME,
    TABLE_1,
    VARIANTS,
    MBConv,
    SqueezeExcite,
    coefficients,
    compound,
)
from convatlas.nets.mobilenet_v2 import round8

ROWS = {v.name: v for v in VARIANTS}


def build(name: str = "efficientnet_b0", **options: object) -> ConvNet:
    return ROWS[name].build(**options)


def on_meta(name: str = "efficientnet_b0", **options: object) -> ConvNet:
    with torch.device("meta"):
        return build(name, **options)


def test_table_1_line_by_line() -> None:
    blocks = {r.path: r.shape for r in account(ROWS["efficientnet_b0"]).table("block")}
    printed = [  # what each line gives, C x H x W; the table prints the resolution that it takes: 224, 112, 112, 56 ...
        ("stem.conv", (32, 112, 112)),
        ("stages.stage1.block1", (16, 112, 112)),
        ("stages.stage2.block2", (24, 56, 56)),
        ("stages.stage3.block2", (40, 28, 28)),
        ("stages.stage4.block3", (80, 14, 14)),
        ("stages.stage5.block3", (112, 14, 14)),
        ("stages.stage6.block4", (192, 7, 7)),
        ("stages.stage7.block1", (320, 7, 7)),
        ("stages.last", (1280, 7, 7)),
    ]
    assert {path: blocks[path] for path, _ in printed} == dict(printed)
    assert len([path for path in blocks if "block" in path]) == 16


def test_parameters_by_hand() -> None:
    total, cin = 27 * 32 + 2 * 32, 32
    for t, k, c, n in (
        (1, 3, 16, 1), (6, 3, 24, 2), (6, 5, 40, 2), (6, 3, 80, 3), (6, 5, 112, 3), (6, 5, 192, 4), (6, 3, 320, 1),
    ):  # fmt: skip
        for _ in range(n):
            mid, squeezed = t * cin, cin // 4
            total += (cin * mid + 2 * mid) * (t > 1) + k * k * mid + 2 * mid
            total += mid * squeezed + squeezed + squeezed * mid + mid
            total += mid * c + 2 * c
            cin = c
    total += 320 * 1280 + 2 * 1280 + 1281 * 1000
    assert total == 5_288_548 == account(ROWS["efficientnet_b0"]).totals.params


@pytest.mark.parametrize(("b", "stem", "widths", "layers", "last"), [
    ("b3", 40, (24, 32, 48, 96, 136, 232, 384), (2, 3, 3, 5, 5, 6, 2), 1536),
    ("b5", 48, (24, 40, 64, 128, 176, 304, 512), (3, 5, 5, 7, 7, 9, 3), 2048),
    ("b6", 56, (32, 40, 72, 144, 200, 344, 576), (3, 6, 6, 8, 8, 11, 3), 2304),
    ("b7", 64, (32, 48, 80, 160, 224, 384, 640), (4, 7, 7, 10, 10, 13, 4), 2560),
])  # fmt: skip
def test_widths_and_depths_of_the_released_networks(
    b: str, stem: int, widths: tuple[int, ...], layers: tuple[int, ...], last: int
) -> None:
    *stages, end = on_meta(f"efficientnet_{b}").stages
    assert tuple(len(s) for s in stages) == layers
    assert tuple(s[-1].branch.project.conv.out_channels for s in stages) == widths
    assert stages[0][0].branch.depthwise.conv.in_channels == stem
    assert end.conv.out_channels == last


def test_b2_at_288_pixels() -> None:
    assert account(ROWS["efficientnet_b2_symmetric"], input=(3, 288, 288)).totals.macs == 1_087_529_456


def test_se_squeezes_to_a_quarter_of_the_blocks_input() -> None:
    block = on_meta().stages.stage2.block1  # 16 maps in, 96 within
    assert block.branch.se.gate.reduce.out_channels == 4
    assert on_meta().stages.stage1.block1.branch.se.gate.reduce.out_channels == 8
    gate = SqueezeExcite(6, 2)
    x = torch.randn(2, 6, 5, 5)
    share = gate(x) / x
    assert torch.allclose(share, share[:, :, :1, :1].expand_as(share), atol=1e-5)  # one gate a map
    assert ((share > 0) & (share < 1)).all()


# compound scaling


def test_powers_of_the_rule() -> None:
    """Worked from 1.2, 1.1, 1.15; pixels are 224 times the resolution."""
    table = {
        0: (1.0, 1.0, 1.0, 224.0), 1: (1.2, 1.1, 1.15, 257.6), 2: (1.44, 1.21, 1.322, 296.2),
        3: (1.728, 1.331, 1.521, 340.7), 4: (2.074, 1.464, 1.749, 391.8), 5: (2.488, 1.611, 2.011, 450.5),
        6: (2.986, 1.772, 2.313, 518.1), 7: (3.583, 1.949, 2.66, 595.8),
    }  # fmt: skip
    for phi, (depth, width, resolution, pixels) in table.items():
        assert coefficients(phi) == pytest.approx((depth, width, resolution), abs=5e-4)
        assert 224 * coefficients(phi)[2] == pytest.approx(pixels, abs=0.05)
        assert compound(phi).input == (3, *[round(224 * 1.15**phi)] * 2)


def test_compound_is_a_variant_like_any_other() -> None:
    with torch.device("meta"):
        zero, b0 = compound(0).build(), build()
    assert {k: v.shape for k, v in zero.state_dict().items()} == {k: v.shape for k, v in b0.state_dict().items()}
    assert compound(0).options["dropout"] == 0.2
    assert compound(7).options["dropout"] == pytest.approx(0.5)
    assert account(compound(1.5)).totals.macs > account(compound(1)).totals.macs
    with pytest.raises(UserError, match=r"phi=-1 is negative; give 0 \(B0\) or more"):
        compound(-1)


@pytest.mark.parametrize("phi", [0, 0.7, 2])
def test_phi_is_an_option_of_the_base_network(phi: float) -> None:
    with torch.device("meta"):
        net, want = find("efficientnet").build(phi=phi, classes=5), compound(phi).build(classes=5)
    assert net.variant == "efficientnet_b0"
    assert net.input == want.input == (3, *[round(224 * 1.15**phi)] * 2)
    assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in want.state_dict().items()}
    assert net.head.dropout.p == want.head.dropout.p == pytest.approx(0.2 + 0.3 * phi / 7)
    assert account("efficientnet_b0", phi=phi).totals == account(compound(phi)).totals


def test_other_options_change_what_phi_builds() -> None:
    with torch.device("meta"):
        net = find("efficientnet_b0").build(phi=3, dropout=0.0, input=(1, 64, 64), depth=1.0)
    assert net.input == (1, 64, 64)
    assert not any(isinstance(m, nn.Dropout) for m in net.head.modules())
    layers = [len(list(stage.children())) for name, stage in net.stages.named_children() if name != "last"]
    assert layers == [row[-1] for row in TABLE_1]
    assert net.stages.last.conv.out_channels == round8(1280 * BETA**3)


def test_what_phi_takes_and_where() -> None:
    assert find("EfficientNet").options["phi"] == 0
    with pytest.raises(UserError, match=r"phi=-0.5 is negative; give 0 \(B0\) or more"):
        build("efficientnet_b0", phi=-0.5)
    for phi in ("2", None, True, float("nan"), float("inf")):
        with pytest.raises(UserError, match=r"is not a number; give 0 \(B0\) or more"):
            build("efficientnet_b0", phi=phi)
    with pytest.raises(UserError, match="efficientnet_b3 has no option 'phi'; its options are channels, classes"):
        build("efficientnet_b3", phi=1)
    with pytest.raises(UserError, match=r"efficientnet_b0 has no option 'phy'; its options are .* phi, width"):
        build("efficientnet_b0", phy=1)


def test_the_published_coefficients_leave_the_rule() -> None:
    width, depth, side, _ = COEFFICIENTS["b7"]
    phis = [log(width, BETA), log(depth, ALPHA), log(side / 224, GAMMA)]
    assert phis == pytest.approx([7.27, 6.21, 7.05], abs=0.01)
    assert COEFFICIENTS["b1"][:3] != pytest.approx((BETA, ALPHA, 224 * GAMMA), rel=0.01)


def plain_macs(depth: int, width: int, side: int) -> int:
    """`depth` 3x3 convolutions of `width` maps on `side` x `side` pixels."""
    net = nn.Sequential(*[nn.Conv2d(width, width, 3, padding=1, bias=False, device="meta") for _ in range(depth)])
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, width, side, side, device="meta"))
    return counter.get_total_flops() // 2


def test_why_the_arithmetic_grows_by_two_to_the_phi() -> None:
    """A convolution's MACs are k^2 * cin * cout * positions: depth counts once, width and resolution twice."""
    base = plain_macs(2, 8, 10)
    assert plain_macs(6, 8, 10) == 3 * base
    assert plain_macs(2, 24, 10) == 9 * base
    assert plain_macs(2, 8, 30) == 9 * base
    assert pytest.approx(1.92, abs=0.001) == ALPHA * BETA**2 * GAMMA**2  # the rule asks for about 2

    b0 = account(compound(0)).totals.macs
    growth = {phi: account(compound(phi)).totals.macs / b0 / 1.92**phi for phi in (1, 2, 4, 6, 8)}
    # layers are whole (1.2 of one layer are two) and maps odd: what is rounded up matters less and less
    assert growth == pytest.approx({1: 1.34, 2: 1.27, 4: 1.21, 6: 1.04, 8: 1.02}, abs=0.01)


def test_what_a_depthwise_separable_convolution_saves() -> None:
    """The lectures' homework: 1/N + 1/k^2 of the arithmetic remains, N the maps out, k the kernel."""
    for k, m, n in ((3, 32, 64), (5, 16, 24), (3, 512, 1024)):
        full = account(nn.Conv2d(m, n, k, padding=k // 2), input=(m, 14, 14)).totals.macs
        separable = nn.Sequential(nn.Conv2d(m, m, k, padding=k // 2, groups=m), nn.Conv2d(m, n, 1))
        assert account(separable, input=(m, 14, 14)).totals.macs / full == pytest.approx(1 / n + 1 / k**2, rel=1e-12)


# drop path


def test_drop_path_grows_with_depth() -> None:
    net = on_meta()
    rates = [m.p for m in net.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.2 * i / 16 for i in range(16)])
    assert {m.p for m in on_meta(drop_path=0.0).modules() if isinstance(m, DropPath)} == {0.0}


def test_drop_path_is_by_sample() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25)
    x = torch.rand(4000, 2, 3, 3) + 1
    y = drop(x)
    whole = y.flatten(1).ne(0)
    assert torch.equal(whole.all(1), whole.any(1))  # a sample is dropped as a whole
    assert torch.allclose(y[whole.all(1)], x[whole.all(1)] / 0.75)
    assert 1 - whole.float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert torch.equal(drop.eval()(x), x)
    assert DropPath(1.0)(x).abs().max() == 0


def test_a_dropped_block_is_its_input() -> None:
    block = MBConv(8, 8, 3, 1, 6, SAME, drop_path=1.0)
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(block(x), x)
    assert not torch.equal(block.eval()(x), x)
    assert [MBConv(*shape, 6, SAME, 0.0).fits for shape in ((8, 8, 3, 1), (8, 8, 3, 2), (8, 16, 5, 1))] == [
        True, False, False,
    ]  # fmt: skip


# options


def test_padding_and_epsilon() -> None:
    same, symmetric = on_meta(), on_meta("efficientnet_b0_symmetric")
    assert all(isinstance(m, ConvSame) for n, m in same.named_modules() if isinstance(m, nn.Conv2d) and ".se." not in n)
    assert not any(isinstance(m, ConvSame) for m in symmetric.modules())

    def eps(net: ConvNet) -> set[float]:
        return {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)}

    assert (eps(same), eps(symmetric), eps(on_meta("efficientnet_b5_symmetric"))) == ({1e-3}, {1e-5}, {1e-3})
    assert {m.momentum for m in same.modules() if isinstance(m, nn.BatchNorm2d)} == {0.01}


def test_options() -> None:
    net = on_meta(width=0.5, depth=2.0, dropout=0.0, classes=7)
    assert len(net.stages.stage6) == 8
    assert net.head.linear.in_features == 640
    assert not any(type(m) is nn.Dropout for m in net.modules())
    assert on_meta("efficientnet_b4").head.dropout.p == 0.4
    assert {type(m) for m in on_meta(conv=ConvBN).modules() if isinstance(m, nn.Conv2d)} == {nn.Conv2d}
    with pytest.raises(UserError, match=r"depth=0 is not positive; give a positive multiplier, such as 1.0"):
        build(depth=0)


def test_initialisation() -> None:
    torch.manual_seed(0)
    net = build()
    assert net.stages.last.conv.weight.std().item() == pytest.approx((2 / 1280) ** 0.5, rel=0.01)
    depthwise = net.stages.stage6.block2.branch.depthwise.conv.weight  # fan-out of a depthwise convolution: k * k
    assert depthwise.std().item() == pytest.approx((2 / 25) ** 0.5, rel=0.02)
    assert net.head.linear.weight.abs().max().item() <= 1000**-0.5
    assert net.head.linear.bias.abs().max() == 0
