"""The verbs that read tables: list and show; and how the command line refuses."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from convatlas.cli import GROUPS, VERBS, main, parser
from convatlas.tables import index

ROOT = Path(__file__).parent.parent.parent


def output(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(args) == 0
    return capsys.readouterr().out


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    out = output(capsys, "list")
    assert {line.split()[0] for line in out.splitlines() if "convatlas/nets/" in line} == set(index())
    assert f"{len(index())} networks." in out
    resnets = output(capsys, "list", "--family", "resnet")
    assert "convatlas/nets/resnet.py" in resnets
    assert "vgg16" not in resnets
    found = json.loads(output(capsys, "list", "vgg1*", "--json"))
    assert {"vgg11", "vgg16", "vgg19"} <= {r["name"] for r in found["networks"]}
    assert "\nresnet50 " in output(capsys, "list", "ResNet-50")


def test_list_says_how_accurate_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """As published: a single model and one crop where there is such a figure; else a mark and the protocol."""
    lines = {line.split()[0]: line for line in output(capsys, "list").splitlines() if line}
    assert "  75.3    " in lines["resnet50_caffe"], "24.7% top-1 error on a single crop, not the 10-crop figure"
    assert "  77.15*  10-crop  " in lines["resnet50"], "the paper has no single crop; the release is another row"
    assert "  57.4 " in lines["caffenet"], "printed as an accuracy"
    assert "  69.78 " in lines["googlenet_bn_3x3"], "69.778 to two decimals"
    assert "  71.46*  10-crop " in lines["plain34"]
    assert "  70.6*   not stated " in lines["mobilenet_v1"]
    record = json.loads(output(capsys, "list", "googlenet_bn_3x3", "--json"))["networks"][0]["published"]
    assert (record["top1"], record["top5"], record["protocol"]) == (69.778, 89.53, "")


def test_list_within_limits_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    args = ("list", "--limit", "params<=5M", "--limit", "year>=2017", "--sort", "top1", "--json")
    found = json.loads(output(capsys, *args))["networks"]
    assert all(r["totals"]["params"] <= 5e6 and r["paper"]["year"] >= 2017 for r in found)
    assert {r["name"] for r in found} >= {"mobilenet_v2", "se_mobilenet_v1"}
    known = [r["published"]["top1"] for r in found if r["published"]]
    assert known == sorted(known, reverse=True)
    assert known[0] == 75.1
    last = json.loads(output(capsys, *args, "--reverse"))["networks"]
    assert [r["published"]["top1"] for r in last[: len(known)]] == known[::-1], "networks without one stay last"
    cifar = json.loads(output(capsys, "list", "--dataset", "cifar10", "--limit", "top1>97", "--json"))["networks"]
    assert [r["name"] for r in cifar] == ["nasnet_a_6_768", "nasnet_a_7_2304"]


def test_show_vgg16_is_the_lectures_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Lectures 001 and 003: memory and weights of every row; their totals (24M values, 128M parameters) are slips."""
    rows = json.loads(output(capsys, "show", "vgg16", "--json"))["rows"]
    kinds = [(r["op"].split("+")[0], r["activations"], r["weights"]) for r in rows]
    sizes = [("Conv2d", 64, 224)] * 2 + [("MaxPool2d", 64, 112)] + [("Conv2d", 128, 112)] * 2 + [("MaxPool2d", 128, 56)]
    sizes += [("Conv2d", 256, 56)] * 3 + [("MaxPool2d", 256, 28)] + [("Conv2d", 512, 28)] * 3 + [("MaxPool2d", 512, 14)]
    sizes += [("Conv2d", 512, 14)] * 3 + [("MaxPool2d", 512, 7)]
    cin, expected = 3, []
    for op, cout, size in sizes:
        expected.append((op, cout * size * size, 9 * cin * cout if op == "Conv2d" else 0))
        cin = cout
    expected += [("Linear", 4096, 7 * 7 * 512 * 4096), ("Linear", 4096, 4096 * 4096), ("Linear", 1000, 4096 * 1000)]
    assert kinds == expected
    totals = json.loads(output(capsys, "show", "vgg16", "--json"))["totals"]
    assert totals["weights"] == 138_344_128
    assert totals["params"] == 138_357_544
    assert totals["activations"] == 15_237_608


