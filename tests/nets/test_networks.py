"""What holds for every network of the catalogue, found on the meta device: built once, counted once.

Its shipped table, its claims, torch's own counter of operations, its parameters, its classes and channels, its names.
"""

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas import names, tables
from convatlas.accounting import Account, account, counted, holds
from convatlas.accounting.claims import printed_value
from convatlas.catalogue import Claim, Variant, find, variants
from convatlas.layers import ConvNet, on_meta
from tests import state_dicts


def seen(net: ConvNet, run: Callable[[Tensor], Tensor]) -> Tensor:
    assert net.input is not None
    with torch.no_grad():
        return run(torch.empty(2, *net.input, device="meta"))


@pytest.mark.parametrize("name", names())
def test_network(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variant = find(name)
    with on_meta():
        net = variant.build()
    result = account(variant)
    is_the_shipped_table(variant, result)
    assert not (changed := state_dicts.differences(variant, net)), changed
    claims_hold(variant, result)
    # batch norm multiplies no matrices and keeps shapes, and is what torch's own pass on the meta device spends time on
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: x)
    with FlopCounterMode(display=False) as counter:
        seen(net.eval(), net)
    assert 2 * (2 * result.totals.macs) == counter.get_total_flops(), "two images, two operations a multiply-add"
    assert result.totals.params + result.totals.idle == sum(p.numel() for p in net.parameters())
    assert {key.split(".")[0] for key in net.state_dict()} <= {"stem", "stages", "head", "aux"}
    with on_meta():
        other = variant.build(classes=7, channels=4)
    assert other.input is not None
    assert other.input[0] == 4
    assert seen(other.train(), other).shape == (2, 7), "logits, in training too"
    logits, aux = other.forward_aux(torch.empty(2, *other.input, device="meta"))
    assert bool(aux) == other.has_aux
    assert all(t.shape == (2, 7) for t in (logits, *aux.values()))
    the_head_is_reset(net, features_are_as_declared(net, result))


def features_are_as_declared(net: ConvNet, result: Account) -> list[Tensor]:
    """Channels and stride of each stage are those of its last row in the account, which follows receptive fields."""
    info = net.feature_info
    assert [f.name for f in info] == [name for name, _ in net.stages.named_children()]
    rows = {row.path: row for row in result.table("stage")}
    with torch.no_grad():
        maps = net.features(torch.empty(2, *net.input, device="meta"))
    for feature, made in zip(info, maps, strict=True):
        assert made.shape[:2] == (2, feature.channels)
        row = rows.get(f"stages.{feature.name}")
        if row is not None and row.shape and row.jump != (0, 0):
            assert (row.shape[0], row.jump[0]) == (feature.channels, feature.stride)
            assert row.shape == tuple(made.shape[1:])
    return maps


def the_head_is_reset(net: ConvNet, maps: list[Tensor]) -> None:
    """Seven logits, none but the features that the classifiers read, and seven again; no other tensor is touched."""
    layers = net.logits_layers
    in_head = maps and all(path.startswith(("head.", "aux.")) for path in layers)
    features = [what_it_holds(net.get_submodule(path)).shape[1] for path in layers]

    def others() -> dict[str, Tensor]:
        return {k: t for k, t in net.named_parameters() if not k.startswith(tuple(f"{path}." for path in layers))}

    before = others()
    for classes in (7, 0, 7):
        net.reset_head(classes)
        made = [net.head(maps[-1]) if in_head else seen(net, net)]
        if net.has_aux:
            assert net.input is not None
            _, aux = net.forward_aux(torch.empty(2, *net.input, device="meta"))
            made += aux.values()
        assert [t.shape for t in made] == [(2, classes or width) for width in features]
        assert net.logits_layers == layers
        after = others()
        assert after.keys() == before.keys()
        assert all(after[name] is before[name] for name in before)


def what_it_holds(layer: nn.Module) -> Tensor:
    """The weight of a final layer, or the codes of LeNet-5's."""
    return next(iter((*layer.parameters(), *layer.buffers())))


def is_the_shipped_table(variant: Variant, result: Account) -> None:
    assert tables.load(variant.name) == result, "run `make tables` and read its diff"
    record = json.loads(json.dumps(tables.index_record(variant, result)))
    assert tables.index()[variant.name] == record, "run `make tables` and read its diff"


def claims_hold(variant: Variant, result: Account) -> None:
    """Every countable claim is what we count, or carries a written gap; no other claim has one."""
    for claim in variant.claims:
        held = holds(claim, result)
        if held is None:
            assert claim.gap is None, f"{claim} is not counted, so it has no gap"
        elif claim.gap is None:
            assert held, f"{claim.where} prints {claim.what} {claim.printed}; we count {counted(claim, result):,}"
        else:
            assert not held, f"{claim} holds: its gap is to be deleted"


def test_no_table_is_left_over() -> None:
    files = {f.stem for f in tables.FOLDER.glob("*.csv")}
    assert files == set(names()) == set(tables.index())
    assert list(tables.index()) == list(variants())


def test_the_unit_of_the_last_digit() -> None:
    def unit(what: str, printed: str) -> tuple[int, int]:
        value, last = printed_value(Claim(what, printed, "here"))
        return int(value), int(last)

    assert unit("params", "25.6M") == (25_600_000, 100_000)
    assert unit("params", "60,965,224") == (60_965_224, 1)
    assert unit("gmacs", "3.8") == (3_800_000_000, 100_000_000)
    assert unit("mmacs", "569") == (569_000_000, 1_000_000)


def test_a_wrong_figure_is_noticed() -> None:
    result = tables.load("vgg16")
    assert holds(Claim("params", "138M", "Table 2"), result)
    assert not holds(Claim("params", "140M", "Table 2"), result)
    assert not holds(Claim("params", "138,357,543", "Table 2"), result)
    assert holds(Claim("top1_err", "27.0", "Table 3"), result) is None
    with pytest.raises(AssertionError, match="we count 138,357,544"):
        claims_hold(Variant("x", claims=[Claim("params", "140M", "here")]), result)
    with pytest.raises(AssertionError, match="its gap is to be deleted"):
        claims_hold(Variant("x", claims=[Claim("params", "138M", "here", gap="none")]), result)


def test_a_renamed_parameter_is_shown() -> None:
    def renamed(name: str, new: str) -> tuple[Variant, ConvNet]:
        with on_meta():
            net = find(name).build()
        head = net.head
        head.add_module(new, head.linear)
        del head.linear
        return find(name), net

    in_full = state_dicts.differences(*renamed("densenet121", "fc"))
    assert "\n-head.linear: weight 1000x1024, bias 1000\n+head.fc: weight 1000x1024, bias 1000" in in_full
    assert state_dicts.differences(*renamed("densenet169", "fc")).endswith("load\n+head.fc: weight, bias")
    assert "the numbers in them, or shapes, are others" in state_dicts.differences(
        find("densenet169"), find("densenet169").build(classes=7)
    )


def test_no_golden_is_left_over() -> None:
    assert set(state_dicts.goldens()) == set(names())
