"""NASNet: the cells by hand, TensorFlow's padding, scheduled drop-path, the paper's network beside timm's."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convatlas.accounting import account
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.layers import dense
from convatlas.nets._nasnet_cells import Cell, FactorizedReduction, Pool, ScheduledDropPath, Separable
from convatlas.nets.nasnet import NASNet
from tests.nets.timm_nasnet import ours
from tests.oracles import difference, randomise, timm

SMALL: dict[str, Any] = dict(repeats=1, features=96, stem_width=8, input=(3, 72, 72), classes=5)


def small(**options: Any) -> NASNet:
    torch.manual_seed(0)
    return NASNet(**{**SMALL, **options})


def separable(kernel: int, cin: int, cout: int) -> int:
    """Depthwise and pointwise weights and batch norm, twice."""
    return sum(kernel * kernel * c + c * cout + 2 * cout for c in (cin, cout))


def fitted(cin: int, cout: int) -> int:
    return cin * cout + 2 * cout


def test_cells_by_hand() -> None:
    rows = {r.path: r for r in account("nasnet_a_mobile").table("block")}
    f = 176  # 44 filters, doubled by two reduction cells
    ops = 2 * separable(5, f, f) + 3 * separable(3, f, f)
    assert rows["stages.normal3.cell4"].params == 2 * fitted(24 * 44, f) + ops
    assert rows["stages.normal3.cell1"].params == fitted(4 * f, f) + fitted(12 * 44, f) + ops
    ops = 2 * separable(5, f, f) + 2 * separable(7, f, f) + separable(3, f, f)
    assert rows["stages.reduction2"].params == 2 * fitted(12 * 44, f) + ops
    ops = separable(5, 11, 11) + 2 * separable(7, 32, 11) + separable(5, 32, 11) + separable(3, 11, 11)
    assert rows["stem.cell1"].params == fitted(32, 11) + ops  # the first cell's older input is not fitted
    cifar = {r.path: r for r in account("nasnet_a_6_768").table("block")}
    ops = 2 * separable(5, 32, 32) + 3 * separable(3, 32, 32) - separable(5, 32, 32) - 2 * separable(3, 32, 32)
    first = separable(5, 96, 32) + 2 * separable(3, 96, 32) + 3 * fitted(96, 32)  # its identity and two pools
    assert cifar["stages.normal1.cell1"].params == fitted(96, 32) + ops + first + fitted(96, 32)  # and its join


def test_shapes_of_figure_2() -> None:
    shapes = {r.path: r.shape for r in account("nasnet_a_mobile").table("stage")}
    assert shapes == {
        "stem": (88, 28, 28),
        "stages.normal1": (264, 28, 28),
        "stages.reduction1": (352, 14, 14),
        "stages.normal2": (528, 14, 14),
        "stages.reduction2": (704, 7, 7),
        "stages.normal3": (1056, 7, 7),
        "stages.newest": (1056, 7, 7),
        "head": (1000,),
    }


def test_large_counts_its_moving_statistics() -> None:
    with torch.device("meta"):
        net = find("nasnet_a_large").build(aux=False)
    moving = sum(b.numel() for name, b in net.named_buffers() if "running" in name)
    assert sum(p.numel() for p in net.parameters()) + moving == 88_949_818


def same_pool(x: np.ndarray, kind: str, stride: int) -> np.ndarray:
    """TensorFlow's definition: ceil(n / stride) windows, the smaller half of what they lack before, means of pixels."""
    n = x.shape[-1]
    out = -(-n // stride)
    before = max((out - 1) * stride + 3 - n, 0) // 2
    spans = [range(max(i * stride - before, 0), min(i * stride - before + 3, n)) for i in range(out)]
    reduce = np.max if kind == "max" else np.mean
    return np.array([[reduce(x[np.ix_(rows, cols)]) for cols in spans] for rows in spans])


@pytest.mark.parametrize("size", [1, 2, 5, 6])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pools_pad_as_tensorflow(kind: str, stride: int, size: int) -> None:
    x = torch.randn(1, 1, size, size, dtype=torch.float64) - 3  # a maximum that took in zeros would show
    expected = same_pool(x[0, 0].numpy(), kind, stride)
    np.testing.assert_allclose(Pool(kind, stride)(x)[0, 0].numpy(), expected, rtol=1e-12)


def test_factorized_reduction_takes_two_diagonals() -> None:
    reduce = FactorizedReduction(1, 2, eps=0.0).eval()
    for conv in (reduce.conv1, reduce.conv2):
        nn.init.ones_(conv.weight)
    x = torch.arange(1.0, 26).view(1, 1, 5, 5)
    first, shifted = reduce(x)[0]
    assert first.tolist() == [[1, 3, 5], [11, 13, 15], [21, 23, 25]]
    assert shifted.tolist() == [[7, 9, 0], [17, 19, 0], [0, 0, 0]]  # beyond the map there are zeros


def test_separable_has_nothing_between_its_halves() -> None:
    names = [name for name, _ in Separable(4, 8, 5, 2, eps=1e-3).named_children()]
    assert names == [f"{m}{n}" for n in (1, 2) for m in ("relu", "depthwise", "pointwise", "bn")]


def paths(net: nn.Module) -> list[ScheduledDropPath]:
    return [m for m in net.modules() if isinstance(m, ScheduledDropPath)]


def test_drop_rates_grow_with_depth_and_progress() -> None:
    with torch.device("meta"):
        net = find("nasnet_a_large").build()
    rates = [m.p for m in paths(net)]
    assert rates == sorted(rates)
    assert len(set(rates)) == 22  # two cells in the stem, 3 x 6 normal ones, two reductions
    assert rates[0] == pytest.approx(0.3 / 22)
    assert rates[-1] == pytest.approx(0.3)
    assert isinstance(net, NASNet)
    net.set_progress(0.25)
    assert {m.progress for m in paths(net)} == {0.25}
    assert not paths(small())
    assert small().state_dict().keys() == small(drop_path=0.5).state_dict().keys()
    for cell in (m for m in net.modules() if isinstance(m, Cell)):  # every operation but the identities
        named = [name for row in cell.table.rows for name in (row[1], row[3])]
        assert len(paths(cell)) == sum(name != "identity" for name in named)


def test_drop_path_drops_whole_images() -> None:
    torch.manual_seed(0)
    drop = ScheduledDropPath(0.4)
    x = torch.ones(4000, 2, 3, 3)
    for progress, keep in ((1.0, 0.6), (0.5, 0.8)):
        drop.progress = progress
        kept = drop(x).flatten(1)
        assert kept.amin(1).equal(kept.amax(1))
        np.testing.assert_allclose(kept.unique().numpy(), [0, 1 / keep], rtol=1e-6)
        assert (kept[:, 0] > 0).float().mean() == pytest.approx(keep, abs=0.04)  # 5 deviations
    drop.progress = 0.0
    assert drop(x) is x
    assert drop.eval()(x) is x


def test_drop_path_takes_effect_in_training_only() -> None:
    net = small(drop_path=0.9, dropout=0.0)
    x = torch.randn(8, 3, 72, 72)
    assert not net(x).equal(net(x))
    net.set_progress(0.0)
    assert net(x).equal(net(x))
    net.set_progress(1.0)
    net.eval()
    assert net(x).equal(net(x))


def test_pass_older() -> None:
    """After a reduction the released large network looks back past the output that the cell was fed."""
    kept, passed = ({k: v.shape for k, v in small(pass_older=p).state_dict().items()} for p in (False, True))
    path = "stages.normal2.cell1.fit_older.conv1.weight"
    assert kept[path][1] == 6 * 4  # the normal cell before the reduction
    assert passed[path][1] == 4 * 2  # the stem's last cell
    changed = {k.rpartition(".fit_older.")[0] for k in kept if kept[k] != passed[k]}
    assert changed == {"stages.normal2.cell1", "stages.normal3.cell1"}


def test_auxiliary_classifier() -> None:
    net = small().eval()
    x = torch.randn(2, 3, 72, 72)
    logits, aux = net.forward_aux(x)
    assert logits.equal(net(x))
    assert {stage: tuple(a.shape) for stage, a in aux.items()} == {"normal2": (2, 5)}
    (logits.sum() + aux["normal2"].sum()).backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    assert small(aux=False).eval().forward_aux(x)[1] == {}
    for name, classes in (
        ("nasnet_a_mobile", 1000),
        ("nasnet_a_6_768", 10),
    ):  # 14 x 14 and 16 x 16 maps, pooled to 4 x 4
        cin = int(find(name).options["features"]) // 2
        params = fitted(cin, 128) + 16 * 128 * 768 + 2 * 768 + 768 * classes + classes
        assert dict(account(name).idle) == {"aux": params}


def test_dense_reading() -> None:
    torch.manual_seed(0)
    net = find("nasnet_a_mobile").build(features=96, classes=5, input=(3, 72, 72)).eval()
    x = torch.randn(1, 3, 72, 72)
    torch.testing.assert_close(dense(net)(x)[:, :, 0, 0], net(x))


def test_initialisation() -> None:
    torch.manual_seed(0)
    net = NASNet(repeats=1, features=768, stem="cifar", stem_width=96, input=(3, 32, 32))
    tensors = net.state_dict()
    pointwise = tensors["stages.reduction2.blocks.0.left.pointwise1.weight"]
    depthwise = tensors["stages.reduction2.blocks.0.right.depthwise1.weight"]
    linear = tensors["head.linear.weight"]
    assert pointwise.std().item() == pytest.approx((2 / 128) ** 0.5, rel=0.02)
    assert depthwise.std().item() == pytest.approx((2 / 49) ** 0.5, rel=0.03)  # one filter a channel
    assert linear.std().item() == pytest.approx((2 / 1000) ** 0.5, rel=0.02)
    assert pointwise.abs().max().item() <= 2 * (2.6 / 128) ** 0.5
    assert not tensors["head.linear.bias"].any()


def test_user_errors() -> None:
    with pytest.raises(
        UserError, match=r"features=1000 gives 41 filters, which is not a multiple of 4; give a multiple of 96"
    ):
        find("nasnet_a_mobile").build(features=1000)
    with pytest.raises(UserError, match="no stem named 'cifar10'; did you mean cifar"):
        find("nasnet_a_mobile").build(stem="cifar10")
    with pytest.raises(
        UserError, match=r"input 3x64x64 does not fit the network; the smallest square that does is 3x67x67.*aux=False"
    ):
        find("nasnet_a_mobile").build(input=(3, 64, 64))
    with pytest.raises(UserError, match=r"progress=1\.5 is not a fraction of training"):
        small().set_progress(1.5)


@pytest.mark.oracles
def test_the_papers_network_is_timms_once_its_pools_leave_the_padding_out(monkeypatch: pytest.MonkeyPatch) -> None:
    models = timm().models.nasnet
    same = timm().layers.pool2d_same.AvgPool2dSame
    monkeypatch.setattr(same, "forward", lambda self, x: Pool("avg", self.stride[0])(x))
    torch.manual_seed(0)
    theirs = models.NASNetALarge(num_features=96, stem_size=12, num_classes=7).double()
    net = NASNet(repeats=6, features=96, stem_width=12, pass_older=True, dropout=0.0, aux=False, pool=Pool, classes=7)
    net = net.double()
    randomise(theirs)
    net.load_state_dict({ours(name): t for name, t in theirs.state_dict().items()})
    x = torch.randn(2, 3, 97, 110, dtype=torch.float64)
    assert difference(net.eval()(x), theirs.eval()(x)) <= 1e-9
    net.train()(x).square().sum().backward()
    theirs.train()(x).square().sum().backward()
    grads = {name: p.grad for name, p in net.named_parameters()}
    for name, p in theirs.named_parameters():
        mine = grads[ours(name)]
        assert mine is not None
        assert p.grad is not None
        assert difference(mine, p.grad) <= 1e-9, name


@pytest.mark.oracles
def test_timm_has_the_large_networks_parameters() -> None:
    models = timm().models.nasnet
    with torch.device("meta"):
        theirs = models.nasnetalarge().state_dict()
        net = find("nasnet_a_large").build(aux=False).state_dict()
    assert {ours(name): t.shape for name, t in theirs.items()} == {name: t.shape for name, t in net.items()}
