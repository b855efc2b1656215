"""ENet's encoder: Table 1, its bottlenecks worked by hand."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from convatlas.accounting import account
from convatlas.nets.enet_encoder import VARIANTS, Bottleneck, Initial

ENET = VARIANTS[0]


def test_the_output_sizes_of_table_1() -> None:
    """Printed for 512 x 512: 16 x 256, 64 x 128, 128 x 64."""
    stages = {r.path: r.shape for r in account(ENET, input=(3, 512, 512)).table("stage")}
    assert [stages[s] for s in ("stem", "stages.bottleneck1", "stages.bottleneck2", "stages.bottleneck3")] == [
        (16, 256, 256), (64, 128, 128), (128, 64, 64), (128, 64, 64),
    ]  # fmt: skip


def test_the_lines_of_table_1() -> None:
    with torch.device("meta"):
        stages = ENET.build().stages
    assert " ".join(dict(stages.bottleneck2.named_children())) == (
        "downsampling0 regular1 dilated2 asymmetric3 dilated4 regular5 dilated6 asymmetric7 dilated8"
    )
    assert len(stages.bottleneck1) == 5
    assert len(stages.bottleneck3) == 8
    dilations = [b.branch.conv.dilation[0] for b in stages.bottleneck3 if isinstance(b.branch.conv, nn.Conv2d)]
    assert dilations == [1, 2, 4, 1, 8, 16]
    assert {b.branch.dropout.p for b in stages.bottleneck1} == {0.01}
    assert {b.branch.dropout.p for s in (stages.bottleneck2, stages.bottleneck3) for b in s} == {0.1}


def bottleneck_params(cin: int, cout: int, kind: str) -> int:
    mid, down = cout // 4, 4 if kind == "downsampling" else 1
    middle = 2 * 5 * mid * mid + mid if kind == "asymmetric 5" else 9 * mid * mid + mid
    norms = 2 * (mid + mid + cout) + (mid + mid + cout)  # batch norm; a slope a map of PReLU
    return down * cin * mid + middle + mid * cout + norms


def test_parameters_by_hand() -> None:
    eight = ("regular", "dilated 2", "asymmetric 5", "dilated 4", "regular", "dilated 8", "asymmetric 5", "dilated 16")
    total = (27 * 13 + 13) + 2 * 16 + 16
    total += bottleneck_params(16, 64, "downsampling") + 4 * bottleneck_params(64, 64, "regular")
    total += bottleneck_params(64, 128, "downsampling")
    total += 2 * sum(bottleneck_params(128, 128, kind) for kind in eight)
    assert account(ENET).totals.params == total + 128 * 1000 + 1000


def test_zero_maps_and_pooling_on_the_way_around() -> None:
    block = Bottleneck(4, 16, "downsampling", 0.0).eval()
    nn.init.zeros_(block.branch.bn3.weight)  # silences the branch
    x = torch.rand(2, 4, 6, 6)
    around = block(x)
    assert torch.equal(around[:, :4], F.max_pool2d(x, 2))
    assert around[:, 4:].abs().max() == 0


def test_an_asymmetric_convolution_reaches_a_square() -> None:
    conv = Bottleneck(8, 8, "asymmetric 5", 0.0).branch.conv
    x = torch.zeros(1, 2, 9, 9, requires_grad=True)
    conv(x)[0, :, 4, 4].sum().backward()
    reached: Tensor = x.grad[0].abs().sum(0) > 0  # type: ignore[index]
    assert reached[2:7, 2:7].all()
    assert reached.sum() == 25


def test_odd_sizes_and_channels() -> None:
    assert Initial(1)(torch.zeros(2, 1, 7, 9)).shape == (2, 14, 4, 5)
    assert ENET.build(classes=3, channels=4)(torch.randn(2, 4, 37, 51)).shape == (2, 3)