def test_show_forms(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "show", "VGG-16")
    for part in ("convatlas/nets/vgg.py", "arxiv.org/abs/1409.1556", "138M", "holds", "138,357,544", "60.95 MB"):
        assert part in text
    assert "| stages.block1.conv1 |" in output(capsys, "show", "vgg16", "--md")
    csv = output(capsys, "show", "vgg16", "--csv").splitlines()
    assert csv[0].startswith("layer,operation,output,kernel,weights,parameters,multiply-adds,values,bytes")
    assert "stages.block1.conv1,Conv2d+ReLU,64x224x224,3x3/1 pad 1,1728,1792,86704128,3211264,12845056" in csv


def test_show_says_depth_training_and_receptive_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """ResNet-18 forward 1,814,073,344; backward twice that but for the first layer's input: 118,013,952."""
    steps = 3 * 1_814_073_344 - 118_013_952
    text = output(capsys, "show", "resnet18", "--epoch", "1281167")
    assert f"{steps:,} in training, forward and backward; depth 18" in text
    assert f"{steps * 1_281_167:,} in an epoch of 1,281,167 images" in text
    row = json.loads(output(capsys, "show", "resnet18", "--level", "stage", "--json"))["rows"][1]
    assert (row["receptive_field"], row["jump"], row["start"], row["exact"]) == ([43, 43], [4, 4], [-21, -21], True)
    assert main(["show", "resnet18", "--epoch", "0"]) == 2
    assert "--epoch 0 is not a number of images; give a whole number of at least 1" in capsys.readouterr().err


