"""Depth against the papers' own figures, the cost of training against torch's counter of operations."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.utils.flop_counter import FlopCounterMode

from convatlas.accounting import account
from convatlas.accounting.backward import backward_macs
from convatlas.accounting.depth import depth
from convatlas.accounting.inputs import meta_inputs
from convatlas.accounting.trace import Trace, trace
from convatlas.catalogue import find
from convatlas.layers import ConvNet, on_meta, stack

DEPTHS = [  # network, printed depth
    *(("alexnet", 8), ("vgg11", 11), ("vgg16", 16), ("googlenet", 22), ("resnet18", 18), ("resnet50", 50)),
    *(("resnet20", 20), ("densenet121", 121), ("densenet_40_12", 40), ("resnet152", 152)),
]
MORE_DEPTHS = [
    *(("vgg11_lrn", 11), ("vgg13", 13), ("vgg16_c", 16), ("vgg19", 19), ("resnet34", 34), ("resnet101", 101)),
    *(("resnet32", 32), ("resnet44", 44), ("resnet56", 56), ("resnet110", 110), ("resnet1202", 1202)),
    *(("densenet169", 169), ("densenet201", 201), ("densenet161", 161), ("densenet_bc_100_12", 100)),
    *(("preact_resnet164", 164), ("preact_resnet200", 200), ("se_resnet50", 50), ("se_resnet152", 152)),
]
OTHERWISE = [  # network, printed depth, longest path, why they differ
    ("densenet264", 264, 265, "2 x 130 layers in blocks, 3 transitions, stem and classifier are 265"),
    ("densenet232", 232, 233, "likewise 2 x 114 + 5"),
    ("nas_v1", 15, 16, "the paper counts the layers that its controller makes, without the classifier"),
    ("wrn28_10", 28, 26, "6n + 4 counts the three projections, which are parallel to blocks, and no classifier"),
    ("inception_v3", 42, 48, "the paper does not say how it counts"),
    ("fractalnet_20", 20, 21, "without the classifier"),
]
DENSE = ["airbench94", "lenet5_tanh", "vgg16", "googlenet", "resnet18", "squeezenet1_0", "densenet_40_12", "nas_v1"]
GROUPED = ["alexnet", "mobilenet_v1"]
SLOW = [
    "resnet50",
    "densenet121",
    "inception_v4",
    "se_resnet50",
    "resnext50_32x4d",
    "efficientnet_b0",
    "nasnet_a_mobile",
]


def built(name: str, batch: int = 1) -> tuple[ConvNet, Tensor, Trace]:
    with on_meta():
        net = find(name).build()
    args, kwargs = meta_inputs(net, net.input, batch)
    return net, args[0], trace(net, args, kwargs)


@pytest.mark.parametrize(("name", "printed"), DEPTHS)
def test_depth_is_as_printed(name: str, printed: int) -> None:
    assert depth(built(name)[2]) == printed


@pytest.mark.slow
@pytest.mark.parametrize(("name", "printed"), MORE_DEPTHS)
def test_depth_is_as_printed_of_more_networks(name: str, printed: int) -> None:
    assert depth(built(name)[2]) == printed


@pytest.mark.slow
@pytest.mark.parametrize(("name", "printed", "ours", "why"), OTHERWISE)
def test_depths_that_differ_from_the_printed(name: str, printed: int, ours: int, why: str) -> None:
    assert depth(built(name)[2]) == ours != printed, why


def test_depth_by_hand() -> None:
    """Two of three convolutions are in a row; a gate's two layers do not count."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.aside = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(3))
            self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 1, 1), nn.ReLU(), nn.Conv2d(1, 3, 1))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.two(self.one(x)) + self.aside(x)
            return y * self.squeeze(y).sigmoid()

    gated = Gated()
    assert depth(trace(gated, *meta_inputs(gated, (3, 8, 8), 1))) == 2
    without = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    assert depth(trace(without, *meta_inputs(without, (3, 8, 8), 1))) == 0


def test_training_by_hand() -> None:
    """Nothing before the first convolution is trained, so that its input's gradient is not computed."""
    net = stack(conv=nn.Conv2d(3, 4, 3), flatten=nn.Flatten(), linear=nn.Linear(4 * 6 * 6, 10))
    counted = account(net, (3, 8, 8))
    conv, linear = 4 * 6 * 6 * 3 * 9, 4 * 6 * 6 * 10
    assert {row.path: row.backward_macs for row in counted.rows} == {"conv": conv, "flatten": 0, "linear": 2 * linear}
    assert counted.totals.backward_macs == conv + 2 * linear
    assert counted.totals.training_macs == 2 * conv + 3 * linear


def test_account_has_depth_and_training() -> None:
    counted = account("resnet18", batch=2)
    assert counted.depth == 18
    assert [r.backward_macs for r in counted.rows][:2] == [counted.rows[0].macs, 0], "the image takes no gradient"
    assert counted.totals.training_macs == counted.totals.macs + counted.totals.backward_macs
    for level in ("layer", "block", "stage"):
        assert sum(r.backward_macs for r in counted.table(level)) == counted.totals.backward_macs


def is_what_torch_counts(name: str) -> None:
    """Two operations a multiply-add. Of a weight gradient with groups, torch's counter leaves the groups out: it counts
    as many times too much as there are groups, which is corrected here."""
    net, x, traced = built(name, batch=2)
    excess = sum(n.macs * (n.args[8] - 1) for n in traced.nodes if n.op == "convolution")
    assert (excess > 0) == any(getattr(m, "groups", 1) > 1 for m in net.modules())
    with FlopCounterMode(display=False) as counter:
        net.eval()(x).sum().backward()
    macs = sum(n.macs for n in traced.nodes) + sum(backward_macs(traced))
    assert 2 * (macs + excess) == counter.get_total_flops()


