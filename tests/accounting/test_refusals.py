"""Whatever goes wrong in a forward pass is said in one sentence, by account() and memory() alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convatlas.accounting import account
from convatlas.accounting.memory.predict import memory
from convatlas.errors import UserError


class Does(nn.Module):
    def __init__(self, does: Callable[..., Any]):
        super().__init__()
        self.does, self.fc = does, nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Any:
        return self.does(self.fc(x))


def positive(x: Tensor) -> Tensor:
    assert x.shape[1] == 5, "five are wanted"
    return x


def bare(x: Tensor) -> Tensor:
    assert x.shape[1] == 5
    return x


def leaves(x: Tensor) -> Tensor:
    raise SystemExit(3)


BRANCHES = r"it branches on tensor values, which are not computed here \(test_refusals.py line \d+\); count the modules"
REFUSED: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "if": (lambda x: x if x.sum() > 0 else -x, BRANCHES),
    "item": (lambda x: x * x.sum().item(), BRANCHES),
    "int": (lambda x: x[: int(x.sum())], BRANCHES),
    "tolist": (lambda x: x * x.tolist()[0][0], BRANCHES),
    "equal": (lambda x: x if torch.equal(x, x) else -x, BRANCHES),
    "allclose": (lambda x: x if torch.allclose(x, x) else -x, BRANCHES),
    "a mask": (
        lambda x: x[x > 0],
        r"what nonzero returns depends on tensor values, which are not computed here \(test_r",
    ),
    "nonzero": (lambda x: x.nonzero() * x.sum(), "what nonzero returns depends on tensor values"),
    "unique": (lambda x: torch.unique(x), "what _unique2 returns depends on tensor values"),
    "numpy": (
        lambda x: torch.from_numpy(x.detach().numpy()),
        r"it makes a NumPy array of a tensor, which has no values",
    ),
    "an assertion": (positive, r"an assertion fails \(test_refusals.py line \d+\): five are wanted"),
    "a bare assertion": (bare, r"an assertion fails \(test_refusals.py line \d+\)(: assert 8 == 5)?$"),
    "a key": (lambda x: {}["a"], r"KeyError \(test_refusals.py line \d+\): 'a'"),
    "an attribute": (lambda x: x.nothing, r"AttributeError \(test_refusals.py line \d+\): "),
    "a type": (lambda x: None + x, r"TypeError \(test_refusals.py line \d+\): unsupported operand"),
    "exit": (leaves, r"SystemExit \(test_refusals.py line \d+\): 3"),
    "sizes": (lambda x: x @ x.new_zeros(5, 5), ".* must have same reduction dim"),
}


@pytest.mark.parametrize("counts", [account, memory])
@pytest.mark.parametrize("what", REFUSED)
def test_why_it_does_not_run(what: str, counts: Callable[..., Any]) -> None:
    does, why = REFUSED[what]
    net = Does(does)
    before = [net.fc.weight, net.fc.bias]
    with pytest.raises(UserError, match=rf"Does does not run on input (1|32)x8: (the size of )?{why}") as refused:
        counts(net, (8,))
    assert "\n" not in str(refused.value)
    assert [net.fc.weight, net.fc.bias] == before or all(a is b for a, b in zip(net.fc.parameters(), before))


@pytest.mark.parametrize("counts", [account, memory])
@pytest.mark.parametrize(
    ("net", "input", "why"),
    [
        (nn.Bilinear(8, 8, 8), (8,), "missing 1 required positional argument: 'input2'; describe every argument"),
        (nn.Linear(8, 8), [(8,), (8,)], "takes 2 positional arguments but 3 were given; describe every argument"),
        (nn.Linear(8, 8), [(8,), {"y": 3}], "takes 2 positional arguments but 3 were given; describe every argument"),
    ],
)
def test_missing_arguments(net: nn.Module, input: Any, why: str, counts: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=f"{type(net).__name__} does not run on input .*: .*{why}"):
        counts(net, input)


def test_what_is_wrong_within_is_not_the_input_s_fault() -> None:
    with pytest.raises(UserError, match=r"TypeError \(test_refusals.py line \d+\): .*input2'$"):
        account(Does(lambda x: nn.Bilinear(8, 8, 8)(x)), (8,))
