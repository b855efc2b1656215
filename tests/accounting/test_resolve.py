"""What a name, a variant, a module and a callable in a file stand for, and the errors of files that give no module."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from convatlas.accounting import account
from convatlas.accounting.counters.reconcile import reconcile
from convatlas.accounting.memory.predict import memory
from convatlas.accounting.resolve import is_file, resolve
from convatlas.accounting.symbolic import largest_input, symbolic
from convatlas.accounting.weight_match import weight_match
from convatlas.catalogue import find
from convatlas.errors import UserError
from convatlas.layers import stack

MINE = """
from dataclasses import dataclass

from sibling import WIDTH
from torch import nn


@dataclass
class Settings:
    width: int = WIDTH


def make(classes=10):
    settings = Settings()
    return nn.Sequential(
        nn.Conv2d(3, settings.width, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(settings.width, classes),
    )


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 2, 1))


built = make()
settings = {"width": 8}


def none():
    return {"not": "a module"}


def fails():
    raise KeyError("no such layer")
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    (tmp_path / "sibling.py").write_text("WIDTH = 8\n")
    (tmp_path / "mymodel.py").write_text(MINE)
    return str(tmp_path / "mymodel.py")


PARAMS = 8 * 28 + 8 * 10 + 10
MACS = 8 * 27 * 32 * 32 + 80


def test_every_function_takes_a_callable_in_a_file(mine: str) -> None:
    path = list(sys.path)
    counted = account(f"{mine}:make", (3, 32, 32))
    assert (counted.name, counted.totals.params, counted.totals.macs) == ("mymodel.py:make", PARAMS, MACS)
    assert account(f"{mine}:make", (3, 32, 32), classes=2).totals.params == 8 * 28 + 2 * 9
    assert account(f"{mine}:built", (3, 32, 32)).totals == counted.totals
    assert account(f"{mine}:Net", (3, 32, 32)).totals.params == 8
    assert memory(f"{mine}:make", (3, 32, 32)).parameters == 4 * PARAMS
    assert reconcile(f"{mine}:make", (3, 32, 32), ["torch"])["torch"].total == 2 * MACS
    assert symbolic(f"{mine}:make", (3, 32, 32))(64).macs == 4 * (MACS - 80) + 80
    assert largest_input(f"{mine}:make", MACS, input=(3, 224, 224)).side == 32
    assert weight_match(f"{mine}:make", f"{mine}:make", (3, 32, 32)).same_wiring is True
    assert sys.path == path
    assert "sibling" in sys.modules
    del sys.modules["sibling"]


def test_a_file_is_read_again(mine: str) -> None:
    before = account(f"{mine}:make", (3, 32, 32)).totals.params
    Path(mine).write_text(MINE.replace("settings.width, 3", "settings.width, 1").replace(", padding=1", ""))
    assert account(f"{mine}:make", (3, 32, 32)).totals.params == before - 8 * 3 * 8
    del sys.modules["sibling"]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("missing.py:make", r"no file missing\.py; give path/to/file\.py:callable"),
        ("{mine}:mke", r"no callable in mymodel\.py named 'mke'; did you mean make\?"),
        (
            "{mine}",
            r"mymodel\.py does not say which network; give .*\.py:NAME, one of make, Net, none, fails",
        ),
        (
            "{mine}:settings",
            r"settings in mymodel\.py is not callable; give a function or class that makes an",
        ),
        ("{mine}:none", r"mymodel\.py:none returns dict, not an nn\.Module"),
        ("{mine}:fails", r"mymodel\.py:fails raised KeyError \(line 35\): 'no such layer'"),
        ("{mine}:make", r"the input size of mymodel\.py:make is unknown; give input=\(channels, height, width\)"),
    ],
)
def test_what_gives_no_module_is_refused(mine: str, network: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        account(network.format(mine=mine))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere\n", r"bad\.py raised ModuleNotFoundError \(line 1\): No module named 'nowhere'"),
        ("def make(:\n", r"bad\.py raised SyntaxError \(line 1\): invalid syntax"),
        ("\nraise SystemExit(3)\n", r"bad\.py raised SystemExit \(line 2\): 3"),
    ],
)
def test_a_file_that_does_not_run_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    before = set(sys.modules)
    with pytest.raises(UserError, match=message):
        resolve(f"{tmp_path / 'bad.py'}:make", (3, 8, 8))
    assert not {name for name in set(sys.modules) - before if "bad" in name}


def test_names_variants_and_modules() -> None:
    for given in ("LeNet-5", "lenet5", find("lenet5")):
        net, name, shape, variant = resolve(given)
        assert (name, shape, variant) == ("lenet5", (1, 32, 32), find("lenet5"))
        assert next(net.parameters()).is_meta
    assert not next(resolve("lenet5", meta=False).net.parameters()).is_meta
    built = find("lenet5").build(input=(3, 40, 40))
    assert resolve(nn.DataParallel(built)) == (built, "lenet5", (3, 40, 40), None)
    assert not is_file("lenet5")


def test_a_module_is_counted_at_other_sizes() -> None:
    net = stack(conv=nn.Conv2d(3, 4, 3, 2, 1), pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(4, 5))
    costs = symbolic(net, (3, 32, 32))
    for height, width in ((32, 32), (47, 64), (9, 200)):
        assert costs(height, width).macs == account(net, (3, height, width)).totals.macs
        assert costs(height, width).params == account(net, (3, height, width)).totals.params
    with pytest.raises(UserError, match="Sequential is already built with 5 classes; leave classes out"):
        costs(32, classes=10)
    flat = stack(flatten=nn.Flatten(), fc=nn.Linear(3 * 32 * 32, 5))
    with pytest.raises(UserError, match="Sequential does not run on input 1x3x32x63"):
        symbolic(flat, (3, 32, 32))
    with pytest.raises(UserError, match="option 'width' is for building a network, but this one is already built"):
        resolve(net, torch.zeros(1, 3, 8, 8), width=2)
