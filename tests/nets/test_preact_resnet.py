"""Pre-activation ResNets: Fig. 4 step by step, the clean path of section 2, the same weights in ResNet's own file."""

import pytest
import torch
from torch import Tensor, nn

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.nets import preact_resnet, preact_resnet_cifar, resnet, resnet_cifar
from convatlas.nets.preact_resnet import FIGURE_4, PreActUnit, basic, bottleneck, bottleneck_v1_5
from convatlas.nets.preact_resnet_cifar import one_layer
from tests.oracles import randomise

ROWS = {
    v.name: v
    for v in (*preact_resnet.VARIANTS, *preact_resnet_cifar.VARIANTS, *resnet.VARIANTS, *resnet_cifar.VARIANTS)
}
SMALL = dict(convs=basic, widths=(16, 32, 64), shortcut="A", depth=20)


def build(name: str, **options: object) -> ConvNet:
    return ROWS[name].build(**options)


@pytest.mark.parametrize(
    ("order", "steps"),
    [  # Fig. 4, (a) to (e), from the top of each drawing to its bottom
        ("original", "conv bn relu conv bn add relu"),
        ("bn_after", "conv bn relu conv add bn relu"),
        ("relu_before", "conv bn relu conv bn relu add"),
        ("relu_only", "relu conv bn relu conv bn add"),
        ("full", "bn relu conv bn relu conv add"),
    ],
)
def test_a_unit_runs_the_steps_of_figure_4(order: str, steps: str) -> None:
    rows = account(PreActUnit(16, basic(16, 1), order=order), input=(16, 8, 8)).rows
    kinds = {"Conv2d": "conv", "BatchNorm2d": "bn", "ReLU": "relu", "add": "add"}
    assert " ".join(kinds[row.op] for row in rows) == steps


@pytest.mark.parametrize(("order", "extra"), [("original", ""), ("relu_only", "relu"), ("full", "bn relu")])
def test_the_first_activation_stands_in_the_stem_and_one_more_in_the_head(order: str, extra: str) -> None:
    net = build("preact_resnet164", order=order, depth=29)
    assert [name for name, _ in net.get_submodule("stem.conv1").named_children()] == ["conv", "bn", "act"]
    assert net.get_submodule("stages.conv2").unit1.preact is None
    assert (net.get_submodule("stages.conv2").unit2.preact is not None) == bool(extra)
    assert [name for name, _ in net.head.named_children()] == [*extra.split(), "pool", "flatten", "linear"]


def test_units_that_change_shape_give_the_activated_input_to_their_shortcut() -> None:
    torch.manual_seed(0)
    unit = PreActUnit(8, bottleneck(16, 2)).eval()
    randomise(unit)
    nn.init.zeros_(unit.get_submodule("branch.conv3").weight)
    x = torch.randn(2, 8, 6, 6)
    bn, projection = unit.get_submodule("preact.bn"), unit.get_submodule("shortcut")
    assert isinstance(projection, nn.Conv2d)
    assert torch.allclose(unit(x), nn.functional.conv2d(bn(x).relu(), projection.weight, stride=2))


def test_units_that_keep_their_shape_do_not() -> None:
    unit = PreActUnit(16, bottleneck(16, 1)).eval()
    randomise(unit)
    nn.init.zeros_(unit.get_submodule("branch.conv3").weight)
    x = torch.randn(2, 16, 6, 6)
    assert torch.equal(unit(x), x)


def silence(stage: nn.Module, but_first: int = 1) -> None:
    """No unit of the stage but the first adds anything."""
    for unit in list(stage.children())[but_first:]:
        convs = [m for m in unit.get_submodule("branch").modules() if isinstance(m, nn.Conv2d)]
        nn.init.zeros_(convs[-1].weight)


def gradient_through(order: str) -> tuple[Tensor, Tensor]:
    """A gradient at the output of a stage of silent units, and what arrives of it at the stage's input (equation 5)."""
    torch.manual_seed(0)
    net = build("preact_resnet164", order=order, **SMALL).eval()
    stage = net.get_submodule("stages.conv3")
    silence(stage)
    x = torch.randn(2, 32, 8, 8, requires_grad=True)
    y = x
    for unit in list(stage.children())[1:]:
        y = unit(y)
    at_end = torch.randn_like(y)
    return at_end, torch.autograd.grad(y, x, at_end)[0]


