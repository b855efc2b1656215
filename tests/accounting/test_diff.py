"""Two networks aligned: by hand, by brute force, by what loading does, and sums that must come out."""

import csv
import io
import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from convatlas.accounting import account
from convatlas.accounting.diff import align, diff
from convatlas.accounting.rows import LEVELS
from convatlas.accounting.weight_match import weight_match
from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.layers import ConvNet, on_meta, stack
from convatlas.tables import load

PAIRS = (
    *(("resnet50", "resnet50_v1_5"), ("alexnet", "alexnet_owt"), ("alexnet", "alexnet_single"), ("vgg16", "vgg16_bn")),
    *(
        ("vgg11", "vgg16"),
        ("googlenet", "inception_v3"),
        ("lenet5", "nasnet_a_mobile"),
        ("resnet18", "efficientnet_b0"),
    ),
)


@pytest.mark.parametrize(("a", "b"), PAIRS)
@pytest.mark.parametrize("level", LEVELS)
def test_the_differences_add_up(a: str, b: str, level: str) -> None:
    there, back = diff(load(a), load(b), level), diff(load(b), load(a), level)
    for what in ("params", "macs", "activations"):
        of_totals = getattr(load(b).totals, what) - getattr(load(a).totals, what)
        assert sum(getattr(pair, what) for pair in there.pairs) == of_totals
        assert sum(getattr(pair, what) for pair in there.differences) == of_totals
        assert sum(getattr(pair, what) for pair in back.pairs) == -of_totals
    assert [p.a for p in there.pairs[1:] if p.a] == list(load(a).table(level)), "every row once, in order"
    assert [p.b for p in there.pairs[1:] if p.b] == list(load(b).table(level))


@pytest.mark.parametrize("name", ["lenet5", "alexnet", "googlenet", "resnet1202", "nasnet_a_mobile"])
def test_a_network_is_like_itself(name: str) -> None:
    found = diff(load(name), load(name))
    assert not found.differences
    assert not found.renamed
    assert all(pair.a is pair.b or pair.a == pair.b for pair in found.pairs)


@given(st.integers(0, 4), st.integers(0, 4), st.data())
def test_no_alignment_has_more_points(n: int, m: int, data: st.DataObject) -> None:
    points = np.array(data.draw(st.lists(st.integers(0, 9), min_size=n * m, max_size=n * m)), np.int32).reshape(n, m)
    pairs = align(points)
    assert [i for i, _ in pairs if i >= 0] == list(range(n))
    assert [j for _, j in pairs if j >= 0] == list(range(m))
    assert all(points[i, j] for i, j in pairs if i >= 0 and j >= 0), "what has nothing in common does not pair"
    every = (
        sum(int(points[i, j]) for i, j in zip(rows, columns, strict=True))
        for size in range(min(n, m) + 1)
        for rows in combinations(range(n), size)
        for columns in combinations(range(m), size)
    )
    assert sum(int(points[i, j]) for i, j in pairs if i >= 0 and j >= 0) == max(every)


def test_resnet_v1_5_moved_the_stride() -> None:
    """Three bottlenecks; a 1x1 at 4 times the positions costs 3 times more: 3 * 128*256*28*28, all three alike."""
    found = diff(load("resnet50"), load("resnet50_v1_5"))
    assert [(p.b and p.b.path, p.changed, p.params, p.macs) for p in found.differences] == [
        (f"stages.conv{i}.block1.branch.{conv}.conv", changed, 0, macs)
        for i in (3, 4, 5)
        for conv, changed, macs in (("conv1", ("stride", "shape"), 3 * 128 * 256 * 28 * 28), ("conv2", ("stride",), 0))
    ]


