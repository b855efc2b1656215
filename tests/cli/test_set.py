"""`--set`: networks of the atlas built with other numbers, counted and drawn as such."""

import json
from pathlib import Path

import pytest

from convatlas.accounting import account
from convatlas.accounting.symbolic import largest_input
from convatlas.cli import main


def shown(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(command.split()) == 0
    return capsys.readouterr().out


def test_what_is_set_is_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    found = json.loads(shown("show mobilenet_v1 --set width=0.63 --input 3x176x176 --json", capsys))
    counts = account("mobilenet_v1", input=(3, 176, 176), width=0.63)
    assert (found["totals"]["params"], found["totals"]["macs"]) == (counts.totals.params, counts.totals.macs)
    assert "mobilenet_v1(width=0.63)" in shown("show mobilenet_v1 --set width=0.63", capsys)
    deep = json.loads(shown("show wrn28_10 --set width=1 --set depth=40 --json", capsys))
    assert deep["totals"] == json.loads(shown("show wrn40_1 --json", capsys))["totals"]
    under = json.loads(shown("show lenet5 --set classes=20 --under 1M --json", capsys))
    assert under["side"] == largest_input("lenet5", 10**6, classes=20).side
    picture = tmp_path / "net.svg"
    shown(f"draw lenet5 --set classes=20 -o {picture}", capsys)
    assert "classes=20" in picture.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("mobilenet_v1 --set width", "--set width gives no number; write it as --set width=0.75"),
        ("mobilenet_v1 --set width=wide", "--set width=wide gives no number"),
        ("mobilenet_v1 --set width=true", "--set width=true gives no number"),
        ("mobilenet_v1 --set wdth=1", "mobilenet_v1 has no option 'wdth'"),
        ("mobilenet_v1 --set table=3", "mobilenet_v1 cannot be built with table=3"),
        ("mobilenet_v1 --set width=1e300", "mobilenet_v1 cannot be built with width=1e300"),
        ("mobilenet_v1 --set width=0", "width=0 leaves no channels"),
        ("wrn28_10 --set depth=27", "depth=27 is not 6n + 4"),
        ("efficientnet_b0 --set phi=1000", "phi=1000 is more than 20"),
        ("resnet20@akamaster --set classes=3", "--set changes networks of the atlas"),
    ],
)
@pytest.mark.parametrize("verb", ["show", "memory"])
def test_what_cannot_be_set_is_one_line(
    verb: str, arguments: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, *arguments.split()]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