@pytest.mark.parametrize("order", ["relu_before", "relu_only", "full"])
def test_the_gradient_passes_silent_units_unchanged(order: str) -> None:
    at_end, at_start = gradient_through(order)
    assert torch.equal(at_end, at_start)


@pytest.mark.parametrize("order", ["original", "bn_after"])
def test_an_activation_after_the_addition_stands_in_its_way(order: str) -> None:
    at_end, at_start = gradient_through(order)
    assert not torch.allclose(at_end, at_start, atol=0.1)


def same_weights(ours: nn.Module, other: nn.Module) -> None:
    """Copies tensor by tensor; branch and shortcut of a unit may stand the other way round."""

    def in_order(net: nn.Module) -> list[Tensor]:
        found: list[Tensor] = []
        shortcuts: list[Tensor] = []
        for name, t in net.state_dict().items():
            if ".shortcut." in name:
                shortcuts.append(t)
            else:
                found.append(t)
        return found + shortcuts

    for a, b in zip(in_order(ours), in_order(other), strict=True):
        b.copy_(a)


@pytest.mark.parametrize(
    ("ours", "options", "theirs", "size"),
    [
        ("preact_resnet110", dict(order="original", depth=32), "resnet32", 32),
        ("preact_resnet164", dict(order="original", **SMALL | dict(shortcut="B")), "resnet20_b", 32),
        ("preact_resnet50", dict(order="original"), "resnet50", 64),
        ("preact_resnet50_v1_5", dict(order="original"), "resnet50_v1_5", 64),
    ],
)
def test_the_original_order_is_resnet(ours: str, options: dict[str, object], theirs: str, size: int) -> None:
    torch.manual_seed(0)
    net, other = build(ours, classes=10, **options).double(), build(theirs, classes=10).double()
    randomise(net)
    same_weights(net, other)
    x = torch.randn(2, 3, size, size, dtype=torch.float64)
    for a, b in ((net.eval(), other.eval()), (net.train(), other.train())):
        assert torch.allclose(a(x), b(x), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("order", FIGURE_4)
@pytest.mark.parametrize("convs", [basic, bottleneck, bottleneck_v1_5, one_layer])
def test_every_parameter_learns(order: str, convs: object) -> None:
    torch.manual_seed(0)
    depth = {basic: 14, one_layer: 8}.get(convs, 20)
    net = build("preact_resnet164", order=order, convs=convs, depth=depth, classes=5, channels=4, input=(4, 19, 17))
    loss = nn.functional.cross_entropy(net(torch.randn(4, 4, 19, 17)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_timms_first_batch_norm_sees_pooled_maps() -> None:
    def places(name: str) -> list[str]:
        return [r.op for r in account(ROWS[name]).rows][:5]

    assert places("preact_resnet50") == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Conv2d"]
    assert places("preact_resnet50_timm") == ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU", "Conv2d"]


def test_depths_of_the_paper() -> None:
    for name, units in (("preact_resnet110", 18), ("preact_resnet164", 18), ("preact_resnet1001", 111)):
        with torch.device("meta"):
            net = build(name)
        assert [len(list(stage.children())) for stage in net.stages.children()] == [units] * 3
    with torch.device("meta"):
        net = build("preact_resnet200")
    assert [len(list(stage.children())) for stage in net.stages.children()] == [3, 24, 36, 3]


def test_initial_variance_is_two_over_fan_out() -> None:
    torch.manual_seed(0)
    for path, m in build("preact_resnet50").named_modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 30_000:
            fan_out = m.out_channels * m.kernel_size[0] * m.kernel_size[1]
            assert m.weight.var().item() == pytest.approx(2 / fan_out, rel=0.05), path


def test_written_gap_of_1001_layers() -> None:
    counted = account(ROWS["preact_resnet1001"])
    assert counted.totals.params - sum(r.params for r in counted.rows if r.op == "BatchNorm2d") == 10_178_490


@pytest.mark.parametrize("name", ["preact_resnet164", "preact_resnet50"])
def test_an_unknown_order_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="no activation order named 'fully'; did you mean full"):
        build(name, order="fully")


@pytest.mark.parametrize(("convs", "message"), [(bottleneck, "9n"), (basic, "6n"), (one_layer, "3n")])
def test_a_depth_that_does_not_fit_is_refused(convs: object, message: str) -> None:
    with pytest.raises(UserError, match=rf"depth=111 is not {message} \+ 2; give"):
        build("preact_resnet164", depth=111, convs=convs)