def test_two_towers_and_one() -> None:
    """The grouped layers have half the weights: 5*5*48*256 and so on."""
    found = diff(load("alexnet"), load("alexnet_single"))
    grouped = [p for p in found.differences if "groups" in p.changed]
    assert [p.params for p in grouped] == [5 * 5 * 48 * 256, 3 * 3 * 192 * 384, 3 * 3 * 192 * 256]
    assert {p.a.op if p.a else p.b and p.b.op for p in found.differences if not (p.a and p.b)} == {"LRN"}


def test_batch_norm_is_added() -> None:
    found = diff(load("vgg16"), load("vgg16_bn"))
    assert len(found.differences) == 13
    assert {p.changed for p in found.differences} == {("op", "weights", "biases")}
    assert all(p.params == 2 * p.b.shape[0] for p in found.differences if p.b)


def test_more_of_the_same_stands_where_it_is_added() -> None:
    found = diff(load("resnet50"), load("resnet101"))
    assert all(p.a is None and p.b and "stages.conv4.block" in p.b.path for p in found.differences)
    assert len(found.differences) == 17 * 3


def test_names_alone_make_no_difference() -> None:
    one = account(stack(first=nn.Conv2d(3, 4, 3), then=nn.Conv2d(4, 4, 3)), input=(3, 16, 16))
    other = account(stack(a=nn.Conv2d(3, 4, 3), b=nn.Conv2d(4, 4, 3)), input=(3, 16, 16))
    found = diff(one, other)
    assert (len(found.differences), found.renamed) == (0, 2)


def built(name: str) -> ConvNet:
    with on_meta():
        return find(name).build()


@pytest.mark.parametrize(("a", "b"), [*PAIRS, ("googlenet", "googlenet_bn_3x3"), ("resnet50", "se_resnet50")])
def test_torch_says_the_same_of_the_weights(a: str, b: str) -> None:
    found, net = weight_match(built(a), built(b)), built(b)
    state = built(a).state_dict()
    by_name = {n for n in (*state, *net.state_dict()) if n in state and n in net.state_dict()}
    misfits = {n for n in by_name if state[n].shape != net.state_dict()[n].shape}
    told = net.load_state_dict({n: t for n, t in state.items() if n not in misfits}, strict=False, assign=True)
    assert set(found.same) == by_name - misfits
    assert {n for n, *_ in found.misfits} | {x for x, y, *_ in found.reshaped if x == y} == misfits
    assert {x for x, _ in found.renamed} | set(found.left_over) | {x for x, y, *_ in found.reshaped if x != y} == set(
        told.unexpected_keys
    )
    renamed = {y for _, y in found.renamed} | {y for x, y, *_ in found.reshaped if x != y}
    filled = {n for n in net.state_dict() if n.endswith("num_batches_tracked")}  # by torch, where a file has none
    assert (renamed | set(found.missing)) - filled == set(told.missing_keys) - misfits - filled
    moved = {y: state[x] for x, y in found.renamed}
    net.load_state_dict(moved, strict=False, assign=True)  # would raise where a shape is wrong


def test_renamed_by_hand() -> None:
    def block(names: tuple[str, str, str, str]) -> nn.Sequential:
        parts = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
        return stack(**dict(zip(names, parts, strict=True)))

    found = weight_match(block(("conv1", "bn1", "conv2", "bn2")), block(("c1", "n1", "c2", "n2")), (3, 16, 16))
    assert dict(found.renamed)["conv2.weight"] == "c2.weight"
    assert dict(found.renamed)["bn2.running_var"] == "n2.running_var"
    assert dict(found.renamed)["conv1.bias"] == "c1.bias", "not a batch norm's, of the same size"
    assert (found.same, found.left_over, found.missing, found.misfits) == ((), (), (), ())
    dense = weight_match(stack(a=nn.Linear(36, 10)), stack(a=nn.Conv2d(4, 10, 3)))
    assert [(x, s, t) for x, _, s, t in dense.reshaped] == [("a.weight", (10, 36), (10, 4, 3, 3))]


