"""LeNet-5 against the paper's tables and formulas, worked by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from convatlas.accounting import account
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.nets.lenet import TABLE_I, PartialConv, Squash, Subsample, codes


def test_connections_of_the_paper() -> None:
    """Section II-B: connections, biases included, 340,908 in all."""
    counted = account("lenet5")
    macs = {r.path: r.macs for r in counted.rows}
    positions = {"c1": 6 * 28 * 28, "c3": 16 * 10 * 10, "c5": 120, "f6": 84}
    assert macs["stem.c1"] + positions["c1"] == 122_304
    assert sum(n for path, n in macs.items() if path.startswith("stages.c3")) + positions["c3"] == 151_600
    assert macs["stages.c5.conv"] + positions["c5"] == 48_120
    assert macs["head.f6"] + positions["f6"] == 10_164
    assert counted.totals.macs == 117_600 + 150_000 + 48_000 + 10_080


def test_c3_is_a_convolution_with_the_links_of_table_i() -> None:
    torch.manual_seed(0)
    partial = PartialConv().double()
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    weight, bias = torch.zeros(16, 6, 5, 5, dtype=torch.float64), torch.zeros(16, dtype=torch.float64)
    made = 0
    partial.eval()
    for conv in (partial.three, partial.four, partial.six):
        for kernel, b in zip(conv.weight, conv.bias, strict=True):
            weight[made, list(TABLE_I[made])] = kernel.detach()
            bias[made] = b.detach()
            made += 1
    assert made == 16
    assert (weight.flatten(2).abs().sum(2) > 0).sum() == 60
    torch.testing.assert_close(partial(x), F.conv2d(x, weight, bias), rtol=1e-12, atol=1e-12)


def test_c3_is_the_same_in_training() -> None:
    torch.manual_seed(0)
    partial = PartialConv().double()
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64, requires_grad=True)
    found = []
    for training in (True, False):
        out = partial.train(training)(x)
        gradients = torch.autograd.grad(out.square().sum(), [x, *partial.parameters()])
        found.append((out, *gradients))
    assert len(found[0]) == 2 + 6
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


def test_every_map_of_s2_is_seen_by_ten_of_c3() -> None:
    """Table I has 60 links, ten in each row."""
    assert [sum(s2 in sees for sees in TABLE_I) for s2 in range(6)] == [10] * 6


def test_squash_and_subsample() -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    expected = torch.tensor([1.7159 * math.tanh(2 * v / 3) for v in x.tolist()], dtype=torch.float64)
    torch.testing.assert_close(Squash()(x), expected)
    assert Squash()(torch.tensor(1.0, dtype=torch.float64)).item() == pytest.approx(
        1.0, abs=1e-4
    )  # Appendix A: f(1) = 1
    layer = Subsample(1).double()
    torch.nn.init.constant_(layer.weight, 0.5)
    torch.nn.init.constant_(layer.bias, 3.0)
    image = torch.tensor([[[[1.0, 2, 5, 6], [3, 4, 7, 8]]]], dtype=torch.float64)
    assert layer(image).flatten().tolist() == [0.5 * 10 + 3, 0.5 * 26 + 3]


def test_output_is_minus_the_squared_distance_from_the_code() -> None:
    net = find("lenet5").build().double().eval()
    x = torch.randn(3, 1, 32, 32, dtype=torch.float64)
    f6 = net.head.squash(net.head.f6(net.head.flatten(net.stages(net.stem(x)))))
    digit = codes(10).double()
    expected = [[-sum((a - b) ** 2 for a, b in zip(f.tolist(), d.tolist())) for d in digit] for f in f6]
    torch.testing.assert_close(net(x), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("classes", [2, 7, 43, 84, 100, 168])
def test_codes_of_other_class_counts_are_far_apart(classes: int) -> None:
    words = codes(classes)
    assert words.shape == (classes, 84)
    assert set(words.unique().tolist()) == {-1.0, 1.0}
    apart = (words[:, None] != words[None]).sum(2) + 84 * torch.eye(classes, dtype=torch.int64)
    assert apart.min() >= 42


def test_codes_of_the_digits() -> None:
    digits = codes(10)
    one = ["".join("#" if v > 0 else "." for v in row) for row in digits[1].view(12, 7).tolist()]
    assert one[1:4] == ["..###..", ".####..", "...##.."]
    assert one[9:] == [".######", ".......", "......."]
    apart = (digits[:, None] != digits[None]).sum(2) + 84 * torch.eye(10, dtype=torch.int64)
    assert apart.min() > 0
    with pytest.raises(UserError, match="codes for at most 168 classes, not 169; use lenet5_tanh"):
        codes(169)
    assert "codes" not in " ".join(find("lenet5").build().state_dict())  # fixed by the class count, not stored


def test_initialisation_is_uniform_within_the_fan_in() -> None:
    torch.manual_seed(0)
    net = find("lenet5").build()
    for layer, fan in (
        (net.stem.c1, 25),
        (net.stages.c3.conv.four, 100),
        (net.stages.c5.conv, 400),
        (net.head.f6, 120),
    ):
        bound = 2.4 / fan
        assert layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
        assert not layer.bias.any()


def test_the_lectures_variants() -> None:
    order = [type(m).__name__ for m in find("lenet5_tanh").build().modules() if not list(m.children())]
    named = {"Conv2d": "CONV", "AvgPool2d": "POOL", "Tanh": "TANH", "Linear": "FC", "Flatten": None}
    assert "-".join(filter(None, (named[kind] for kind in order))) == "CONV-POOL-TANH-CONV-POOL-TANH-FC-TANH-FC-TANH-FC"
    order = [type(m).__name__ for m in find("lenet5_two_fc").build().modules() if not list(m.children())]
    assert [named[k] for k in order if named[k] not in (None, "TANH")] == ["CONV", "POOL", "CONV", "POOL", "FC", "FC"]
