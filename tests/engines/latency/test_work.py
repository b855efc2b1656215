"""What is left of a network's rows once an engine has fused them."""

from collections import Counter

import pytest

from convatlas.accounting.rows import Row
from convatlas.engines.latency.work import Work, works
from convatlas.tables import index, load


def kinds(name: str) -> Counter[str]:
    account = load(name)
    return Counter(w.kind for w in works(account.rows, account.input))


def test_resnet_is_its_convolutions_and_additions() -> None:
    assert kinds("resnet18") == {"conv": 20, "pool": 1, "add": 8, "mean": 1, "fc": 1}


def test_a_norm_before_its_convolution_is_left() -> None:
    """DenseNet-121: 58 layers, whose second norm follows a convolution, 3 transitions, one last."""
    assert kinds("densenet121")["norm"] == 58 + 3 + 1


def test_gates_and_smooth_activations_are_left() -> None:
    """EfficientNet-B0: 16 blocks, one without an expansion, each with a gate whose own activation is a curve, too."""
    found = kinds("efficientnet_b0")
    assert found["curve"] == 1 + 15 + 16 + 16 + 16 + 1
    assert (found["mul"], found["mean"]) == (16, 17)


def test_networks_keep_their_multiply_adds_and_weights() -> None:
    for name, entry in list(index().items())[::3]:
        account = load(name)
        found = works(account.rows, account.input)
        assert sum(w.macs for w in found) == entry["totals"]["macs"], name
        used = sum(r.weights for r in account.rows if r.macs)
        assert sum(w.weights for w in found) >= used, name  # weights that are used twice count twice
        assert all(w.reads > 0 and w.writes > 0 for w in found), name


def test_a_convolution_reads_what_its_stride_covers() -> None:
    row = Row("c", "Conv2d", (8, 5, 5), (3, 3), (2, 2), (1, 1), 4, macs=25 * 8 * 2 * 9, activations=200)
    (conv,) = works([row], (8, 10, 10))
    assert conv == Work("conv", 800, 200, 8 * 2 * 9, 3600, 2, 2, 4, (3, 3), 2, 5, 5)


def test_rows_of_a_batch_give_the_work_of_one_image() -> None:
    one = Row("c", "Conv2d", (8, 5, 5), (1, 1), (1, 1), (0, 0), macs=25 * 8 * 3, activations=200)
    three = one._replace(macs=3 * one.macs, activations=3 * one.activations)
    assert works([three], (3, 5, 5), batch=3) == works([one], (3, 5, 5))


@pytest.mark.parametrize(
    ("ops", "left"),
    [
        (("Conv2d", "BatchNorm2d", "ReLU"), ["conv"]),
        (("Conv", "Sigmoid", "Mul"), ["conv", "curve"]),
        (("Conv2d", "SiLU"), ["conv", "curve"]),
        (("Conv2d", "add", "ReLU"), ["conv", "add"]),
        (("MaxPool2d", "ReLU"), ["pool", "clip"]),
        (("cat", "BatchNorm2d", "ReLU"), ["norm"]),  # of one tensor: nothing to copy
        (("Conv2d", "ReLU", "BatchNorm2d", "ReLU"), ["conv", "norm"]),
        (("Dropout", "Flatten", "Identity"), []),
    ],
)
def test_fusion(ops: tuple[str, ...], left: list[str]) -> None:
    rows = [Row(op, op, (4, 6, 6), activations=144) for op in ops]
    rows = [r._replace(kernel=(1, 1), stride=(1, 1), macs=4 * 144) if "Conv" in r.op else r for r in rows]
    assert [w.kind for w in works(rows, (4, 6, 6))] == left


def test_a_dense_block_joins_one_tensor_more_each_time() -> None:
    rows = [
        Row(op, op, (channels, 6, 6), activations=1)
        for channels in (16, 20, 24)
        for op, channels in (("cat", channels), ("AvgPool2d", 4))
    ]
    joins = [work.parts for work in works(rows, (16, 6, 6)) if work.kind == "copy"]
    assert joins == [2, 3]
