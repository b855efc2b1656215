"""Symbolic costs against fresh counts at random settings; the largest image under a limit; what is refused."""

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.utils.flop_counter import FlopCounterMode

from convatlas import names
from convatlas.accounting import account
from convatlas.accounting.inputs import meta_inputs
from convatlas.accounting.symbolic import Symbolic, largest_input, symbolic
from convatlas.accounting.trace import trace
from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.cli.show import parse_macs
from convatlas.errors import UserError

FAST = (  # of each kind: linear layers sized by the image, LRN, ceil mode, slices, gates, "SAME" and a global max pool
    *("lenet5", "alexnet", "alexnet_owt", "vgg11", "nin", "googlenet", "resnet18_a", "squeezenet1_0", "mobilenet_v1"),
    *("efficientnet_b0", "airbench94"),
)
SETTINGS = Random(200).sample(names(), 200)  # of the slow group: one of each of so many networks


def equals_a_fresh_count(name: str, draw: Random) -> None:
    """At a random setting of those that the network takes; the others are refused on both sides."""
    variant = find(name)
    assert variant.input is not None
    channels, side, _ = variant.input
    height, width = (draw.randint(side * 3 // 4, side * 7 // 4) for _ in range(2))
    batch, classes = draw.randint(1, 64), draw.randint(1, 160)
    without = {"aux": False} if "aux" in variant.options else {}  # the auxiliary classifiers' size is no part of it
    try:
        fresh = account(name, (channels, height, width), batch, classes=classes, **without).totals
    except UserError:
        with pytest.raises(UserError, match=f"{name} cannot take a {height}x{width} image"):
            symbolic(name)(height, width, batch, classes)
        equals_a_fresh_count(name, draw)
        return
    for quantity, n in vars(symbolic(name)(height, width, batch, classes)).items():
        assert n == getattr(fresh, quantity), f"{quantity} of {name} at {batch} x {height}x{width}, {classes} classes"


@pytest.mark.parametrize("name", FAST)
def test_equals_a_fresh_count_at_random_settings(name: str) -> None:
    draw = Random(name)
    for _ in range(3):
        equals_a_fresh_count(name, draw)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_equals_a_fresh_count_at_200_settings(name: str) -> None:
    equals_a_fresh_count(name, Random(f"200 {name}"))


def torch_s_formula(name: str) -> Callable[[int, int, int], int | None]:
    """Of the operations on (height, width, batch): torch's counter on sizes that are symbols. None where torch assumes
    something else of the sizes."""
    variant = find(name)
    assert variant.input is not None
    channels, side, _ = variant.input
    mode, (some, same) = FakeTensorMode(shape_env=ShapeEnv()), (DimDynamic.DYNAMIC, DimDynamic.STATIC)
    open_sizes = StatelessSymbolicContext(dynamic_sizes=[some, same, some, some])
    x = mode.from_tensor(torch.zeros(6, channels, side, side + 13), symbolic_context=open_sizes)
    with mode, torch.no_grad(), FlopCounterMode(display=False) as counter:
        variant.build().eval()(x)
    total: Any = counter.get_total_flops()
    symbols = [x.shape[axis].node.expr for axis in (2, 3, 0)]
    assert mode.shape_env is not None
    assumed = [guard.expr for guard in mode.shape_env.guards]

    def flops(*sizes: int) -> int | None:
        at = dict(zip(symbols, sizes, strict=True))
        return int(total.node.expr.subs(at)) if all(bool(a.subs(at)) for a in assumed) else None

    return flops


def equals_torch_s_formula(name: str) -> None:
    draw, ours, theirs = Random(name), symbolic(name), torch_s_formula(name)
    side, compared = find(name).input[1], 0  # type: ignore[index]
    while compared < 20:
        height, width, batch = draw.randint(side * 3 // 4, side * 2), draw.randint(side, side * 2), draw.randint(2, 64)
        flops = theirs(height, width, batch)
        if flops is not None:
            assert 2 * ours(height, width, batch).macs == flops, f"{batch} x {height}x{width}"
            compared += 1


@pytest.mark.parametrize("name", ["squeezenet1_0", "nin"])
def test_equals_torch_s_count_on_symbolic_sizes(name: str) -> None:
    equals_torch_s_formula(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "se_resnet50", "densenet_40_12", "airbench94", "squeezenet1_1"])
def test_equals_torch_s_count_on_symbolic_sizes_of_more_networks(name: str) -> None:
    equals_torch_s_formula(name)


def test_by_hand() -> None:
    """LeNet-5 of the lectures: two convolutions, a pool after each, three linear layers."""
    for side, batch, classes in ((32, 1, 10), (41, 3, 7)):
        c1 = side - 4
        c2 = c1 // 2 - 4
        flat = 16 * (c2 // 2) ** 2
        weights = [6 * 25, 16 * 6 * 25, flat * 120, 120 * 84, 84 * classes]
        ours = symbolic("lenet5_tanh")(side, batch=batch, classes=classes)
        assert ours.params == sum(weights) + 6 + 16 + 120 + 84 + classes
        assert ours.macs == batch * (weights[0] * c1**2 + weights[1] * c2**2 + sum(weights[2:]))
        stored = side**2 + 6 * c1**2 + 6 * (c1 // 2) ** 2 + 16 * c2**2 + flat + 120 + 84 + classes
        assert ours.activations == batch * stored


def test_the_network_as_it_is_without_arguments() -> None:
    assert symbolic("resnet18")(224).macs == account("resnet18").totals.macs


@pytest.mark.parametrize("name", ["alexnet", "squeezenet1_0"])
def test_refuses_what_the_network_refuses(name: str) -> None:
    costs, refused = symbolic(name), 0
    for side in range(1, 80, 6):
        try:
            costs(side)
        except UserError:
            refused += 1
            with pytest.raises(UserError, match="does not fit the network"):
                account(name, (3, side, side))
        else:
            assert costs(side).macs == account(name, (3, side, side)).totals.macs
    assert 0 < refused < 14


class Halves(nn.Module):
    """Two branches whose maps are of one size on even images alone."""

    def __init__(self, classes: int):
        super().__init__()
        self.floor, self.ceil = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(3, 4, 3, 2, 1)
        self.linear = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear((self.floor(x) + self.ceil(x)).mean((2, 3)))
        return out


class Correlates(nn.Module):
    """Multiplies two matrices that both come from the image."""

    def __init__(self, classes: int):
        super().__init__()
        self.conv = nn.Conv2d(3, classes, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x).flatten(2)
        return y @ y.transpose(1, 2)


def followed(kind: type[nn.Module]) -> Symbolic:
    images, classes = [(3, 8, 14), (3, 12, 10)], [2, 3]
    traces = []
    for image, n in zip(images, classes, strict=True):
        net = kind(n)
        traces.append(trace(net, *meta_inputs(net, image, 1)))
    return Symbolic(kind.__name__, traces, images, classes)


def test_maps_that_do_not_meet_are_refused() -> None:
    costs = followed(Halves)
    assert costs(10, 6, classes=5).macs == 5 * 3 * 4 * 3 * (4 + 9) + 4 * 5
    with pytest.raises(
        UserError, match="Halves cannot take a 10x7 image: it merges maps of 5x3 and 5x4; give another size"
    ):
        costs(10, 7)


def test_what_has_no_rule_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"Correlates has an operator bmm, which has no rule here; use account\(\), which"
    ):
        followed(Correlates)


@pytest.mark.parametrize("setting", [{"height": 0}, {"width": -1}, {"batch": 0}, {"classes": 1.5}])
def test_settings_that_are_no_counts_are_refused(setting: dict[str, int]) -> None:
    name, value = next(iter(setting.items()))
    with pytest.raises(
        UserError, match=rf"{name}={value} is not a positive integer; give a whole number of at least 1"
    ):
        symbolic("lenet5_tanh")(**{"height": 32, **setting})


@pytest.mark.parametrize(("name", "limit"), [("resnet18", 10**9), ("alexnet", 300 * 10**6), ("lenet5_tanh", 416_520)])
def test_the_largest_input_under_a_limit(name: str, limit: int) -> None:
    fit = largest_input(name, limit)
    channels = (find(name).input or (3,))[0]
    assert account(name, (channels, fit.side, fit.side)).totals.macs == fit.macs <= limit
    assert account(name, (channels, fit.next_side, fit.next_side)).totals.macs == fit.next_macs > limit
    assert fit.next_side == fit.side + 1
    assert largest_input(name, fit.macs) == fit
    assert largest_input(name, fit.macs - 1).side < fit.side


def test_a_limit_under_the_smallest_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"alexnet takes [0-9,]+ multiply-adds even at 67x67, its smallest image"):
        largest_input("alexnet", 1000)


def test_show_under(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "ResNet-18", "--under", "1GMAC"]) == 0
    text = capsys.readouterr().out
    fit = largest_input("resnet18", 10**9)
    assert text.splitlines() == [
        "resnet18 under 1GMAC:",
        f"  {fit.side}x{fit.side} pixels take {fit.macs:,} multiply-adds",
        f"  {fit.next_side}x{fit.next_side} pixels would take {fit.next_macs:,}",
    ]
    assert main(["show", "resnet18", "--under", "2G", "--batch", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["side"] == fit.side, "two images under twice the limit"
    assert record["macs"] == 2 * fit.macs
    for arguments, message in (
        (["--under", "1GB"], "'1GB' is not a number of multiply-adds; write it as in 1GMAC, 569M or 300000000"),
        (["--under", "1G", "--input", "3x8x8"], "--under finds the image size itself; leave out --input 3x8x8"),
        (["--under", "1G", "--csv"], "--under prints no table; leave out --csv, --md and --html"),
    ):
        assert main(["show", "resnet18", *arguments]) == 2
        assert message in capsys.readouterr().err


def test_numbers_of_multiply_adds() -> None:
    spelled = {"1GMAC": 10**9, "569M": 569 * 10**6, "3.9 GMACs": 3_900_000_000, "300_000": 300_000, "12k": 12_000}
    assert {text: parse_macs(text) for text in spelled} == spelled
