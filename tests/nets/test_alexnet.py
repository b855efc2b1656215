"""AlexNet and its relatives, against Figure 2 and against the two halves that its towers are."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from convatlas.accounting import account
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.layers import LRN
from convatlas.nets.alexnet import LRN_CAFFE


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    return {r.path: r.shape for r in account(name).table("layer")}


def test_shapes_of_figure_2() -> None:
    found = shapes("alexnet")
    assert found["stem.conv"] == (96, 55, 55)
    assert found["stem.pool"] == (96, 27, 27)
    assert found["stages.conv2.conv"] == (256, 27, 27)
    assert found["stages.conv2.pool"] == (256, 13, 13)
    assert found["stages.conv3.conv"] == found["stages.conv4.conv"] == (384, 13, 13)
    assert found["stages.conv5.pool"] == (256, 6, 6)
    assert found["head.fc8"] == (1000,)


def test_the_lectures_table_row_by_row() -> None:
    """Lectures 002 and 003, from [227x227x3] to [1000], normalisation after pooling."""
    rows = account("alexnet_single").table("layer")
    assert [(r.op.split("+")[0], *r.shape) for r in rows] == [
        ("Conv2d", 96, 55, 55),
        ("MaxPool2d", 96, 27, 27),
        ("LRN", 96, 27, 27),
        ("Conv2d", 256, 27, 27),
        ("MaxPool2d", 256, 13, 13),
        ("LRN", 256, 13, 13),
        ("Conv2d", 384, 13, 13),
        ("Conv2d", 384, 13, 13),
        ("Conv2d", 256, 13, 13),
        ("MaxPool2d", 256, 6, 6),
        ("Linear", 4096),
        ("Linear", 4096),
        ("Linear", 1000),
    ]


def test_normalisation_comes_before_pooling_unless_told() -> None:
    paper, lectures = list(shapes("alexnet")), list(shapes("alexnet_single"))
    assert paper.index("stem.norm") < paper.index("stem.pool")
    assert lectures.index("stem.norm") > lectures.index("stem.pool")
    assert list(shapes("caffenet")).index("stem.norm") > list(shapes("caffenet")).index("stem.pool")
    assert list(shapes("alexnet_caffe")).index("stem.norm") < list(shapes("alexnet_caffe")).index("stem.pool")


def test_two_towers_are_one_stream_with_block_diagonal_weights() -> None:
    torch.manual_seed(0)
    options = dict(input=(3, 67, 67), classes=7)
    towers, single = find("alexnet").build(**options).double().eval(), find("alexnet").build(towers=1, **options)
    weights = towers.state_dict()
    for name in ("stages.conv2.conv", "stages.conv4.conv", "stages.conv5.conv"):
        first, second = weights[f"{name}.weight"].chunk(2)
        blank = torch.zeros_like(first)
        weights[f"{name}.weight"] = torch.cat([torch.cat([first, blank], 1), torch.cat([blank, second], 1)])
    single.load_state_dict(weights)
    x = torch.randn(2, 3, 67, 67, dtype=torch.float64)
    torch.testing.assert_close(single.double().eval()(x), towers(x), rtol=1e-12, atol=1e-12)


def test_towers_meet_only_in_conv3() -> None:
    groups = {r.path: r.groups for r in account("alexnet").rows if r.op == "Conv2d"}
    assert list(groups.values()) == [1, 2, 1, 2, 2]


def test_initialisation() -> None:
    torch.manual_seed(0)
    net = find("alexnet").build(input=(3, 67, 67))
    biases = {
        "stem.conv": 0,
        "stages.conv2.conv": 1,
        "stages.conv3.conv": 0,
        "stages.conv4.conv": 1,
        "stages.conv5.conv": 1,
    }
    for path, bias in (biases | {"head.fc6": 1, "head.fc7": 1, "head.fc8": 0}).items():
        layer = net.get_submodule(path)
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert (layer.bias == bias).all()
    assert [m.p for m in net.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


@pytest.mark.parametrize(("name", "bias"), [("alexnet_caffe", 0.1), ("caffenet", 1.0)])
def test_initialisation_as_in_caffes_prototxts(name: str, bias: float) -> None:
    torch.manual_seed(0)
    net = find(name).build(input=(3, 67, 67))
    layers = {path: m for path, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for path, layer in layers.items():
        std = 0.005 if path in ("head.fc6", "head.fc7") else 0.01
        assert layer.weight.std().item() == pytest.approx(std, rel=0.05), path
        assert (layer.bias == (0 if path in ("stem.conv", "stages.conv3.conv", "head.fc8") else bias)).all(), path


def test_it_has_one_tower_or_two() -> None:
    with pytest.raises(UserError, match="towers=3 is not supported; give 2 as in the paper, or 1 to merge them"):
        find("alexnet").build(towers=3)


def by_hand(x: torch.Tensor, n: int, alpha: float, beta: float, k: float) -> torch.Tensor:
    """Section 3.3, loop by loop: b_i = a_i / (k + alpha * sum over j from i - n/2 to i + n/2 of a_j^2) ^ beta."""
    out = torch.empty_like(x)
    for i in range(x.shape[1]):
        low, high = max(0, i - n // 2), min(x.shape[1] - 1, i + n // 2)
        total = sum(x[:, j] ** 2 for j in range(low, high + 1))
        out[:, i] = x[:, i] / (k + alpha * total) ** beta
    return out


@pytest.mark.parametrize("n", [3, 5, 7])
def test_lrn_is_the_formulas(n: int) -> None:
    x = 30 * torch.randn(2, 9, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(LRN(n=n)(x), by_hand(x, n, 1e-4, 0.75, 2.0), rtol=1e-12, atol=1e-12)


def test_lrn_divided_is_torchs_and_caffes() -> None:
    x = 30 * torch.randn(2, 9, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    caffe = LRN_CAFFE()(x)
    torch.testing.assert_close(caffe, by_hand(x, 5, 1e-4 / 5, 0.75, 1.0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(caffe, F.local_response_norm(x, 5, 1e-4, 0.75, 1.0), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(caffe, LRN(k=1.0)(x), rtol=1e-3)


@pytest.mark.parametrize("n", [3, 4, 5])
def test_lrn_is_torchs_to_the_bit(n: int) -> None:
    """With its gradient, in the precision of training."""
    torch.manual_seed(0)
    ours = (30 * torch.randn(2, 9, 13, 7)).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    upstream = torch.randn(ours.shape)
    made = LRN(n, 1e-4, 0.75, 2.0, divided=True)(ours), F.local_response_norm(theirs, n, 1e-4, 0.75, 2.0)
    for y in made:
        y.backward(upstream)
    assert torch.equal(*made)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.equal(ours.grad, theirs.grad)


def test_lrn_of_a_constant() -> None:
    """Eleven channels of 3: the middle ones see five squares of 9, the ends three and four."""
    out = LRN()(torch.full((1, 11, 1, 1), 3.0, dtype=torch.float64)).flatten().tolist()
    seen = [3, 4, 5, 5, 5, 5, 5, 5, 5, 4, 3]
    assert out == pytest.approx([3 / math.pow(2 + 1e-4 * 9 * n, 0.75) for n in seen], rel=1e-12)
