"""File names that a terminal would obey: printed as Python writes them, and as they are in JSON."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file

from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.cli.output import command
from convatlas.report.tables import Report, Table, label
from tests.images import encoded
from tests.trained import train

NAMES = {
    "a line feed": "a\nconvatlas: all is well",
    "an escape": "a\x1b[2J\x1b]0;title\x07",
    "a carriage return": "a\rb",
    "a control character of the upper half": "a\x9b2J",
    "a change of direction": "a\u202egpj.exe",
    "an invisible one": "a\u200b\u2028b",
    "a formula that is none": r"a$\nosuch$ 日本",
    "half a character": "a\udcff",
    "not yet a character": "a\U000e0001",
}
GOOD = "Größe 日本 ½.jpg"


def harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("name", NAMES.values(), ids=list(NAMES))
def test_a_report_prints_it_and_json_has_it(name: str) -> None:
    table = Table("files", (label("file"), label(name, "x")), [(name, 1), (GOOD, 2)])
    made = Report(table, after=(f"in {name.splitlines()[0]}",))
    for text in (made.text(), made.text(40), made.markdown(), made.csv(), made.json()):
        assert harmless(text)
        assert GOOD in text
        text.encode()
    assert len(made.csv().split("\n")) == 3
    assert len(made.text().split("\n")) == 5
    assert json.loads(made.json())["files"] == [{"file": name, "x": 1}, {"file": GOOD, "x": 2}]


def seen(name: str) -> str:
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("run") / "run").folder


def printed(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(args)
    out, err = capsys.readouterr()
    assert harmless(out)
    assert harmless(err)
    assert "\nconvatlas: all is well" not in out + err
    return status, out, err


def test_verbs_print_it(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verbs_print_it(NAMES["a line feed"] + NAMES["an escape"] + NAMES["half a character"], model, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES.values(), ids=list(NAMES))
def test_verbs_print_each(name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verbs_print_it(name, model, tmp_path, capsys)


def verbs_print_it(name: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = tmp_path / name
    for kind in ("ants", name):
        (photos / kind).mkdir(parents=True)
        for i in range(3):
            (photos / kind / f"{name}{i}.jpg").write_bytes(encoded(Image.new("RGB", (40, 40), (i, 0, 0)), "JPEG"))
    (photos / "ants" / f"{name} bad.jpg").write_bytes(b"")
    bad = f"{photos}/ants/{name} bad.jpg"
    for args in (["data", "scan", str(photos)], ["doctor", str(photos)], ["predict", str(model), str(photos)]):
        status, said, err = printed(args, capsys)
        assert status == 1
        assert seen(bad) in said + err
        _, text, _ = printed([*args, "--json"], capsys)
        assert bad in flat(json.loads(text))
    out = tmp_path / f"out {name}"
    train_it = ["train", "lenet5", "--data", str(photos), "--out", str(out), "--epochs", "1", "--batch", "2"]
    evaluate_it = ["evaluate", str(out), "--data", str(photos), "--bad", "skip", "--confusion", str(out / "c.png")]
    for args in (["evaluate", str(model), "--data", str(photos)], train_it):
        status, _, err = printed(args, capsys)
        assert status == 2
        assert err.count("\n") == 1
    status, said, err = printed([*train_it, "--bad", "skip"], capsys)
    assert status == 0, err
    assert seen(f"{name} bad.jpg") in said
    assert said.endswith(f"next: {command(['convatlas', 'evaluate', str(out), '--data', str(photos)])}\n")
    status, said, err = printed(evaluate_it, capsys)
    assert status == 0, err
    weights = tmp_path / f"{name}.safetensors"
    save_file(find("chain_n1_m1_k0").build(input=(1, 8, 8), widths=(4,)).state_dict(), weights)
    status, said, _ = printed(["doctor", str(weights)], capsys)
    assert status == 0
    _, text, _ = printed(["doctor", str(weights), "--json"], capsys)
    assert len(said.strip().split("\n")) == 3 + len(json.loads(text)["findings"])
    assert printed(["show", str(tmp_path / f"{name}.onnx")], capsys)[0] == 2


def flat(value: object) -> str:
    """All text in a record."""
    if isinstance(value, dict):
        return " ".join(map(flat, value.values()))
    return " ".join(map(flat, value)) if isinstance(value, list) else str(value)


@pytest.mark.parametrize("name", [*NAMES.values(), "it's", "back\\slash\x1b'"])
def test_a_command_can_be_pasted(name: str) -> None:
    text = command(["printf", "%s", name])
    assert text.isprintable()
    assert subprocess.run(["bash", "-c", text], capture_output=True, check=True).stdout == os.fsencode(name)


def test_a_very_long_name_keeps_to_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_file({"x" * 3_000_000: find("chain_n1_m1_k0").build().state_dict().popitem()[1]}, tmp_path / "w.safetensors")
    for args in (["evaluate", str(tmp_path / "w.safetensors"), "--data", "digits"], ["doctor", str(tmp_path)]):
        status, out, err = printed(args, capsys)
        assert status in (1, 2)
        assert len(out + err) < 9000
