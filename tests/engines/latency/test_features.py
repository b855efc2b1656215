"""What times are predicted from."""

from pathlib import Path

import pytest

from convatlas import account, find
from convatlas.accounting.rows import Row
from convatlas.engines.latency.features import features
from convatlas.engines.onnx_export import export_onnx
from convatlas.tables import load

CONV = Row("c", "Conv2d", (32, 10, 10), (3, 3), (1, 1), (1, 1), macs=100 * 32 * 8 * 9, activations=3200)


def test_a_convolution_by_hand() -> None:
    assert features([CONV], (8, 10, 10)) == pytest.approx(
        {
            "call": 1e-4,
            "launches": 1e-6,
            "3x3 macs": 230_400 / 50e9,
            "pieces": 900 / 5e9,
            "conv bytes": 4 * (800 + 3200) / 10e9,
            "macs of empty channels": 230_400 / 50e9,  # 8 of 16 are used
            "conv weights": 4 * 32 * 8 * 9 / 10e9,
        }
    )


def test_groups_by_hand() -> None:
    """32 channels in 4 groups of 8, and in 32 of 1."""
    grouped = CONV._replace(groups=4, macs=100 * 32 * 8 * 9)
    found = features([grouped], (32, 10, 10))
    assert found["grouped macs"] == pytest.approx(230_400 / 50e9)
    assert found["grouped taps"] == pytest.approx(100 * 32 * 9 / 5e9)  # each value that a group reads is gathered
    assert found["grouped pieces"] == pytest.approx(100 * 4 * 9 / 5e9)
    assert found["conv bytes"] == pytest.approx(4 * (3200 + 3200) / 10e9)
    depthwise = features([CONV._replace(groups=32, macs=100 * 32 * 9)], (32, 10, 10))
    assert depthwise["depthwise macs"] == pytest.approx(28_800 / 50e9)
    assert depthwise["depthwise bytes"] == pytest.approx(4 * (3200 + 3200) / 10e9)
    assert depthwise["depthwise pieces"] == pytest.approx(100 * 9 / 5e9)
    assert "conv bytes" not in depthwise


def test_channels_that_fill_no_whole_blocks_are_told_apart() -> None:
    uneven = CONV._replace(shape=(12, 10, 10), macs=100 * 12 * 8 * 9, activations=1200)
    assert features([uneven], (8, 10, 10))["uneven taps"] == pytest.approx(100 * 8 * 9 / 5e9)
    depthwise = uneven._replace(groups=12, macs=100 * 12 * 9)
    assert features([depthwise], (12, 10, 10))["uneven depthwise macs"] == pytest.approx(100 * 12 * 9 / 50e9)
    assert not any("uneven" in name for name in features([CONV], (8, 10, 10)))


def test_maxima_and_averages_are_told_apart() -> None:
    """In int8 an engine takes maxima many values at a time, and averages one by one."""
    row = Row("p", "MaxPool2d", (8, 5, 5), (3, 3), (2, 2), (1, 1), activations=200)
    found = [features([row._replace(op=op)], (8, 10, 10)) for op in ("MaxPool2d", "AvgPool2d")]
    (pool, average) = (one[name] for one, name in zip(found, ("pool taps", "average taps"), strict=True))
    assert pool == average == pytest.approx(9 * 200 / 5e9)


def test_a_batch_multiplies_what_is_done_for_each_image() -> None:
    one, eight = features([CONV], (8, 10, 10)), features([CONV], (8, 10, 10), batch=8)
    fixed = {"call", "launches", "conv weights"}
    assert {name: eight[name] / one[name] for name in one if one[name]} == pytest.approx(
        {name: 1 if name in fixed else 8 for name in one if one[name]}
    )


def test_a_linear_layer_reads_its_weights_once_for_a_batch() -> None:
    row = Row("fc", "Linear", (10,), macs=640, activations=10)
    one, four = features([row], (64, 1, 1)), features([row], (64, 1, 1), batch=4)
    assert one["fc weights"] == four["fc weights"] == pytest.approx(4 * 640 / 10e9)
    assert (one["1x1 macs"], four["1x1 macs"]) == pytest.approx((0, 3 * 640 / 50e9))


def test_rows_of_any_batch_give_the_same_features() -> None:
    three = CONV._replace(macs=3 * CONV.macs, activations=3 * CONV.activations)
    assert features([three], (8, 10, 10), counted=3, batch=2) == features([CONV], (8, 10, 10), batch=2)


@pytest.mark.parametrize(
    "name",
    [
        "squeezenet1_1",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("resnet18", "se_resnet50", "mobilenet_v2", "efficientnet_b0", "densenet121", "alexnet")
        ),
    ],
)
def test_an_exported_network_has_the_features_of_its_table(name: str, tmp_path: Path) -> None:
    """Whatever the exporter folded: its graph and our count lead to the same sums."""
    pytest.importorskip("onnxscript")
    export_onnx(find(name).build(), find(name).input, tmp_path / "net.onnx")
    exported, counted = account(str(tmp_path / "net.onnx"), batch=1), load(name)
    expected = features(counted.rows, counted.input)
    assert features(exported.rows, exported.input) == pytest.approx(expected)
    assert features(counted.rows, counted.input, batch=2) != expected