@pytest.mark.parametrize("name", DENSE + GROUPED)
def test_training_is_what_torch_counts(name: str) -> None:
    is_what_torch_counts(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_training_is_what_torch_counts_of_more_networks(name: str) -> None:
    is_what_torch_counts(name)


def test_a_matrix_product_of_two_activations_has_two_gradients() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            y = self.linear(x)
            return y @ y.transpose(1, 2)

    net = Product()
    x = torch.empty(2, 5, 4, device="meta")
    linear, product = 2 * 5 * 4 * 4, 2 * 5 * 5 * 4
    assert [n for n in backward_macs(trace(net, (x,), {})) if n] == [linear, 2 * product]


def training_macs_of_torch(net: nn.Module, *shape: int) -> int:
    with FlopCounterMode(display=False) as counter:
        out = net.eval()(torch.zeros(1, *shape))
        if out.requires_grad:
            out.sum().backward()
    return counter.get_total_flops() // 2


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, w / w.std((1, 2, 3), keepdim=True), self.bias)


class Masked(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.tril(), self.bias)


def pruned(conv: nn.Module) -> nn.Module:
    return prune.l1_unstructured(conv, "weight", 0.5)  # type: ignore[no-any-return]


DERIVED: dict[str, Callable[..., nn.Module]] = {
    "weight norm": lambda *a, **k: parametrizations.weight_norm(nn.Conv2d(*a, **k)),
    "weight norm with hooks": lambda *a, **k: nn.utils.weight_norm(nn.Conv2d(*a, **k)),
    "pruned": lambda *a, **k: pruned(nn.Conv2d(*a, **k)),
    "standardised": Standardised,
    "masked": Masked,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("what", DERIVED)
def test_weights_that_are_computed_from_parameters(what: str) -> None:
    """A bias costs nothing: 10,800 and 9,216 multiply-adds, once forward and once for each gradient."""
    for bias in (True, False):
        net = nn.Sequential(DERIVED[what](3, 4, 3, bias=bias), nn.ReLU(), DERIVED[what](4, 4, 3, bias=bias))
        counted = account(net, (3, 12, 12))
        assert (counted.totals.macs, counted.totals.training_macs, counted.depth) == (20_016, 49_248, 2)
        assert training_macs_of_torch(net, 3, 12, 12) == 49_248


def test_a_spectral_norm_is_not_a_layer() -> None:
    """sigma = u.(W v): 27 x 4 and 4 multiply-adds, and one gradient of each."""
    net = parametrizations.spectral_norm(nn.Conv2d(3, 4, 3))
    counted = account(net, (3, 12, 12))
    assert (counted.depth, counted.totals.macs) == (1, 10_800 + 108 + 4)
    assert counted.totals.training_macs == 2 * (10_800 + 108 + 4)


class Head(nn.Module):
    """A classifier of 1,280 multiply-adds on a body of 20,016."""

    def __init__(self, how: Callable[[nn.Module, Tensor, nn.Linear], Tensor]):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten())
        self.head, self.how = nn.Linear(256, 5), how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.body, x, self.head)


def without_gradients(body: nn.Module, x: Tensor, head: nn.Linear) -> Tensor:
    with torch.no_grad():
        features = body(x)
    return head(features)


def in_inference_mode(body: nn.Module, x: Tensor, head: nn.Linear) -> Tensor:
    with torch.inference_mode():
        features = body(x)
    return head(features.clone())


UNTRAINED: dict[str, tuple[Callable[[nn.Module, Tensor, nn.Linear], Tensor], int]] = {
    "nothing": (lambda body, x, head: head(body(x)), 53_088),
    "no_grad": (without_gradients, 22_576),
    "inference_mode": (in_inference_mode, 22_576),
    "detach": (lambda body, x, head: head(body(x).detach()), 22_576),
    "data": (lambda body, x, head: head(body(x).data), 22_576),
    "a detached output": (lambda body, x, head: head(body(x)).detach(), 21_296),
    "a detached weight": (lambda body, x, head: F.linear(body(x), head.weight.detach(), head.bias), 51_808),
    "an unused result": (lambda body, x, head: (head(body(x)), body(x).argmax(1, keepdim=True) * 1.0)[1], 41_312),
}


@pytest.mark.parametrize("what", UNTRAINED)
def test_what_takes_no_gradient_costs_no_training(what: str) -> None:
    how, macs = UNTRAINED[what]
    net = Head(how)
    assert account(net, (3, 12, 12)).totals.training_macs == macs == training_macs_of_torch(net, 3, 12, 12)


@pytest.mark.parametrize(
    ("frozen", "macs"), [("body", 22_576), ("body.0", 33_072), ("body.2", 43_872), ("head", 51_808), ("", 21_296)]
)
def test_frozen_parameters_cost_no_gradient(frozen: str, macs: int) -> None:
    net = Head(UNTRAINED["nothing"][0])
    net.get_submodule(frozen).requires_grad_(False)
    assert account(net, (3, 12, 12)).totals.training_macs == macs == training_macs_of_torch(net, 3, 12, 12)
    assert account(net.to("meta"), (3, 12, 12)).totals.training_macs == macs


class Doubled(torch.autograd.Function):
    """Autograd does not record what runs in here; its backward pass is that of the same two operators."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return (x * 2) @ weight.t()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return grad @ weight, grad.t() @ (x * 2)


class UsesDoubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return Doubled.apply(self.one(x), self.two.weight)  # type: ignore[no-any-return, no-untyped-call]


def test_functions_with_a_backward_pass_of_their_own_are_trained() -> None:
    net = UsesDoubled()
    assert account(net, (8,)).totals.training_macs == 2 * 48 + 3 * 24 == training_macs_of_torch(net, 8)
