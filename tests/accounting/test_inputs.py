"""What networks are called with, and the tensors that they make themselves: account() and memory() take the same."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from convatlas.accounting import account
from convatlas.accounting.inputs import meta_inputs
from convatlas.accounting.memory.predict import memory
from convatlas.errors import UserError


class Does(nn.Module):
    """A linear layer of 64 multiply-adds, a GRU, an LSTM and tensors that are no buffers; what is done with them."""

    def __init__(self, does: Callable[..., Any]):
        super().__init__()
        self.does, self.fc = does, nn.Linear(8, 8)
        self.mean, self.few, self.kept = torch.ones(8), torch.tensor(4), list[Tensor]()

    def forward(self, x: Tensor) -> Any:
        return self.does(self, x)


class Recurrent(Does):
    def __init__(self, does: Callable[..., Any]):
        super().__init__(does)
        self.gru, self.lstm = nn.GRU(8, 8, batch_first=True), nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)


def written(m: Does, x: Tensor) -> Tensor:
    out = torch.zeros(len(x), 8)
    out[:, :4] = m.fc(x)[:, :4]
    return m.fc(out)


def cached(m: Does, x: Tensor) -> Tensor:
    m.kept.append(m.fc(x).detach())
    return m.fc(x) + m.kept[0] + m.mean


MIXED: dict[str, tuple[Callable[[Any, Tensor], Any], int]] = {  # what is done; multiply-adds
    "a tensor that is no buffer": (lambda m, x: m.fc(x - m.mean), 64),
    "torch.tensor": (lambda m, x: m.fc(x * torch.tensor([1.0, 2.0] * 4)), 64),
    "torch.zeros": (lambda m, x: m.fc(x + torch.zeros(1, 8)), 64),
    "triu of ones": (lambda m, x: m.fc(x).masked_fill(torch.triu(torch.ones(8, 8), 1)[:1].bool(), 0.0), 64),
    "from NumPy": (lambda m, x: m.fc(x) * torch.from_numpy(np.ones(8, dtype=np.float32)), 64),
    "to the CPU": (lambda m, x: m.fc(x.to("cpu")).cpu(), 64),
    "on the device": (lambda m, x: m.fc(x) + torch.zeros(8, device=x.device), 64),
    "written into": (written, 128),
    "kept": (cached, 128),
    "its own constants": (lambda m, x: (m.fc(x) - m.mean)[:, : int(m.few)], 64),
    "a constant's value": (lambda m, x: m.fc(x) * torch.tensor(2.0).item(), 64),
    "a distribution": (lambda m, x: torch.distributions.Normal(m.fc(x), 1.0 + m.fc(x).exp()).rsample(), 128),
}
SEQUENCES: dict[str, tuple[Callable[[Any, Tensor], Any], int]] = {
    "GRU": (lambda m, x: m.gru(x, torch.zeros(1, len(x), 8))[0], 5 * 3 * 128),
    "LSTM": (lambda m, x: m.lstm(x, (torch.zeros(1, len(x), 8), torch.zeros(1, len(x), 8)))[0], 5 * 4 * 128),
    "masked attention": (
        lambda m, x: m.attention(x, x, x, attn_mask=torch.triu(torch.ones(5, 5), 1).bool())[0],
        5 * 4 * 64 + 2 * 5 * 5 * 8,
    ),
    "attention by a function": (lambda m, x: m.fc(F.scaled_dot_product_attention(x, x, x + m.mean)), 5 * 64 + 400),
}


@pytest.mark.parametrize("what", [*MIXED, *SEQUENCES])
def test_what_makes_tensors_itself(what: str) -> None:
    does, macs = {**MIXED, **SEQUENCES}[what]
    net = (Recurrent if what in SEQUENCES else Does)(does)
    shape = (5, 8) if what in SEQUENCES else (8,)
    mean, few = net.mean, net.few
    counted = account(net, shape, batch=3)
    assert (counted.totals.macs, counted.uncounted) == (3 * macs, ())
    assert memory(net, shape, batch=3).training.of(3) > 0
    assert (net.mean is mean, net.few is few, net.kept, mean.tolist(), few.item()) == (True, True, [], [1.0] * 8, 4)
    assert torch.distributions.Normal(torch.zeros(1), 1.0)._validate_args, "checked again"
    made = net(torch.zeros(3, *shape))
    assert made.device.type == "cpu", "it still runs"


Pair = namedtuple("Pair", "one other")


class TakesDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, batch: Any, scale: float = 1.0) -> Tensor:
        one, other = batch if isinstance(batch, Pair) else (batch["one"], batch["other"])
        return self.fc(one * scale) + self.fc(other)


@pytest.mark.parametrize(
    "input",
    [
        {"one": (8,), "other": (8,)},
        {"one": (8,), "other": torch.zeros(3, 8)},
        [{"one": (8,), "other": torch.zeros(3, 8)}],
        [{"one": (8,), "other": (8,)}, 2.0],
        {"batch": {"one": (8,), "other": (8,)}, "scale": 2.0},
        Pair((8,), (8,)),
        [Pair((8,), torch.zeros(3, 8))],
        {"batch": Pair((8,), (8,))},
    ],
    ids=["dict", "with a tensor", "in a list", "and a number", "by name", "namedtuple", "in a list", "by name"],
)
def test_structured_arguments(input: Any) -> None:
    counted = account(TakesDict(), input, batch=3)
    assert (counted.totals.macs, counted.input, counted.input_values) == (3 * 128, ((8,), (8,)), 3 * 16)
    if not any(isinstance(t, Tensor) for t in tree_leaves(input)):  # of one length
        assert memory(TakesDict(), input, batch=3).images.of(3) >= 3 * 16 * 4


def test_names_that_forward_has_are_arguments_by_name() -> None:
    class Both(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return x if mask is None else x * mask

    assert meta_inputs(Both(), {"x": (8,)}, 1)[0] == ()
    assert meta_inputs(Both(), {"x": (8,), "mask": (8,)}, 1)[1].keys() == {"x", "mask"}
    assert meta_inputs(Both(), {"image": (8,)}, 1)[0][0].keys() == {"image"}
    with pytest.raises(UserError, match="input 'large' is not an image size"):
        meta_inputs(Both(), "large", 1)
