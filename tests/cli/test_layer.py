"""`convatlas layer`: what it prints, as the lectures work it out, and what it refuses."""

import csv
import io
import json
import shlex
import subprocess
import sys

import pytest

from convatlas import cli


@pytest.fixture(autouse=True)
def verb(monkeypatch: pytest.MonkeyPatch) -> None:
    if "layer" not in cli.VERBS:
        monkeypatch.setattr(cli, "VERBS", (*cli.VERBS, "layer"))


def output(capsys: pytest.CaptureFixture[str], command: str) -> str:
    assert cli.main(["layer", *shlex.split(command)]) == 0
    return capsys.readouterr().out


def rows(text: str) -> list[list[str]]:
    return [line.split(maxsplit=2) for line in text.splitlines()[3:]]


def test_conv(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "conv --input 3x227x227 --filters 96 --kernel 11 --stride 4")
    assert text.splitlines()[0] == "conv 11x11/4, 96 filters on 3x227x227"
    assert rows(text) == [
        ["output", "96x55x55", "(227 + 2*0 - 11)/4 + 1 = 55"],
        ["parameters", "34,944", "(11*11*3 + 1)*96"],
        ["weights", "34,848", "11*11*3*96"],
        ["multiply-adds", "105,415,200", "55*55*96 * 11*11*3"],
        ["values", "290,400", "96*55*55"],
        ["bytes", "1,161,600", "in float32"],
    ]


def test_what_does_not_divide_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "conv --input 3x7x8 --filters 10 --kernel 3x5 --stride 3 --padding 0x1 --no-bias")
    assert text.splitlines()[0] == "conv 3x5/3, padding 0x1, 10 filters, no bias on 3x7x8"
    assert rows(text)[:3] == [
        ["output", "10x2x2", "height floor((7 + 2*0 - 3)/3) + 1 = 2, width floor((8 + 2*1 - 5)/3) + 1 = 2"],
        ["unused", "1x1", "rows x columns of the input that no window reads"],
        ["parameters", "450", "3*5*3*10"],
    ]
    assert "weights" not in text


def test_same_dilation_and_groups(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "conv --input 32x225x225 --filters 32 --kernel 3 --stride 2 --padding same --groups 32")
    assert text.splitlines()[0] == "conv 3x3/2, padding same, groups 32, 32 filters on 32x225x225"
    assert rows(text)[0] == ["output", "32x113x113", "ceil(225/2) = 113 (padding 1 before, 1 after)"]
    assert rows(text)[1] == ["parameters", "320", "(3*3*(32/32) + 1)*32"]
    text = output(capsys, "conv --input 1x32x32 --filters 1 --kernel 3 --padding 2 --dilation 2")
    assert rows(text)[0] == ["output", "1x32x32", "(32 + 2*2 - 2*(3 - 1) - 1)/1 + 1 = 32"]


def test_pool(capsys: pytest.CaptureFixture[str]) -> None:
    assert rows(output(capsys, "pool --input 96x55x55 --kernel 3 --stride 2"))[0][1] == "96x27x27"
    text = output(capsys, "pool --input 64x112x112 --kernel 3 --stride 2 --ceil")
    assert text.splitlines()[0] == "pool 3x3/2, rounded up on 64x112x112"
    assert rows(text)[:2] == [["output", "64x56x56", "ceil((112 + 2*0 - 3)/2) + 1 = 56"], ["parameters", "0"]]
    assert rows(output(capsys, "pool --input 64x224x224 --kernel 2"))[0][2] == "(224 + 2*0 - 2)/2 + 1 = 112"


def test_fc(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "fc --input 256x6x6 --units 4096")
    assert text.splitlines()[0] == "fc, 4096 units on 256x6x6"
    assert ["parameters", "37,752,832", "(256*6*6 + 1)*4096"] in rows(text)
    assert ["parameters", "4,096,000", "4096*1000"] in rows(output(capsys, "fc --input 4096 --units 1000 --no-bias"))


def test_transposed(capsys: pytest.CaptureFixture[str]) -> None:
    command = "transposed --input 8x7x7 --kernel 4 --stride 2 --padding 1 --output-padding 1x0 --filters 16"
    text = output(capsys, command)
    assert text.splitlines()[0] == "transposed 4x4/2, padding 1, output padding 1x0, 16 filters on 8x7x7"
    assert rows(text)[:2] == [
        ["output", "16x15x14", "height (7 - 1)*2 - 2*1 + 4 + 1 = 15, width (7 - 1)*2 - 2*1 + 4 = 14"],
        ["parameters", "2,064", "4*4*8*16 + 16"],
    ]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(output(capsys, "conv --input 3x7x7 --filters 10 --kernel 3 --stride 3 --json"))
    assert record["formulas"].pop("macs") == "2*2*10 * 3*3*3"
    assert record == {
        **{
            "schema": 1,
            "layer": "conv",
            "input": [3, 7, 7],
            "output": [10, 2, 2],
            "params": 280,
            "weights": 270,
            "biases": 10,
        },
        **{"macs": 1080, "values": 40, "bytes": 160, "unused": [1, 1]},
        "formulas": {
            "height": "floor((7 + 2*0 - 3)/3) + 1 = 2",
            "width": "floor((7 + 2*0 - 3)/3) + 1 = 2",
            "weights": "3*3*3*10",
            "params": "(3*3*3 + 1)*10",
        },
    }
    assert json.loads(output(capsys, "pool --input 3x7x7 --kernel 2 --json"))["unused"] == [1, 1]
    assert json.loads(output(capsys, "fc --input 3 --units 2 --json"))["params"] == 8
    assert json.loads(output(capsys, "transposed --input 3x4x4 --kernel 2 --filters 1 --json"))["output"] == [1, 5, 5]


