"""ResNeXt: the three forms of Fig. 3 are one function, Table 1 by hand, cardinality 1 is ResNet."""

import pytest
import torch
from torch import nn

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.nets import resnet, resnext
from convatlas.nets.resnext import CifarResNeXt, aggregated
from tests.oracles import randomise

ROWS = {v.name: v for v in (*resnext.VARIANTS, *resnet.VARIANTS)}


def on_meta(name: str, **options: object) -> ConvNet:
    with torch.device("meta"):
        return ROWS[name].build(**options)


def params(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def split(grouped: nn.Module, form: str, cardinality: int) -> dict[str, torch.Tensor]:
    """The tensors of a block in form "c" cut into the paths of form "a" or "b"."""
    found = {}
    for name, t in grouped.state_dict().items():
        if not name.startswith("branch."):
            found[name] = t  # the shortcut
        elif name.startswith("branch.conv3."):
            if form == "b":
                found[name] = t
            elif name == "branch.conv3.conv.weight":  # path i reads the maps of group i
                for i, piece in enumerate(t.chunk(cardinality, dim=1)):
                    found[f"branch.paths.{i}.conv3.weight"] = piece
            else:
                found[name.replace("conv3.bn", "bn")] = t
        else:
            pieces = t.chunk(cardinality) if t.dim() else [t] * cardinality
            for i, piece in enumerate(pieces):
                found[name.replace("branch.", f"branch.paths.{i}.")] = piece
    return found


@pytest.mark.parametrize("form", ["a", "b"])
@pytest.mark.parametrize(("cin", "cout", "stride"), [(64, 64, 1), (64, 128, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_the_three_forms_are_one_function(form: str, cin: int, cout: int, stride: int, training: bool) -> None:
    torch.manual_seed(0)
    grouped = aggregated(8, 8, "c")(cin, cout, stride, "B").double().train(training)
    randomise(grouped)
    paths = aggregated(8, 8, form)(cin, cout, stride, "B").double().train(training)
    paths.load_state_dict(split(grouped, form, 8))
    x = torch.randn(3, cin, 9, 7, dtype=torch.float64)
    expected = grouped(x)
    assert (paths(x) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("form", ["a", "b"])
def test_the_three_forms_have_the_same_size_and_cost(form: str) -> None:
    totals = [account(ROWS["resnext50_32x4d"], form=f, depths=(1, 1, 1, 1)).totals for f in (form, "c")]
    assert (totals[0].params, totals[0].macs) == (totals[1].params, totals[1].macs)


@pytest.mark.parametrize(("cardinality", "d"), [(1, 64), (2, 40), (4, 24), (8, 14), (32, 4)])
def test_table_2(cardinality: int, d: int) -> None:
    """Weights of a conv2 block, C * (256 * d + 3 * 3 * d * d + d * 256): about 70 thousand in every column."""
    block = aggregated(cardinality, d, "c")(256, 256, 1, "B")
    weights = sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Conv2d))
    assert weights == cardinality * (256 * d + 9 * d * d + d * 256)
    assert weights == pytest.approx(70_000, rel=0.04)


@pytest.mark.parametrize(("layers", "depths"), [(50, (3, 4, 6, 3)), (101, (3, 4, 23, 3))])
@pytest.mark.parametrize(("cardinality", "d"), [(32, 4), (8, 14)])
def test_parameters_by_hand(layers: int, depths: tuple[int, ...], cardinality: int, d: int) -> None:
    total, cin = 9408 + 128, 64
    for stage, depth in enumerate(depths):
        mid, cout = cardinality * d * 2**stage, 256 * 2**stage
        for _ in range(depth):
            total += cin * mid + 9 * mid * mid // cardinality + mid * cout + 2 * (mid + mid + cout)
            total += cin * cout + 2 * cout if cin != cout else 0
            cin = cout
    assert params(on_meta(f"resnext{layers}_{cardinality}x{d}d")) == total + 2049 * 1000


@pytest.mark.parametrize(
    ("one", "other"), [("resnext50_1x64d", "resnet50_v1_5"), ("resnext101_1x64d", "resnet101_v1_5")]
)
def test_one_path_of_64_is_resnet(one: str, other: str) -> None:
    with torch.no_grad():
        torch.manual_seed(0)
        net, resnet_ = ROWS[one].build().eval(), ROWS[other].build().eval()
        resnet_.load_state_dict(net.state_dict())
        x = torch.randn(1, 3, 33, 33)
        assert torch.equal(net(x), resnet_(x))


def test_cifar_stages() -> None:
    shapes = {r.path: r.shape for r in account(ROWS["resnext29_8x64d"]).table("stage")}
    assert [shapes[f"stages.conv{i}"] for i in (2, 3, 4)] == [(256, 32, 32), (512, 16, 16), (1024, 8, 8)]
    groups = {r.groups for r in account(ROWS["resnext29_8x64d"]).rows if r.path.endswith("conv2.conv")}
    assert groups == {8}


def test_cost_at_320_pixels() -> None:
    macs = account(ROWS["resnext101_64x4d"], input=(3, 320, 320)).totals.macs
    assert macs == pytest.approx(31.5e9, abs=0.1e9)  # NASNet, Table 2


def test_the_written_gap_of_64x4d() -> None:
    net = on_meta("resnext101_64x4d")
    biases = sum(m.out_channels for m in net.modules() if isinstance(m, nn.Conv2d))
    assert params(net) + biases == 83_556_712


def test_initial_variance_is_two_over_fan_out() -> None:
    torch.manual_seed(0)
    net = CifarResNeXt()
    for path, m in net.named_modules():
        if isinstance(m, nn.Conv2d) and m.weight.numel() > 30_000:
            fan_out = m.out_channels * m.kernel_size[0] * m.kernel_size[1]
            assert m.weight.var().item() == pytest.approx(2 / fan_out, rel=0.05), path


@pytest.mark.parametrize("form", ["a", "b", "c"])
def test_every_parameter_learns(form: str) -> None:
    torch.manual_seed(0)
    options = dict(depth=11, cardinality=4, width=16, form=form, classes=5, channels=4, input=(4, 21, 18))
    net = ROWS["resnext29_8x64d"].build(**options)
    loss = nn.functional.cross_entropy(net(torch.randn(4, 4, 21, 18)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="no form named 'd'; choose from a, b, c"):
        on_meta("resnext50_32x4d", form="d")
    with pytest.raises(UserError, match="cardinality=0 leaves no paths; give at least 1"):
        on_meta("resnext50_32x4d", cardinality=0)
    with pytest.raises(UserError, match="width=-4 leaves no path"):
        on_meta("resnext29_8x64d", width=-4)
    with pytest.raises(UserError, match=r"depth=30 is not 9n \+ 2; give 11, 20, 29"):
        on_meta("resnext29_8x64d", depth=30)
