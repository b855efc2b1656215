"""Stochastic depth: the survival rule, what a dropped block leaves undone, and the share of arithmetic that saves."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.layers import ConvNet
from convatlas.nets import resnet, stochastic_depth
from convatlas.nets.resnet import BasicBlock
from convatlas.nets.stochastic_depth import BlockDrop, PooledShortcut, StochasticBlock

ROWS = {v.name: v for v in (*stochastic_depth.VARIANTS, *resnet.VARIANTS)}


def build(name: str, **options: object) -> ConvNet:
    return ROWS[name].build(**options)


def blocks(net: nn.Module) -> dict[str, StochasticBlock]:
    return {name: m for name, m in net.named_modules() if isinstance(m, StochasticBlock)}


@pytest.mark.parametrize(("name", "count"), [("stochastic_depth_resnet110", 54), ("stochastic_depth_resnet152", 50)])
def test_survival_decays_linearly_to_one_half(name: str, count: int) -> None:
    with torch.device("meta"):
        survival = [1 - b.drop.p for b in blocks(build(name)).values()]
    assert len(survival) == count
    assert survival == pytest.approx([1 - l / count * 0.5 for l in range(1, count + 1)])  # noqa: E741
    assert sum(survival) == pytest.approx((3 * count - 1) / 4)  # section 3: 40.25 blocks of 54


def test_the_rule_is_followed_at_any_survival_and_depth() -> None:
    drops = [b.drop.p for b in blocks(build("stochastic_depth_resnet110", depth=8, survival=0.7)).values()]
    assert drops == pytest.approx([0.1, 0.2, 0.3])


def test_a_dropped_block_computes_nothing_of_its_branch() -> None:
    block = StochasticBlock(BasicBlock(4, 4), drop=1.0)
    ran: list[nn.Module] = []
    for m in block.branch.modules():
        m.register_forward_hook(lambda m, *_: ran.append(m))
    before = {k: t.clone() for k, t in block.state_dict().items()}
    x = torch.randn(3, 4, 5, 5, requires_grad=True)
    y = block(x)
    y.sum().backward()
    assert ran == []
    assert torch.equal(y, x.relu())  # the shortcut, for every image of the batch
    assert all(torch.equal(t, before[k]) for k, t in block.state_dict().items())  # batch norm has seen nothing
    assert all(p.grad is None for p in block.branch.parameters())


def test_a_whole_batch_is_dropped_or_none_of_it() -> None:
    torch.manual_seed(0)
    block = StochasticBlock(BasicBlock(4, 4), drop=0.5)
    x = torch.randn(8, 4, 5, 5).relu()
    outcomes = set()
    for _ in range(40):
        outcomes.add(tuple(torch.equal(a, b) for a, b in zip(block(x), x, strict=True)))
    assert outcomes == {(True,) * 8, (False,) * 8}


def test_a_block_that_survives_is_not_scaled_in_training_and_is_at_test() -> None:
    torch.manual_seed(0)
    block = StochasticBlock(BasicBlock(4, 4), drop=0.25)
    x = torch.randn(2, 4, 5, 5)
    block.eval()
    assert torch.allclose(block(x), (0.75 * block.branch(x) + x).relu())
    block.train()
    y, full = x.relu(), (block.branch(x) + x).relu()
    while torch.equal(y, x.relu()):
        y = block(x)
    assert torch.equal(y, full)


def test_the_frequency_of_dropping() -> None:
    torch.manual_seed(0)
    drop = BlockDrop(0.3)
    assert sum(drop.closed() for _ in range(5000)) / 5000 == pytest.approx(0.3, abs=0.03)
    assert not any(drop.eval().closed() for _ in range(50))


def shares(name: str) -> dict[str, float]:
    """Each block's branch, as a share of the network's multiply-accumulates."""
    counted = account(ROWS[name])
    with torch.device("meta"):
        names = blocks(build(name))
    return {
        b: sum(r.macs for r in counted.rows if r.path.startswith(f"{b}.branch.")) / counted.totals.macs for b in names
    }


def test_the_share_of_arithmetic_skipped() -> None:
    share = shares("stochastic_depth_resnet110")
    net = build("stochastic_depth_resnet110")
    named = blocks(net)
    expected = sum(share[b] * m.drop.p for b, m in named.items())
    deviation = sum(share[b] ** 2 * m.drop.p * (1 - m.drop.p) for b, m in named.items()) ** 0.5
    assert expected == pytest.approx(0.25, abs=0.01)  # about a quarter of the training time (section 4)

    done = 0.0

    def count(name: str) -> None:
        nonlocal done
        done += share[name]

    for b, m in named.items():
        m.branch.register_forward_hook(lambda *_, b=b: count(b))
    torch.manual_seed(0)
    passes, x = 100, torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        for _ in range(passes):
            net(x)
    skipped = sum(share.values()) - done / passes
    assert skipped == pytest.approx(expected, abs=4 * deviation / passes**0.5)


def test_what_is_skipped_is_not_executed() -> None:
    with torch.device("meta"):
        net = build("stochastic_depth_resnet110", survival=0.2).train()
    total = account(ROWS["stochastic_depth_resnet110"]).totals.macs
    share = shares("stochastic_depth_resnet110")
    ran: list[str] = []
    for b, m in blocks(net).items():
        m.branch.register_forward_hook(lambda *_, b=b: ran.append(b))
    torch.manual_seed(0)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        net(torch.empty(1, 3, 32, 32, device="meta"))
    dropped = set(share) - set(ran)
    assert len(dropped) > 10
    assert flops.get_total_flops() == 2 * round(total * (1 - sum(share[b] for b in dropped)))


def test_with_certain_survival_it_is_resnet() -> None:
    torch.manual_seed(0)
    net, other = build("stochastic_depth_resnet152", depth=18, survival=1.0), build("resnet18")
    other.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 40, 40)
    for a, b in ((net.train(), other.train()), (net.eval(), other.eval())):
        assert torch.equal(a(x), b(x))


def test_cifar_shortcuts_pool_and_pad() -> None:
    x = torch.tensor([[[[1.0, 3, 5], [5, 7, 9], [2, 4, 6]]]])
    y = PooledShortcut(1, 3, 2)(x)
    assert y.shape == (1, 3, 2, 2)
    assert torch.equal(y[0, 0], torch.tensor([[4.0, 7], [3, 6]]))  # the last row and column have what there is
    assert not y[0, 1:].any()
    kinds = {type(b.shortcut) for b in blocks(build("stochastic_depth_resnet110")).values()}
    assert kinds == {nn.Identity, PooledShortcut}


@pytest.mark.parametrize("name", ["stochastic_depth_resnet110", "stochastic_depth_resnet152"])
def test_every_parameter_learns_with_drops_off(name: str) -> None:
    torch.manual_seed(0)
    options = dict(depth=20) if "110" in name else dict(depth=50)
    net = build(name, classes=5, channels=4, input=(4, 37, 33), **options)
    for m in net.modules():
        if isinstance(m, nn.Dropout):
            m.p = 0.0
    loss = nn.functional.cross_entropy(net(torch.randn(4, 4, 37, 33)), torch.tensor([0, 1, 2, 3]))
    loss.backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_it_trains_with_blocks_dropped() -> None:
    torch.manual_seed(0)
    net = build("stochastic_depth_resnet110", depth=20, survival=0.2)
    for _ in range(3):
        net.zero_grad()
        net(torch.randn(4, 3, 16, 16)).square().sum().backward()
        for b in blocks(net).values():
            grads = {p.grad is None for p in b.branch.parameters()}
            assert len(grads) == 1  # a block has all its gradients or none
    assert net.get_parameter("stem.conv1.conv.weight").grad.abs().max() > 0


def test_options_that_do_not_fit_are_refused() -> None:
    for survival in (0, 1.5, -0.1):
        with pytest.raises(
            UserError, match=f"survival={survival} is not a probability; give one above 0 and at most 1"
        ):
            build("stochastic_depth_resnet110", survival=survival)
    with pytest.raises(UserError, match="no depth named '200'; choose from 18, 34, 50, 101, 152"):
        build("stochastic_depth_resnet152", depth=200)
    with pytest.raises(UserError, match=r"depth=111 is not 6n \+ 2"):
        build("stochastic_depth_resnet110", depth=111)
