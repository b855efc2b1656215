"""What holds for every network of the catalogue."""

from functools import cache

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from convatlas.account import account
from convatlas.catalogue import find, names
from convatlas.layers import ConvNet

LARGE = 3e9  # multiply-adds of a forward pass above which running it for real is slow
fresh = cache(account)


def on_meta(name: str, **options: int) -> ConvNet:
    with torch.device("meta"):
        return find(name).build(**options)


@pytest.mark.parametrize("name", names())
def test_macs_are_half_of_torchs_flops(name: str) -> None:
    net = on_meta(name).eval()
    assert net.input is not None
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, *net.input, device="meta"))
    assert 2 * fresh(name).totals.macs == counter.get_total_flops()


@pytest.mark.parametrize("name", names())
def test_parameters_are_all_counted(name: str) -> None:
    totals = fresh(name).totals
    assert totals.params + totals.idle == sum(p.numel() for p in on_meta(name).parameters())


@pytest.mark.parametrize("name", names())
def test_classes_and_channels(name: str) -> None:
    for channels in (1, 4):
        net = on_meta(name, classes=7, channels=channels).eval()
        assert net.input is not None
        assert net.input[0] == channels
        assert net(torch.empty(2, *net.input, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("name", names())
def test_training_forward_gives_logits_too(name: str) -> None:
    net = on_meta(name).train()
    assert net.input is not None
    out = net(torch.empty(2, *net.input, device="meta"))
    assert out.shape == (2, find(name).options["classes"])


@pytest.mark.parametrize("name", names())
def test_state_names_are_readable(name: str) -> None:
    keys = list(on_meta(name).state_dict())
    assert {k.split(".")[0] for k in keys} <= {"stem", "stages", "head", "aux"}
