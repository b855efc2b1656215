"""ONNX files counted from their graphs: against modules that they were exported from, networks that others converted,
and graphs by hand; files that are no networks, or were made to do harm, are refused in one sentence."""

from __future__ import annotations

import builtins
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from convatlas.accounting import account
from convatlas.accounting.memory.predict import memory
from convatlas.catalogue import find
from convatlas.cli import main
from convatlas.errors import UserError
from convatlas.report.account import text
from tests.oracles import randomise

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `deploy`)")
from onnx import TensorProto, helper  # noqa: E402

F32, I64 = TensorProto.FLOAT, TensorProto.INT64


def exported(net: nn.Module, shape: tuple[int, ...], path: Path) -> str:
    """By torch, as it is: batch norm is not folded into convolutions, and any number of images goes in."""
    options: dict[str, Any] = {"training": torch.onnx.TrainingMode.PRESERVE, "dynamic_axes": {"image": {0: "images"}}}
    torch.onnx.export(net, (torch.zeros(1, *shape),), str(path), dynamo=False, input_names=["image"], **options)
    return str(path)


class Decoder(nn.Module):
    """Up again, and attention of each row to the others."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 4, 4, 2, 1)
        self.rows, self.last = nn.Linear(8, 5), nn.LSTM(5, 6, bidirectional=True)

    def forward(self, x: Tensor) -> Any:
        y = self.up(torch.relu(self.down(x))).mean(1)
        y = self.rows(y @ y.transpose(1, 2))
        return self.last(y)[0]


EXPORTED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet20": (lambda: find("resnet20").build(), (3, 32, 32)),  # shortcuts of slices and padding
    "se_resnet20": (lambda: find("se_resnet20").build(), (3, 32, 32)),  # gates
    "mobilenet_v2": (lambda: find("mobilenet_v2").build(), (3, 64, 64)),  # padding that depends on the size
    "squeezenet1_1": (lambda: find("squeezenet1_1").build(), (3, 64, 64)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EXPORTED)
def test_a_file_is_counted_as_the_module_that_it_was_exported_from(name: str, tmp_path: Path) -> None:
    build, shape = EXPORTED[name]
    net = build().eval()
    randomise(net)  # equal weights are written once
    ours, file = (
        account(net, shape, batch=2),
        account(exported(net, shape, tmp_path / "net.onnx"), batch=2, strict=True),
    )
    assert (file.name, file.input, file.batch) == ("net.onnx", shape, 2)
    for total in ("weights", "biases", "macs", "backward_macs"):
        assert getattr(file.totals, total) == getattr(ours.totals, total), total
    assert file.depth == ours.depth
    convolutions = [[r for r in counts.rows if r.op in ("Conv", "Conv2d", "ConvSame")] for counts in (file, ours)]
    for one, other in zip(*convolutions, strict=True):
        for what in (
            "path",
            "shape",
            "kernel",
            "stride",
            "groups",
            "weights",
            "macs",
            "receptive_field",
            "jump",
            "start",
        ):
            assert getattr(one, what) == getattr(other, what), f"{what} of {other.path}"
        assert one.exact is other.exact


@pytest.mark.filterwarnings("ignore")
def test_products_of_other_kinds(tmp_path: Path) -> None:
    net, shape = Decoder().eval(), (3, 8, 8)
    counted = account(exported(net, shape, tmp_path / "net.onnx"), batch=2, strict=True)
    with FlopCounterMode(display=False) as counter:
        y = net.up(net.down(torch.zeros(2, *shape))).mean(1)
        net.rows(y @ y.transpose(1, 2))
    lstm = 2 * 8 * 2 * 24 * (5 + 6)  # images, steps, directions, gates x (input + state)
    assert counted.totals.macs == counter.get_total_flops() // 2 + lstm
    assert counted.totals.params == sum(p.numel() for p in net.parameters())


CONVERTED = [  # file, our row, parameters that our row has not: of Caffe's scale layers after a batch norm with its own
    ("densenet121", "densenet121", 83_648),
    ("inception_v2", "bn_inception", 19_904),
    ("resnet50", "resnet50_v1_5", 0),
    ("vgg19", "vgg19", 0),
    ("zfnet512", "zfnet_512_onnx", 0),
]


@pytest.mark.oracles
@pytest.mark.parametrize(("file", "ours", "scales"), CONVERTED)
def test_networks_that_others_converted(file: str, ours: str, scales: int, real_packs: Path) -> None:
    """Whose weights are filled in when they run."""
    counted = account(str(real_packs / "reference" / "onnx_light" / f"light_{file}.onnx"), strict=True)
    expected = account(ours)
    assert counted.totals.params == expected.totals.params + scales
    assert (counted.totals.macs, counted.depth) == (expected.totals.macs, expected.depth)


# Graphs by hand


def saved(path: Path, nodes: list[Any], weights: dict[str, tuple[int, ...]] | None = None, **options: Any) -> str:
    """A graph from "x" to "y"."""
    size = options.get("size", (1, 3, 8, 8))
    initialisers = [
        helper.make_tensor(k, F32, dims, [0.0] * torch.Size(dims).numel()) for k, dims in (weights or {}).items()
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", F32, size)],
        [helper.make_tensor_value_info("y", F32, None)],
        [*initialisers, *options.get("more", ())],
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    return str(path)


def conv(**attributes: Any) -> Any:
    return helper.make_node("Conv", ["x", "w"], ["y"], name="c", **attributes)


@pytest.mark.parametrize(
    ("attributes", "side", "start"),
    [
        ({"pads": [1, 1, 1, 1]}, 8, -1),
        ({"strides": [2, 2], "pads": [0, 0, 1, 1]}, 4, 0),
        ({"strides": [2, 2], "auto_pad": "SAME_UPPER"}, 4, 0),
        ({"strides": [2, 2], "auto_pad": "SAME_LOWER"}, 4, -1),
        ({"dilations": [2, 2]}, 4, 0),
    ],
)
def test_a_convolution_by_hand(attributes: dict[str, Any], side: int, start: int, tmp_path: Path) -> None:
    counted = account(saved(tmp_path / "c.onnx", [conv(**attributes)], {"w": (4, 3, 3, 3)}))
    (row,) = counted.rows
    assert (row.shape, row.macs, row.weights, row.start) == ((4, side, side), side**2 * 4 * 27, 108, (start, start))


def test_quantized_weights_are_parameters_and_sizes_are_not(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "scale"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Resize", ["c", "", "scales"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["f"]),
        helper.make_node("Einsum", ["f", "m"], ["y"], equation="nk,km->nm"),
    ]
    more = [
        helper.make_tensor("q", TensorProto.INT8, (4, 3, 3, 3), [0] * 108),
        helper.make_tensor("scales", F32, (4,), [1.0, 1.0, 2.0, 2.0]),
        helper.make_tensor("shape", I64, (2,), [1, -1]),
    ]
    counted = account(saved(tmp_path / "q.onnx", nodes, {"scale": (), "m": (576, 5)}, more=more), strict=True)
    assert counted.totals.params == 108 + 576 * 5
    assert counted.totals.macs == 36 * 4 * 27 + 576 * 5


def test_what_has_no_rule_is_listed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("FancyConv", ["x", "w"], ["a"], name="mine", domain="com.example"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["y"], name="after"),
    ]
    path = saved(tmp_path / "u.onnx", nodes, {"w": (4, 3, 3, 3)})
    counted = account(path)
    assert counted.uncounted == ("mine: FancyConv, of unknown size", "after: Conv, of unknown size")
    assert "PARTIAL: no rule for mine: FancyConv" in text(counted)
    with pytest.raises(UserError, match=r"u.onnx cannot be counted in full: no rule for mine: FancyConv"):
        account(path, strict=True)


def branch(op: str) -> Any:
    return helper.make_graph(
        [helper.make_node(op, ["x"], [op])], op, [], [helper.make_tensor_value_info(op, F32, None)]
    )


def test_a_branch_that_is_known_is_taken(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("If", ["which"], ["b"], then_branch=branch("GlobalAveragePool"), else_branch=branch("Relu")),
        helper.make_node("Conv", ["b", "w"], ["y"]),
    ]
    for which, macs in ((True, 12), (False, 64 * 12)):
        more = [helper.make_tensor("which", TensorProto.BOOL, (), [which])]
        counted = account(saved(tmp_path / "i.onnx", nodes, {"w": (4, 3, 1, 1)}, more=more), strict=True)
        assert counted.totals.macs == macs
    unknown = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["which"], to=9),
    ]
    assert "If" in account(saved(tmp_path / "i.onnx", [*unknown, *nodes], {"w": (4, 3, 1, 1)})).uncounted[0]


def test_show_and_draw_take_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "net.onnx", [conv()], {"w": (4, 3, 3, 3)}, size=("n", 3, "h", "w"))
    assert main(["show", path, "--input", "3x16x16", "--json"]) in (0, None)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["input"], shown["totals"]["macs"]) == ("net.onnx", [3, 16, 16], 14 * 14 * 108)
    assert main(["show", path, "--input", "3x16x16", "--batch", "3", "--receptive"]) in (0, None)
    assert "3x3" in capsys.readouterr().out
    assert main(["show", path]) == 2
    assert "the size of x of net.onnx is unknown; give input=(channels, height, width)" in capsys.readouterr().err


def test_the_batch_of_a_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx", [conv()], {"w": (4, 3, 3, 3)}, size=(5, 3, 8, 8))
    counted = account(path)
    assert (counted.batch, counted.totals.macs) == (5, 5 * 36 * 108)
    with pytest.raises(UserError, match=r"net.onnx takes batches of 5, not 2; leave out the batch"):
        account(path, batch=2)
    with pytest.raises(UserError, match=r"x of net.onnx is 3x8x8, not 3x9x9; leave out the size, or export"):
        account(path, (3, 9, 9))
    with pytest.raises(UserError, match=r"net.onnx is a graph as it was exported; leave out classes"):
        account(path, classes=10)
    with pytest.raises(UserError, match=r"net.onnx is a graph, not a module"):
        memory(path)


# What is refused


def test_without_onnx_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name == "onnx":
            raise ImportError(name)
        return own(name, *args, **options)

    path = saved(tmp_path / "net.onnx", [conv()], {"w": (4, 3, 3, 3)})
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"counting an ONNX file needs onnx; pip install 'convatlas\[deploy\]'"):
        account(path)


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x0a\xff\xff\xff\xff\x0f", bytes(1000)])
def test_what_is_no_graph(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"net.onnx is not an ONNX file"):
        account(str(tmp_path / "net.onnx"))
    with pytest.raises(UserError, match=r"no file .*none.onnx"):
        account(str(tmp_path / "none.onnx"))


def test_files_that_it_names_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = helper.make_tensor("w", F32, (4, 3, 3, 3), [0.0] * 108)
    sizes = helper.make_tensor("s", I64, (2,), [1, -1])
    for t, place in ((far, "../../../../etc/passwd"), (sizes, "/dev/zero")):
        for field in ("float_data", "int64_data", "raw_data"):
            t.ClearField(field)
        t.data_location = TensorProto.EXTERNAL
        t.external_data.add(key="location", value=place)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Reshape", ["c", "s"], ["y"])]
    path = saved(tmp_path / "net.onnx", nodes, more=[far, sizes])
    opened: list[str] = []
    own = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda p: opened.append(str(p)) or own(p))
    counted = account(path)
    assert (counted.totals.params, counted.totals.macs) == (108, 36 * 108)
    assert opened == [path]


def nested(levels: int) -> Any:
    """Conditions in conditions."""
    inner = branch("Relu")
    for _ in range(levels):
        node = helper.make_node("If", ["which"], ["Relu"], then_branch=inner, else_branch=branch("Relu"))
        inner = helper.make_graph([node], "g", [], [helper.make_tensor_value_info("Relu", F32, None)])
    return inner


HOSTILE: dict[str, tuple[Callable[[], list[Any]], dict[str, tuple[int, ...]], str]] = {
    "a kernel of a million": (
        lambda: [
            helper.make_node(
                "MaxPool", ["x"], ["y"], name="p", kernel_shape=[10**6] * 2, pads=[10**6] * 4, strides=[1, 1]
            )
        ],
        {},
        "has kernels or strides that no image is made for, at p",
    ),
    "strides that grow": (
        lambda: [
            helper.make_node(
                "MaxPool",
                [f"{i}" if i else "x"],
                [f"{i + 1}" if i < 29 else "y"],
                kernel_shape=[2, 2],
                strides=[4096, 4096],
                pads=[10**6] * 4,
            )
            for i in range(30)
        ],
        {},
        "has kernels or strides that no image is made for",
    ),
    "what nothing makes": (
        lambda: [helper.make_node("Conv", ["ghost", "w"], ["y"])],
        {"w": (4, 3, 3, 3)},
        "is not a graph in order: y reads ghost, which is not made",
    ),
    "a circle": (
        lambda: [helper.make_node("Add", ["x", "y"], ["y"], name="a")],
        {},
        "is not a graph in order: a reads y, which is not made",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_graphs_that_no_network_has(what: str, tmp_path: Path) -> None:
    nodes, weights, why = HOSTILE[what]
    begun = time.monotonic()
    with pytest.raises(UserError, match=f"net.onnx {why}"):
        account(saved(tmp_path / "net.onnx", nodes(), weights))
    assert time.monotonic() - begun < 20


def test_sizes_that_are_negative(tmp_path: Path) -> None:
    bad = TensorProto(name="w", data_type=F32, dims=[4, -3, 3, 3])
    with pytest.raises(UserError, match=r"net.onnx is damaged: w has a size of 4x-3x3x3"):
        account(saved(tmp_path / "net.onnx", [conv()], more=[bad]))


def test_values_that_are_missing(tmp_path: Path) -> None:
    bad = TensorProto(name="s", data_type=I64, dims=[2], raw_data=b"\x01")
    with pytest.raises(UserError, match=r"net.onnx is damaged: the values of s are not as many as it says"):
        account(saved(tmp_path / "net.onnx", [helper.make_node("Reshape", ["x", "s"], ["y"])], more=[bad]))


def test_too_many_operators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convatlas.accounting.onnx_graph.MOST_NODES", 3)
    nodes = [helper.make_node("Relu", [f"{i}" if i else "x"], [f"{i + 1}" if i < 4 else "y"]) for i in range(5)]
    with pytest.raises(UserError, match=r"net.onnx has 5 operators; at most 3 are counted"):
        account(saved(tmp_path / "net.onnx", nodes))
    monkeypatch.setattr("convatlas.accounting.onnx_graph.MOST_BYTES", 10)
    with pytest.raises(
        UserError, match=r"net.onnx has more than 2 GiB; export it with its weights in a file of their own"
    ):
        account(saved(tmp_path / "net.onnx", nodes))


def test_names_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w\x1b[2J"], ["y"], name="a\x1b[2J\nb" + "c" * 1000)
    counted = account(saved(tmp_path / "net.onnx", [node], {"w\x1b[2J": (4, 3, 3, 3)}))
    assert counted.rows[0].path.isprintable()
    assert len(counted.rows[0].path) <= 200
    assert text(counted).replace("\n", "").isprintable()


def test_conditions_in_conditions(tmp_path: Path) -> None:
    more = [helper.make_tensor("which", TensorProto.BOOL, (), [True])]
    node = helper.make_node("If", ["which"], ["y"], then_branch=nested(15), else_branch=branch("Relu"))
    assert [r.op for r in account(saved(tmp_path / "net.onnx", [node], more=more)).rows] == ["Relu"]


def test_what_fits_nothing_is_said(tmp_path: Path) -> None:
    for node in (conv(strides=[0, 0]), conv(pads=[-9] * 4), conv(kernel_shape=[5, 5, 5])):
        assert account(saved(tmp_path / "net.onnx", [node], {"w": (4, 3, 3, 3)})).uncounted == (
            "c: Conv, of unknown size",
        )


def test_bytes_that_were_changed_end_in_a_count_or_a_sentence(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="c", pads=[1, 1, 1, 1]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "s"], ["f"]),
        helper.make_node("Gemm", ["f", "g"], ["y"]),
    ]
    more = [helper.make_tensor("s", I64, (2,), [1, -1])]
    whole = Path(saved(tmp_path / "net.onnx", nodes, {"w": (2, 3, 1, 1), "g": (32, 2)}, more=more)).read_bytes()
    draw, refused, said = random.Random(0), 0, ""
    for _ in range(400):
        changed = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        (tmp_path / "net.onnx").write_bytes(changed)
        try:
            assert account(str(tmp_path / "net.onnx")).totals.macs >= 0
        except UserError as error:
            refused += 1
            said += str(error)
    assert said.isprintable()
    assert 50 < refused < 350
