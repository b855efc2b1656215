"""Wide ResNets: sums worked by hand, the block of section 2.1 step by step, ResNet where the width is 1."""

import pytest
import torch
from torch import nn

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.nets import resnet, wide_resnet
from convatlas.nets.wide_resnet import WideBlock

ROWS = {v.name: v for v in (*wide_resnet.VARIANTS, *resnet.VARIANTS)}
SHAPES = [(d, k) for d, k in ((40, 1), (40, 2), (40, 4), (28, 10), (22, 8), (16, 8), (16, 4), (52, 1))]


def on_meta(name: str, **options: object) -> ConvNet:
    with torch.device("meta"):
        return ROWS[name].build(**options)


def params(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(("depth", "k"), SHAPES)
def test_parameters_by_hand(depth: int, k: int) -> None:
    n, cin, total = (depth - 4) // 6, 16, 9 * 3 * 16
    for w in (16 * k, 32 * k, 64 * k):
        total += 9 * cin * w + 9 * w * w + 2 * cin + 2 * w  # first block: its first batch norm sees cin maps
        total += cin * w if cin != w else 0
        total += (n - 1) * (2 * 9 * w * w + 4 * w)
        cin = w
    assert params(on_meta(f"wrn{depth}_{k}")) == total + 2 * cin + (cin + 1) * 10


def steps(block: WideBlock, channels: int) -> str:
    kinds = {"Conv2d": "conv", "BatchNorm2d": "bn", "ReLU": "relu", "Dropout": "dropout"}
    return " ".join(kinds.get(row.op, row.op) for row in account(block, input=(channels, 8, 8)).rows)


def test_a_block_runs_the_steps_of_section_2() -> None:
    assert steps(WideBlock(16, 16), 16) == "bn relu conv bn relu conv add"
    assert steps(WideBlock(16, 16, dropout=0.3), 16) == "bn relu conv bn relu dropout conv add"
    assert steps(WideBlock(16, 32, 2), 16) == "bn relu conv conv bn relu conv add"  # the projection is bare
    assert steps(WideBlock(16, 16, kernels=(1, 3, 1)), 16) == "bn relu conv bn relu conv bn relu conv add"


def test_the_projection_sees_what_the_branch_sees() -> None:
    torch.manual_seed(0)
    block = WideBlock(4, 8, 2).eval()
    nn.init.uniform_(block.preact.bn.bias, -1, 1)
    nn.init.zeros_(block.branch.conv2.weight)
    x = torch.randn(2, 4, 6, 6)
    expected = nn.functional.conv2d(block.preact(x), block.projection.weight, stride=2)
    assert torch.equal(block(x), expected)


def test_the_shortcut_of_a_block_that_keeps_its_shape_is_the_identity() -> None:
    block = WideBlock(4, 4).eval()
    nn.init.zeros_(block.branch.conv2.weight)
    x = torch.randn(2, 4, 6, 6)
    assert torch.equal(block(x), x)


def test_the_stride_is_in_the_first_convolution_of_a_block() -> None:
    strides = {r.path: r.stride for r in account(ROWS["wrn16_2"]).rows if r.op == "Conv2d"}
    assert strides["stages.conv3.block1.branch.conv1"] == strides["stages.conv3.block1.projection"] == (2, 2)
    assert {s for path, s in strides.items() if path.endswith("conv2")} == {(1, 1)}


def test_the_number_of_convolutions_in_a_block_does_not_change_the_size() -> None:
    sizes = {params(on_meta(name)) for name in ("wrn40_2", "wrn40_2_l1", "wrn40_2_l3", "wrn40_2_l4")}
    assert len(sizes) == 1  # as Table 3 is meant


@pytest.mark.parametrize(("wide", "narrow"), [("wrn18_1", "resnet18"), ("wrn34_1", "resnet34")])
def test_width_one_is_resnet(wide: str, narrow: str) -> None:
    shapes = [{k: v.shape for k, v in on_meta(name).state_dict().items()} for name in (wide, narrow)]
    assert shapes[0] == shapes[1]


def test_wide_bottlenecks_widen_only_the_3x3() -> None:
    def shapes(name: str, layer: str) -> tuple[int, ...]:
        return tuple(on_meta(name).get_parameter(f"stages.conv4.block2.branch.{layer}.conv.weight").shape)

    assert shapes("wrn50_2", "conv1") == (512, 1024, 1, 1)
    assert shapes("wrn50_2", "conv2") == (512, 512, 3, 3)
    assert shapes("wrn50_2", "conv3") == (1024, 512, 1, 1)
    assert shapes("resnet50", "conv2") == (256, 256, 3, 3)


def test_a_width_may_be_a_fraction() -> None:
    assert on_meta("wrn18_1_5").get_parameter("stages.conv5.block2.branch.conv2.conv.weight").shape == (768, 768, 3, 3)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    net = ROWS["wrn16_4_dropout"].build(width=1)
    drops = [m for m in net.modules() if isinstance(m, nn.Dropout)]
    assert [m.p for m in drops] == [0.3] * 6
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(net.eval()(x), net(x))
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.0
    assert not torch.equal(net.train()(x), net(x))


@pytest.mark.parametrize("name", ["wrn16_2", "wrn50_2"])
def test_initial_variance_is_two_over_fan_in(name: str) -> None:
    torch.manual_seed(0)
    for path, m in ROWS[name].build().named_modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 30_000:
            fan_in = m.in_channels * m.kernel_size[0] * m.kernel_size[1]
            assert m.weight.var().item() == pytest.approx(2 / fan_in, rel=0.05), path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wrn16_2", {}),
        ("wrn22_2_b313", {}),
        ("wrn40_2_l1", dict(blocks=2)),
        ("wrn18_1_5", dict(width=0.25)),
        ("wrn50_2", {}),
    ],
)
def test_every_parameter_learns(name: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = ROWS[name].build(classes=5, channels=4, input=(4, 37, 33), **options)
    loss = nn.functional.cross_entropy(net(torch.randn(4, 4, 37, 33)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"depth=27 is not 6n \+ 4; give 10, 16, 22"):
        on_meta("wrn28_10", depth=27)
    with pytest.raises(UserError, match="width=0 leaves no channels; give a positive multiplier"):
        on_meta("wrn28_10", width=0)
    with pytest.raises(UserError, match="width=-1 leaves no channels"):
        on_meta("wrn50_2", width=-1)
    with pytest.raises(UserError, match="no depth named '51'; choose from 18, 34, 50, 101, 152"):
        on_meta("wrn50_2", depth=51)