def test_show_with_another_input_and_classes(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(output(capsys, "show", "resnet18", "--input", "1x64x64", "--classes", "10", "--json"))
    assert record["input"] == [1, 64, 64]
    assert record["rows"][-1]["weights"] == 512 * 10
    assert "claims" not in record


OWN = """
from torch import nn


def make(classes=10):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, classes))
"""


def test_your_own_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counted as the catalogue's are, on its file and the image size."""
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    own = f"{file}:make"
    text = output(capsys, "show", own, "--input", "3x32x32", "--epoch", "10")
    assert text.startswith("mine.py:make\n")
    assert "parameters     314 " in text
    assert "in an epoch of 10 images" in text
    record = json.loads(output(capsys, "show", own, "--input", "3x32x32", "--classes", "2", "--json"))
    assert record["rows"][-1]["params"] == 8 * 2 + 2
    assert "claims" not in record
    differences = json.loads(output(capsys, "diff", own, own, "--input", "3x32x32", "--weights", "--json"))
    assert differences["differences"] == []
    assert len(differences["weights"]["same"]) == 4
    assert "32x32 pixels" not in output(capsys, "show", own, "--input", "3x32x32", "--under", "1MMAC")
    assert main(["show", own]) == 2
    assert "the input size of mine.py:make is unknown" in capsys.readouterr().err
    assert main(["show", f"{file}:mke", "--input", "3x32x32"]) == 2
    assert "no callable in mine.py named 'mke'; did you mean make?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["show", "resnet5O"], "no network named 'resnet5O'; did you mean "),
        (["show", "vgg16", "--input", "224"], "input '224' is not an image size; write channels x height x width"),
        (
            ["show", "vgg16", "--input", "3x16x16"],
            "input 3x16x16 does not fit the network; the smallest square that does is 3x32x32",
        ),
        (["show", "vgg16", "--classes", "0"], "classes=0 is not a positive integer"),
        (["show", "vgg16", "--level", "leafs"], "no --level named 'leafs'; did you mean leaf?"),
        (["list", "--family", "vggs"], "no family named 'vggs'; did you mean vgg"),
        (["list", "--limit", "parms<5M"], "no quantity named 'parms'; did you mean params?"),
        (["list", "--limit", "top1>75M"], "limit 'top1>75M': '75M' is not a percentage; write it as in 75 or 75%"),
        (["list", "--sort", "size"], "no quantity named 'size'"),
        (["list", "--dataset", "cifar1O"], "no data set named 'cifar1O'; did you mean cifar10"),
        (["list", "zzz"], "no network matches 'zzz'; `convatlas list` shows them all"),
        (["shw"], "no verb named 'shw'; did you mean show?"),
        ([], "required: VERB; see `convatlas --help`"),
        (["show", "vgg16", "--batchs", "2"], "no option of `convatlas show` named '--batchs'; did you mean --batch"),
        (["show", "vgg16", "--input", "224x224x3"], "input '224x224x3' has 224 channels; did you mean 3x224x224?"),
    ],
)
def test_refusals_are_one_line(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_what_only_reads_the_catalogue_does_not_import_torch() -> None:
    shown = (["list"], ["show", "resnet50"], ["show", "googlenet", "--level", "block"])
    for args in (*shown, ["chart", "list"], ["choose", "--limit", "params<=2M"]):
        code = f"import sys; from convatlas.cli import main; main({args!r}); sys.exit('torch' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["train", "resnet2O", "--data", "digits"],
        ["train", "resnet20", "--data", "nowhere"],
        ["train", "resnet20", "--data", "digits", "--recipe", "resnet_cifer"],
        ["train", "resnet20", "--data", "digits", "--set", "momentun=0.9"],
        ["train", "resnet20", "--data", "digits", "--device", "gpu"],
        ["train", "resnet20", "--data", "digits", "--input", "32"],
        ["train", "resnet20", "--data", "digits", "--init", "nowhere"],
        ["lr", "resnet2O", "--data", "digits"],
        ["data", "scan", "nowhere"],
        ["evaluate", "nowhere", "--data", "digits"],
        ["evaluate", "tests/goldens/run", "--data", "nowhere"],
        ["evaluate", "tests/goldens/run", "--data", "digits", "--top", "0"],
        ["evaluate", "tests/goldens/run", "--data", "digits", "--protocol", "flop"],
        ["evaluate", "tests/goldens/run", "--data", "digits", "--confusion", "c.jpg"],
        ["predict", "nowhere", "a.png"],
        ["predict", "tests/goldens/run", "nowhere.png"],
        ["predict", "tests/goldens/run", "tests", "--batch", "0"],
        ["doctor", "nowhere"],
        ["show", "resnet2O"],
        ["draw", "resnet2O"],
        ["memory", "resnet2O"],
        ["reconcile", "resnet2O"],
        ["diff", "resnet20", "resnet2O"],
    ],
    ids=" ".join,
)
def test_slips_are_answered_without_torch(args: list[str]) -> None:
    code = f"import sys; from convatlas.cli import main; assert main({args!r}) == 2; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("trai", ["train "]),
        ("show resnet50_v", ["resnet50_v1_5 "]),
        ("show resnet50_", ["resnet50_caffe", "resnet50_v1_5"]),
        ("train resnet20 --recipe resnet_c", ["resnet_cifar", "resnet_cifar_110"]),
        ("show vgg16 --level st", ["stage "]),
        ("train resnet20 --data mn", ["mnist:"]),
        ("evaluate ", ["a", "runs/b"]),
    ],
)
def test_the_shell_completes(line: str, expected: list[str], tmp_path: Path) -> None:
    for run in ("a", "runs/b", "runs/not"):
        (tmp_path / run).mkdir(parents=True)
    for run in ("a", "runs/b"):
        (tmp_path / run / "run.json").touch()
    line = f"convatlas {line}"
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line))}
    env = {**os.environ, **asked, "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer")}
    subprocess.run([sys.executable, "-m", "convatlas"], cwd=tmp_path, env=env, check=True)
    answer = (tmp_path / "answer").read_text().splitlines()
    assert [word for word in answer if not word.startswith("-")] == expected


def test_help_groups_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    for group, verbs in GROUPS.items():
        start = lines.index(f"{group}:") + 1
        assert [line.split()[0] for line in lines[start : start + len(verbs)]] == list(verbs)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_an_example_that_parses(verb: str) -> None:
    added = parser().parse_args
    (verbs,) = (a.choices for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    example = re.match(r"example: convatlas (.*?)(;|$)", verbs[verb].epilog, re.MULTILINE)
    assert example
    assert added(shlex.split(example[1])).verb == verb


def test_every_verb_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in VERBS:
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        assert stop.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: convatlas {verb}")
