"""The lectures' grammar: what it builds, counted by hand, and what it refuses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas.accounting import account
from convatlas.errors import UserError
from convatlas.nets.chain import Chain, by_construction, chain

LETTERS = {"Conv2d": "CONV", "ReLU": "RELU", "MaxPool2d": "POOL", "Linear": "FC"}


def spelled(net: Chain) -> list[str]:
    kinds = [type(m).__name__ for m in net.modules() if not list(m.children())]
    return [LETTERS[kind] for kind in kinds if kind in LETTERS]


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 3), m=st.integers(1, 3), k=st.integers(0, 3), pool=st.booleans(), classes=st.integers(1, 9))
def test_every_sentence_of_the_grammar(n: int, m: int, k: int, pool: bool, classes: int) -> None:
    pattern = f"[(CONV-RELU)*{n}{'-POOL' if pool else ''}]*{m}-(FC-RELU)*{k}-SOFTMAX"
    widths, hidden = [4 + i for i in range(m)], [6 + i for i in range(k)]
    net = chain(pattern, widths=widths, hidden=hidden, input=(3, 9, 8), classes=classes)
    group = ["CONV", "RELU"] * n + ["POOL"] * pool
    assert spelled(net) == group * m + ["FC", "RELU"] * k + ["FC"]
    h, w = (9 // 2**m, 8 // 2**m) if pool else (9, 8)
    params, cin = 0, 3
    for width in widths:
        for _ in range(n):
            params, cin = params + 9 * cin * width + width, width
    units = cin * h * w
    for width in [*hidden, classes]:
        params, units = params + units * width + width, width
    assert account(net, input=(3, 9, 8)).totals.params == params
    assert net.eval()(torch.zeros(2, 3, 9, 8)).shape == (2, classes)


def test_pool_with_a_question_mark_pools() -> None:
    assert spelled(chain("[(CONV-RELU)*1-POOL?]*1-SOFTMAX")) == ["CONV", "RELU", "POOL", "FC"]


@pytest.mark.parametrize(
    ("pattern", "options", "message"),
    [
        ("CONV-RELU-FC", {}, "does not match the grammar"),
        ("[(CONV-RELU)*N-POOL]*3-SOFTMAX", {}, "write numbers for N, M, K"),
        ("[(CONV-RELU)*0-POOL]*3-SOFTMAX", {}, "convs=0 gives no convolutions; give at least 1"),
        ("[(CONV-RELU)*1]*0-SOFTMAX", {}, "groups=0 gives no convolutions"),
        ("[(CONV-RELU)*1]*2-SOFTMAX", {"widths": [4]}, r"widths=\(4,\) is not 2 positive widths"),
        ("[(CONV-RELU)*1]*1-(FC-RELU)*1-SOFTMAX", {"hidden": []}, r"hidden=\(\) is not 1 positive widths"),
        (
            "[(CONV-RELU)*1-POOL]*6-SOFTMAX",
            {"input": (3, 32, 32)},
            "3x32x32 does not fit the network; the smallest .* is 3x64x64",
        ),
    ],
)
def test_what_is_refused(pattern: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        chain(pattern, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("shallow", "deep"), [(1, 2), (2, 3), (1, 6), (2, 2)])
def test_a_deeper_network_computes_the_same_by_construction(shallow: int, deep: int) -> None:
    torch.manual_seed(0)
    sizes = dict(groups=2, widths=(5, 7), hidden=(6,), input=(3, 9, 8))
    small, large = Chain(convs=shallow, **sizes), Chain(convs=deep, **sizes)  # type: ignore[arg-type]
    x = torch.randn(4, 3, 9, 8)
    assert not torch.allclose(small(x), large(x), atol=1e-3)
    assert by_construction(large, small) is large
    assert torch.allclose(small(x), large(x), atol=1e-6)
    convolutions = [m for m in large.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 2 * deep


@pytest.mark.parametrize("other", [dict(widths=(5, 8)), dict(hidden=(6, 6), fcs=2), dict(classes=3), dict(convs=1)])
def test_networks_that_differ_otherwise_are_refused(other: dict) -> None:
    sizes = dict(convs=2, groups=2, widths=(5, 7), hidden=(6,), input=(3, 9, 8))
    with pytest.raises(UserError, match="differ in more than the number of convolutions in a group"):
        by_construction(Chain(**sizes | {"convs": 3} | other), Chain(**sizes))  # type: ignore[arg-type]
