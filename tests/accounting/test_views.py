"""What is written through a view is read in the whole tensor, and in every other view of it; in inference mode, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from convatlas.accounting import Account, account
from convatlas.accounting.counters.reconcile import reconcile
from convatlas.accounting.layer_graph import layer_graph


class Between(nn.Module):
    """A function between two convolutions."""

    def __init__(self, does: Callable[[Tensor], Tensor]):
        super().__init__()
        self.does = does
        self.one, self.two = nn.Conv2d(3, 8, 3, bias=False), nn.Conv2d(8, 4, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.two(self.does(self.one(x)))


def shift(x: Tensor) -> Tensor:
    o = torch.zeros_like(x)
    o[:, :2, 1:] = x[:, :2, :-1]
    o[:, 2:4, :-1] = x[:, 2:4, 1:]
    o[:, 4:] = x[:, 4:]
    return o


def shift_one_way(x: Tensor) -> Tensor:
    o = x.new_zeros(x.shape)
    o[:, :, :, 2:] = x[:, :, :, :-2]
    return o


def shift_over_a_copy(x: Tensor) -> Tensor:
    o = x.clone()
    o[:, :2, 1:] = x[:, :2, :-1]
    return o


def add_to_a_part(x: Tensor) -> Tensor:
    o = x.clone()
    o[:, :4].narrow(2, 3, 5).add_(x[:, :4, :5])
    return o


def written_after_the_view(x: Tensor) -> Tensor:
    o = torch.zeros_like(x)
    late = o[:, :, :-1, :]
    o[:, :, 1:] = x[:, :, :-1]
    return late.relu()


def between_views(x: Tensor) -> Tensor:
    o = torch.zeros_like(x)
    odd, even = o[:, :, 1:], o[:, :, :-1]
    odd.copy_(x[:, :, :-1])
    return even * 2


def every_other(x: Tensor) -> Tensor:
    o = x.new_empty(x.shape[0], x.shape[1], 2 * x.shape[2], x.shape[3])
    o[:, :, ::2] = x
    o[:, :, 1::2] = x
    return o[:, :, ::2]


def into_out(x: Tensor) -> Tensor:
    o = torch.empty_like(x)
    torch.mul(x, 2, out=o[:, :, :])
    return o


FIELDS = {  # function: size, and the last map's top and left pixel
    shift: ((7, 5), (-1, 0)),
    shift_one_way: ((5, 5), (0, -2)),
    shift_over_a_copy: ((6, 5), (-1, 0)),
    add_to_a_part: ((8, 5), (-3, 0)),
    written_after_the_view: ((5, 5), (-1, 0)),
    between_views: ((5, 5), (-1, 0)),
    into_out: ((5, 5), (0, 0)),
}


def counted(does: Callable[[Tensor], Tensor]) -> Account:
    net = Between(does)
    found = account(net, (3, 16, 16), strict=True)
    assert found.depth == 2
    costs = [r.macs for r in found.rows if r.macs]
    assert found.totals.backward_macs == costs[0] + 2 * costs[1], "the first needs no gradient of the image"
    assert (-1, 0) in {(e.source, e.target) for e in layer_graph(found).edges}
    return found


@pytest.mark.parametrize("does", FIELDS, ids=lambda does: does.__name__)
def test_what_is_written_through_views_is_seen(does: Callable[[Tensor], Tensor]) -> None:
    last = counted(does).rows[-1]
    assert (last.receptive_field, last.start) == FIELDS[does]
    assert last.exact


@pytest.mark.parametrize("does", [f for f in FIELDS if f is not into_out], ids=lambda does: does.__name__)
def test_fields_contain_every_pixel_that_has_a_gradient(does: Callable[[Tensor], Tensor]) -> None:
    last = counted(does).rows[-1]
    net, image = Between(does), torch.rand(1, 3, 16, 16, requires_grad=True)
    net(image)[0, :, 5, 5].sum().backward()
    assert image.grad is not None
    rows = image.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    columns = image.grad.abs().sum((0, 1, 2)).nonzero().flatten()
    for seen, size, start in zip((rows, columns), last.receptive_field, last.start, strict=True):
        assert (int(seen[0]), len(seen)) == (start + 5, size)


def test_other_counters_are_explained_where_views_are_written() -> None:
    found = reconcile(Between(shift), (3, 16, 16))
    assert {r.macs for r in found.values()} == {account(Between(shift), (3, 16, 16)).totals.macs}


def test_rows_between_others_are_a_bound() -> None:
    last = counted(every_other).rows[-1]
    assert not last.exact


def test_only_what_is_returned_leads_to_the_output() -> None:
    def aside(x: Tensor) -> Tensor:
        x[:, :, 1:].mean()
        return x

    graph = layer_graph(account(nn.Sequential(Between(aside)), (3, 16, 16)), "leaf")
    assert [e.source for e in graph.edges if e.target == len(graph.rows)] == [len(graph.rows) - 1]


class Inferring(nn.Module):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def test_inference_mode_hides_no_operator() -> None:
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(), nn.AdaptiveAvgPool2d(2)
    )
    net = nn.Sequential(body, nn.Flatten(), nn.Linear(32, 8), nn.Unflatten(1, (2, 4)), nn.LSTM(4, 6, batch_first=True))
    plain = account(net, (3, 8, 8), strict=True)
    inside = account(Inferring(net), (3, 8, 8), strict=True)
    assert inside.totals == replace(plain.totals, backward_macs=0), "it takes no gradients"
    assert [(r.op, r.macs, r.shape, r.receptive_field) for r in inside.rows] == [
        (r.op, r.macs, r.shape, r.receptive_field) for r in plain.rows
    ]
    attention = nn.MultiheadAttention(8, 2, batch_first=True)

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = attention

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    inside, plain = account(Inferring(Attends()), (5, 8), strict=True), account(Attends(), (5, 8), strict=True)
    assert inside.totals == replace(plain.totals, backward_macs=0)