THREE = "stack --input 64x56x56 'conv 64 3x3 pad 1' 'conv 64 3x3 pad 1' 'conv 64 3x3 pad 1'"


def test_stack_against_another(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, f"{THREE} --against 'conv 64 7x7 pad 3'")
    assert text.startswith("3 layers on 64x56x56\n")
    words = [line.split() for line in text.splitlines()]
    assert ["receptive", "field", "7x7", "7x7"] in words
    assert ["weights", "110,592", "200,704", "0.551"] in words
    assert ["multiply-adds", "346,816,512", "629,407,744", "0.551"] in words
    assert [w[-4] for w in words[3:6]] == ["3x3", "5x5", "7x7"]


def test_stack_as_data(capsys: pytest.CaptureFixture[str]) -> None:
    bottleneck = "stack --input 256x56x56 'conv 64 1x1' 'conv 64 3x3 pad 1' 'conv 256 1x1'"
    command = f"{bottleneck} --against-input 64x56x56 --against 'conv 64 3x3 pad 1' 'conv 64 3x3 pad 1'"
    record = json.loads(output(capsys, f"{command} --json"))
    assert (record["stack"]["weights"], record["against"]["weights"]) == (69_632, 73_728)
    assert record["stack"]["output"] == [256, 56, 56]
    table = list(csv.DictReader(io.StringIO(output(capsys, f"{command} --csv"))))
    assert [row["stack"] for row in table] == ["1", "1", "1", "2", "2"]
    assert table[1]["weights"] == "36864"
    text = output(capsys, "stack --input 1x28x28 'conv 64 5x5' 'pool 2' 'fc 10'")
    assert ["parameters", "93,834"] in [line.split() for line in text.splitlines()]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("conv --input 3x2x7 --filters 2 --kernel 3", "kernel 3 does not fit on a side of 2; the smallest side is 3"),
        ("conv --input 3x9x9 --filters 4 --kernel 3 --groups 2", "2 groups do not divide 3 channels into 4 filters"),
        ("conv --input 3x9x9 --filters 4 --kernel 3x3x3", "--kernel '3x3x3' is not a number or height x width"),
        ("conv --input 3x9x9 --filters 4 --kernel 3 --padding valid", "--padding 'valid' is not a number"),
        (
            "conv --input 227 --filters 4 --kernel 3",
            "--input '227' is not channels x height x width; write it as in 3x2",
        ),
        ("conv --input 3x9x9 --kernel 3", "the following arguments are required: --filters"),
        ("conv --input 3x9x9 --filters 0 --kernel 3", "filters=0 is invalid; give a whole number of at least 1"),
        ("pool --input 3x9x9 --kernel 2 --padding 2", "padding 2 is more than half of the kernel (2)"),
        ("transposed --input 3x9x9 --kernel 2 --filters 1 --padding same", "--padding 'same' is not a number"),
        ("transposed --input 3x9x9 --kernel 2 --filters 1 --output-padding 1", "output_padding 1 is not less than the"),
        ("fc --input 3x9 --units 2", "--input '3x9' is not channels x height x width or units; write it as in 256x6x6"),
        ("fc --input 0 --units 2", "0 is not an input"),
        (f"{THREE} 'cnov 64 3'", "no layer named 'cnov'; did you mean conv?"),
        (f"{THREE} 'fc 10' 'conv 64 3'", "10 is not an image size"),
        (f"{THREE} --against-input 3x9x9", "--against-input needs a second stack; give one with --against"),
        ("cnov --input 3x9x9", "no kind named 'cnov'; did you mean conv?"),
        ("", "required: KIND"),
    ],
)
def test_refusals_are_one_line(command: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["layer", *shlex.split(command)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_needs_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from convatlas import cli; cli.VERBS = ('layer',); cli.GROUPS = {'Count': cli.VERBS}; "
        "cli.main('layer conv --input 3x9x9 --filters 4 --kernel 3'.split()); "
        "sys.exit(len({'torch', 'numpy', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
