"""FractalNet: the expansion rule, drop-path plans, columns alone, and parameters worked by hand."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.nets.fractalnet import VARIANTS, FractalBlock, FractalNet, Plan, drop_path_plan, ending, only, whole

ROWS = {v.name: v for v in VARIANTS}
SMALL = (8, 12)


def small(columns: int = 3, **options: object) -> FractalNet:
    """Two blocks in float64, with statistics away from 0 and 1."""
    torch.manual_seed(0)
    net = FractalNet(columns, SMALL, **{"dropouts": (0.0, 0.1)} | options).double()  # type: ignore[arg-type]
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2)
    return net


def images(size: int = 9) -> Tensor:
    return torch.randn(3, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def expand(block: FractalBlock, column: int, start: int, z: Tensor) -> list[Tensor]:
    """What f_(C+1)(z) = join(f_C(f_C(z)), conv(z)) gives its join, joins that meet made one."""
    span = 2 ** (block.columns - column)
    conv = [block.unit(column, start + span)(z)]
    if column == block.columns:
        return conv
    half = torch.stack(expand(block, column + 1, start, z)).mean(0)
    return expand(block, column + 1, start + span // 2, half) + conv


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_the_expansion_rule(columns: int) -> None:
    net = small(columns).eval()
    x = images()
    y = net.stem(x)
    for block in net.blocks:
        y = torch.stack([block.pool(z) for z in expand(block, 1, 0, y)]).mean(0)
    assert torch.allclose(net(x), net.head(y), rtol=1e-12, atol=1e-12)


def test_depth_is_blocks_times_two_to_the_columns() -> None:
    for name, deepest in {"fractalnet_20": 20, "fractalnet_40": 40, "fractalnet_160_narrow": 160}.items():
        with torch.device("meta"):
            net = ROWS[name].build()
        longest = sum(len(getattr(block, f"column{net.columns}")) for block in net.stages)
        assert longest == deepest == 5 * 2 ** (net.columns - 1)


def test_parameters_by_hand() -> None:
    """A block of C columns has 2^C - 1 convolutions, C of which read the block before."""
    for name, columns, widths, classes in (
        ("fractalnet_20", 3, (64, 128, 256, 512, 512), 10),
        ("fractalnet_80_narrow", 5, (16, 32, 64, 128, 128), 100),
    ):
        total, cin = 0, 3
        for w in widths:
            total += columns * (9 * cin * w + w) + (2**columns - 1 - columns) * (9 * w * w + w)
            cin = w
        total += cin * classes + classes
        assert account(ROWS[name]).totals.params == total
    assert account(ROWS["fractalnet_20"], classes=100).totals.params == 33_760_484


def test_thin_columns_by_hand() -> None:
    """f(cin=3 -> 8 and 4 maps): convolutions of 8; 4, 4; the last widened to 8."""
    net = FractalNet(2, (8,), thin=True, dropouts=(0.0,), classes=1)
    block = (27 * 8 + 8) + (27 * 4 + 4) + (9 * 4 * 4 + 4) + (4 * 8 + 8)
    assert sum(p.numel() for p in net.parameters()) == block + 8 + 1


def test_joins_are_where_columns_meet() -> None:
    assert [ending(4, row) for row in range(1, 9)] == [
        (4,), (3, 4), (4,), (2, 3, 4), (4,), (3, 4), (4,), (1, 2, 3, 4),
    ]  # fmt: skip


def test_a_plan_is_of_its_seed_and_step() -> None:
    assert drop_path_plan(5, 4, 7, 11) == drop_path_plan(5, 4, 7, 11)
    assert len({drop_path_plan(5, 4, 7, step) for step in range(40)}) > 20
    assert drop_path_plan(5, 4, 8, 11) != drop_path_plan(5, 4, 7, 11)
    # golden: the same on every machine and in every version
    assert drop_path_plan(2, 2, seed=0, step=1) == GOLDEN_GLOBAL
    assert drop_path_plan(2, 3, seed=0, step=4) == GOLDEN_LOCAL


GOLDEN_GLOBAL = Plan((((), (1,)), ((), (1,))))
GOLDEN_LOCAL = Plan((((3,), (2,), (3,), (2,)), ((3,), (2, 3), (3,), (1, 2, 3))))


def test_half_the_plans_are_global_and_the_others_drop_as_asked() -> None:
    blocks, columns = 5, 3
    plans = [drop_path_plan(blocks, columns, 0, step) for step in range(4000)]
    singles = {only(blocks, columns, c): c for c in range(1, columns + 1)}
    alive = Counter(singles[p] for p in plans if p in singles)
    assert sum(alive.values()) / len(plans) == pytest.approx(0.5, abs=0.03)
    assert all(n / sum(alive.values()) == pytest.approx(1 / columns, abs=0.03) for n in alive.values())

    kept = of = 0
    for plan in plans:
        if plan in singles:
            continue
        for block in plan.kept:
            for row, columns_kept in enumerate(block, 1):
                inputs = ending(columns, row)
                assert columns_kept
                assert set(columns_kept) <= set(inputs)
                if len(inputs) == 3:
                    kept, of = kept + len(columns_kept), of + 3
                if len(inputs) == 1:
                    assert columns_kept == inputs
    # an input is dropped with probability 0.15, but for the rescue of one where all three would be
    assert 1 - kept / of == pytest.approx(0.15 - 0.15**3 / 3, abs=0.01)
    assert drop_path_plan(2, 3, 0, 0, local=0.0, global_share=0.0) == whole(2, 3)


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("column", [1, 2, 3])
def test_a_column_alone_is_the_extracted_network(column: int, thin: bool) -> None:
    net = small(3, thin=thin, dropouts=(0.0, 0.0))
    plan, plain = only(2, 3, column), net.column(column)
    convs = [m for m in plain.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
    assert len(convs) == 2 * 2 ** (column - 1)
    x = images()

    def logits_of() -> Tensor:
        return net.head(net.planned(x, plan)[-1])

    net.eval(), plain.eval()
    assert torch.equal(logits_of(), plain(x))
    net.train(), plain.train()  # batch statistics
    logits, alone = logits_of(), plain(x)
    assert torch.equal(logits, alone)
    logits.square().sum().backward()
    alone.square().sum().backward()
    trained = [p.grad for p in net.parameters() if p.grad is not None]
    assert len(trained) == len(list(plain.parameters()))
    assert all(torch.equal(a, b.grad) for a, b in zip(trained, plain.parameters(), strict=True) if b.grad is not None)


def test_a_join_is_the_mean_of_what_is_left() -> None:
    net = small(2).eval()
    block = net.blocks[0]
    x = images()
    shallow, deep = block(x, ((2,), (1,))), block(x, ((2,), (2,)))
    assert torch.allclose(block(x), (shallow + deep) / 2)
    assert not torch.allclose(shallow, deep)


def test_dropped_paths_are_not_computed() -> None:
    with torch.device("meta"):
        net = ROWS["fractalnet_20"].build().eval()
        x = torch.empty(1, 3, 32, 32)
    counts = []
    for plan in (whole(5, 3), *(only(5, 3, c) for c in (1, 2, 3))):
        with FlopCounterMode(display=False) as counter:
            net.planned(x, plan)
        counts.append(counter.get_total_flops() // 2)
    everything, *alone = counts
    assert everything == 845_222_912 - 512 * 10, "all but the head's"
    assert sum(alone) == everything  # each convolution is in one column


def test_training_drops_and_evaluation_does_not() -> None:
    net = small(3, dropouts=(0.0, 0.0))
    x = images()
    torch.manual_seed(3)
    first, others = net(x), [net(x) for _ in range(6)]
    assert any(not torch.equal(first, y) for y in others)
    torch.manual_seed(3)
    assert torch.equal(first, net(x))
    still = small(3, dropouts=(0.0, 0.0), drop_path=0.0)
    for undropped in (still, net.eval()):
        maps = undropped.planned(x, whole(2, 3))
        assert torch.equal(undropped(x), undropped.head(maps[-1]))


def test_imagenet_sizes() -> None:
    stages = {r.path: r.shape for r in account(ROWS["fractalnet_34"]).table("stage")}
    assert list(stages.values())[:5] == [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7), (1024, 7, 7)]


def test_wrong_options() -> None:
    with pytest.raises(UserError, match=r"there is no column 4; give one of 1 ... 3"):
        small().column(4)
    with pytest.raises(UserError, match="columns=0 leaves no path through a block; give at least 1"):
        FractalNet(0, (8,), dropouts=(0.0,))
    with pytest.raises(UserError, match=r"dropouts=\(0.0,\) has 1 rates; give one for each of 2 blocks"):
        small(dropouts=(0.0,))
    with pytest.raises(UserError, match="the smallest square that does is 3x32x32"):
        ROWS["fractalnet_5_narrow"].build(input=(3, 31, 31))


def test_xavier_initialisation() -> None:
    torch.manual_seed(0)
    weight = ROWS["fractalnet_20_narrow"].build().stages.block4.column1.conv1.conv.weight
    assert weight.std().item() == pytest.approx((1 / (9 * 64)) ** 0.5, rel=0.02)
    assert weight.abs().max().item() <= (3 / (9 * 64)) ** 0.5