def test_wiring_is_what_is_computed() -> None:
    """ResNet-50's weights in v1.5: every tensor loads, and the logits are others; in itself, they are the same."""
    torch.manual_seed(0)
    a, other, again = (find(n).build(input=(3, 64, 64)).eval() for n in ("resnet50", "resnet50_v1_5", "resnet50"))
    image = torch.randn(1, 3, 64, 64)
    for net, same in ((other, False), (again, True)):
        assert weight_match(a, net).all_load
        assert weight_match(a, net).same_wiring is same
        net.load_state_dict(a.state_dict())
        with torch.no_grad():
            assert torch.equal(net(image), a(image)) is same


def output(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(args) == 0
    return capsys.readouterr().out


def test_forms(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pair = ("diff", "ResNet-50", "resnet50_v1_5")
    text = output(capsys, *pair, "--weights")
    assert "WARNING: same names and shapes, different wiring" in text
    assert "stride 2 -> 1, output 128x28x28 -> 128x56x56" in text
    rows = list(csv.DictReader(io.StringIO(output(capsys, *pair, "--csv"))))
    assert sum(int(r["multiply-adds"]) for r in rows[:-1]) == int(rows[-1]["multiply-adds"]) == 231_211_008
    record = json.loads(output(capsys, *pair, "--json", "--weights"))
    assert record["schema"] == 1
    assert record["totals"] == {"params": 0, "macs": 231_211_008, "activations": 526_848}
    assert record["weights"]["same_wiring"] is False
    assert record["differences"][0]["changed"]["stride"] == [[2, 2], [1, 1]]
    assert "| total |  | 0 | +231,211,008 | +526,848 |" in output(capsys, *pair, "--md")
    assert "50 alike, 6 different" in output(capsys, *pair, "--all")
    assert len(json.loads(output(capsys, *pair, "--all", "--json"))["differences"]) == 57
    page = tmp_path / "diff.html"
    assert output(capsys, *pair, "--weights", "--html", str(page)) == f"{page}\n"
    assert "<script" not in page.read_text(encoding="utf-8")
    assert "+231,211,008" in page.read_text(encoding="utf-8")
    blocks = output(capsys, *pair, "--level", "block")
    assert "by block: 17 alike (13 under another name), 3 different" in blocks
    stages = output(capsys, *pair, "--level", "stage")
    assert "inside" in stages


def test_weights_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    """In torch's own words: missing, unexpected, size mismatch."""
    text = output(capsys, "diff", "vgg16", "vgg16_bn", "--weights")
    assert "Weights: of the 32 tensors of vgg16, 32 load into vgg16_bn as they are." in text
    assert re.search(r"^  \d+ missing from vgg16: stages\.block1\.", text, re.MULTILINE)
    text = output(capsys, "diff", "resnet34", "resnet18", "--weights")
    assert re.search(r"^  \d+ unexpected in resnet18: stages\.", text, re.MULTILINE)
    assert " size mismatch: " in output(capsys, "diff", "resnet50", "resnet18", "--weights")


def test_other_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(
        output(capsys, "diff", "resnet18", "resnet34", "--input", "3x64x64", "--classes", "5", "--json", "--weights")
    )
    assert record["totals"]["params"] == load("resnet34").totals.params - load("resnet18").totals.params
    assert not record["weights"]["misfits"]


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    for args, message in (
        (["resnet50", "resnet5O"], "no network named 'resnet5O'; did you mean "),
        (["resnet50", "vgg16", "--input", "3x8x8"], "does not fit the network; the smallest square that does is"),
        (["resnet50", "vgg16", "--level", "leafs"], "no --level named 'leafs'"),
        (["resnet50"], "the following arguments are required: B"),
    ):
        assert main(["diff", *args]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1


def test_shipped_tables_need_no_torch() -> None:
    run = "main(['diff', 'vgg16', 'vgg16_bn'])"
    code = f"import sys; from convatlas.cli import main; {run}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
