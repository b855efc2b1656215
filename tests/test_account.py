"""account(): against torch's own counter, closed forms by hand, and the promise that the network stays as it was."""

import hashlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from convatlas.account import Account, account
from convatlas.errors import UserError


class Branches(nn.Module):
    """Functional operators, a shared layer, a bare parameter and an idle head, to be counted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.bn = nn.BatchNorm2d(4)
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.fc = nn.Linear(4, 5)
        self.extra = nn.Linear(4, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.bn(self.conv(x)))
        x = x + self.conv(x)
        x = F.conv2d(x * self.scale, self.conv.weight, stride=2, groups=2)
        x = torch.cat([x, x], 1)[:, :4]
        return self.fc(x.mean((2, 3)))


def flops(net: nn.Module, *shape: int) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net.eval()(torch.zeros(shape))
    return counter.get_total_flops()


def test_by_hand() -> None:
    counted = account(Branches(), input=(4, 9, 9), batch=3)
    conv = 3 * 81 * 4 * 2 * 9  # images x positions x filters x channels a filter sees x kernel
    strided = 3 * 16 * 4 * 2 * 9
    assert counted.totals.macs == 2 * conv + strided + 3 * 4 * 5
    assert counted.totals.weights == 4 * 2 * 9 + 4 + 4 + 4 * 5
    assert counted.totals.biases == 4 + 4 + 5
    assert dict(counted.idle) == {"extra": 4 * 7 + 7}
    assert not counted.uncounted
    assert counted.totals.macs * 2 == flops(Branches(), 3, 4, 9, 9)
    assert [r.params for r in counted.rows if r.path == "conv"] == [4 * 2 * 9 + 4, 0]  # shared: its parameters once
    values = 3 * (4 * 81 + 4 * 81 + 4 * 81 + 4 * 16 + 8 * 16 + 4 + 5)  # input, conv, conv, conv, cat, mean, linear
    assert counted.totals.activations == values


def test_the_network_stays_as_it_was() -> None:
    net = Branches()
    net.bn.eval()  # a mixed mode, to be kept

    def state() -> str:
        parts = [(k, v.numpy().tobytes()) for k, v in net.state_dict().items()]
        modes = [(k, m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for k, m in net.named_modules()]
        return hashlib.sha256(repr((parts, modes, torch.get_rng_state().numpy().tobytes())).encode()).hexdigest()

    before = state()
    account(net, input=(4, 9, 9))
    assert state() == before
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_an_unknown_operator_is_confessed() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(x, 1)

    assert account(Odd(), input=(3, 4, 4)).uncounted == ("Odd: aten.cumsum",)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Conv2d(3, 6, (3, 5), (2, 1), (1, 2), bias=False), (3, 17, 13)),
        (nn.ConvTranspose2d(3, 6, 4, 2, 1), (3, 7, 8)),
        (nn.Conv1d(3, 6, 3, dilation=2), (3, 20)),
        (nn.Conv3d(2, 4, 3, padding=1), (2, 5, 6, 7)),
        (nn.Linear(8, 5), (4, 8)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_macs_are_half_of_torchs_flops(module: nn.Module, shape: tuple[int, ...]) -> None:
    assert 2 * account(module, input=shape, batch=2).totals.macs == flops(module, 2, *shape)


def test_levels_keep_the_sums() -> None:
    counted = account(Branches(), input=(4, 9, 9))
    for level in ("leaf", "layer", "block", "stage"):
        rows = counted.table(level)
        assert sum(r.macs for r in rows) == counted.totals.macs
        assert sum(r.params for r in rows) == counted.totals.params
    with pytest.raises(UserError, match="no level named 'blocks'; did you mean block"):
        counted.table("blocks")


def test_json_keeps_everything() -> None:
    import json

    counted = account(Branches(), input=(4, 9, 9))
    assert Account.from_json(json.loads(json.dumps(counted.to_json()))) == counted


def test_bad_requests() -> None:
    with pytest.raises(UserError, match="does not say what images it takes; give input="):
        account(nn.Conv2d(3, 4, 3))
    with pytest.raises(UserError, match="batch=0 is not a count; give a whole number of at least 1"):
        account(Branches(), input=(4, 9, 9), batch=0)
    with pytest.raises(UserError, match="a built network takes no options such as 'classes'"):
        account(Branches(), input=(4, 9, 9), classes=3)
    with pytest.raises(UserError, match="no network named 'resnet5O'; did you mean .*resnet50"):
        account("resnet5O")
